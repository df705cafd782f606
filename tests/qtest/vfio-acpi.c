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
