/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest does by ACPI on the pc machine: it lets go of a PCI device, or
 * of a DIMM, that it is asked for, and it falls asleep
 */
#ifndef TESTS_VFIO_ACPI_H
#define TESTS_VFIO_ACPI_H

#include "vfio-rig.h"

/* The guest is asked for the device in @slot, and has not answered yet. */
bool vfio_acpi_is_asked(VFIOMachine *m, int slot);

/* Let go of what is in @slot; DEVICE_DELETED says when it is gone. */
void vfio_acpi_eject(VFIOMachine *m, int slot);
void vfio_acpi_eject_dimm(VFIOMachine *m, int slot);

/* Sleep, with memory kept (S3). */
void vfio_acpi_sleep(VFIOMachine *m);

#endif /* TESTS_VFIO_ACPI_H */
