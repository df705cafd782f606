/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Calls of a QEMU under test that fail, one at a time
 *
 * QEMU has a library preloaded (tests/rig/fault.c) that counts what it asks of
 * the kernel for passed-through devices, and lets one call fail.
 */
#ifndef TESTS_VFIO_FAULT_H
#define TESTS_VFIO_FAULT_H

#include "vfio-fault-shared.h"

/* QEMUs that are started from now on can be made to fail. */
void vfio_fault_init(void);

/**
 * vfio_fault_arm: count QEMU's calls from now on, and let the @n-th, counted
 * from 1, fail with errno @error; none for 0
 */
void vfio_fault_arm(uint32_t n, int error);

/* Let all calls be again; returns how many there were since. */
uint32_t vfio_fault_disarm(void);

/* The @n-th of these calls, until the next are counted */
const VFIOFaultCall *vfio_fault_call(uint32_t n);

/* "open /dev/iommu", "IOMMU_IOAS_MAP" */
const char *vfio_fault_name(const VFIOFaultCall *call);

#endif /* TESTS_VFIO_FAULT_H */
