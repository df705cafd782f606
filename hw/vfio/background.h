/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that a container of iommufd maps while the guest runs
 *
 * No DMA comes from a PCI device whose Bus Master Enable is off, and it is off
 * when the device is opened and when it has been reset.  So where the user
 * wants it, large sections of memory wait in a queue.  The threads of the first
 * one map it without the big lock; a bottom half collects what they did, and
 * begins the next.
 *
 * All containers of an object have one queue.  So memory that several of them
 * have is mapped for the first, and copied from there when the others' turn
 * comes.
 *
 * A container is quiet while no device in it can do DMA.  What waits, waits in
 * a quiet container; whatever would end that (vfio_background_dma_on(), a
 * device that joins) has the rest mapped before.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_BACKGROUND_H
#define HW_VFIO_BACKGROUND_H

#include "exec/memory.h"
#include "hw/vfio/vfio-device.h"
#include "qemu/queue.h"
#include "qemu/range.h"

typedef struct VFIOBackgroundQueue VFIOBackgroundQueue;
typedef struct VFIOIOMMUFDContainer VFIOIOMMUFDContainer;

/* Of one container */
typedef struct VFIOBackground {
    VFIOBackgroundQueue *queue;
    unsigned dma;       /* devices that can do DMA */
    unsigned waiting;   /* devices that are about to */
    QLIST_ENTRY(VFIOBackground) next;   /* of the queue's users */
} VFIOBackground;

void vfio_background_init(VFIOIOMMUFDContainer *container);

/* Nothing waits any more: see vfio_background_cancel_all(). */
void vfio_background_destroy(VFIOIOMMUFDContainer *container);

/**
 * vfio_background_join: the device is attached, and not in the container's list
 *
 * If it can do DMA, all that waits is mapped before this returns.
 */
void vfio_background_join(VFIOIOMMUFDContainer *container,
                          VFIODevice *vbasedev);

/* Undo vfio_background_join(). */
void vfio_background_leave(VFIOIOMMUFDContainer *container,
                           VFIODevice *vbasedev);

/**
 * vfio_background_reaches: what waits can be mapped for the devices that are
 * attached now
 */
bool vfio_background_reaches(VFIOIOMMUFDContainer *container, Error **errp);

/**
 * vfio_background_may_wait: this memory need not be mapped now
 *
 * The container is quiet, the map is large, and it will not fail for a reason
 * that is known before.
 */
bool vfio_background_may_wait(VFIOIOMMUFDContainer *container, hwaddr iova,
                              uint64_t size);

/**
 * vfio_background_add: map @size bytes at @vaddr of @section later
 *
 * If that fails it is handled as in the table of map-failure.c, as memory that
 * appears while the guest runs.
 */
void vfio_background_add(VFIOIOMMUFDContainer *container,
                         MemoryRegionSection *section, hwaddr iova,
                         uint64_t size, void *vaddr);

/**
 * vfio_background_cancel: [@iova, @iova + @size - 1] is to be unmapped
 *
 * What waits there waits no longer.  A section that is being mapped is recorded
 * as mapped as far as it is; only the parts that the threads are at are waited
 * for.
 */
void vfio_background_cancel(VFIOIOMMUFDContainer *container, hwaddr iova,
                            uint64_t size);
void vfio_background_cancel_all(VFIOIOMMUFDContainer *container);

/* Set *@lowest to the lowest that waits in @range; false if nothing does. */
bool vfio_background_find(VFIOIOMMUFDContainer *container, Range *range,
                          Range *lowest);

/*
 * If this memory is being mapped in another container of the object, wait for
 * that: it is copied from there.
 */
void vfio_background_finish_memory(VFIOIOMMUFDContainer *container,
                                   const void *vaddr, uint64_t size);

/* A section that is missing has been mapped, or is not wanted any more. */
void vfio_background_look_again(VFIOIOMMUFDContainer *container);

/* Whether memory waits in any container of the object */
bool vfio_background_is_busy(VFIOIOMMUFDContainer *container);

/* Bytes that wait, or are being mapped */
uint64_t vfio_background_bytes(VFIOIOMMUFDContainer *container);

/**
 * vfio_background_dma_on: the device is about to be able to do DMA
 *
 * @go_on: called when all memory is mapped, if this returns false
 *
 * Returns true if it may.  If it has to wait, and a processor of the guest
 * asks, all processors are held until @go_on has returned.  Who else asks is
 * kept waiting, and may then.
 */
bool vfio_background_dma_on(VFIODevice *vbasedev,
                            void (*go_on)(VFIODevice *vbasedev));

/* It can do no DMA any more, and does not wait for it either. */
void vfio_background_dma_off(VFIODevice *vbasedev);

#endif /* HW_VFIO_BACKGROUND_H */
