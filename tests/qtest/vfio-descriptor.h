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
    int (*make)(void);      /* if there is no path */
} VFIODescriptor;

/* Not of /dev/iommu and not of a VFIO device; the last one has no name */
extern const VFIODescriptor vfio_foreign_descriptors[];

/* Returns -1, with errno set, if the host has no such thing. */
int vfio_descriptor_open(const VFIODescriptor *descriptor);

/**
 * vfio_descriptor_pass: give QEMU a copy of @fd, under the name @name
 */
void vfio_descriptor_pass(QTestState *qts, int fd, const char *name);

#endif /* TESTS_VFIO_DESCRIPTOR_H */
