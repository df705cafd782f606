/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest's IOMMU has mapped in one container of iommufd
 *
 * The kernel tells neither how many maps there are nor where one begins.  Both
 * have to be known: a guest must not fill the host's memory with maps, and the
 * kernel stops half way in an unmap that would cut a map in two.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_GUEST_MAPS_H
#define HW_VFIO_GUEST_MAPS_H

#include "exec/hwaddr.h"
#include "qemu/iova-tree.h"
#include "qemu/range.h"

typedef struct VFIOGuestMaps {
    IOVATree *tree;
    uint64_t count;
    uint64_t limit;     /* the default one when it was last looked at */
} VFIOGuestMaps;

void vfio_guest_maps_init(VFIOGuestMaps *maps);
void vfio_guest_maps_destroy(VFIOGuestMaps *maps);

/**
 * vfio_guest_maps_are_full: there may be no more
 *
 * @limit: how many there may be; 0 for as many as an honest guest can need
 */
bool vfio_guest_maps_are_full(VFIOGuestMaps *maps, uint64_t limit);

/* [@iova, @iova + @size - 1] has been mapped; nothing else is there now. */
void vfio_guest_maps_add(VFIOGuestMaps *maps, hwaddr iova, uint64_t size);

/* Let @range grow until it cuts no map. */
void vfio_guest_maps_round(VFIOGuestMaps *maps, Range *range);

/* Set *@map to some map in @range; false if there is none. */
bool vfio_guest_maps_find(VFIOGuestMaps *maps, Range *range, Range *map);

/* All maps in @range have been unmapped. */
void vfio_guest_maps_remove(VFIOGuestMaps *maps, Range *range);

#endif /* HW_VFIO_GUEST_MAPS_H */
