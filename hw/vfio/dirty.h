/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which memory devices have written to, while the guest is migrated
 *
 * It is decided device by device, and added up over a container: what any of
 * them may have written to is dirty.  Only containers with a device that is
 * migrated by mig.h come here; others are served as in 7.2.
 *
 * A device's writes are told by its own log (dirty-log.h), or by its page table
 * (hwpt.h), or by nothing.  If nothing tells them, or something went wrong, all
 * that the device reaches is dirty.  No page is left out because of a failure.
 *
 * A device that has not run since the recording began has written to nothing.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_DIRTY_H
#define HW_VFIO_DIRTY_H

#include "hw/vfio/vfio-common.h"

/* What tells a device's writes; ALL: nothing, so all memory is dirty */
typedef enum VFIODirtyBy {
    VFIO_DIRTY_ALL,
    VFIO_DIRTY_LOG,
    VFIO_DIRTY_IOMMU,
} VFIODirtyBy;

/**
 * vfio_dirty_query: find out whether a device that can be migrated has a log of
 * its own
 *
 * Called before the device attaches: without a log it needs a page table that
 * records its writes.
 */
void vfio_dirty_query(VFIODevice *vbasedev);
void vfio_dirty_forget(VFIODevice *vbasedev);

/* Known once the device is attached */
VFIODirtyBy vfio_dirty_by(VFIODevice *vbasedev);
bool vfio_dirty_can_track(VFIODevice *vbasedev);

/* A device of the container may be migrated by mig.h. */
bool vfio_dirty_serves(VFIOContainer *container);

/**
 * vfio_dirty_start: begin to record
 *
 * A failure is that of the first device for which it failed, with its name.
 * Until vfio_dirty_stop() all that such a device reaches is dirty at each sync;
 * a migration may do without or give up.
 */
bool vfio_dirty_start(VFIOContainer *container, Error **errp);
void vfio_dirty_stop(VFIOContainer *container);

/*
 * For the listener, and any container: begin or end to record by whichever way
 * it has; what fails is reported.
 */
void vfio_dirty_track(VFIOContainer *container, bool start);

/**
 * vfio_dirty_wanted: whether what is recorded for @vbasedev is to be read now
 *
 * With x-pre-copy-dirty-page-tracking=off that is only once the device stands.
 */
bool vfio_dirty_wanted(VFIODevice *vbasedev);

/**
 * vfio_dirty_sync: mark what devices have written to in @section, in QEMU's own
 * bitmap
 */
void vfio_dirty_sync(VFIOContainer *container, MemoryRegionSection *section);

/**
 * vfio_dirty_gone: @section has been unmapped
 *
 * What the page tables had recorded of it has gone with it, and a log tells
 * IOVAs without saying what was there.  So all of it is dirty.
 */
void vfio_dirty_gone(VFIOContainer *container, MemoryRegionSection *section);

/*
 * vfio_dirty_join: @vbasedev has come into ->container, which may be recording;
 * vfio_dirty_leave: it is about to go, and its record with it
 */
void vfio_dirty_join(VFIODevice *vbasedev);
void vfio_dirty_leave(VFIODevice *vbasedev);

#endif /* HW_VFIO_DIRTY_H */
