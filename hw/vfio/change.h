/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A change of a container's memory map, taken as a whole
 *
 * QEMU joins neighbouring sections.  When firmware makes its 64 KiB at 0xf0000
 * writable, what leaves is all memory above 1 MiB, and what comes is all memory
 * above 0xf0000.  So from begin() to commit() of the listener, nothing happens to
 * the memory that leaves and comes; then, what comes back where it was, with the
 * same rights, stays mapped.  The rest is unmapped, and after that what is new is
 * mapped.
 *
 * A change can be one of several address spaces, and begins and ends for all of
 * them at a time.  A container may have to be given what another one has mapped or
 * waits for.  So all containers have let go of what leaves before anything is
 * mapped.
 *
 * This is for memory that does not go by itself: not for BARs, virtio-mem or
 * what a guest's IOMMU maps.  If one of these comes where memory is leaving, the
 * latter is unmapped before.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_CHANGE_H
#define HW_VFIO_CHANGE_H

#include "exec/memory.h"
#include "qemu/queue.h"

typedef struct VFIOIOMMUFDContainer VFIOIOMMUFDContainer;

/* Of one container */
typedef struct VFIOChange {
    bool open;          /* between begin() and commit() */
    GArray *leaving;    /* of MemoryRegionSection, each with a reference */
    GArray *coming;     /* of MemoryRegionSection; region_add() has one */
    GArray *kept;       /* of Range: what is mapped and comes back */
    QLIST_ENTRY(VFIOChange) next;   /* of the open ones */
} VFIOChange;

void vfio_change_init(VFIOChange *change);
void vfio_change_destroy(VFIOChange *change);

/* Nothing is there yet while the container's first device is attached. */
void vfio_change_begin(VFIOIOMMUFDContainer *container);

/* The first container to call this ends the change for all that have begun it. */
void vfio_change_commit(VFIOIOMMUFDContainer *container);

/**
 * vfio_change_leave: @section leaves
 * vfio_change_come: @section comes
 *
 * Both return false if no change is open: then it is for the caller to do.
 */
bool vfio_change_leave(VFIOIOMMUFDContainer *container,
                       MemoryRegionSection *section);
bool vfio_change_come(VFIOIOMMUFDContainer *container,
                      MemoryRegionSection *section);

/* Something is to be mapped at [@iova, @iova + @size - 1] at once. */
void vfio_change_make_room(VFIOIOMMUFDContainer *container, hwaddr iova,
                           uint64_t size);

#endif /* HW_VFIO_CHANGE_H */
