/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Page tables of an I/O address space that tell which pages devices write to
 *
 * The contracts are in include/sysemu/iommufd.h.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/iommufd.h>

#include "sysemu/iommufd.h"
#include "trace.h"

/* -errno rather than errno, which the trace event may change */
static int iommufd_hwpt_ioctl(IOMMUFDBackend *be, unsigned long request,
                              void *arg)
{
    return ioctl(be->fd, request, arg) ? -errno : 0;
}

bool iommufd_backend_tracks_dirty(IOMMUFDBackend *be, uint32_t devid)
{
    IOMMUFDHwInfo info = {};

    return !iommufd_backend_get_hw_info(be, devid, &info) &&
           (info.capabilities & IOMMU_HW_CAP_DIRTY_TRACKING);
}

int iommufd_backend_alloc_hwpt(IOMMUFDBackend *be, uint32_t devid,
                               uint32_t ioas_id, uint32_t *hwpt_id)
{
    struct iommu_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
        .dev_id = devid,
        .pt_id = ioas_id,
        .data_type = IOMMU_HWPT_DATA_NONE,
    };
    int ret = iommufd_hwpt_ioctl(be, IOMMU_HWPT_ALLOC, &alloc);

    trace_iommufd_backend_alloc_hwpt(be->fd, devid, ioas_id, alloc.out_hwpt_id,
                                     ret);
    if (!ret) {
        *hwpt_id = alloc.out_hwpt_id;
    }
    return ret;
}

int iommufd_backend_set_dirty_tracking(IOMMUFDBackend *be, uint32_t hwpt_id,
                                       bool on)
{
    struct iommu_hwpt_set_dirty_tracking set = {
        .size = sizeof(set),
        .flags = on ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0,
        .hwpt_id = hwpt_id,
    };
    int ret = iommufd_hwpt_ioctl(be, IOMMU_HWPT_SET_DIRTY_TRACKING, &set);

    trace_iommufd_backend_set_dirty_tracking(be->fd, hwpt_id, on, ret);
    return ret;
}

int iommufd_backend_get_dirty_bitmap(IOMMUFDBackend *be, uint32_t hwpt_id,
                                     hwaddr iova, uint64_t size,
                                     uint64_t page_size, unsigned long *bits)
{
    struct iommu_hwpt_get_dirty_bitmap get = {
        .size = sizeof(get),
        .hwpt_id = hwpt_id,
        .iova = iova,
        .length = size,
        .page_size = page_size,
        .data = (uintptr_t)bits,
    };
    int ret = iommufd_hwpt_ioctl(be, IOMMU_HWPT_GET_DIRTY_BITMAP, &get);

    trace_iommufd_backend_get_dirty_bitmap(be->fd, hwpt_id, iova, size,
                                           page_size, ret);
    return ret;
}
