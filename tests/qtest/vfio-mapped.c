/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a passed-through device reaches by DMA: three independent views
 */
#include "qemu/osdep.h"

#include "qemu/bitops.h"
#include "qemu/host-utils.h"
#include "vfio-mapped.h"

#define PAGE_BITS   12
#define PAGE_BYTES  (1ULL << PAGE_BITS)

/* Of each table, an Intel IOMMU's or an AMD IOMMU's */
#define LEVEL_BITS  9

/* VT-d's page tables: see "Second-Stage Paging Entries" of its specification */
#define VTD_LEVELS      5
#define VTD_READ        0x1
#define VTD_WRITE       0x2
#define VTD_ADDRESS     MAKE_64BIT_MASK(PAGE_BITS, 40)

/* AMD's: "Device Table Entry" and "I/O Page Tables" of its specification */
#define AMD_DEVICE_TABLE    0xfed80000      /* the register, in QEMU's */
#define AMD_ENTRY_BYTES     32
#define AMD_VALID           0x3             /* as is what is translated */
#define AMD_PRESENT         0x1
#define AMD_NEXT_LEVEL(e)   extract64(e, 9, 3)
#define AMD_OTHER_SIZE      7
#define AMD_READ            (1ULL << 61)
#define AMD_WRITE           (1ULL << 62)
#define AMD_ADDRESS         MAKE_64BIT_MASK(PAGE_BITS, 40)
#define AMD_TABLE_ENTRIES   (1 << LEVEL_BITS)

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

/* An Intel IOMMU's page table */

/*
 * A line has the IOVA's page number and the entries that lead to the page, from
 * the fifth level down to the last, so a large page has fewer of them.
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
    page->size = PAGE_BYTES << LEVEL_BITS * (VTD_LEVELS - levels);
    page->phys = entry & VTD_ADDRESS;
    page->writable = entry & VTD_WRITE;
    return true;
}

static void add_intel_pages(GArray *pages, const char *name)
{
    g_autofree char *path =
        g_strdup_printf("/sys/kernel/debug/iommu/intel/%s/"
                        "domain_translation_struct", vfio_rig_address(name));
    g_autofree char *text = read_file(path);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        VFIOMappedPage page = {};

        if (parse_entry(*line, &page)) {
            g_array_append_val(pages, page);
        }
    }
}

/* An AMD IOMMU's page table */

/* The numbers of a complete line of xp's, "ADDRESS: 0xNUMBER 0xNUMBER" */
static int parse_numbers(const char *line, uint64_t *numbers, int count)
{
    const char *found = strstr(line, ": 0x");
    char *end = (char *)found + 1;
    int n = 0;

    while (found && n < count && (found = strstr(end, "0x"))) {
        numbers[n++] = g_ascii_strtoull(found, &end, 16);
    }
    return n;
}

/* Read @count numbers of the rig's memory, by the monitor of its machine. */
static void read_rig_memory(uint64_t addr, uint64_t *numbers, int count)
{
    g_autofree char *node = vfio_rig_monitor_node();
    g_autofree char *command = g_strdup_printf("xp /%dgx 0x%" PRIx64 "\n",
                                               count, addr);
    int fd = vfio_rig_open(node, O_RDWR | O_CLOEXEC);
    FILE *monitor = fdopen(fd, "r");
    char line[256];

    g_assert_cmpint(write(fd, command, strlen(command)), ==, strlen(command));
    while (count > 0) {
        int n;

        g_assert_nonnull(fgets(line, sizeof(line), monitor));
        n = parse_numbers(line, numbers, count);
        numbers += n;
        count -= n;
    }
    fclose(monitor);
}

/* "0000:01:00.0", as the device names itself; none is behind a bridge */
static unsigned requester_id(const char *name)
{
    unsigned bus, slot, function;

    g_assert_cmpint(sscanf(vfio_rig_address(name), "0000:%x:%x.%x", &bus, &slot,
                           &function), ==, 3);
    return bus << 8 | slot << 3 | function;
}

/* A large page of any size has the same entry for each part of it. */
static uint64_t amd_page_size(uint64_t entry, uint64_t part)
{
    return AMD_NEXT_LEVEL(entry) == AMD_OTHER_SIZE
           ? 2ULL << cto64(entry | (PAGE_BYTES - 1)) : part;
}

/* @entry: leads to a table of @level at @iova */
static void add_amd_table(GArray *pages, uint64_t entry, int level,
                          uint64_t iova)
{
    uint64_t part = PAGE_BYTES << LEVEL_BITS * (level - 1);
    uint64_t entries[AMD_TABLE_ENTRIES];

    read_rig_memory(entry & AMD_ADDRESS, entries, AMD_TABLE_ENTRIES);
    for (int i = 0; i < AMD_TABLE_ENTRIES; i++, iova += part) {
        int next = AMD_NEXT_LEVEL(entries[i]);
        VFIOMappedPage page = {
            .iova = iova,
            .size = amd_page_size(entries[i], part),
            .writable = entries[i] & AMD_WRITE,
        };

        if (!(entries[i] & AMD_PRESENT)) {
            continue;
        }
        g_assert_true(entries[i] & AMD_READ);
        if (next && next != AMD_OTHER_SIZE) {
            add_amd_table(pages, entries[i], next, iova);
        } else if (QEMU_IS_ALIGNED(iova, page.size)) {
            page.phys = entries[i] & AMD_ADDRESS & ~(page.size - 1);
            g_array_append_val(pages, page);
        }
    }
}

static void add_amd_pages(GArray *pages, const char *name)
{
    uint64_t table, entry;

    read_rig_memory(AMD_DEVICE_TABLE, &table, 1);
    read_rig_memory((table & AMD_ADDRESS) +
                    requester_id(name) * AMD_ENTRY_BYTES, &entry, 1);
    if ((entry & AMD_VALID) == AMD_VALID && AMD_NEXT_LEVEL(entry)) {
        add_amd_table(pages, entry, AMD_NEXT_LEVEL(entry), 0);
    }
}

GArray *vfio_mapped_pages(const char *name)
{
    GArray *pages = g_array_new(false, true, sizeof(VFIOMappedPage));

    if (g_str_equal(vfio_rig_iommu()->name, "amd")) {
        add_amd_pages(pages, name);
    } else {
        add_intel_pages(pages, name);
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

static void append_absent(GString *text, char sign, char **lines,
                          char **others)
{
    for (; *lines; lines++) {
        if (!g_strv_contains((const char *const *)others, *lines)) {
            g_string_append_printf(text, "%c %s\n", sign, *lines);
        }
    }
}

char *vfio_lines_difference(const char *a, const char *b)
{
    g_auto(GStrv) in_a = g_strsplit(a, "\n", -1);
    g_auto(GStrv) in_b = g_strsplit(b, "\n", -1);
    GString *text = g_string_new(NULL);

    append_absent(text, '-', in_a, in_b);
    append_absent(text, '+', in_b, in_a);
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

/* Only whole pages can be mapped; @region may become empty. */
static void keep_whole_pages(VFIORegion *region)
{
    uint64_t first = QEMU_ALIGN_UP(region->range.first, PAGE_BYTES);

    region->offset += first - region->range.first;
    region->range.first = first;
    region->range.last = QEMU_ALIGN_DOWN(region->range.last + 1, PAGE_BYTES)
                         - 1;
}

/*
 * "  FIRST-LAST (prio 0, KIND): NAME", where KIND has "nv-" for persistence;
 * " @OFFSET" follows if the region does not begin at FIRST.
 */
static bool parse_region(const char *line, VFIORegion *region)
{
    char text[16], name[64];
    const char *kind = text;

    if (sscanf(line, " %" SCNx64 "-%" SCNx64 " (prio %*d, %15[^)]): %63s"
               " @%" SCNx64, &region->range.first, &region->range.last, text,
               name, &region->offset) < 4) {
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

/* The address at which QEMU has the guest's @address */
static uint64_t host_address(VFIOMachine *m, uint64_t address)
{
    g_autofree char *text = qtest_hmp(m->qts, "gpa2hva 0x%" PRIx64, address);
    const char *found = strstr(text, ") is 0x");

    if (!found) {
        g_error("the monitor does not know 0x%" PRIx64 ": %s", address, text);
    }
    return g_ascii_strtoull(found + strlen(") is "), NULL, 16);
}

/* As long as a memory region exists, it does not move. */
static bool find_host(GArray *known, VFIORegion *region)
{
    for (int i = 0; known && i < known->len; i++) {
        VFIORegion *other = &g_array_index(known, VFIORegion, i);

        if (other->name == region->name) {
            region->host = other->host - other->offset + region->offset;
            return true;
        }
    }
    return false;
}

GArray *vfio_machine_regions(VFIOMachine *m, GArray *known)
{
    g_autofree char *text = vfio_machine_monitor(m, "info mtree -f");
    g_auto(GStrv) lines = g_strsplit(text, "\r\n", -1);
    GArray *regions = g_array_new(false, true, sizeof(VFIORegion));

    for (char **line = memory_lines(lines); **line; line++) {
        VFIORegion region = {};

        if (parse_region(*line, &region)) {
            if (!region.bar && !find_host(known, &region) &&
                !find_host(regions, &region)) {
                region.host = host_address(m, region.range.first);
            }
            g_array_append_val(regions, region);
        }
    }
    return regions;
}

char *vfio_regions_text(GArray *regions)
{
    GString *text = g_string_new(NULL);

    for (int i = 0; i < regions->len; i++) {
        VFIORegion *region = &g_array_index(regions, VFIORegion, i);

        g_string_append_printf(text, "0x%" PRIx64 " to 0x%" PRIx64 " %s: %s "
                               "at 0x%" PRIx64 "\n", region->range.first,
                               region->range.last,
                               region->range.writable ? "rw" : "r",
                               region->name, region->offset);
    }
    return g_string_free(text, false);
}

/* The pages of that memory */

/* The entries of @region's pages in QEMU's page table, open as @pagemap */
static uint64_t *read_pagemap(int pagemap, const VFIORegion *region)
{
    uint64_t start = region->host >> PAGE_BITS;
    size_t count = (region->range.last + 1 - region->range.first) >> PAGE_BITS;
    size_t bytes = count * sizeof(uint64_t);
    uint64_t *entries = g_malloc(bytes);

    g_assert_cmpint(pread(pagemap, entries, bytes, start * sizeof(uint64_t)),
                    ==, bytes);
    return entries;
}

static char *wrong_page(uint64_t iova, uint64_t phys, uint64_t entry)
{
    uint64_t expected = (entry & PAGEMAP_FRAME) << PAGE_BITS;

    if (!(entry & PAGEMAP_PRESENT)) {
        return g_strdup_printf("0x%" PRIx64 " is mapped to 0x%" PRIx64
                               ", and QEMU has no page there\n", iova, phys);
    }
    if (phys != expected) {
        return g_strdup_printf("0x%" PRIx64 " is mapped to 0x%" PRIx64
                               ", and QEMU has the page 0x%" PRIx64 "\n",
                               iova, phys, expected);
    }
    return NULL;
}

/* Checks the first page that @page and @range have in common. */
static char *wrong_common_page(const VFIOMappedPage *page,
                               const VFIORange *range, const uint64_t *entries)
{
    uint64_t first = MAX(page->iova, range->first);
    uint64_t last = MIN(page->iova + page->size - 1, range->last);
    char *wrong = NULL;

    for (uint64_t iova = first; !wrong && iova < last; iova += PAGE_BYTES) {
        wrong = wrong_page(iova, page->phys + iova - page->iova,
                           entries[(iova - range->first) >> PAGE_BITS]);
    }
    return wrong;
}

static char *wrong_in_region(int pagemap, GArray *pages,
                             const VFIORegion *region)
{
    g_autofree uint64_t *entries = read_pagemap(pagemap, region);
    char *wrong = NULL;

    for (int i = 0; !wrong && i < pages->len; i++) {
        wrong = wrong_common_page(&g_array_index(pages, VFIOMappedPage, i),
                                  &region->range, entries);
    }
    return wrong;
}

char *vfio_mapped_wrong(VFIOMachine *m, GArray *pages, GArray *regions)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/pagemap", m->pid);
    int pagemap = vfio_rig_open(path, O_RDONLY);
    char *wrong = NULL;

    for (int i = 0; !wrong && i < regions->len; i++) {
        VFIORegion *region = &g_array_index(regions, VFIORegion, i);

        if (!region->bar) {
            wrong = wrong_in_region(pagemap, pages, region);
        }
    }
    close(pagemap);
    return wrong;
}
