/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Page tables of the host's IOMMU that record what devices write to: hwpt.h */
#include "qemu/osdep.h"

#include "cdev.h"
#include "dirty.h"
#include "hwpt.h"
#include "iommufd.h"
#include "qapi/error.h"
#include "qemu/error-report.h"

static VFIOHWPT *hwpt_new(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev,
                          Error **errp)
{
    VFIOHWPT *hwpt;
    uint32_t id;
    int ret = iommufd_backend_alloc_hwpt(container->be, vbasedev->devid,
                                         container->ioas_id, &id);

    if (ret) {
        error_setg_errno(errp, -ret, "cannot make a page table that records "
                         "writes in I/O address space %u", container->ioas_id);
        return NULL;
    }

    hwpt = g_new0(VFIOHWPT, 1);
    hwpt->id = id;
    QLIST_INSERT_HEAD(&container->hwpts, hwpt, next);
    return hwpt;
}

static void hwpt_destroy_unused(VFIOIOMMUFDContainer *container, VFIOHWPT *hwpt)
{
    Error *err = NULL;

    if (hwpt->devices) {
        return;
    }

    QLIST_REMOVE(hwpt, next);
    if (!iommufd_backend_destroy_id(container->be, hwpt->id, &err)) {
        error_report_err(err);
    }
    g_free(hwpt);
}

static int hwpt_attach(VFIOHWPT *hwpt, VFIODevice *vbasedev)
{
    int ret = vfio_cdev_attach_hwpt(vbasedev, hwpt->id);

    if (!ret) {
        hwpt->devices++;
        vbasedev->hwpt = hwpt;
    }
    return ret;
}

/*
 * EINVAL: the device's IOMMU has another kind of page table.  Any other failure
 * would be the same with the next one.
 */
static int hwpt_attach_to_existing(VFIOIOMMUFDContainer *container,
                                   VFIODevice *vbasedev)
{
    VFIOHWPT *hwpt;
    int ret = -EINVAL;

    QLIST_FOREACH(hwpt, &container->hwpts, next) {
        ret = hwpt_attach(hwpt, vbasedev);
        if (ret != -EINVAL) {
            break;
        }
    }
    return ret;
}

bool vfio_hwpt_is_wanted(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev)
{
    return vbasedev->mig && vfio_container_is_direct(&container->base) &&
           vfio_dirty_by(vbasedev) == VFIO_DIRTY_ALL &&
           iommufd_backend_tracks_dirty(vbasedev->iommufd, vbasedev->devid);
}

bool vfio_hwpt_attach(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev,
                      Error **errp)
{
    int ret = hwpt_attach_to_existing(container, vbasedev);

    if (ret == -EINVAL) {
        VFIOHWPT *hwpt = hwpt_new(container, vbasedev, errp);

        if (!hwpt) {
            return false;
        }
        ret = hwpt_attach(hwpt, vbasedev);
        hwpt_destroy_unused(container, hwpt);
    }
    if (ret) {
        error_setg_errno(errp, -ret, "cannot attach the device to a page table "
                         "that records writes in I/O address space %u",
                         container->ioas_id);
    }
    return !ret;
}

bool vfio_hwpt_share(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev)
{
    return !hwpt_attach_to_existing(container, vbasedev);
}

void vfio_hwpt_put(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev)
{
    VFIOHWPT *hwpt = vbasedev->hwpt;

    if (hwpt) {
        vbasedev->hwpt = NULL;
        hwpt->devices--;
        hwpt_destroy_unused(container, hwpt);
    }
}

static bool hwpt_has_leftovers(VFIODevice *vbasedev)
{
    return vfio_iommufd_container(vbasedev->container)->leftovers;
}

bool vfio_hwpt_start(VFIODevice *vbasedev, Error **errp)
{
    VFIOHWPT *hwpt = vbasedev->hwpt;
    int ret;

    if (hwpt_has_leftovers(vbasedev)) {
        error_setg(errp, "something could not be unmapped before, so all "
                   "memory counts as written to until the device stands");
        return false;
    }
    if (hwpt->records) {
        return true;
    }

    ret = iommufd_backend_set_dirty_tracking(vbasedev->iommufd, hwpt->id, true);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot let the host's IOMMU record what "
                         "the device writes to");
    }
    hwpt->records = !ret;
    return !ret;
}

/* A table that goes on recording costs a little, and no more. */
void vfio_hwpt_stop(VFIODevice *vbasedev)
{
    VFIOHWPT *hwpt = vbasedev->hwpt;

    if (hwpt->records) {
        iommufd_backend_set_dirty_tracking(vbasedev->iommufd, hwpt->id, false);
        hwpt->records = false;
    }
}

/* What a failed unmap has left has pages that nobody here knows. */
bool vfio_hwpt_records_all(VFIODevice *vbasedev)
{
    return vbasedev->hwpt->records && !hwpt_has_leftovers(vbasedev);
}

/*
 * The kernel drops its errors, a hole in the range among them.  So it is asked
 * only about what is mapped, without a hole.
 */
bool vfio_hwpt_report(VFIODevice *vbasedev, hwaddr iova, uint64_t size,
                      unsigned long *bits)
{
    VFIOIOMMUFDContainer *container =
        vfio_iommufd_container(vbasedev->container);
    Range range, map;

    range_set_bounds(&range, iova, iova + size - 1);
    if (!vfio_maps_cover(&container->maps, &range)) {
        return !vfio_maps_find(&container->maps, &range, &map);
    }
    return !iommufd_backend_get_dirty_bitmap(container->be, vbasedev->hwpt->id,
                                             iova, size,
                                             qemu_real_host_page_size(), bits);
}
