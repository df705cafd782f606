/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What query-iommufd tells, and what the kernel and the traces say of the same
 */
#ifndef TESTS_VFIO_QUERY_H
#define TESTS_VFIO_QUERY_H

#include "qapi/qmp/qdict.h"
#include "vfio-rig.h"

/* The IommufdInfo of object @id, to be unreferenced; it must be there. */
QDict *vfio_query(VFIOMachine *m, const char *id);

/* A number in it, or in a struct in it */
uint64_t vfio_query_number(QDict *dict, const char *name);

/* Its only address space, or the @n-th; to be unreferenced with @info */
QDict *vfio_query_space(QDict *info);
QDict *vfio_query_nth_space(QDict *info, int n);
int vfio_query_count_spaces(QDict *info);

/* The sum of what is mapped in all address spaces */
uint64_t vfio_query_mapped(QDict *info);

/* Bytes that are to be mapped in the background, in the only address space */
uint64_t vfio_query_background(VFIOMachine *m);

/* Bytes that the kernel has pinned for QEMU: VmPin */
uint64_t vfio_machine_pinned(VFIOMachine *m);

/*
 * At most so much of a machine's memory, such as firmware, is at two places of
 * one address space; it is pinned once.  Bytes
 */
#define VFIO_SAME_TWICE MiB

/**
 * vfio_query_wrong: whether the object VFIO_RIG_IOMMUFD tells other than that
 * the page tables have @mapped bytes
 *
 * No more must be pinned, and where there is one address space also no less.
 * Returns NULL, or the difference, to be freed.
 */
char *vfio_query_wrong(VFIOMachine *m, uint64_t mapped);

/**
 * vfio_query_check_trace: @info tells what follows from the calls that QEMU
 * has traced: how many, how much, and what is still mapped by how many
 */
void vfio_query_check_trace(VFIOMachine *m, QDict *info);

#endif /* TESTS_VFIO_QUERY_H */
