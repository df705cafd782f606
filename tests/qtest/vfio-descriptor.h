/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Descriptors that a test gives to a QEMU under test
 */
#ifndef TESTS_VFIO_DESCRIPTOR_H
#define TESTS_VFIO_DESCRIPTOR_H

#include "libqtest.h"

/* Something to open */
typedef struct VFIODescriptor {
    const char *name;
    const char *path;
    int flags;              /* for open(); 0: O_RDWR */
    int (*make)(void);      /* where there is no path */
} VFIODescriptor;

/* Neither of /dev/iommu nor of a VFIO device; ends with a NULL name */
extern const VFIODescriptor vfio_foreign_descriptors[];

/* -1, with errno set, where the host has no such thing */
int vfio_descriptor_open(const VFIODescriptor *descriptor);

/**
 * vfio_descriptor_pass: give QEMU a copy of @fd, which QEMU knows as @name
 */
void vfio_descriptor_pass(QTestState *qts, int fd, const char *name);

#endif /* TESTS_VFIO_DESCRIPTOR_H */
