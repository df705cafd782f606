/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What one container of iommufd has mapped: see maps.h */
#include "qemu/osdep.h"

#include "maps.h"

/* What was mapped as a whole; [@iova, @last] is of no other */
typedef struct Map {
    hwaddr iova;
    hwaddr last;
    unsigned count;     /* of the kernel's maps */
    bool guest;
} Map;

/* Those that overlap are the same to the tree: it has one of them. */
static int compare(const void *first, const void *second, void *unused)
{
    const Map *a = first, *b = second;

    return a->last < b->iova ? -1 : a->iova > b->last;
}

void vfio_maps_init(VFIOMaps *maps)
{
    maps->tree = g_tree_new_full(compare, NULL, g_free, NULL);
    maps->count = 0;
    maps->guest_count = 0;
    maps->guest_limit = 0;
}

void vfio_maps_destroy(VFIOMaps *maps)
{
    g_tree_destroy(maps->tree);
}

bool vfio_maps_are_full(VFIOMaps *maps, IOMMUFDBackend *be)
{
    if (be->max_guest_maps) {
        return maps->guest_count >= be->max_guest_maps;
    }

    /* Memory may have come; looking takes too long for each map. */
    if (maps->guest_count >= maps->guest_limit) {
        maps->guest_limit = iommufd_backend_max_guest_maps(be);
    }
    return maps->guest_count >= maps->guest_limit;
}

/* Some map that has a part of [@iova, @last], or NULL */
static Map *map_in(VFIOMaps *maps, hwaddr iova, hwaddr last)
{
    Map wanted = { .iova = iova, .last = last };

    return g_tree_lookup(maps->tree, &wanted);
}

void vfio_maps_add(VFIOMaps *maps, hwaddr iova, uint64_t size, unsigned count,
                   bool guest)
{
    Map *map = g_new(Map, 1);
    Range range;

    range_set_bounds(&range, iova, iova + size - 1);
    vfio_maps_remove(maps, &range);
    *map = (Map) {
        .iova = iova,
        .last = iova + size - 1,
        .count = count,
        .guest = guest,
    };
    g_tree_insert(maps->tree, map, map);
    maps->count += count;
    maps->guest_count += guest;
}

void vfio_maps_round(VFIOMaps *maps, Range *range)
{
    const Map *first = map_in(maps, range_lob(range), range_lob(range));
    const Map *last = map_in(maps, range_upb(range), range_upb(range));

    range_set_bounds(range, first ? first->iova : range_lob(range),
                     last ? last->last : range_upb(range));
}

void vfio_maps_split(VFIOMaps *maps, hwaddr iova, bool up)
{
    Map *map = map_in(maps, iova, iova), *upper;
    uint64_t chunk;
    hwaddr at;

    if (!map || map->iova >= iova || map->count < 2 || map->guest) {
        return;
    }
    chunk = iommufd_backend_map_chunk(map->iova, map->last - map->iova + 1,
                                      map->count);
    at = up ? ROUND_UP(iova, chunk) : ROUND_DOWN(iova, chunk);
    if (at <= map->iova || at > map->last) {
        return;
    }

    upper = g_memdup2(map, sizeof(*map));
    upper->iova = at;
    upper->count = (map->last - at) / chunk + 1;
    map->last = at - 1;
    map->count -= upper->count;
    g_tree_insert(maps->tree, upper, upper);
}

bool vfio_maps_find(VFIOMaps *maps, Range *range, Range *map)
{
    Map *found = NULL, *lower = map_in(maps, range_lob(range),
                                       range_upb(range));

    while (lower) {
        found = lower;
        lower = found->iova > range_lob(range)
                ? map_in(maps, range_lob(range), found->iova - 1) : NULL;
    }
    if (found) {
        range_set_bounds(map, found->iova, found->last);
    }
    return found;
}

bool vfio_maps_cover(VFIOMaps *maps, Range *range)
{
    hwaddr next = range_lob(range);
    const Map *map;

    do {
        map = map_in(maps, next, next);
        next = map ? map->last + 1 : 0;
    } while (map && map->last < range_upb(range));
    return map;
}

void vfio_maps_remove(VFIOMaps *maps, Range *range)
{
    Map *map;

    while ((map = map_in(maps, range_lob(range), range_upb(range)))) {
        maps->count -= map->count;
        maps->guest_count -= map->guest;
        g_tree_remove(maps->tree, map);
    }
}
