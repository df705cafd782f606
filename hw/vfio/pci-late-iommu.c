/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An IOMMU of the guest's that is created after a device it translates for
 *
 * A device asks for its address space when it is realized.  If the IOMMU comes
 * later on the command line, the device has all of the guest's memory, and
 * keeps it: what the guest maps for it is not what it reaches.  By the group
 * this is so as well, and stays.
 */
#include "qemu/osdep.h"

#include "pci.h"
#include "qemu/error-report.h"
#include "hw/qdev-core.h"
#include "sysemu/sysemu.h"

static bool has_other_address_space(VFIODevice *vbasedev)
{
    VFIOPCIDevice *vdev;

    if (!vbasedev->iommufd || vbasedev->type != VFIO_DEVICE_TYPE_PCI) {
        return false;
    }
    vdev = container_of(vbasedev, VFIOPCIDevice, vbasedev);
    return pci_device_iommu_address_space(&vdev->pdev) !=
           vbasedev->container->space->as;
}

/* No IOMMU can be plugged later. */
static void check_all(Notifier *notifier, void *unused)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (has_other_address_space(vbasedev)) {
            error_report("vfio %s: the guest's IOMMU was created after this "
                         "device, which it would not translate for; put the "
                         "IOMMU before the device on the command line",
                         vbasedev->name);
            exit(EXIT_FAILURE);
        }
    }
}

void vfio_pci_expect_no_late_iommu(void)
{
    static Notifier machine_done;

    if (!phase_check(PHASE_MACHINE_READY) && !machine_done.notify) {
        machine_done.notify = check_all;
        qemu_add_machine_init_done_notifier(&machine_done);
    }
}
