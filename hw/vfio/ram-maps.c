/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of QEMU's memory one container of iommufd has mapped, and where: see
 * ram-maps.h
 *
 * Maps that continue each other are one here, whatever the kernel was told:
 * Linux copies any part of what is mapped (its iopt_get_pages(), in
 * drivers/iommu/iommufd/io_pagetable.c).  So a virtio-mem device that is
 * plugged block by block takes no more room than a DIMM.
 */
#include "qemu/osdep.h"

#include "ram-maps.h"

static QLIST_HEAD(AllRAMMaps, VFIORAMMaps) all_maps =
    QLIST_HEAD_INITIALIZER(all_maps);

/* In one tree a map is a DMAMap, in the other its mirror image. */
static DMAMap mirrored(const DMAMap *map)
{
    return (DMAMap) {
        .iova = map->translated_addr,
        .translated_addr = map->iova,
        .size = map->size,
        .perm = map->perm,
    };
}

static void record(VFIORAMMaps *maps, const DMAMap *map)
{
    DMAMap by_host = mirrored(map);

    iova_tree_insert(maps->by_iova, map);
    iova_tree_insert(maps->by_host, &by_host);
}

static void drop(VFIORAMMaps *maps, DMAMap map)
{
    iova_tree_remove(maps->by_iova, map);
    iova_tree_remove(maps->by_host, mirrored(&map));
}

void vfio_ram_maps_init(VFIORAMMaps *maps, IOMMUFDBackend *be,
                        uint32_t ioas_id)
{
    maps->be = be;
    maps->ioas_id = ioas_id;
    maps->discarding = 0;
    maps->by_iova = iova_tree_new();
    maps->by_host = iova_tree_new();
    QLIST_INSERT_HEAD(&all_maps, maps, next);
}

void vfio_ram_maps_destroy(VFIORAMMaps *maps)
{
    QLIST_REMOVE(maps, next);
    iova_tree_destroy(maps->by_iova);
    iova_tree_destroy(maps->by_host);
}

/*
 * The same memory can be mapped at several places, as firmware and video memory
 * are; the largest of these maps is recorded.
 */
static bool is_largest(VFIORAMMaps *maps, const DMAMap *map)
{
    DMAMap by_host = mirrored(map);
    const DMAMap *found;

    while ((found = iova_tree_find(maps->by_host, &by_host))) {
        if (found->size >= map->size) {
            return false;
        }
        drop(maps, mirrored(found));
    }
    return true;
}

static bool continues(const DMAMap *map, const DMAMap *next)
{
    return map->iova + map->size + 1 == next->iova &&
           map->translated_addr + map->size + 1 == next->translated_addr &&
           map->perm == next->perm;
}

/* Let @map have what is recorded on either side of it and continues it. */
static void join_neighbours(VFIORAMMaps *maps, DMAMap *map)
{
    const DMAMap *found = iova_tree_find_address(maps->by_iova, map->iova - 1);

    if (found && continues(found, map)) {
        DMAMap before = *found;

        drop(maps, before);
        map->iova = before.iova;
        map->translated_addr = before.translated_addr;
        map->size += before.size + 1;
    }

    found = iova_tree_find_address(maps->by_iova, map->iova + map->size + 1);
    if (found && continues(map, found)) {
        DMAMap after = *found;

        drop(maps, after);
        map->size += after.size + 1;
    }
}

void vfio_ram_maps_add(VFIORAMMaps *maps, hwaddr iova, uint64_t size,
                       const void *vaddr, bool readonly)
{
    DMAMap map = {
        .iova = iova,
        .translated_addr = (uintptr_t)vaddr,
        .size = size - 1,
        .perm = readonly ? IOMMU_RO : IOMMU_RW,
    };

    if (is_largest(maps, &map)) {
        join_neighbours(maps, &map);
        record(maps, &map);
    }
}

/* What @map has from IOVA @first to @last stays recorded. */
static void record_part(VFIORAMMaps *maps, const DMAMap *map, hwaddr first,
                        hwaddr last)
{
    DMAMap part = {
        .iova = first,
        .translated_addr = map->translated_addr + (first - map->iova),
        .size = last - first,
        .perm = map->perm,
    };

    record(maps, &part);
}

void vfio_ram_maps_remove(VFIORAMMaps *maps, Range *range)
{
    hwaddr first = range_lob(range), last = range_upb(range);
    DMAMap wanted = { .iova = first, .size = last - first };
    const DMAMap *found;

    while ((found = iova_tree_find(maps->by_iova, &wanted))) {
        DMAMap map = *found;
        hwaddr map_last = map.iova + map.size;

        drop(maps, map);
        if (map.iova < first) {
            record_part(maps, &map, map.iova, first - 1);
        }
        if (map_last > last) {
            record_part(maps, &map, last + 1, map_last);
        }
    }
}

static bool has(const VFIORAMMaps *maps, const void *vaddr, uint64_t size,
                bool readonly, hwaddr *iova)
{
    const DMAMap *found = iova_tree_find_address(maps->by_host,
                                                 (uintptr_t)vaddr);
    uint64_t offset;

    if (!found || !(readonly || found->perm == IOMMU_RW)) {
        return false;
    }

    offset = (uintptr_t)vaddr - found->iova;
    *iova = found->translated_addr + offset;
    return size - 1 <= found->size - offset;
}

/*
 * A device that lets pages be discarded while they are mapped has some of them
 * pinned for itself: those are not the guest's any more once it gets them back.
 */
static bool may_copy(const VFIORAMMaps *asking, const VFIORAMMaps *maps)
{
    return maps != asking && maps->be == asking->be && !maps->discarding;
}

bool vfio_ram_maps_find(const VFIORAMMaps *asking, const void *vaddr,
                        uint64_t size, bool readonly, VFIORAMSource *source)
{
    VFIORAMMaps *maps;

    QLIST_FOREACH(maps, &all_maps, next) {
        if (may_copy(asking, maps) &&
            has(maps, vaddr, size, readonly, &source->iova)) {
            source->ioas_id = maps->ioas_id;
            return true;
        }
    }
    return false;
}
