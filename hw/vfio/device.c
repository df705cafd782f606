/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How a VFIO device is got and given back
 *
 * It comes by way of its group (group.c), or by way of its character device
 * and an iommufd object (iommufd.c).  Which of the two is decided here, once;
 * after that the operations of its container know.
 */
#include "qemu/osdep.h"

#include "hw/vfio/vfio-common.h"

bool vfio_device_attach(VFIODevice *vbasedev, AddressSpace *as, Error **errp)
{
    const VFIOContainerOps *ops = vbasedev->iommufd ? &vfio_iommufd_ops
                                                    : &vfio_legacy_ops;

    return ops->attach_device(vbasedev, as, errp);
}

void vfio_device_detach(VFIODevice *vbasedev)
{
    if (vbasedev->container) {
        vbasedev->container->ops->detach_device(vbasedev);
    }
}
