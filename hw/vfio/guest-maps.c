/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest's IOMMU has mapped in one container: see guest-maps.h */
#include "qemu/osdep.h"

#include "guest-maps.h"
#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "qemu/units.h"

/* What type1 allows a container, whatever the guest's size */
#define LEAST_LIMIT 65535

/*
 * A guest that maps all of its memory page by page has as many as it has pages.
 * The rest is for pages that it maps more than once, as the halves of a page
 * that hold two network packets.
 */
static uint64_t default_limit(void)
{
    uint64_t plugged = get_plugged_memory_size();

    if (plugged == UINT64_MAX) {    /* machines that can have none */
        plugged = 0;
    }
    return LEAST_LIMIT + (current_machine->ram_size + plugged) / (4 * KiB);
}

static DMAMap as_map(Range *range)
{
    return (DMAMap) {
        .iova = range_lob(range),
        .size = range_upb(range) - range_lob(range),
        .perm = IOMMU_RW,   /* the tree wants some */
    };
}

static void as_range(const DMAMap *map, Range *range)
{
    range_set_bounds(range, map->iova, map->iova + map->size);
}

void vfio_guest_maps_init(VFIOGuestMaps *maps)
{
    maps->tree = iova_tree_new();
    maps->count = 0;
    maps->limit = 0;
}

void vfio_guest_maps_destroy(VFIOGuestMaps *maps)
{
    iova_tree_destroy(maps->tree);
}

bool vfio_guest_maps_are_full(VFIOGuestMaps *maps, uint64_t limit)
{
    if (limit) {
        return maps->count >= limit;
    }

    /* Memory may have come; looking takes too long for each map. */
    if (maps->count >= maps->limit) {
        maps->limit = default_limit();
    }
    return maps->count >= maps->limit;
}

void vfio_guest_maps_add(VFIOGuestMaps *maps, hwaddr iova, uint64_t size)
{
    DMAMap map;
    Range range;

    range_set_bounds(&range, iova, iova + size - 1);
    vfio_guest_maps_remove(maps, &range);
    map = as_map(&range);
    iova_tree_insert(maps->tree, &map);
    maps->count++;
}

/* The map that has @iova, or NULL */
static const DMAMap *map_at(VFIOGuestMaps *maps, hwaddr iova)
{
    return iova_tree_find_address(maps->tree, iova);
}

void vfio_guest_maps_round(VFIOGuestMaps *maps, Range *range)
{
    const DMAMap *first = map_at(maps, range_lob(range));
    const DMAMap *last = map_at(maps, range_upb(range));

    range_set_bounds(range, first ? first->iova : range_lob(range),
                     last ? last->iova + last->size : range_upb(range));
}

bool vfio_guest_maps_find(VFIOGuestMaps *maps, Range *range, Range *map)
{
    DMAMap wanted = as_map(range);
    const DMAMap *found = iova_tree_find(maps->tree, &wanted);

    if (found) {
        as_range(found, map);
    }
    return found;
}

void vfio_guest_maps_remove(VFIOGuestMaps *maps, Range *range)
{
    Range map;

    while (vfio_guest_maps_find(maps, range, &map)) {
        iova_tree_remove(maps->tree, as_map(&map));
        maps->count--;
    }
}
