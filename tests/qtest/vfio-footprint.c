/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a QEMU under test has of the host, for leaks
 */
#include "qemu/osdep.h"

#include "vfio-footprint.h"

/*
 * How much more there may be later without being a leak.  Resident memory grows
 * by itself when the kernel makes huge pages of the guest's memory and the
 * heap.  The kernel's objects are counted for the whole rig.
 */
#define MORE_DATA_KIB       1024
#define MORE_RESIDENT_KIB   (16 * 1024)
#define MORE_MAPPINGS       4
#define MORE_SLAB           256
#define MORE_PAGE_TABLES    64

static char *read_text(const char *path)
{
    char *text;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return text;
}

static char *proc_file(VFIOMachine *m, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/%s", m->pid, name);

    return read_text(path);
}

/* The number after @name in a file of /proc */
static uint64_t value_of(const char *text, const char *name)
{
    const char *found = strstr(text, name);

    g_assert_nonnull(found);
    return g_ascii_strtoull(found + strlen(name), NULL, 10);
}

/* Reading stat_refresh adds up what each processor has counted by itself. */
static char *kernel_counters(void)
{
    g_free(read_text("/proc/sys/vm/stat_refresh"));
    return read_text("/proc/vmstat");
}

static unsigned count_lines(const char *text)
{
    unsigned count = 0;

    while ((text = strchr(text, '\n'))) {
        text++;
        count++;
    }
    return count;
}

VFIOFootprint *vfio_footprint_new(VFIOMachine *m)
{
    VFIOFootprint *f = g_new0(VFIOFootprint, 1);
    g_autofree char *status = proc_file(m, "status");
    g_autofree char *maps = proc_file(m, "maps");
    g_autofree char *state = vfio_machine_state(m);
    g_autofree char *kernel = kernel_counters();
    uint64_t pinned = value_of(kernel, "nr_foll_pin_acquired ") -
                      value_of(kernel, "nr_foll_pin_released ");

    f->exact = g_strdup_printf("%slocked: %" PRIu64 " KiB\n"
                               "counted as pinned: %" PRIu64 " KiB\n"
                               "pinned: %" PRIu64 " pages\n", state,
                               value_of(status, "VmLck:"),
                               value_of(status, "VmPin:"), pinned);
    f->data = value_of(status, "VmData:");
    f->resident = value_of(status, "VmRSS:");
    f->mappings = count_lines(maps);
    f->slab = value_of(kernel, "nr_slab_unreclaimable ");
    f->page_tables = value_of(kernel, "nr_iommu_pages ");
    g_test_message("data: %u KiB, resident: %u KiB, mappings: %u, pinned: %"
                   PRIu64 " pages; kernel's objects: %u pages, IOMMU's page"
                   " tables: %u pages", f->data, f->resident, f->mappings,
                   pinned, f->slab, f->page_tables);
    return f;
}

void vfio_footprint_free(VFIOFootprint *f)
{
    g_free(f->exact);
    g_free(f);
}

void vfio_footprint_check(VFIOMachine *m, const VFIOFootprint *first)
{
    g_autoptr(VFIOFootprint) now = vfio_footprint_new(m);

    g_assert_cmpstr(now->exact, ==, first->exact);
    if (g_getenv("VFIO_TEST_SANITIZED")) {
        return;     /* freed memory is kept for a while, and leaks are found */
    }
    g_assert_cmpuint(now->data, <=, first->data + MORE_DATA_KIB);
    g_assert_cmpuint(now->resident, <=, first->resident + MORE_RESIDENT_KIB);
    g_assert_cmpuint(now->mappings, <=, first->mappings + MORE_MAPPINGS);
    g_assert_cmpuint(now->slab, <=, first->slab + MORE_SLAB);
    g_assert_cmpuint(now->page_tables, <=,
                     first->page_tables + MORE_PAGE_TABLES);
}
