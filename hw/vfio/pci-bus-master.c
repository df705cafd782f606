/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The Bus Master Enable of a PCI device whose memory is still being mapped
 *
 * The guest's write is carried out but for this one bit, which the device gets
 * when all memory is mapped.  Until then the guest does not run, so it does not
 * see a difference (background.h).
 *
 * There is no other way to the bit.  The kernel clears it when it opens a
 * device (Linux, drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_enable()), and
 * what it restores after a reset is what was there.  Quirks that find the
 * configuration space in a BAR write to it by vfio_pci_write_config(); where a
 * guest finds it and QEMU does not, the host's IOMMU stops the device, and
 * nobody else is hurt.
 */
#include "qemu/osdep.h"

#include "background.h"
#include "pci.h"
#include "qemu/range.h"

static void enable(VFIODevice *vbasedev)
{
    PCIDevice *pdev = &container_of(vbasedev, VFIOPCIDevice, vbasedev)->pdev;
    uint32_t command = vfio_pci_read_config(pdev, PCI_COMMAND, 2);

    vfio_pci_write_config(pdev, PCI_COMMAND, command | PCI_COMMAND_MASTER, 2);
}

uint32_t vfio_pci_keep_bus_master(VFIOPCIDevice *vdev, uint32_t addr,
                                  uint32_t val, int len)
{
    uint32_t master;

    if (!vdev->vbasedev.iommufd ||
        !range_covers_byte(addr, len, PCI_COMMAND)) {
        return val;
    }

    master = (uint32_t)PCI_COMMAND_MASTER << 8 * (PCI_COMMAND - addr);
    if (!(val & master)) {
        vfio_background_dma_off(&vdev->vbasedev);
    } else if (!vfio_background_dma_on(&vdev->vbasedev, enable)) {
        val &= ~master;
    }
    return val;
}
