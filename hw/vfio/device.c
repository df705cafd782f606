/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How QEMU gets a VFIO device, and gives it back
 *
 * It opens the device by its group (group.c), or by its character device and an
 * iommufd object (iommufd.c).  The choice is made here, once; after that the
 * operations of the device's container know.
 */
#include "qemu/osdep.h"

#include "cdev.h"
#include "p2p.h"
#include "qapi/error.h"

bool vfio_device_is_mdev(VFIODevice *vbasedev)
{
    g_autofree char *link = g_strdup_printf("%s/subsystem",
                                            vbasedev->sysfsdev ?: "");
    g_autofree char *subsystem = realpath(link, NULL);

    return g_strcmp0(subsystem, "/sys/bus/mdev") == 0;
}

/* Let go of a descriptor that was given for a device that is not attached. */
static void vfio_device_drop_fd(VFIODevice *vbasedev)
{
    if (vbasedev->fd_given) {
        vfio_cdev_close(vbasedev);
    }
}

static bool vfio_device_check_options(VFIODevice *vbasedev, Error **errp)
{
    if (!vbasedev->iommufd &&
        vbasedev->dma.in_background == ON_OFF_AUTO_ON) {
        error_setg(errp, "map-in-background=on is for devices with iommufd=");
        return false;
    }
    return true;
}

bool vfio_device_attach(VFIODevice *vbasedev, AddressSpace *as, Error **errp)
{
    const VFIOContainerOps *ops = vbasedev->iommufd ? &vfio_iommufd_ops
                                                    : &vfio_legacy_ops;

    if (!vfio_device_check_options(vbasedev, errp) ||
        !ops->attach_device(vbasedev, as, errp)) {
        vfio_device_drop_fd(vbasedev);
        return false;
    }
    return true;
}

void vfio_device_detach(VFIODevice *vbasedev)
{
    vfio_p2p_leave(vbasedev);
    if (vbasedev->container) {
        vbasedev->container->ops->detach_device(vbasedev);
    } else {
        vfio_device_drop_fd(vbasedev);
    }
}
