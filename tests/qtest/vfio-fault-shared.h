/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a test shares with the library that makes QEMU's calls fail: a file that
 * both map, named by VFIO_FAULT_FILE in the environment
 *
 * The library is tests/rig/fault.c, which says which calls there are.
 */
#ifndef TESTS_VFIO_FAULT_SHARED_H
#define TESTS_VFIO_FAULT_SHARED_H

#include <stdint.h>

#define VFIO_FAULT_FILE "VFIO_FAULT_FILE"

/* More than QEMU makes in any act; later ones are counted, but not recorded. */
#define VFIO_FAULT_CALLS 1024

#define VFIO_FAULT_NAME 52

typedef struct VFIOFaultCall {
    char name[VFIO_FAULT_NAME];     /* "open /dev/iommu", or "ioctl" */
    uint32_t request;   /* of an ioctl */
    int32_t result;     /* the errno that it ended with, or 0 */
    uint64_t site;      /* the caller, as an offset in its program or library */
} VFIOFaultCall;

/* What a bind does with a VF token, as later kernels than the rig's do it */
typedef enum VFIOFaultTokens {
    VFIO_FAULT_TOKENS_AS_IT_IS,
    VFIO_FAULT_TOKENS_UNREADABLE,   /* Linux 6.17: knows them, reads none */
    VFIO_FAULT_TOKENS_REFUSED,      /* the device takes none */
    VFIO_FAULT_TOKENS_WANTED,       /* the device takes one: ->token */
} VFIOFaultTokens;

/* Which large maps wait */
typedef enum VFIOFaultHolds {
    VFIO_FAULT_HOLDS_NONE,
    VFIO_FAULT_HOLDS_ALL,
    VFIO_FAULT_HOLDS_HELPERS,   /* of other threads than the first one */
} VFIOFaultHolds;

#define VFIO_FAULT_RANGES 32

/* What IOMMU_IOAS_IOVA_RANGES answers; both are inclusive */
typedef struct VFIOFaultRange {
    uint64_t first;
    uint64_t last;
} VFIOFaultRange;

typedef struct VFIOFaultShared {
    uint32_t watching;  /* calls are counted only while this is set */
    uint32_t fail_at;   /* the call that fails, counted from 1; 0: none */
    uint32_t fail_last; /* ... and all up to this one */
    int32_t error;      /* an errno */
    uint32_t step;      /* the kernel's step that fails instead; 0: none */
    uint32_t reached;   /* whether the call came to that step */
    uint32_t begun;     /* a call was seen, be it one that is counted or not */
    uint32_t count;
    char only[VFIO_FAULT_NAME];     /* calls of this name, if it is set */
    uint32_t only_request;
    uint32_t tokens;    /* VFIOFaultTokens, also while nothing is counted */
    uint8_t token[16];
    uint32_t holds;     /* VFIOFaultHolds, also while nothing is counted */
    uint32_t waiting;   /* how many are held */
    uint32_t allowed;   /* ... and so many need not */
    uint32_t joining;   /* threads that wait for another one to end */
    uint32_t meet;      /* so many binds wait for each other; 0: none does */
    uint32_t met;       /* ... and so many have come */
    uint32_t missed;    /* ... or did not wait any longer */
    uint32_t num_ranges;    /* 0: as the kernel says */
    VFIOFaultRange ranges[VFIO_FAULT_RANGES];
    VFIOFaultCall calls[VFIO_FAULT_CALLS];
} VFIOFaultShared;

#endif /* TESTS_VFIO_FAULT_SHARED_H */
