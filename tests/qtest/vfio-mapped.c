/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a passed-through device reaches by DMA: three views, each on its own
 */
#include "qemu/osdep.h"

#include "qemu/bitops.h"
#include "vfio-mapped.h"

#define PAGE_BITS   12
#define PAGE_BYTES  (1ULL << PAGE_BITS)

/* VT-d's page tables: see "Second-Stage Paging Entries" of its specification */
#define VTD_LEVEL_BITS  9
#define VTD_LEVELS      5
#define VTD_READ        0x1
#define VTD_WRITE       0x2
#define VTD_ADDRESS     MAKE_64BIT_MASK(PAGE_BITS, 40)

/* Linux, Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_FRAME   MAKE_64BIT_MASK(0, 55)
#define PAGEMAP_PRESENT (1ULL << 63)

static char *read_file(const char *path)
{
    g_autoptr(GError) error = NULL;
    char *text;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    return text;
}

/* The IOMMU's page table */

/*
 * A line has the IOVA's page number and the entries that lead to the page,
 * from a fifth level down to the last, so that a large page has fewer.
 */
static bool parse_entry(const char *line, VFIOMappedPage *page)
{
    uint64_t number, entry = 0;
    const char *found;
    char *end;
    int levels;

    if (!g_str_has_prefix(line, "0x")) {
        return false;
    }

    number = g_ascii_strtoull(line, &end, 16);
    for (levels = 0; (found = strstr(end, "0x")); levels++) {
        entry = g_ascii_strtoull(found, &end, 16);
    }
    g_assert_cmpint(levels, <=, VTD_LEVELS);
    g_assert_true(entry & VTD_READ);

    page->iova = number << PAGE_BITS;
    page->size = PAGE_BYTES << VTD_LEVEL_BITS * (VTD_LEVELS - levels);
    page->phys = entry & VTD_ADDRESS;
    page->writable = entry & VTD_WRITE;
    return true;
}

GArray *vfio_mapped_pages(const char *name)
{
    g_autofree char *path =
        g_strdup_printf("/sys/kernel/debug/iommu/intel/%s/"
                        "domain_translation_struct", vfio_rig_address(name));
    g_autofree char *text = read_file(path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    GArray *pages = g_array_new(false, true, sizeof(VFIOMappedPage));

    for (char **line = lines; *line; line++) {
        VFIOMappedPage page = {};

        if (parse_entry(*line, &page)) {
            g_array_append_val(pages, page);
        }
    }
    return pages;
}

bool vfio_mapped_same(GArray *a, GArray *b)
{
    return a->len == b->len &&
           !memcmp(a->data, b->data, a->len * sizeof(VFIOMappedPage));
}

/* Ranges */

GArray *vfio_ranges_new(void)
{
    return g_array_new(false, false, sizeof(VFIORange));
}

void vfio_ranges_add(GArray *ranges, VFIORange range)
{
    VFIORange *before = ranges->len ? &g_array_index(ranges, VFIORange,
                                                     ranges->len - 1) : NULL;

    if (before && before->last + 1 == range.first &&
        before->writable == range.writable) {
        before->last = range.last;
    } else {
        g_assert_true(!before || before->last < range.first);
        g_array_append_val(ranges, range);
    }
}

char *vfio_ranges_text(GArray *ranges)
{
    GString *text = g_string_new(NULL);

    for (int i = 0; i < ranges->len; i++) {
        VFIORange *range = &g_array_index(ranges, VFIORange, i);

        g_string_append_printf(text, "0x%" PRIx64 " to 0x%" PRIx64 " %s\n",
                               range->first, range->last,
                               range->writable ? "rw" : "r");
    }
    return g_string_free(text, false);
}

GArray *vfio_mapped_ranges(GArray *pages)
{
    GArray *ranges = vfio_ranges_new();

    for (int i = 0; i < pages->len; i++) {
        VFIOMappedPage *page = &g_array_index(pages, VFIOMappedPage, i);

        vfio_ranges_add(ranges, (VFIORange) {
            .first = page->iova,
            .last = page->iova + page->size - 1,
            .writable = page->writable,
        });
    }
    return ranges;
}

/* The guest's memory map */

/* A part of a page cannot be mapped; @region may become empty. */
static void keep_whole_pages(VFIORegion *region)
{
    region->range.first = QEMU_ALIGN_UP(region->range.first, PAGE_BYTES);
    region->range.last = QEMU_ALIGN_DOWN(region->range.last + 1, PAGE_BYTES)
                         - 1;
}

/* "  FIRST-LAST (prio 0, KIND): NAME", where KIND has "nv-" for persistence */
static bool parse_region(const char *line, VFIORegion *region)
{
    char text[16], name[64];
    const char *kind = text;

    if (sscanf(line, " %" SCNx64 "-%" SCNx64 " (prio %*d, %15[^)]): %63s",
               &region->range.first, &region->range.last, text, name) != 4) {
        return false;
    }

    if (g_str_has_prefix(text, "nv-")) {
        kind += strlen("nv-");
    }
    region->bar = g_str_equal(kind, "ramd");
    region->range.writable = region->bar || g_str_equal(kind, "ram");
    region->name = g_intern_string(name);
    keep_whole_pages(region);
    return (region->range.writable || g_str_equal(kind, "rom")) &&
           region->range.first < region->range.last;
}

/* The lines after the one that names the address space "memory" */
static char **memory_lines(char **lines)
{
    while (*lines && !g_str_has_prefix(*lines, " AS \"memory\"")) {
        lines++;
    }
    g_assert_nonnull(*lines);
    return lines;
}

GArray *vfio_machine_regions(VFIOMachine *m)
{
    g_autofree char *text = qtest_hmp(m->qts, "info mtree -f");
    g_auto(GStrv) lines = g_strsplit(text, "\r\n", -1);
    GArray *regions = g_array_new(false, true, sizeof(VFIORegion));

    for (char **line = memory_lines(lines); **line; line++) {
        VFIORegion region = {};

        if (parse_region(*line, &region)) {
            g_array_append_val(regions, region);
        }
    }
    return regions;
}

/* The pages of that memory */

/* Where QEMU has the guest's @address */
static uint64_t host_address(VFIOMachine *m, uint64_t address)
{
    g_autofree char *text = qtest_hmp(m->qts, "gpa2hva 0x%" PRIx64, address);
    const char *found = strstr(text, ") is 0x");

    if (!found) {
        g_error("the monitor does not know 0x%" PRIx64 ": %s", address, text);
    }
    return g_ascii_strtoull(found + strlen(") is "), NULL, 16);
}

/* For each page of @region, its entry in QEMU's page table */
static uint64_t *read_pagemap(VFIOMachine *m, const VFIORegion *region)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", m->pid);
    uint64_t start = host_address(m, region->range.first) >> PAGE_BITS;
    size_t count = (region->range.last + 1 - region->range.first) >> PAGE_BITS;
    size_t bytes = count * sizeof(uint64_t);
    uint64_t *entries = g_malloc(bytes);
    int fd = open(path, O_RDONLY);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, entries, bytes, start * sizeof(uint64_t)), ==,
                    bytes);
    close(fd);
    return entries;
}

static void check_page(uint64_t iova, uint64_t phys, uint64_t entry)
{
    uint64_t expected = (entry & PAGEMAP_FRAME) << PAGE_BITS;

    if (!(entry & PAGEMAP_PRESENT)) {
        g_error("0x%" PRIx64 " is mapped to 0x%" PRIx64 ", and QEMU has no"
                " page there", iova, phys);
    }
    if (phys != expected) {
        g_error("0x%" PRIx64 " is mapped to 0x%" PRIx64 ", and QEMU has the"
                " page 0x%" PRIx64, iova, phys, expected);
    }
}

/* What @page and @range have in common */
static void check_common_pages(const VFIOMappedPage *page,
                               const VFIORange *range, const uint64_t *entries)
{
    uint64_t first = MAX(page->iova, range->first);
    uint64_t last = MIN(page->iova + page->size - 1, range->last);

    for (uint64_t iova = first; iova < last; iova += PAGE_BYTES) {
        check_page(iova, page->phys + iova - page->iova,
                   entries[(iova - range->first) >> PAGE_BITS]);
    }
}

void vfio_mapped_check_memory(VFIOMachine *m, GArray *pages, GArray *regions)
{
    for (int i = 0; i < regions->len; i++) {
        VFIORegion *region = &g_array_index(regions, VFIORegion, i);
        g_autofree uint64_t *entries = NULL;

        if (region->bar) {
            continue;
        }
        entries = read_pagemap(m, region);
        for (int j = 0; j < pages->len; j++) {
            check_common_pages(&g_array_index(pages, VFIOMappedPage, j),
                               &region->range, entries);
        }
    }
}
