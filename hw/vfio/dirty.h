/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which memory devices have written to, while the guest is migrated
 *
 * It is decided device by device, and added up over a container: what any of
 * them may have written to is dirty.  Only containers with a device that is
 * migrated by mig.h come here; others are served as in 7.2.
 *
 * A device that has not run since the recording began has written to nothing.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_DIRTY_H
#define HW_VFIO_DIRTY_H

#include "hw/vfio/vfio-common.h"

/* By what a device's writes are told; ALL: by nothing, all memory is dirty */
typedef enum VFIODirtyBy {
    VFIO_DIRTY_ALL,
    VFIO_DIRTY_LOG,
    VFIO_DIRTY_IOMMU,
} VFIODirtyBy;

VFIODirtyBy vfio_dirty_by(VFIODevice *vbasedev);
bool vfio_dirty_can_track(VFIODevice *vbasedev);

/* A device of the container can be migrated by mig.h. */
bool vfio_dirty_serves(VFIOContainer *container);

/* Begin to record, and end it. */
bool vfio_dirty_start(VFIOContainer *container, Error **errp);
void vfio_dirty_stop(VFIOContainer *container);

/*
 * For the listener: the same by whichever way the container's devices have;
 * what fails is reported.
 */
void vfio_dirty_track(VFIOContainer *container, bool start);
int vfio_dirty_read(VFIOContainer *container, uint64_t iova, uint64_t size,
                    ram_addr_t ram_addr);

/**
 * vfio_dirty_wanted: whether what is recorded for @vbasedev is to be read now
 *
 * With x-pre-copy-dirty-page-tracking=off that is only once the device stands.
 */
bool vfio_dirty_wanted(VFIODevice *vbasedev);

/**
 * vfio_dirty_sync: mark what was written to in [@iova, @iova + @size - 1] in
 * QEMU's own bitmap, from @ram_addr on
 *
 * Returns 0 or -errno, which it has reported.
 */
int vfio_dirty_sync(VFIOContainer *container, uint64_t iova, uint64_t size,
                    ram_addr_t ram_addr);

#endif /* HW_VFIO_DIRTY_H */
