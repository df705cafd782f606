/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VFIO container of iommufd: an I/O address space (IOAS) of the kernel's
 *
 * There is one for each pair of a guest address space and an iommufd object.
 * A device joins it by attaching; the first one brings the memory listener,
 * and later ones find everything mapped.
 *
 * The first device attaches before anything is mapped.  With a device attached,
 * each map call pins its own memory.  What was mapped before, the attach pins
 * in one thread under one lock (Linux, drivers/iommu/iommufd/io_pagetable.c,
 * iopt_table_add_domain()).  The same holds for what another container has
 * mapped and this one copies (ram-maps.h): the attach would fill all of its
 * page table in one thread.
 *
 * When the last device leaves, its memory is not unmapped section by section:
 * detaching it unpins, and destroying the IOAS forgets, all of it at once.
 *
 * Everything runs with the big lock held.
 */
#include "qemu/osdep.h"

#include "ahead.h"
#include "cdev.h"
#include "dirty.h"
#include "dma-buf.h"
#include "hw/vfio/kvm-device.h"
#include "iommufd.h"
#include "mig.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "reach.h"
#include "start.h"
#include "trace.h"

/* Maps */

/* As iommufd_backend_map_dma() wants it */
static uint64_t vfio_iommufd_page_size(void *vaddr, ram_addr_t size)
{
    ram_addr_t offset;
    RAMBlock *block;

    if (size < IOMMUFD_PARALLEL_MIN) {
        return 0;
    }

    RCU_READ_LOCK_GUARD();
    block = qemu_ram_block_from_host(vaddr, false, &offset);
    return block ? qemu_ram_pagesize(block) : qemu_real_host_page_size();
}

static int vfio_iommufd_unmap_once(VFIOIOMMUFDContainer *container,
                                   Range *range, bool at_once)
{
    uint64_t unmapped;
    int ret = iommufd_backend_unmap_dma(container->be, container->ioas_id,
                                        range_lob(range), range_size(range),
                                        at_once, &unmapped);

    container->mapped -= unmapped;
    return ret;
}

/*
 * The kernel says ENOENT if it comes upon a map that the range cuts in two,
 * after it has removed those before it, and if there is nothing in the range.
 * The range cuts none as far as we know, so what is still known to be there is
 * unmapped alone.  If that finds nothing either, it may be somewhere else.
 */
static int vfio_iommufd_clear_each(VFIOIOMMUFDContainer *container,
                                   Range *range)
{
    Range map;
    int ret;

    while (vfio_maps_find(&container->maps, range, &map)) {
        ret = vfio_iommufd_unmap_once(container, &map, true);
        if (ret && ret != -ENOENT) {
            return ret;
        }
        container->leftovers |= ret == -ENOENT;
        vfio_maps_remove(&container->maps, &map);
    }
    return 0;
}

/*
 * Leave nothing mapped in the range.  A map of a guest's IOMMU that the range
 * cuts in two goes as a whole: intel-iommu does so with its own record
 * (vtd_page_walk_one(), iova_tree_remove()) when it finds another translation
 * in a part of what was one page, and maps the other parts anew as it comes to
 * them.
 */
static int vfio_iommufd_clear(VFIOIOMMUFDContainer *container, hwaddr iova,
                              ram_addr_t size, bool at_once)
{
    Range range;
    int ret;

    vfio_background_cancel(container, iova, size);
    range_set_bounds(&range, iova, iova + size - 1);
    vfio_maps_round(&container->maps, &range);
    vfio_ram_maps_remove(&container->ram_maps, &range);
    vfio_p2p_remove(&container->p2p, &range);
    ret = vfio_iommufd_unmap_once(container, &range, at_once);
    if (ret == -ENOENT) {
        return vfio_iommufd_clear_each(container, &range);
    }
    if (!ret) {
        vfio_maps_remove(&container->maps, &range);
    }
    return ret;
}

/* One of the ways to map; how many maps that took, or -errno */
typedef int VFIOIOMMUFDMap(VFIOIOMMUFDContainer *container, hwaddr iova,
                           ram_addr_t size, void *vaddr, bool readonly,
                           uint64_t *mapped);

static int vfio_iommufd_map_anew(VFIOIOMMUFDContainer *container, hwaddr iova,
                                 ram_addr_t size, void *vaddr, bool readonly,
                                 uint64_t *mapped)
{
    return iommufd_backend_map_dma(container->be, container->ioas_id, iova,
                                   size, vaddr, readonly,
                                   vfio_iommufd_page_size(vaddr, size),
                                   &container->failed, mapped);
}

/*
 * What cannot be copied, for whatever reason, is mapped anew.  But a copy needs
 * less memory than a map, so if there is too little for it, that is the answer.
 * So it is if a part of a copy that failed could not be unmapped again.
 */
static int vfio_iommufd_map_shared(VFIOIOMMUFDContainer *container,
                                   hwaddr iova, ram_addr_t size, void *vaddr,
                                   bool readonly, uint64_t *mapped)
{
    VFIORAMSource source;
    int ret = -ENOENT;

    *mapped = 0;
    if (vfio_ram_maps_find(&container->ram_maps, vaddr, size, readonly,
                           &source)) {
        ret = iommufd_backend_copy_dma(container->be, container->ioas_id, iova,
                                       size, source.ioas_id, source.iova,
                                       readonly,
                                       vfio_iommufd_page_size(vaddr, size),
                                       &container->failed, mapped);
    }
    if (ret >= 0 || ret == -ENOMEM || *mapped) {
        return ret;
    }
    return vfio_iommufd_map_anew(container, iova, size, vaddr, readonly,
                                 mapped);
}

/* A BAR, see vfio_dma_buf_find() */
static int vfio_iommufd_map_dma_buf(VFIOIOMMUFDContainer *container,
                                    hwaddr iova, ram_addr_t size, void *vaddr,
                                    bool readonly, uint64_t *mapped)
{
    VFIODMABufPart part;
    int ret = vfio_dma_buf_find(vaddr, &part);

    *mapped = 0;
    if (ret) {
        range_set_bounds(&container->failed, iova, iova + size - 1);
        return ret;
    }
    return iommufd_backend_map_file(container->be, container->ioas_id, iova,
                                    size, part.fd, part.start, readonly,
                                    &container->failed, mapped);
}

/* 0 or -errno; what is mapped is recorded. */
static int vfio_iommufd_record(VFIOIOMMUFDContainer *container, int ret,
                               hwaddr iova, ram_addr_t size, bool guest,
                               uint64_t mapped)
{
    container->mapped += mapped;
    if (ret < 0) {
        container->leftovers |= mapped;
        return ret;
    }
    vfio_maps_add(&container->maps, iova, size, ret, guest);
    return 0;
}

static int vfio_iommufd_map_once(VFIOIOMMUFDContainer *container,
                                 VFIOIOMMUFDMap *map, hwaddr iova,
                                 ram_addr_t size, void *vaddr, bool readonly,
                                 bool guest)
{
    uint64_t mapped;
    int ret = map(container, iova, size, vaddr, readonly, &mapped);

    return vfio_iommufd_record(container, ret, iova, size, guest, mapped);
}

/*
 * What a failed unmap has left there gives way, since the guest has something
 * else there now.  If no unmap has failed, EEXIST is an error like any other.
 */
static int vfio_iommufd_map(VFIOIOMMUFDContainer *container,
                            VFIOIOMMUFDMap *map, hwaddr iova, ram_addr_t size,
                            void *vaddr, bool readonly, bool guest)
{
    int ret;

    vfio_change_make_room(container, iova, size);
    ret = vfio_iommufd_map_once(container, map, iova, size, vaddr, readonly,
                                guest);
    if (ret == -EEXIST && container->leftovers &&
        !vfio_iommufd_clear(container, iova, size, false)) {
        ret = vfio_iommufd_map_once(container, map, iova, size, vaddr, readonly,
                                    guest);
    }
    return ret;
}

static void vfio_iommufd_say_out_of_reach(VFIOIOMMUFDContainer *container)
{
    if (container->out_of_reach && !container->out_of_reach_said) {
        container->out_of_reach_said = true;
        info_report("vfio: devices on iommufd object '%s' cannot reach %s; DMA "
                    "to memory is not affected",
                    iommufd_backend_id(container->be), container->out_of_reach);
    }
}

static void vfio_iommufd_say_far_bar(VFIOIOMMUFDContainer *container)
{
    g_autofree char *why = NULL;

    if (!container->far_bar_said) {
        container->far_bar_said = true;
        why = vfio_reach_explain_bar(container,
                                     range_upb(&container->far_bar));
        info_report("vfio: devices on iommufd object '%s' cannot reach another "
                    "one's BAR at 0x%"PRIx64" (peer-to-peer DMA): %s; DMA to "
                    "memory is not affected",
                    iommufd_backend_id(container->be),
                    range_lob(&container->far_bar),
                    why ?: "the host's IOMMU reserves addresses there");
    }
}

static bool vfio_iommufd_pins(VFIOIOMMUFDContainer *container)
{
    return container->pinning > 0;
}

/* A BAR may come in several sections; the first is the one to be told of. */
static void vfio_iommufd_keep_far_bar(VFIOIOMMUFDContainer *container,
                                      hwaddr iova, ram_addr_t size)
{
    if (range_is_empty(&container->far_bar)) {
        range_set_bounds(&container->far_bar, iova, iova + size - 1);
    }
}

static void vfio_iommufd_forget_far_bar(VFIOIOMMUFDContainer *container,
                                        hwaddr iova, ram_addr_t size)
{
    Range range;

    range_set_bounds(&range, iova, iova + size - 1);
    if (range_overlaps_range(&range, &container->far_bar)) {
        range_make_empty(&container->far_bar);
    }
}

/* A single device has no peer, so its user need not know. */
static void vfio_iommufd_say_no_peers(VFIOIOMMUFDContainer *container)
{
    if (container->pinning > 1) {
        vfio_iommufd_say_out_of_reach(container);
    }
    if (container->pinning > 1 && !range_is_empty(&container->far_bar)) {
        vfio_iommufd_say_far_bar(container);
    }
}

/*
 * A BAR that no other device can reach waits for one.  So does one whose device
 * is away for the moment, which is not an error.
 *
 * 0 or -errno; see vfio_dma_buf_is_missing()
 */
static int vfio_iommufd_map_by_dma_buf(VFIOIOMMUFDContainer *container,
                                       VFIOP2PMap *map)
{
    int ret;

    map->owner = vfio_dma_buf_device(map->vaddr);
    if (!map->owner) {
        return -EOPNOTSUPP;
    }
    if (!vfio_p2p_has_peer(&container->p2p, map->owner)) {
        map->waits = true;
        vfio_p2p_add(&container->p2p, map);
        return -EOPNOTSUPP;
    }

    ret = vfio_iommufd_map(container, vfio_iommufd_map_dma_buf, map->iova,
                           map->size, map->vaddr, map->readonly, map->guest);
    if (!ret || ret == -ENODEV) {
        map->waits = ret;
        vfio_p2p_add(&container->p2p, map);
        return 0;
    }
    return ret;
}

/* @ret: of vfio_iommufd_map_by_dma_buf().  Its address was no help either. */
static void vfio_iommufd_keep_out_of_reach(VFIOIOMMUFDContainer *container,
                                           const VFIOP2PMap *map, int ret)
{
    if (map->owner && !map->waits && !container->out_of_reach) {
        container->out_of_reach = vfio_dma_buf_explain(map->owner, ret);
    }
}

/*
 * Mainline kernels answer EFAULT when a BAR is mapped by its address, some
 * vendors' kernels can do it.  So the first BAR decides for all.
 *
 * While nothing is pinned the map would succeed, but then the next device that
 * pins could not attach.  A BAR that comes at that time is left out, and so are
 * all later ones: reaching only some of them does not help a device.
 */
static int vfio_iommufd_map_by_address(VFIOIOMMUFDContainer *container,
                                       const VFIOP2PMap *map)
{
    int ret = -EFAULT;

    container->no_bars |= !vfio_iommufd_pins(container);
    if (!container->no_bars) {
        ret = vfio_iommufd_map(container, vfio_iommufd_map_anew, map->iova,
                               map->size, map->vaddr, map->readonly, false);
        container->bars |= !ret;
        container->no_bars = ret == -EFAULT;
    }
    return ret;
}

/*
 * EINVAL is about this BAR alone: the guest has put it where the host's IOMMU
 * does not reach.  Of any other failure the log has a line; a guest can move
 * its BARs as often as it likes.
 */
static int vfio_iommufd_dma_map_bar(VFIOContainer *base, hwaddr iova,
                                    ram_addr_t size, void *vaddr,
                                    bool readonly)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);
    VFIOP2PMap map = {
        .iova = iova,
        .size = size,
        .vaddr = vaddr,
        .readonly = readonly,
    };
    int by_dma_buf = vfio_iommufd_map_by_dma_buf(container, &map);
    int ret = vfio_dma_buf_is_missing(by_dma_buf)
              ? vfio_iommufd_map_by_address(container, &map) : by_dma_buf;

    if (ret == -EFAULT) {
        vfio_iommufd_keep_out_of_reach(container, &map, by_dma_buf);
    } else if (ret == -EINVAL) {
        vfio_iommufd_keep_far_bar(container, iova, size);
    } else if (ret) {
        vfio_iommufd_map_refused(base, iova, size, vaddr, ret);
    }

    vfio_iommufd_say_no_peers(container);
    return 0;
}

static bool vfio_iommufd_is_bar(void *vaddr)
{
    ram_addr_t offset;
    MemoryRegion *mr = memory_region_from_host(vaddr, &offset);

    return mr && memory_region_is_ram_device(mr);
}

int vfio_iommufd_map_now(VFIOIOMMUFDContainer *container, hwaddr iova,
                         uint64_t size, void *vaddr, bool readonly)
{
    int ret = vfio_iommufd_map(container, vfio_iommufd_map_shared, iova, size,
                               vaddr, readonly, false);

    if (!ret) {
        vfio_ram_maps_add(&container->ram_maps, iova, size, vaddr, readonly);
    }
    return ret;
}

/* For what waits: the kernel does not count it yet.  0 or -errno */
static int vfio_iommufd_may_lock(VFIOIOMMUFDContainer *container, hwaddr iova,
                                 ram_addr_t size, const void *vaddr)
{
    if (vfio_iommufd_memlock_suffices(&container->base, vaddr, size)) {
        return 0;
    }
    range_set_bounds(&container->failed, iova, iova + size - 1);
    return -ENOMEM;
}

static int vfio_iommufd_dma_map(VFIOContainer *base, hwaddr iova,
                                ram_addr_t size, void *vaddr, bool readonly)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);
    int ret = vfio_background_is_busy(container) ?
              vfio_iommufd_may_lock(container, iova, size, vaddr) : 0;

    if (ret) {
        return ret;
    }
    vfio_background_finish_memory(container, vaddr, size);
    return vfio_iommufd_map_now(container, iova, size, vaddr, readonly);
}

int vfio_iommufd_map_memory(VFIOIOMMUFDContainer *container,
                            MemoryRegionSection *section, hwaddr iova,
                            ram_addr_t size, void *vaddr)
{
    int ret;

    vfio_background_look_again(container);
    if (!vfio_background_may_wait(container, iova, size)) {
        return vfio_iommufd_dma_map(&container->base, iova, size, vaddr,
                                    section->readonly);
    }

    ret = vfio_iommufd_may_lock(container, iova, size, vaddr);
    if (!ret) {
        vfio_background_add(container, section, iova, size, vaddr);
    }
    return ret;
}

static int vfio_iommufd_dma_map_memory(VFIOContainer *base,
                                       MemoryRegionSection *section,
                                       hwaddr iova, ram_addr_t size,
                                       void *vaddr)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    return vfio_change_come(container, section) ? 0 :
           vfio_iommufd_map_memory(container, section, iova, size, vaddr);
}

int vfio_iommufd_map_done(VFIOIOMMUFDContainer *container, int ret,
                          hwaddr iova, uint64_t size, void *vaddr,
                          bool readonly, uint64_t mapped)
{
    ret = vfio_iommufd_record(container, ret, iova, size, false, mapped);
    if (!ret) {
        vfio_ram_maps_add(&container->ram_maps, iova, size, vaddr, readonly);
    }
    return ret;
}

void vfio_iommufd_map_half_done(VFIOIOMMUFDContainer *container, hwaddr iova,
                                uint64_t size, unsigned count,
                                uint64_t mapped)
{
    container->mapped += mapped;
    if (count) {
        vfio_maps_add(&container->maps, iova, size, count, false);
    }
}

/* 0 or -errno, without asking the kernel */
static int vfio_iommufd_may_map(VFIOIOMMUFDContainer *container, hwaddr iova,
                                ram_addr_t size)
{
    if (!size) {    /* 2^64 bytes: a guest's IOMMU can ask for them */
        range_set_bounds(&container->failed, 0, UINT64_MAX);
        return -EINVAL;
    }

    range_set_bounds(&container->failed, iova, iova + size - 1);
    return vfio_iommufd_is_full(container) ? -ENOSPC : 0;
}

/* A BAR that cannot be mapped by its address */
static int vfio_iommufd_map_guest_bar(VFIOIOMMUFDContainer *container,
                                      VFIOP2PMap *map)
{
    int ret = vfio_iommufd_map_by_dma_buf(container, map);

    container->no_bars = true;
    if (vfio_dma_buf_is_missing(ret)) {
        vfio_iommufd_keep_out_of_reach(container, map, ret);
        vfio_iommufd_say_out_of_reach(container);
        return 0;
    }
    return ret;
}

/* A guest's IOMMU hands us addresses and not regions; this may be a BAR. */
static int vfio_iommufd_dma_map_guest(VFIOContainer *base, hwaddr iova,
                                      ram_addr_t size, void *vaddr,
                                      bool readonly)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);
    VFIOP2PMap map = {
        .iova = iova,
        .size = size,
        .vaddr = vaddr,
        .readonly = readonly,
        .guest = true,
    };
    int ret = vfio_iommufd_may_map(container, iova, size);

    if (ret) {
        return ret;
    }

    if (!vfio_iommufd_pins(container) && vfio_iommufd_is_bar(vaddr)) {
        return vfio_iommufd_map_guest_bar(container, &map);
    }

    ret = vfio_iommufd_map(container, vfio_iommufd_map_anew, iova, size, vaddr,
                           readonly, true);
    if (ret == -EFAULT && vfio_iommufd_is_bar(vaddr)) {
        return vfio_iommufd_map_guest_bar(container, &map);
    }
    return ret;
}

/* A guest can toggle what cannot be unmapped, as often as it likes. */
static void vfio_iommufd_say_stuck(VFIOIOMMUFDContainer *container, hwaddr iova,
                                   ram_addr_t size, int ret)
{
    Error *err = NULL;

    error_setg(&err, "iommufd object '%s': cannot unmap IOVA 0x%"HWADDR_PRIx
               " to 0x%"HWADDR_PRIx", devices still reach memory there: %s",
               iommufd_backend_id(container->be), iova, iova + size - 1,
               strerror(-ret));
    vfio_guest_log(&container->stuck, err);
}

void vfio_iommufd_unmap(VFIOIOMMUFDContainer *container, hwaddr iova,
                        ram_addr_t size, IOMMUTLBEntry *iotlb)
{
    int ret;

    vfio_background_look_again(container);
    vfio_iommufd_forget_far_bar(container, iova, size);
    /* A guest's IOMMU asks for all that it spans; often there is nothing. */
    ret = vfio_iommufd_clear(container, iova, size, iotlb);
    if (ret) {
        container->leftovers = true;
        vfio_iommufd_say_stuck(container, iova, size, ret);
    }
}

/* A failure is reported and remembered here: no caller can do more about it. */
static int vfio_iommufd_dma_unmap(VFIOContainer *base, hwaddr iova,
                                  ram_addr_t size, IOMMUTLBEntry *iotlb)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);
    const ram_addr_t half = 1ULL << 63;

    if (container->leaving) {
        return 0;
    }

    vfio_missing_remove(&container->missing, iova, size);
    if (!size) {    /* 2^64 bytes, which no call takes at once */
        vfio_iommufd_unmap(container, 0, half, iotlb);
        vfio_iommufd_unmap(container, half, half, iotlb);
    } else {
        vfio_iommufd_unmap(container, iova, size, iotlb);
    }
    return 0;
}

static bool vfio_iommufd_unmap_memory_later(VFIOContainer *base,
                                            MemoryRegionSection *section)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    return container->leaving || vfio_change_leave(container, section);
}

static void vfio_iommufd_begin(VFIOContainer *base)
{
    vfio_change_begin(vfio_iommufd_container(base));
}

static void vfio_iommufd_commit(VFIOContainer *base)
{
    vfio_change_commit(vfio_iommufd_container(base));
}

bool vfio_iommufd_find_map(VFIOIOMMUFDContainer *container, Range *range,
                           Range *lowest)
{
    Range waits;
    bool found = vfio_maps_find(&container->maps, range, lowest);

    if (vfio_background_find(container, range, &waits) &&
        (!found || range_lob(&waits) < range_lob(lowest))) {
        *lowest = waits;
        return true;
    }
    return found;
}

/* A container's life */

static VFIOIOMMUFDContainer *
vfio_iommufd_find_container(VFIOAddressSpace *space, IOMMUFDBackend *be)
{
    VFIOContainer *base;

    QLIST_FOREACH(base, &space->containers, next) {
        if (base->ops == &vfio_iommufd_ops &&
            vfio_iommufd_container(base)->be == be) {
            return vfio_iommufd_container(base);
        }
    }
    return NULL;
}

static VFIOIOMMUFDContainer *
vfio_iommufd_get_container(AddressSpace *as, IOMMUFDBackend *be, Error **errp)
{
    VFIOAddressSpace *space = vfio_get_address_space(as);
    VFIOIOMMUFDContainer *container = vfio_iommufd_find_container(space, be);
    uint32_t ioas_id;

    if (container) {
        return container;
    }

    if (!iommufd_backend_alloc_ioas(be, &ioas_id, errp)) {
        vfio_put_address_space(space);
        return NULL;
    }

    container = g_new0(VFIOIOMMUFDContainer, 1);
    container->be = be;
    container->ioas_id = ioas_id;
    vfio_container_init(&container->base, space, &vfio_iommufd_ops);
    vfio_start_watch();
    vfio_missing_init(&container->missing, &container->base.listener);
    vfio_replaced_init(&container->replaced, &container->base.listener, as);
    vfio_change_init(&container->change);
    vfio_maps_init(&container->maps);
    vfio_ram_maps_init(&container->ram_maps, be, ioas_id);
    vfio_p2p_init(&container->p2p, container);
    range_make_empty(&container->far_bar);
    QLIST_INIT(&container->hwpts);
    vfio_background_init(container);
    QLIST_INSERT_HEAD(&space->containers, &container->base, next);
    return container;
}

/* Does nothing while the container has devices. */
static void vfio_iommufd_put_container(VFIOIOMMUFDContainer *container)
{
    VFIOAddressSpace *space = container->base.space;
    Error *err = NULL;

    if (!QLIST_EMPTY(&container->base.device_list)) {
        return;
    }

    vfio_background_destroy(container);
    g_free(container->out_of_reach);
    vfio_p2p_destroy(&container->p2p);
    vfio_ram_maps_destroy(&container->ram_maps);
    vfio_maps_destroy(&container->maps);
    vfio_change_destroy(&container->change);
    vfio_replaced_destroy(&container->replaced);
    vfio_missing_destroy(&container->missing);
    vfio_container_destroy(&container->base);
    if (!iommufd_backend_destroy_id(container->be, container->ioas_id, &err)) {
        error_report_err(err);
    }
    g_free(container);
    vfio_put_address_space(space);
}

/* The page size is known only once a device is attached. */
static bool vfio_iommufd_learn_limits(VFIOIOMMUFDContainer *container,
                                      Error **errp)
{
    g_autofree Range *ranges = NULL;
    uint64_t alignment;
    uint32_t num_ranges;

    if (!iommufd_backend_iova_ranges(container->be, container->ioas_id,
                                     &ranges, &num_ranges, &alignment, errp)) {
        return false;
    }

    /*
     * Any multiple of the smallest page can be mapped.  The window is all of
     * 64 bits, as with type1: a guest's IOMMU spans holes of the host's, and
     * the kernel refuses each map that is really out of range.
     */
    container->base.pgsizes = -MAX(alignment, qemu_real_host_page_size());
    vfio_host_win_add(&container->base, 0, (hwaddr)-1,
                      container->base.pgsizes);
    return true;
}

static void vfio_iommufd_say_untold(VFIODevice *vbasedev, Error *why)
{
    if (why && !vbasedev->hwpt) {
        warn_reportf_err(why, VFIO_MSG_PREFIX "nothing tells which memory it "
                         "writes to: ", vbasedev->name);
    } else {
        error_free(why);
    }
}

/*
 * If the device cannot have a page table that records its writes, although the
 * host's IOMMU has them, it is passed through like any other.
 */
static bool vfio_iommufd_attach_to(VFIOIOMMUFDContainer *container,
                                   VFIODevice *vbasedev, Error **errp)
{
    Error *why = NULL, *err = NULL;

    if (vfio_hwpt_is_wanted(container, vbasedev) &&
        vfio_hwpt_attach(container, vbasedev, &why)) {
        return true;
    }

    if (vfio_cdev_attach_ioas(vbasedev, container->ioas_id, &container->base,
                              &err) ||
        vfio_hwpt_share(container, vbasedev)) {
        error_free(err);
        vfio_iommufd_say_untold(vbasedev, why);
        return true;
    }

    error_free(why);
    error_propagate(errp, err);
    return false;
}

static bool vfio_iommufd_attach(VFIOIOMMUFDContainer *container,
                                VFIODevice *vbasedev, Error **errp)
{
    if (!vfio_iommufd_attach_to(container, vbasedev, errp)) {
        return false;
    }

    container->pinning += vbasedev->pins;
    container->ram_maps.discarding += vbasedev->ram_block_discard_allowed;
    vfio_background_join(container, vbasedev);
    return true;
}

static void vfio_iommufd_detach(VFIOIOMMUFDContainer *container,
                                VFIODevice *vbasedev)
{
    Error *err = NULL;

    vfio_background_leave(container, vbasedev);
    container->pinning -= vbasedev->pins;
    container->ram_maps.discarding -= vbasedev->ram_block_discard_allowed;
    if (!vfio_cdev_detach_ioas(vbasedev, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, vbasedev->name);
    }
    vfio_hwpt_put(container, vbasedev);
}

/* The container's list does not have the device, neither before nor after. */
static void vfio_iommufd_leave(VFIOIOMMUFDContainer *container,
                               VFIODevice *vbasedev)
{
    bool last = QLIST_EMPTY(&container->base.device_list);

    if (last) {
        vfio_background_cancel_all(container);
    }
    vfio_iommufd_detach(container, vbasedev);
    if (last) {
        container->leaving = true;
        memory_listener_unregister(&container->base.listener);
    }
}

static bool vfio_iommufd_join(VFIOIOMMUFDContainer *container,
                              VFIODevice *vbasedev, Error **errp)
{
    bool first = QLIST_EMPTY(&container->base.device_list);

    if (!vfio_iommufd_attach(container, vbasedev, errp)) {
        return false;
    }

    if (!vfio_reach_tell_guest(container->base.space->as, errp) ||
        !vfio_background_reaches(container, errp) ||
        (first && !vfio_iommufd_learn_limits(container, errp))) {
        vfio_iommufd_detach(container, vbasedev);
        return false;
    }

    if (first && !vfio_container_listen(&container->base, errp)) {
        vfio_iommufd_leave(container, vbasedev);
        return false;
    }

    vfio_p2p_join(&container->p2p);
    return true;
}

/* A device's life: the steps of attaching, and of undoing them */

/* KVM works without knowing the device, just not as well. */
static void vfio_iommufd_add_to_kvm(VFIODevice *vbasedev)
{
    Error *err = NULL;

    vbasedev->kvm_knows = vfio_kvm_device_add_fd(vbasedev->fd, vbasedev->name,
                                                 &err);
    if (err) {
        warn_report_err(err);
    }
}

static void vfio_iommufd_del_from_kvm(VFIODevice *vbasedev)
{
    Error *err = NULL;

    if (vbasedev->kvm_knows &&
        !vfio_kvm_device_del_fd(vbasedev->fd, vbasedev->name, &err)) {
        warn_report_err(err);
    }
    vbasedev->kvm_knows = false;
}

static void vfio_iommufd_close(VFIODevice *vbasedev)
{
    vfio_iommufd_del_from_kvm(vbasedev);
    vfio_cdev_close(vbasedev);
}

/* What is bound ahead of its turn may hinder a device whose turn it is. */
static bool vfio_iommufd_bind(VFIODevice *vbasedev, IOMMUFDBackend *be,
                              Error **errp)
{
    Error *err = NULL;

    if (vfio_cdev_bind(vbasedev, be, &err)) {
        return true;
    }

    if (vfio_ahead_drop()) {
        error_free(err);
        return vfio_cdev_bind(vbasedev, be, errp);
    }

    error_propagate(errp, err);
    return false;
}

static bool vfio_iommufd_open(VFIODevice *vbasedev, IOMMUFDBackend *be,
                              Error **errp)
{
    if (vfio_ahead_take(vbasedev)) {
        return true;
    }

    if (!vfio_cdev_open(vbasedev, errp)) {
        return false;
    }

    vfio_iommufd_add_to_kvm(vbasedev);
    if (!vfio_iommufd_bind(vbasedev, be, errp)) {
        vfio_iommufd_close(vbasedev);
        return false;
    }
    return true;
}

/* Pinned pages must stay the guest's; see vfio_connect_container() on why. */
static bool vfio_iommufd_keep_pages(VFIODevice *vbasedev, bool keep,
                                    Error **errp)
{
    int ret;

    if (vbasedev->ram_block_discard_allowed) {
        return true;
    }

    ret = ram_block_uncoordinated_discard_disable(keep);
    if (ret) {
        error_setg_errno(errp, -ret, "Cannot set discarding of RAM broken");
    }
    return !ret;
}

/*
 * A device that is given is told apart by its number: without sysfs, its name
 * is that of the descriptor, which another one can have later.
 */
static bool vfio_iommufd_is_same(VFIODevice *attached, VFIODevice *vbasedev)
{
    struct stat a, b;

    if (vbasedev->fd_given && attached->iommufd &&
        !fstat(attached->fd, &a) && !fstat(vbasedev->fd, &b)) {
        return a.st_rdev == b.st_rdev;
    }
    return g_str_equal(attached->name, vbasedev->name);
}

static bool vfio_iommufd_is_attached(VFIODevice *vbasedev)
{
    VFIODevice *other;

    QLIST_FOREACH(other, &vfio_device_list, global_next) {
        if (vfio_iommufd_is_same(other, vbasedev)) {
            return true;
        }
    }
    return false;
}

static bool vfio_iommufd_attach_device(VFIODevice *vbasedev, AddressSpace *as,
                                       Error **errp)
{
    IOMMUFDBackend *be = vbasedev->iommufd;
    VFIOIOMMUFDContainer *container;

    if (vfio_iommufd_is_attached(vbasedev)) {
        error_setg(errp, "device is already attached");
        return false;
    }

    if (!iommufd_backend_connect(be, errp)) {
        return false;
    }

    if (!vfio_iommufd_open(vbasedev, be, errp)) {
        goto disconnect;
    }

    if (!vfio_cdev_check_iommu(vbasedev, be, errp) ||
        !vfio_cdev_get_info(vbasedev, errp) ||
        !vfio_mig_query(vbasedev, errp) ||
        !vfio_iommufd_keep_pages(vbasedev, true, errp)) {
        goto close;
    }

    container = vfio_iommufd_get_container(as, be, errp);
    if (!container) {
        goto allow_discard;
    }

    if (!vfio_iommufd_join(container, vbasedev, errp)) {
        goto put_container;
    }

    vbasedev->container = &container->base;
    vfio_device_list_add(vbasedev, NULL);
    vfio_dirty_join(vbasedev);
    vfio_reset_handler_get();
    vfio_iommufd_say_no_peers(container);
    return true;

put_container:
    vfio_iommufd_put_container(container);
    vfio_reach_tell_guest(as, NULL);
allow_discard:
    vfio_iommufd_keep_pages(vbasedev, false, &error_abort);
close:
    vfio_mig_forget(vbasedev);
    vfio_iommufd_close(vbasedev);
disconnect:
    iommufd_backend_disconnect(be);
    return false;
}

static void vfio_iommufd_detach_device(VFIODevice *vbasedev)
{
    VFIOIOMMUFDContainer *container =
        vfio_iommufd_container(vbasedev->container);
    AddressSpace *as = container->base.space->as;
    IOMMUFDBackend *be = container->be;

    vfio_reset_handler_put();
    vfio_dirty_leave(vbasedev);
    vfio_device_list_remove(vbasedev);
    vbasedev->container = NULL;

    vfio_iommufd_leave(container, vbasedev);
    vfio_iommufd_put_container(container);
    vfio_reach_tell_guest(as, NULL);
    vfio_iommufd_keep_pages(vbasedev, false, &error_abort);
    vfio_mig_forget(vbasedev);
    vfio_iommufd_close(vbasedev);
    iommufd_backend_disconnect(be);
}

const VFIOContainerOps vfio_iommufd_ops = {
    .attach_device = vfio_iommufd_attach_device,
    .detach_device = vfio_iommufd_detach_device,
    .dma_map = vfio_iommufd_dma_map,
    .dma_map_memory = vfio_iommufd_dma_map_memory,
    .dma_map_bar = vfio_iommufd_dma_map_bar,
    .dma_map_guest = vfio_iommufd_dma_map_guest,
    .dma_unmap = vfio_iommufd_dma_unmap,
    .unmap_memory_later = vfio_iommufd_unmap_memory_later,
    .begin = vfio_iommufd_begin,
    .commit = vfio_iommufd_commit,
    .map_error = vfio_iommufd_map_error,
    .map_failed = vfio_iommufd_map_failed,
    .map_refused = vfio_iommufd_map_refused,
    .map_invalid = vfio_iommufd_map_invalid,
};
