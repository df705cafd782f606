/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What one container of iommufd has mapped, by itself or for a guest's IOMMU
 *
 * The kernel tells neither how many maps there are nor where one begins.  Both
 * have to be known: a guest must not fill the host's memory with maps, and the
 * kernel stops half way in an unmap that would cut a map in two.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_MAPS_H
#define HW_VFIO_MAPS_H

#include "exec/hwaddr.h"
#include "qemu/range.h"
#include "sysemu/iommufd.h"

typedef struct VFIOMaps {
    GTree *tree;
    uint64_t count;         /* of the kernel's maps */
    uint64_t guest_count;   /* of what the guest's IOMMU has asked for */
    uint64_t guest_limit;   /* the default one when it was last looked at */
} VFIOMaps;

void vfio_maps_init(VFIOMaps *maps);
void vfio_maps_destroy(VFIOMaps *maps);

/* A guest's IOMMU may have no more by @be's max-guest-maps=. */
bool vfio_maps_are_full(VFIOMaps *maps, IOMMUFDBackend *be);

/**
 * vfio_maps_add: [@iova, @iova + @size - 1] has been mapped; nothing else is
 * there now
 *
 * @count: how many maps of the kernel's that took
 * @guest: it is for the guest's IOMMU
 */
void vfio_maps_add(VFIOMaps *maps, hwaddr iova, uint64_t size, unsigned count,
                   bool guest);

/* Let @range grow until it cuts nothing that was mapped as a whole. */
void vfio_maps_round(VFIOMaps *maps, Range *range);

/**
 * vfio_maps_split: let a map that begins below @iova and reaches there be two, if
 * that took several of the kernel's and is not the guest's
 *
 * @up: they are split at @iova or above it, else at @iova or below it
 */
void vfio_maps_split(VFIOMaps *maps, hwaddr iova, bool up);

/* Set *@map to the lowest that was mapped in @range; false if nothing was. */
bool vfio_maps_find(VFIOMaps *maps, Range *range, Range *map);

/* Whether there is no hole in @range */
bool vfio_maps_cover(VFIOMaps *maps, Range *range);

/* All that was mapped in @range has been unmapped. */
void vfio_maps_remove(VFIOMaps *maps, Range *range);

#endif /* HW_VFIO_MAPS_H */
