/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The list of all VFIO devices, and the reset handler that goes over it
 *
 * The list has the devices of both paths.  A loop over groups would not do:
 * without a group, whatever it checks seems to hold for all devices.
 */
#include "qemu/osdep.h"

#include "hw/vfio/vfio-common.h"
#include "sysemu/reset.h"

VFIODeviceList vfio_device_list = QLIST_HEAD_INITIALIZER(vfio_device_list);

static unsigned vfio_reset_handler_users;

void vfio_reset_handler_get(void)
{
    if (vfio_reset_handler_users++ == 0) {
        qemu_register_reset(vfio_reset_handler, NULL);
    }
}

void vfio_reset_handler_put(void)
{
    if (--vfio_reset_handler_users == 0) {
        qemu_unregister_reset(vfio_reset_handler, NULL);
    }
}

void vfio_device_list_add(VFIODevice *vbasedev, VFIODevice *before)
{
    if (before) {
        QLIST_INSERT_BEFORE(before, vbasedev, global_next);
    } else {
        QLIST_INSERT_HEAD(&vfio_device_list, vbasedev, global_next);
    }
    QLIST_INSERT_HEAD(&vbasedev->container->device_list, vbasedev,
                      container_next);
}

void vfio_device_list_remove(VFIODevice *vbasedev)
{
    QLIST_REMOVE(vbasedev, container_next);
    QLIST_REMOVE(vbasedev, global_next);
}
