/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that gets new pages while devices reach the old ones
 *
 * The kernel has pinned what was there when it was mapped.  So the sections
 * that have new pages are unmapped and mapped again, as if they had left the
 * address space and come back: what cannot be mapped keeps the VM from running.
 * All containers unmap them before one maps them: what it maps can be a copy of
 * what another has mapped.
 *
 * A migration that begins with a device attached may not replace the memory
 * page by page while the guest runs (postcopy).
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_REPLACED_H
#define HW_VFIO_REPLACED_H

#include "exec/memory.h"
#include "qemu/notify.h"
#include "qemu/queue.h"

/* Of one container */
typedef struct VFIOReplaced VFIOReplaced;
struct VFIOReplaced {
    MemoryListener *listener;
    AddressSpace *as;
    GArray *sections;   /* that are unmapped, and to be mapped again */
    NotifierWithReturn postcopy;
    QLIST_ENTRY(VFIOReplaced) next;
};

/* @listener: whose region_del() and region_add() unmap and map in @as */
void vfio_replaced_init(VFIOReplaced *replaced, MemoryListener *listener,
                        AddressSpace *as);
void vfio_replaced_destroy(VFIOReplaced *replaced);

#endif /* HW_VFIO_REPLACED_H */
