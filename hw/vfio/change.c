/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A change of a container's memory map, taken as a whole: see change.h */
#include "qemu/osdep.h"

#include "dirty.h"
#include "iommufd.h"
#include "trace.h"

typedef QLIST_HEAD(VFIOChanges, VFIOChange) VFIOChanges;

static VFIOChanges open_changes = QLIST_HEAD_INITIALIZER(open_changes);

static VFIOIOMMUFDContainer *container_of_change(VFIOChange *change)
{
    return container_of(change, VFIOIOMMUFDContainer, change);
}

void vfio_change_init(VFIOChange *change)
{
    change->open = false;
    change->leaving = g_array_new(false, false, sizeof(MemoryRegionSection));
    change->coming = g_array_new(false, false, sizeof(MemoryRegionSection));
    change->kept = g_array_new(false, false, sizeof(Range));
}

void vfio_change_destroy(VFIOChange *change)
{
    if (change->open) {
        QLIST_REMOVE(change, next);
    }
    g_array_free(change->leaving, true);
    g_array_free(change->coming, true);
    g_array_free(change->kept, true);
}

#define SECTION(array, i) (&g_array_index(array, MemoryRegionSection, i))

/* What is recorded must not keep the view, see missing.c. */
static void add(GArray *sections, const MemoryRegionSection *section)
{
    MemoryRegionSection copy = *section;

    copy.fv = NULL;
    g_array_append_val(sections, copy);
}

bool vfio_change_leave(VFIOIOMMUFDContainer *container,
                       MemoryRegionSection *section)
{
    Range range;

    if (container->change.open) {
        vfio_missing_range(section, &range);
        vfio_missing_remove(&container->missing, range_lob(&range),
                            range_size(&range));
        memory_region_ref(section->mr);
        add(container->change.leaving, section);
    }
    return container->change.open;
}

bool vfio_change_come(VFIOIOMMUFDContainer *container,
                      MemoryRegionSection *section)
{
    if (container->change.open) {
        add(container->change.coming, section);
    }
    return container->change.open;
}

/* Gaps */

/* Sets *@lowest to the lowest of something in @range. */
typedef bool Find(VFIOIOMMUFDContainer *container, Range *range, Range *lowest);

typedef void OnGap(VFIOIOMMUFDContainer *container,
                   MemoryRegionSection *section, hwaddr first, hwaddr last);

/* Call @fn for what is between what @find finds in @section. */
static void for_each_gap(VFIOIOMMUFDContainer *container,
                         MemoryRegionSection *section, Find *find, OnGap *fn)
{
    Range rest, found;
    hwaddr next, last;

    vfio_missing_range(section, &rest);
    next = range_lob(&rest);
    last = range_upb(&rest);
    while (find(container, &rest, &found)) {
        if (range_lob(&found) > next) {
            fn(container, section, next, range_lob(&found) - 1);
        }
        if (range_upb(&found) >= last) {
            return;
        }
        next = range_upb(&found) + 1;
        range_set_bounds(&rest, next, last);
    }
    fn(container, section, next, last);
}

/* What stays */

static bool is_same_memory(const MemoryRegionSection *a,
                           const MemoryRegionSection *b)
{
    return a->mr == b->mr && a->readonly == b->readonly &&
           a->offset_within_address_space - a->offset_within_region ==
           b->offset_within_address_space - b->offset_within_region;
}

static bool is_cut(VFIOIOMMUFDContainer *container, hwaddr first, hwaddr last,
                   Range *map)
{
    Range bounds;

    range_set_bounds(&bounds, first, last);
    return vfio_iommufd_find_map(container, &bounds, map) &&
           range_lob(map) <= first && range_upb(map) >= last;
}

/*
 * Leave out what the kernel has mapped as a whole, and @range only a part of.
 * Returns false if nothing is left.
 */
static bool leave_out_cut(VFIOIOMMUFDContainer *container, Range *range)
{
    hwaddr first = range_lob(range), last = range_upb(range);
    Range map;

    vfio_maps_split(&container->maps, first, true);
    if (first && is_cut(container, first - 1, first, &map)) {
        if (range_upb(&map) >= last) {
            return false;
        }
        first = range_upb(&map) + 1;
    }
    vfio_maps_split(&container->maps, last + 1, false);
    if (last != UINT64_MAX && is_cut(container, last, last + 1, &map)) {
        if (range_lob(&map) <= first) {
            return false;
        }
        last = range_lob(&map) - 1;
    }
    range_set_bounds(range, first, last);
    return true;
}

static void keep_common(VFIOIOMMUFDContainer *container,
                        MemoryRegionSection *leaving,
                        MemoryRegionSection *coming)
{
    Range range, other;

    vfio_missing_range(leaving, &range);
    vfio_missing_range(coming, &other);
    if (!range_overlaps_range(&range, &other)) {
        return;
    }

    range_set_bounds(&range, MAX(range_lob(&range), range_lob(&other)),
                     MIN(range_upb(&range), range_upb(&other)));
    if (leave_out_cut(container, &range)) {
        trace_vfio_change_keep(range_lob(&range), range_size(&range));
        g_array_append_val(container->change.kept, range);
    }
}

/* Where an unmap has failed, something else may be mapped than is recorded. */
static void keep_what_comes_back(VFIOIOMMUFDContainer *container)
{
    VFIOChange *change = &container->change;
    int i, j;

    for (i = 0; !container->leftovers && i < change->leaving->len; i++) {
        for (j = 0; j < change->coming->len; j++) {
            if (is_same_memory(SECTION(change->leaving, i),
                               SECTION(change->coming, j))) {
                keep_common(container, SECTION(change->leaving, i),
                            SECTION(change->coming, j));
            }
        }
    }
}

/* The lowest part of @range that is kept */
static bool find_kept(VFIOIOMMUFDContainer *container, Range *range,
                      Range *lowest)
{
    GArray *array = container->change.kept;

    range_make_empty(lowest);
    for (int i = 0; i < array->len; i++) {
        Range *kept = &g_array_index(array, Range, i);

        if (range_overlaps_range(range, kept) &&
            (range_is_empty(lowest) || range_lob(kept) < range_lob(lowest))) {
            *lowest = *kept;
        }
    }
    return !range_is_empty(lowest);
}

/* ... in which something is mapped: there may be a hole, that of a failure. */
static bool find_kept_map(VFIOIOMMUFDContainer *container, Range *range,
                          Range *lowest)
{
    Range rest = *range, kept;

    while (find_kept(container, &rest, &kept)) {
        range_set_bounds(&kept, MAX(range_lob(&kept), range_lob(&rest)),
                         MIN(range_upb(&kept), range_upb(&rest)));
        if (vfio_iommufd_find_map(container, &kept, lowest)) {
            return true;
        }
        if (range_upb(&kept) == range_upb(&rest)) {
            return false;
        }
        range_set_bounds(&rest, range_upb(&kept) + 1, range_upb(&rest));
    }
    return false;
}

/* What leaves and comes */

static MemoryRegionSection part_of(const MemoryRegionSection *section,
                                   hwaddr first, hwaddr last)
{
    MemoryRegionSection part = *section;

    part.offset_within_region += first - section->offset_within_address_space;
    part.offset_within_address_space = first;
    part.size = int128_make64(last - first + 1);
    return part;
}

static void unmap(VFIOIOMMUFDContainer *container,
                  MemoryRegionSection *section, hwaddr first, hwaddr last)
{
    MemoryRegionSection part = part_of(section, first, last);

    vfio_iommufd_unmap(container, first, last - first + 1, NULL);
    vfio_dirty_gone(&container->base, &part);
}

/* Each part of a section succeeds or fails for itself. */
static void map(VFIOIOMMUFDContainer *container, MemoryRegionSection *section,
                hwaddr first, hwaddr last)
{
    MemoryRegionSection part = part_of(section, first, last);
    uint64_t size = last - first + 1;
    Error *err = NULL;
    void *vaddr;
    int ret;

    vaddr = memory_region_get_ram_ptr(part.mr) + part.offset_within_region;
    ret = vfio_iommufd_map_memory(container, &part, first, size, vaddr);
    if (ret) {
        vfio_iommufd_map_error(&container->base, first, size, vaddr, ret, &err);
        vfio_iommufd_map_failed(&container->base, &part, err);
    }
}

void vfio_change_begin(VFIOIOMMUFDContainer *container)
{
    VFIOChange *change = &container->change;

    if (container->base.initialized && !change->open) {
        change->open = true;
        QLIST_INSERT_HEAD(&open_changes, change, next);
    }
}

static void let_go(VFIOIOMMUFDContainer *container)
{
    GArray *leaving = container->change.leaving;

    keep_what_comes_back(container);
    for (int i = 0; i < leaving->len; i++) {
        for_each_gap(container, SECTION(leaving, i), find_kept, unmap);
    }
}

static void take_up(VFIOIOMMUFDContainer *container)
{
    GArray *coming = container->change.coming;

    for (int i = 0; i < coming->len; i++) {
        for_each_gap(container, SECTION(coming, i), find_kept_map, map);
    }
}

static void forget(VFIOChange *change)
{
    g_array_set_size(change->kept, 0);
    g_array_set_size(change->coming, 0);
    while (change->leaving->len) {
        MemoryRegion *mr = SECTION(change->leaving, 0)->mr;

        g_array_remove_index(change->leaving, 0);
        memory_region_unref(mr);
    }
}

void vfio_change_commit(VFIOIOMMUFDContainer *container)
{
    VFIOChanges changes = QLIST_HEAD_INITIALIZER(changes);
    VFIOChange *change;

    if (!container->change.open) {
        return;
    }

    while ((change = QLIST_FIRST(&open_changes))) {
        QLIST_REMOVE(change, next);
        QLIST_INSERT_HEAD(&changes, change, next);
        change->open = false;
    }
    QLIST_FOREACH(change, &changes, next) {
        let_go(container_of_change(change));
    }
    QLIST_FOREACH(change, &changes, next) {
        take_up(container_of_change(change));
    }
    while ((change = QLIST_FIRST(&changes))) {
        QLIST_REMOVE(change, next);
        forget(change);
    }
}

void vfio_change_make_room(VFIOIOMMUFDContainer *container, hwaddr iova,
                           uint64_t size)
{
    GArray *leaving = container->change.leaving;
    Range room, range;
    int i = 0;

    range_set_bounds(&room, iova, iova + size - 1);
    while (container->change.open && i < leaving->len) {
        MemoryRegionSection section = *SECTION(leaving, i);

        vfio_missing_range(&section, &range);
        if (range_overlaps_range(&range, &room)) {
            g_array_remove_index(leaving, i);
            unmap(container, &section, range_lob(&range), range_upb(&range));
            memory_region_unref(section.mr);
        } else {
            i++;
        }
    }
}
