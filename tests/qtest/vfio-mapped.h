/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a passed-through device reaches by DMA: three independent views
 *
 *   the IOMMU's page table     debugfs of the kernel's intel-iommu; AMD's has
 *                              none, and is looked up in the rig's memory
 *   the guest's memory map     what QEMU's monitor shows
 *   the pages of that memory   QEMU's page table, /proc/PID/pagemap
 *
 * Addresses and sizes in bytes, "last" is inclusive.
 */
#ifndef TESTS_VFIO_MAPPED_H
#define TESTS_VFIO_MAPPED_H

#include "vfio-rig.h"

/* An entry of the IOMMU's page table */
typedef struct VFIOMappedPage {
    uint64_t iova;
    uint64_t size;
    uint64_t phys;      /* in the rig's memory */
    bool writable;
} VFIOMappedPage;

/* Adjacent addresses with the same permissions */
typedef struct VFIORange {
    uint64_t first;
    uint64_t last;
    bool writable;
} VFIORange;

/* Memory of the guest that a device could reach; whole pages only */
typedef struct VFIORegion {
    VFIORange range;
    bool bar;           /* of a passed-through device */
    const char *name;   /* of the memory region */
    uint64_t offset;    /* of the range in that region */
    uint64_t host;      /* where QEMU has the range, unless it is a BAR's */
} VFIORegion;

/**
 * vfio_mapped_pages: the IOMMU's page table for the rig's device @name, as
 * VFIOMappedPages in the order of their addresses
 *
 * Empty if the device has none, and its DMA is blocked.
 */
GArray *vfio_mapped_pages(const char *name);

/* Whether all entries of two page tables are the same */
bool vfio_mapped_same(GArray *a, GArray *b);

/* The VFIORanges that are mapped */
GArray *vfio_mapped_ranges(GArray *pages);

/**
 * vfio_mapped_wrong: whether each of @pages is the page that QEMU itself has
 * there; returns NULL, or which one is not, to be freed
 *
 * @regions: cover all of @pages.  Pages of BARs are left out: pagemap shows
 * only memory.
 */
char *vfio_mapped_wrong(VFIOMachine *m, GArray *pages, GArray *regions);

/**
 * vfio_machine_regions: RAM and ROM in the guest's memory map, as VFIORegions
 *
 * @known: what it returned before, or NULL.  QEMU is asked only for the
 * addresses of regions that are new since then.
 */
GArray *vfio_machine_regions(VFIOMachine *m, GArray *known);

/* A line for each, with its offset in the memory region; to be freed */
char *vfio_regions_text(GArray *regions);

GArray *vfio_ranges_new(void);

/* Append @range, which lies behind all of @ranges, and join it to the last. */
void vfio_ranges_add(GArray *ranges, VFIORange range);

/* A line for each; to be freed */
char *vfio_ranges_text(GArray *ranges);

/* Lines that only @a has, after a '-', and that only @b has, after a '+' */
char *vfio_lines_difference(const char *a, const char *b);

#endif /* TESTS_VFIO_MAPPED_H */
