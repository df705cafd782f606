/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does by ACPI on the pc machine: see vfio-acpi.h
 */
#include "qemu/osdep.h"

#include "vfio-acpi.h"

/* docs/specs/acpi_pci_hotplug.rst; bit N is slot N */
#define PCI_DOWN        0xae04
#define PCI_EJECT       0xae08

/* docs/specs/acpi_mem_hotplug.rst */
#define DIMM_SELECT     0xa00
#define DIMM_CONTROL    0xa14
#define DIMM_EJECT      0x8

/* piix4's function for it; ACPI 6.4, 4.8.3.2.1 */
#define PM_DEVFN        QPCI_DEVFN(1, 3)
#define PM_BASE         0x40
#define PM_ENABLE       0x80
#define PM_PORT         0x600
#define PM1_CONTROL     (PM_PORT + 4)
#define PM1_SLEEP_S3    (1 << 10 | 1 << 13)

bool vfio_acpi_is_asked(VFIOMachine *m, int slot)
{
    return qtest_inl(m->qts, PCI_DOWN) & (1u << slot);
}

void vfio_acpi_eject(VFIOMachine *m, int slot)
{
    qtest_outl(m->qts, PCI_EJECT, 1u << slot);
}

void vfio_acpi_eject_dimm(VFIOMachine *m, int slot)
{
    qtest_outl(m->qts, DIMM_SELECT, slot);
    qtest_outb(m->qts, DIMM_CONTROL, DIMM_EJECT);
}

/* The firmware would have set the port. */
void vfio_acpi_sleep(VFIOMachine *m)
{
    QPCIDevice *pm = qpci_device_find(m->pci, PM_DEVFN);

    g_assert_nonnull(pm);
    qpci_config_writel(pm, PM_BASE, PM_PORT | 1);
    qpci_config_writeb(pm, PM_ENABLE, 1);
    qtest_outw(m->qts, PM1_CONTROL, PM1_SLEEP_S3);
    qtest_qmp_eventwait(m->qts, "SUSPEND");
    g_free(pm);
}
