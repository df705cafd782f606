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

/* So can what the kernel does for them, if it has FAULT_INJECTION. */
void vfio_fault_init_steps(void);

/**
 * vfio_fault_arm: count QEMU's calls from now on, and let the @n-th, counted
 * from 1, fail with errno @error; none for 0
 */
void vfio_fault_arm(uint32_t n, int error);

/**
 * vfio_fault_arm_step: the same, but the call is made, and in it the @step-th
 * step that can fail, counted from 1, does
 *
 * These are the kernel's allocations, and what iommufd has marked for its own
 * tests.
 */
void vfio_fault_arm_step(uint32_t n, uint32_t step);

/* Whether that call came to that step */
bool vfio_fault_reached(void);

/* Let all calls be again; returns how many there were since. */
uint32_t vfio_fault_disarm(void);

/* The @n-th of these calls, until the next are counted */
const VFIOFaultCall *vfio_fault_call(uint32_t n);

/* "open /dev/iommu", "IOMMU_IOAS_MAP" */
const char *vfio_fault_name(const VFIOFaultCall *call);

#endif /* TESTS_VFIO_FAULT_H */
