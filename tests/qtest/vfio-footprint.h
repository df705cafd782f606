/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a QEMU under test has of the host, for leaks
 */
#ifndef TESTS_VFIO_FOOTPRINT_H
#define TESTS_VFIO_FOOTPRINT_H

#include "vfio-rig.h"

typedef struct VFIOFootprint {
    char *exact;            /* what must not change at all, as text */
    unsigned data;          /* what malloc got from the kernel, in KiB */
    unsigned resident;      /* in KiB */
    unsigned mappings;
    unsigned slab;          /* the kernel's objects, in pages */
    unsigned page_tables;   /* of the rig's IOMMU, in pages */
} VFIOFootprint;

/* Objects, descriptors and memory, of QEMU and of the kernel for QEMU */
VFIOFootprint *vfio_footprint_new(VFIOMachine *m);
void vfio_footprint_free(VFIOFootprint *f);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(VFIOFootprint, vfio_footprint_free)

/* Check that there is no more than at @first, in the same situation. */
void vfio_footprint_check(VFIOMachine *m, const VFIOFootprint *first);

#endif /* TESTS_VFIO_FOOTPRINT_H */
