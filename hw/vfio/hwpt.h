/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page tables of the host's IOMMU that record what devices write to
 *
 * A device that attaches to an IOAS gets a page table that the kernel finds or
 * makes, and that one records nothing.  So a device whose writes its IOMMU has
 * to record gets one of ours.  Those of one container's devices that can share
 * a page table do.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_HWPT_H
#define HW_VFIO_HWPT_H

#include "hw/vfio/vfio-common.h"
#include "qemu/queue.h"

typedef struct VFIOIOMMUFDContainer VFIOIOMMUFDContainer;

typedef struct VFIOHWPT VFIOHWPT;
struct VFIOHWPT {
    uint32_t id;
    unsigned devices;   /* that are attached to it */
    bool records;       /* all that they write to, since it was told to */
    QLIST_ENTRY(VFIOHWPT) next;
};

typedef QLIST_HEAD(VFIOHWPTList, VFIOHWPT) VFIOHWPTList;

/**
 * vfio_hwpt_is_wanted: whether the device's IOMMU has to record its writes, and
 * can
 *
 * False for a device that cannot migrate, or records them by itself.
 */
bool vfio_hwpt_is_wanted(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev);

/**
 * vfio_hwpt_attach: let the device's DMA go to @container, by a page table that
 * can record
 *
 * The same as vfio_cdev_attach_ioas(), and ->hwpt is set.
 */
bool vfio_hwpt_attach(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev,
                      Error **errp);

/**
 * vfio_hwpt_share: the same for any device, but only by a page table that
 * @container has already
 *
 * All devices of an IOMMU group have the same one.  So one that the kernel does
 * not let attach to the IOAS may have to take that of another.
 */
bool vfio_hwpt_share(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev);

/**
 * vfio_hwpt_put: the device has detached; destroys ->hwpt after the last one
 *
 * Does nothing for a device without.
 */
void vfio_hwpt_put(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev);

/**
 * vfio_hwpt_start: record from now on what devices write to
 *
 * Does nothing if ->hwpt records already, and so forgets nothing.  Fails if an
 * unmap has failed before: what is still mapped there is not known.
 */
bool vfio_hwpt_start(VFIODevice *vbasedev, Error **errp);
void vfio_hwpt_stop(VFIODevice *vbasedev);

/* All that devices write to by ->hwpt is recorded, since it was started. */
bool vfio_hwpt_records_all(VFIODevice *vbasedev);

/**
 * vfio_hwpt_report: add what the page table has recorded to @bits
 *
 * @iova, @size: whole pages of the host, for each of which there is one bit.
 *               Either end is that of something that was mapped as a whole, or
 *               a multiple of 1 GiB, which is the largest page of a table.
 *
 * Returns false if something may be missing.
 */
bool vfio_hwpt_report(VFIODevice *vbasedev, hwaddr iova, uint64_t size,
                      unsigned long *bits);

#endif /* HW_VFIO_HWPT_H */
