/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO container: what a guest's address space has mapped for its devices
 *
 * A container belongs to one AddressSpace.  It listens to the changes of
 * that address space, and its operations make the host's IOMMU follow.  There
 * are two sets of operations:
 *
 *   vfio_legacy_ops    /dev/vfio/vfio and groups (hw/vfio/common.c)
 *   vfio_iommufd_ops   an IOAS of an iommufd object (hw/vfio/iommufd.c)
 *
 * This file has what both share; nothing here knows a group, a descriptor or
 * a type of IOMMU.
 *
 * Interval words: @iova and @size in bytes, "last" is inclusive, "end" is
 * exclusive.  Everything is called with the big lock held.
 */
#ifndef HW_VFIO_VFIO_CONTAINER_H
#define HW_VFIO_VFIO_CONTAINER_H

#include "exec/memory.h"
#include "qemu/queue.h"

typedef struct VFIOAddressSpace VFIOAddressSpace;
typedef struct VFIOContainer VFIOContainer;
typedef struct VFIOContainerOps VFIOContainerOps;
typedef struct VFIODevice VFIODevice;

struct VFIOContainer {
    const VFIOContainerOps *ops;
    VFIOAddressSpace *space;
    MemoryListener listener;
    Error *error;       /* the listener's first one while !initialized */
    bool initialized;   /* the listener has seen all memory once */
    bool records_dirty; /* hw/vfio/dirty.c: what devices write to */
    GHashTable *standing;   /* ... and what need not be marked again, or NULL */
    bool dirty_pages_supported;
    uint64_t dirty_pgsizes;
    uint64_t max_dirty_bitmap_size;
    unsigned long pgsizes;  /* mask of what can be mapped, in bytes */
    unsigned int dma_max_mappings;  /* 0: no limit */
    QLIST_HEAD(, VFIODevice) device_list;
    QLIST_HEAD(, VFIOGuestIOMMU) giommu_list;
    QLIST_HEAD(, VFIOHostDMAWindow) hostwin_list;
    QLIST_HEAD(, VFIORamDiscardListener) vrdl_list;
    QLIST_ENTRY(VFIOContainer) next;
};

struct VFIOContainerOps {
    /*
     * Make @vbasedev usable for a guest whose DMA goes to @as: open it, give it
     * a container (the existing one of @as if possible), and map what @as
     * holds.  @vbasedev->name and ->sysfsdev are set.
     *
     * On success ->fd, ->container, ->flags, ->num_regions, ->num_irqs and
     * ->reset_works are set, and the device is in vfio_device_list.  On
     * failure nothing is left behind, and the caller may try again.
     */
    bool (*attach_device)(VFIODevice *vbasedev, AddressSpace *as,
                          Error **errp);

    /*
     * Undo attach_device(), in reverse order.  The caller must have unmapped
     * the device's regions.  Cannot fail: what the kernel refuses is reported,
     * and the rest is undone.
     */
    void (*detach_device)(VFIODevice *vbasedev);

    /*
     * Let devices reach @size bytes at @vaddr under @iova, all multiples of
     * the smallest page size.  Returns 0 or -errno, because a
     * RamDiscardListener has to return that; map_error() turns it into words.
     * On failure nothing of the range is mapped.
     */
    int (*dma_map)(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                   void *vaddr, bool readonly);

    /*
     * The same for memory that the listener has seen in @section.  After it has
     * returned 0, the memory may still be on its way, until commit() or as long
     * as no device can do DMA.  NULL if dma_map() does this as well.
     */
    int (*dma_map_memory)(VFIOContainer *container,
                          MemoryRegionSection *section, hwaddr iova,
                          ram_addr_t size, void *vaddr);

    /*
     * The same for a BAR of another device (peer-to-peer).  Success means
     * that there is nothing to report, whether the BAR was mapped or not.
     * NULL if dma_map() does this as well.
     */
    int (*dma_map_bar)(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                       void *vaddr, bool readonly);

    /*
     * The same for a map of a guest's IOMMU, which may be of a BAR and of 2^64
     * bytes (a @size of 0).  A guest asks as often as it likes: ENOSPC if there
     * are too many.  NULL if dma_map() does this as well.
     */
    int (*dma_map_guest)(VFIOContainer *container, hwaddr iova,
                         ram_addr_t size, void *vaddr, bool readonly);

    /*
     * Undo dma_map() for all of [@iova, @iova + @size - 1].  Returns 0 also if
     * nothing is mapped there; holes are no error.  A map cannot be cut in two:
     * trying to is an error, or the whole map goes.  @iotlb is set if a guest's
     * IOMMU asks; then pages that are dirty must be recorded.
     *
     * Callers can only report a failure, each time.  Where a guest could make
     * them fill the log, this reports it instead and returns 0.
     */
    int (*dma_unmap)(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                     IOMMUTLBEntry *iotlb);

    /*
     * Memory that the listener has seen in @section leaves.  Returns true if
     * commit() unmaps it and marks it dirty, or finds that it came back; till
     * then the container keeps a reference.  If it returns false, or is NULL,
     * dma_unmap() follows.
     */
    bool (*unmap_memory_later)(VFIOContainer *container,
                               MemoryRegionSection *section);

    /*
     * The memory map begins to change, and has changed.  In between sections
     * leave first, and then others come.  May be NULL.
     */
    void (*begin)(VFIOContainer *container);
    void (*commit)(VFIOContainer *container);

    /* Set *@errp to what @ret from dma_map() meant for that range. */
    void (*map_error)(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                      void *vaddr, int ret, Error **errp);

    /*
     * @section appeared after the listener had seen all memory, and could not
     * be mapped.  If this is NULL, QEMU ends.  Frees @err.
     */
    void (*map_failed)(VFIOContainer *container, MemoryRegionSection *section,
                       Error *err);

    /*
     * The guest asked for more of a virtio-mem device, or for a map in its
     * IOMMU, and dma_map() failed with @ret.  Only reports it: the guest's
     * request fails.  If this is NULL, a map in the guest's IOMMU is reported
     * with map_error(), and virtio-mem is not.
     */
    void (*map_refused)(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                        void *vaddr, int ret);

    /*
     * What a guest's IOMMU maps cannot be mapped at all, for the reason @err.
     * The same as map_refused(); if this is NULL, @err is reported as it is.
     * Frees @err.
     */
    void (*map_invalid)(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                        Error *err);

    /*
     * Start or stop recording which pages devices write to.  NULL if the
     * container never can.  The callee reports a failure, because the callers
     * have no way to.
     */
    void (*set_dirty_page_tracking)(VFIOContainer *container, bool start);

    /*
     * Mark the pages written to in [@iova, @iova + @size - 1] in QEMU's own
     * dirty bitmap, from @ram_addr on.  Only called while
     * ->dirty_pages_supported.  Returns 0 or -errno; the callee reports it.
     */
    int (*query_dirty_bitmap)(VFIOContainer *container, uint64_t iova,
                              uint64_t size, ram_addr_t ram_addr);

    /*
     * For IOMMUs whose windows follow the guest's (sPAPR): called before the
     * first map of @section and after its last unmap.  NULL for other IOMMUs.
     */
    bool (*add_window)(VFIOContainer *container, MemoryRegionSection *section,
                       Error **errp);
    void (*del_window)(VFIOContainer *container,
                       MemoryRegionSection *section);
};

extern const VFIOContainerOps vfio_legacy_ops;
extern const VFIOContainerOps vfio_iommufd_ops;

/* The listener of every container */
extern const MemoryListener vfio_memory_listener;

/**
 * vfio_container_init: fill in a container that is all zeroes
 *
 * It is not in the list of @space yet, and listens to nothing.
 */
void vfio_container_init(VFIOContainer *container, VFIOAddressSpace *space,
                         const VFIOContainerOps *ops);

/**
 * vfio_container_destroy: undo vfio_container_init()
 *
 * Takes @container out of its address space's list.  The caller has
 * unregistered the listener, and no device is left.  Does not free @container,
 * which is part of a larger struct.
 */
void vfio_container_destroy(VFIOContainer *container);

/**
 * vfio_container_listen: map what the address space holds, then follow it
 *
 * The caller unregisters ->listener, after a failure too: only the container
 * knows whether destroying it also unmaps what was mapped so far.
 */
bool vfio_container_listen(VFIOContainer *container, Error **errp);

/* Its devices reach the guest's memory by no IOMMU of the guest's. */
bool vfio_container_is_direct(VFIOContainer *container);

/**
 * vfio_host_win_add: allow IOVAs [@min_iova, @max_iova], both inclusive
 *
 * @iova_pgsizes: mask of page sizes in bytes
 */
void vfio_host_win_add(VFIOContainer *container, hwaddr min_iova,
                       hwaddr max_iova, uint64_t iova_pgsizes);

/**
 * vfio_host_win_del: undo vfio_host_win_add(); -1 if there is no such window
 */
int vfio_host_win_del(VFIOContainer *container, hwaddr min_iova,
                      hwaddr max_iova);

/* For the listener: call the operations in @container's table, see above. */
int vfio_dma_map(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                 void *vaddr, bool readonly);
int vfio_dma_map_guest(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                       void *vaddr, bool readonly);
int vfio_dma_map_section(VFIOContainer *container,
                         MemoryRegionSection *section, hwaddr iova,
                         ram_addr_t size, void *vaddr);
int vfio_dma_unmap(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                   IOMMUTLBEntry *iotlb);
bool vfio_unmap_section_later(VFIOContainer *container,
                              MemoryRegionSection *section);
void vfio_listener_begin(MemoryListener *listener);
void vfio_listener_commit(MemoryListener *listener);
void vfio_set_dirty_page_tracking(VFIOContainer *container, bool start);
int vfio_get_dirty_bitmap(VFIOContainer *container, uint64_t iova,
                          uint64_t size, ram_addr_t ram_addr);
void vfio_container_map_failed(VFIOContainer *container,
                               MemoryRegionSection *section, Error *err);
bool vfio_container_add_window(VFIOContainer *container,
                               MemoryRegionSection *section, Error **errp);
void vfio_container_guest_map_failed(VFIOContainer *container, hwaddr iova,
                                     ram_addr_t size, void *vaddr, int ret);
void vfio_container_guest_map_invalid(VFIOContainer *container, hwaddr iova,
                                      ram_addr_t size, Error *err);
void vfio_container_del_window(VFIOContainer *container,
                               MemoryRegionSection *section);

/**
 * vfio_container_populate_failed: a part of a RamDiscardManager's memory
 * could not be mapped
 *
 * @errp: NULL when the guest asks for it.  Else what is populated already is
 *        gone through for a listener that is just being registered, and who
 *        registers it gets the error.
 *
 * Returns what the RamDiscardListener shall return.
 */
int vfio_container_populate_failed(VFIOContainer *container, hwaddr iova,
                                   ram_addr_t size, void *vaddr, int ret,
                                   Error **errp);

/*
 * Address spaces that have containers.  vfio_put_address_space() frees
 * @space when it has none left.
 */
VFIOAddressSpace *vfio_get_address_space(AddressSpace *as);
void vfio_put_address_space(VFIOAddressSpace *space);

#endif /* HW_VFIO_VFIO_CONTAINER_H */
