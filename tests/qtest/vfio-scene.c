/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest whose memory changes while a passed-through device uses it
 *
 * After each step, three things must hold.  The IOMMU maps what QEMU says that
 * the guest has.  Each page is the one that QEMU has there.  And both are the
 * same as in another run of the same steps.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qemu/bitops.h"
#include "vfio-edu.h"
#include "vfio-scene.h"

#define EDU_REACH   (1ULL << 28)
#define EDGE        64

/* Where the device writes back what it has read */
#define SCRATCH     0x300000

/* What should be mapped, and what is */

/* For MSIs, and where the rig's IOMMU maps nothing */
static bool is_reserved(const VFIORange *range)
{
    const VFIORigIommu *host = vfio_rig_iommu();

    return (range->first <= 0xfeefffff && range->last >= 0xfee00000) ||
           (host->far && range->first <= host->behind_far - 1 &&
            range->last >= host->far);
}

static void add_plugged_blocks(GArray *ranges, VFIOVirtioMem *mem)
{
    for (uint64_t i = 0; mem && i < mem->num_blocks; i++) {
        uint64_t first = mem->addr + i * mem->block_size;

        if (test_bit(i, mem->plugged)) {
            vfio_ranges_add(ranges, (VFIORange) {
                .first = first,
                .last = first + mem->block_size - 1,
                .writable = true,
            });
        }
    }
}

/* By iommufd a BAR is mapped only if there is another device to reach it. */
static bool has_peers(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-iommufd' }");
    QListEntry *object, *space;
    int devices = 0;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), object) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(object));

        QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "address-spaces"), space) {
            QDict *dict = qobject_to(QDict, qlist_entry_obj(space));

            devices += qlist_size(qdict_get_qlist(dict, "devices"));
        }
    }
    qobject_unref(reply);
    return devices > 1;
}

/* Linux 6.12's iommufd does not map BARs of other devices; type1 does. */
static GArray *expected_ranges(VFIOScene *s, GArray *regions)
{
    GArray *ranges = vfio_ranges_new();
    bool bars = vfio_rig_reaches_bars() &&
                (!vfio_rig_iommufd() || has_peers(s->machine));

    for (int i = 0; i < regions->len; i++) {
        VFIORegion *region = &g_array_index(regions, VFIORegion, i);

        if (g_str_equal(region->name, VFIO_SCENE_VMEM)) {
            add_plugged_blocks(ranges, s->vmem);
        } else if (is_reserved(&region->range)) {
            g_test_message("%s is out of reach", region->name);
        } else if (!region->bar || bars) {
            vfio_ranges_add(ranges, region->range);
        }
    }
    return ranges;
}

static bool in_bar(GArray *regions, uint64_t iova)
{
    for (int i = 0; i < regions->len; i++) {
        VFIORegion *region = &g_array_index(regions, VFIORegion, i);

        if (region->bar && iova >= region->range.first &&
            iova <= region->range.last) {
            return true;
        }
    }
    return false;
}

/* What must be the same in both runs */
static char *memory_text(GArray *pages, GArray *regions)
{
    g_autoptr(GArray) memory = g_array_new(false, false,
                                           sizeof(VFIOMappedPage));
    g_autoptr(GArray) ranges = NULL;

    for (int i = 0; i < pages->len; i++) {
        VFIOMappedPage *page = &g_array_index(pages, VFIOMappedPage, i);

        if (!in_bar(regions, page->iova)) {
            g_array_append_val(memory, *page);
        }
    }
    ranges = vfio_mapped_ranges(memory);
    return vfio_ranges_text(ranges);
}

static char *wrong_ranges(GArray *pages, GArray *expected)
{
    g_autoptr(GArray) mapped = vfio_mapped_ranges(pages);
    g_autofree char *mapped_text = vfio_ranges_text(mapped);
    g_autofree char *expected_text = vfio_ranges_text(expected);
    g_autofree char *difference = NULL;

    if (g_str_equal(mapped_text, expected_text)) {
        return NULL;
    }
    difference = vfio_lines_difference(expected_text, mapped_text);
    return g_strdup_printf("-: what %s should reach, +: what is mapped\n%s",
                           vfio_rig_iommufd() ? "the iommufd" : "the group",
                           difference);
}

char *vfio_scene_wrong(VFIOScene *s, GArray *regions)
{
    g_autoptr(GArray) expected = expected_ranges(s, regions);
    char *wrong;

    g_clear_pointer(&s->pages, g_array_unref);
    g_clear_pointer(&s->regions, g_array_unref);
    s->pages = vfio_mapped_pages(s->device);
    s->regions = regions;
    wrong = wrong_ranges(s->pages, expected);
    return wrong ?: vfio_mapped_wrong(s->machine, s->pages, regions);
}

static bool look(VFIOScene *s, const char *fmt, va_list ap)
{
    g_autoptr(GArray) before = g_steal_pointer(&s->pages);
    g_autofree char *step = g_strdup_vprintf(fmt, ap);
    g_autofree char *text = NULL;
    g_autofree char *wrong = NULL;

    g_test_message("%s", step);
    wrong = vfio_scene_wrong(s, vfio_machine_regions(s->machine, s->regions));
    g_assert_cmpstr(wrong, ==, NULL);
    text = memory_text(s->pages, s->regions);
    g_string_append_printf(s->record, "after: %s\n%s", step, text);
    return !before || !vfio_mapped_same(before, s->pages);
}

bool vfio_look(VFIOScene *s, const char *fmt, ...)
{
    va_list ap;
    bool differs;

    va_start(ap, fmt);
    differs = look(s, fmt, ap);
    va_end(ap);
    return differs;
}

void vfio_changed(VFIOScene *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_assert_true(look(s, fmt, ap));
    va_end(ap);
}

void vfio_unchanged(VFIOScene *s, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_assert_false(look(s, fmt, ap));
    va_end(ap);
}

/* The same check, by DMA */

static void fill(VFIOScene *s, uint64_t addr)
{
    uint8_t bytes[EDGE];

    for (int i = 0; i < EDGE; i++) {
        bytes[i] = g_test_rand_int();
    }
    qtest_bufwrite(s->machine->qts, addr, bytes, EDGE);
}

/*
 * Write something at the edges of each region that the device's 28 bits reach;
 * returns the addresses.
 */
static GArray *fill_edges(VFIOScene *s)
{
    g_autoptr(GArray) regions = vfio_machine_regions(s->machine, s->regions);
    GArray *edges = g_array_new(false, false, sizeof(uint32_t));

    for (int i = 0; i < regions->len; i++) {
        VFIORange *range = &g_array_index(regions, VFIORegion, i).range;
        uint32_t addr[] = { range->first, range->last + 1 - EDGE };

        if (range->last < EDU_REACH) {
            g_array_append_vals(edges, addr, ARRAY_SIZE(addr));
            for (int j = 0; range->writable && j < ARRAY_SIZE(addr); j++) {
                fill(s, addr[j]);
            }
        }
    }
    return edges;
}

/* The device reads what the guest reads. */
void vfio_check_dma(VFIOScene *s, int slot)
{
    g_autoptr(GArray) edges = fill_edges(s);
    uint32_t *addr = (uint32_t *)edges->data;
    VFIOEdu *edu = vfio_edu_new(s->machine, slot);

    vfio_edu_gather(edu, addr, edges->len, EDGE, SCRATCH);
    for (int i = 0; i < edges->len; i++) {
        uint8_t guest[EDGE], device[EDGE];

        qtest_bufread(s->machine->qts, addr[i], guest, EDGE);
        qtest_bufread(s->machine->qts, SCRATCH + i * EDGE, device, EDGE);
        g_assert_cmpmem(device, EDGE, guest, EDGE);
    }
    vfio_edu_free(edu);
}

/* A scene's life */

char *vfio_scene_device(const char *name)
{
    return g_strdup_printf("%s,x-no-mmap=on,id=edu0,addr=%d",
                           vfio_rig_device(name), VFIO_SCENE_SLOT);
}

VFIOMachine *vfio_scene_machine(const char *device, const char *options,
                                const char *errors)
{
    g_autofree char *edu = vfio_scene_device(device);

    return vfio_machine_start("-m 64M %s -device %s 2>%s", options, edu,
                              errors);
}

void vfio_scene_start(VFIOScene *s, const char *device, const char *options,
                      const char *errors)
{
    *s = (VFIOScene) {
        .device = device,
        .machine = vfio_scene_machine(device, options, errors),
        .record = g_string_new(NULL),
    };
    vfio_changed(s, "start");
}

char *vfio_scene_stop(VFIOScene *s)
{
    g_array_unref(s->pages);
    g_array_unref(s->regions);
    if (s->vmem) {
        vfio_virtio_mem_free(s->vmem);
    }
    vfio_machine_stop(s->machine);
    return g_string_free(s->record, false);
}
