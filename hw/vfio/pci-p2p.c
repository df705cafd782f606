/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * When a PCI device's BARs are out of others' reach, and come back: see p2p.h
 *
 * It goes by writes to the configuration, which the kernel has seen before.
 * QEMU's own resets of a device begin with such a write, too: see
 * vfio_pci_pre_reset().
 */
#include "qemu/osdep.h"

#include "hw/pci/pci.h"
#include "p2p.h"
#include "pci.h"

/* A write, and what it has for one byte of the configuration */
typedef struct Write {
    PCIDevice *pdev;
    uint32_t addr;
    uint32_t val;
    int len;
} Write;

static bool has_byte(const Write *w, uint32_t at)
{
    return range_covers_byte(w->addr, w->len, at);
}

/* Whether it has the byte at @offset of a capability with any bit of @mask */
static bool sets(const Write *w, uint8_t id, unsigned offset, uint8_t mask)
{
    uint32_t at = pci_find_capability(w->pdev, id) + offset;

    return at != offset && has_byte(w, at) &&
           w->val >> 8 * (at - w->addr) & mask;
}

static bool resets(const Write *w)
{
    return sets(w, PCI_CAP_ID_EXP, PCI_EXP_DEVCTL + 1,
                PCI_EXP_DEVCTL_BCR_FLR >> 8) ||
           sets(w, PCI_CAP_ID_AF, PCI_AF_CTRL, PCI_AF_CTRL_FLR);
}

static uint32_t power_register(PCIDevice *pdev)
{
    return pci_find_capability(pdev, PCI_CAP_ID_PM) + PCI_PM_CTRL;
}

static bool may_change_decoding(const Write *w)
{
    uint32_t power = power_register(w->pdev);

    return has_byte(w, PCI_COMMAND) ||
           (power != PCI_PM_CTRL && has_byte(w, power));
}

static bool is_awake(PCIDevice *pdev)
{
    uint32_t power = power_register(pdev);

    return power == PCI_PM_CTRL ||
           (vfio_pci_read_config(pdev, power, 1) & PCI_PM_CTRL_STATE_MASK) != 3;
}

/* As the kernel sees it: see its __vfio_pci_memory_enabled() */
static bool decodes_memory(PCIDevice *pdev)
{
    return vfio_pci_read_config(pdev, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY &&
           is_awake(pdev);
}

void vfio_p2p_config_written(VFIODevice *vbasedev, PCIDevice *pdev,
                             uint32_t addr, uint32_t val, int len)
{
    const Write w = {
        .pdev = pdev,
        .addr = addr,
        .val = val,
        .len = len,
    };
    bool reset = resets(&w);

    if ((!reset && !may_change_decoding(&w)) ||
        !vfio_p2p_is_reached(vbasedev)) {
        return;
    }
    if (reset || !decodes_memory(pdev)) {
        vfio_p2p_revoked(vbasedev);
    }
    if (decodes_memory(pdev)) {
        vfio_p2p_revive(vbasedev);
    }
}
