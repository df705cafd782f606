/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes calls of a QEMU under test fail, one at a time
 *
 * A library (tests/rig/fault.c) is preloaded into QEMU.  It counts what QEMU
 * asks of the kernel for passed-through devices, and makes one call fail.
 */
#ifndef TESTS_VFIO_FAULT_H
#define TESTS_VFIO_FAULT_H

#include "vfio-fault-shared.h"

/* Prepare QEMUs that are started from now on for calls that fail. */
void vfio_fault_init(void);

/* Prepare the kernel to fail in these calls, if it has FAULT_INJECTION. */
void vfio_fault_init_steps(void);

/**
 * vfio_fault_arm: count QEMU's calls from now on, and make the @n-th, counted
 * from 1, fail with errno @error; none fails if @n is 0
 */
void vfio_fault_arm(uint32_t n, int error);

/* The same, but all calls from the @n-th to the @last fail. */
void vfio_fault_arm_row(uint32_t n, uint32_t last, int error);

/**
 * vfio_fault_arm_step: the same, but the call is made, and the @step-th step in
 * it that can fail, counted from 1, does fail
 *
 * These steps are the kernel's allocations, and places that iommufd has marked
 * for its own tests.
 */
void vfio_fault_arm_step(uint32_t n, uint32_t step);

/* The same, but only calls of this kind are counted; @call is a copy of one. */
void vfio_fault_arm_only(const VFIOFaultCall *call, uint32_t n, int error);

/* ... and all from the @n-th to the @last of them fail. */
void vfio_fault_arm_only_row(const VFIOFaultCall *call, uint32_t n,
                             uint32_t last, int error);

/* Whether that call came to that step */
bool vfio_fault_reached(void);

/* How many there were so far */
uint32_t vfio_fault_count(void);

/* Let all calls succeed again; returns how many there were. */
uint32_t vfio_fault_disarm(void);

/* The same where there may be more than are recorded */
uint32_t vfio_fault_disarm_many(void);

/* The @n-th of these calls, valid until the next are counted */
const VFIOFaultCall *vfio_fault_call(uint32_t n);

/* For instance "open /dev/iommu" or "IOMMU_IOAS_MAP" */
const char *vfio_fault_name(const VFIOFaultCall *call);

/**
 * vfio_fault_tokens: answer binds as a kernel that knows VF tokens
 *
 * @token: what the device wants, 16 bytes; NULL if it does not
 */
void vfio_fault_tokens(VFIOFaultTokens tokens, const uint8_t *token);

/**
 * vfio_fault_ranges: let the host's IOMMU seem to map only these @count ranges,
 * in ascending order, for any device; what it really is if @count is 0
 */
void vfio_fault_ranges(const VFIOFaultRange *ranges, uint32_t count);

/**
 * vfio_fault_hold_maps: let calls that map or copy 8 MiB or more wait from now
 * on, until vfio_fault_release_maps()
 *
 * vfio_fault_allow_maps() lets @count of them be made.
 */
void vfio_fault_hold_maps(void);
void vfio_fault_allow_maps(uint32_t count);
void vfio_fault_release_maps(void);

/*
 * The same, but only calls of threads that help wait, and only until QEMU waits
 * for such a thread to end.  So how many calls are made does not depend on how
 * fast the threads are.
 */
void vfio_fault_hold_helpers(void);

/* How many threads wait in such a call */
uint32_t vfio_fault_held_maps(void);

/* Wait until all threads that map in the background do. */
void vfio_fault_wait_held(void);

/*
 * Wait until QEMU waits for a thread to end.  The calls that are held then are
 * the last ones.
 */
void vfio_fault_wait_joining(void);

/* Let those be made if QEMU waits for a thread to end now. */
void vfio_fault_allow_joined(void);

/**
 * vfio_fault_meet_binds: let binds wait from now on until @count have begun, but
 * no longer than ten seconds; 0: they wait no more
 *
 * vfio_fault_binds_met() says whether so many were made at a time.
 */
void vfio_fault_meet_binds(uint32_t count);
bool vfio_fault_binds_met(void);

#endif /* TESTS_VFIO_FAULT_H */
