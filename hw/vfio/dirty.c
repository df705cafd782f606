/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which memory devices have written to: see dirty.h */
#include "qemu/osdep.h"

#include "cpu.h"
#include "dirty.h"
#include "exec/ram_addr.h"
#include "mig.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "sysemu/tcg.h"

VFIODirtyBy vfio_dirty_by(VFIODevice *vbasedev)
{
    return VFIO_DIRTY_ALL;
}

bool vfio_dirty_can_track(VFIODevice *vbasedev)
{
    return vfio_dirty_by(vbasedev) != VFIO_DIRTY_ALL;
}

bool vfio_dirty_serves(VFIOContainer *container)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        if (vbasedev->mig) {
            return true;
        }
    }
    return false;
}

bool vfio_dirty_start(VFIOContainer *container, Error **errp)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        if (vbasedev->mig) {
            vbasedev->mig->ran = vfio_mig_is_running(vbasedev);
        }
    }
    return true;
}

void vfio_dirty_stop(VFIOContainer *container)
{
}

bool vfio_dirty_wanted(VFIODevice *vbasedev)
{
    return vbasedev->pre_copy_dirty_page_tracking != ON_OFF_AUTO_OFF ||
           !vfio_mig_is_running(vbasedev);
}

int vfio_dirty_sync(VFIOContainer *container, uint64_t iova, uint64_t size,
                    ram_addr_t ram_addr)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        if (!vbasedev->mig || vbasedev->mig->ran) {
            cpu_physical_memory_set_dirty_range(ram_addr, size,
                                                tcg_enabled()
                                                ? DIRTY_CLIENTS_ALL
                                                : DIRTY_CLIENTS_NOCODE);
            break;
        }
    }
    return 0;
}

static void vfio_dirty_start_or_warn(VFIOContainer *container)
{
    Error *err = NULL;

    if (!vfio_dirty_start(container, &err)) {
        warn_report_err(err);
    }
}

void vfio_dirty_track(VFIOContainer *container, bool start)
{
    if (!vfio_dirty_serves(container)) {
        vfio_set_dirty_page_tracking(container, start);
    } else if (start) {
        vfio_dirty_start_or_warn(container);
    } else {
        vfio_dirty_stop(container);
    }
}

int vfio_dirty_read(VFIOContainer *container, uint64_t iova, uint64_t size,
                    ram_addr_t ram_addr)
{
    return vfio_dirty_serves(container)
           ? vfio_dirty_sync(container, iova, size, ram_addr)
           : vfio_get_dirty_bitmap(container, iova, size, ram_addr);
}
