/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that is mapped while the guest runs: see background.h */
#include "qemu/osdep.h"

#include "iommufd.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "sysemu/cpus.h"
#include "sysemu/run-gate.h"
#include "sysemu/sysemu.h"
#include "trace.h"

#define TELL_MS 5000

struct VFIOBackgroundMap {
    MemoryRegionSection section;    /* region_add() has a reference */
    hwaddr iova;
    uint64_t size;
    void *vaddr;
    IOMMUFDLater *later;    /* NULL while it waits for others */
    QTAILQ_ENTRY(VFIOBackgroundMap) next;
};

static QLIST_HEAD(AllBackgrounds, VFIOBackground) all_backgrounds =
    QLIST_HEAD_INITIALIZER(all_backgrounds);

/*
 * Of the other containers of the same object the one after @last, or the first
 * if that is NULL
 */
static VFIOIOMMUFDContainer *next_of_object(VFIOIOMMUFDContainer *container,
                                            VFIOIOMMUFDContainer *last)
{
    VFIOBackground *background = last ? QLIST_NEXT(&last->background, next)
                                      : QLIST_FIRST(&all_backgrounds);

    for (; background; background = QLIST_NEXT(background, next)) {
        VFIOIOMMUFDContainer *other = container_of(background,
                                                   VFIOIOMMUFDContainer,
                                                   background);

        if (other != container && other->be == container->be) {
            return other;
        }
    }
    return NULL;
}

/* What becomes of a map */

static int finish_map(VFIOIOMMUFDContainer *container, VFIOBackgroundMap *map)
{
    uint64_t mapped;
    int ret;

    if (!map->later) {
        return vfio_dma_map(&container->base, map->iova, map->size, map->vaddr,
                            map->section.readonly);
    }
    ret = iommufd_backend_map_finish(map->later, &container->failed, &mapped);
    return vfio_iommufd_map_done(container, ret, map->iova, map->size,
                                 map->vaddr, map->section.readonly, mapped);
}

/*
 * Waits, unless the map has ended.  It leaves the queue before anything can
 * fail: a failure can end QEMU, or unmap what is there.
 */
static void settle(VFIOIOMMUFDContainer *container,
                   VFIOBackgroundMap *unsettled)
{
    g_autofree VFIOBackgroundMap *map = unsettled;
    Error *err = NULL;
    int ret;

    QTAILQ_REMOVE(&container->background.maps, map, next);
    ret = finish_map(container, map);
    trace_vfio_background_settle(map->iova, map->size, ret);
    if (ret) {
        vfio_iommufd_map_error(&container->base, map->iova, map->size,
                               map->vaddr, ret, &err);
        vfio_iommufd_map_failed(&container->base, &map->section, err);
    }
}

static void cancel_map(VFIOIOMMUFDContainer *container, VFIOBackgroundMap *map)
{
    uint64_t mapped = 0;
    unsigned count = 0;

    if (map->later) {
        count = iommufd_backend_map_cancel(map->later, &mapped);
    }
    trace_vfio_background_cancel(map->iova, map->size, mapped);
    vfio_iommufd_map_half_done(container, map->iova, map->size, count, mapped);
    QTAILQ_REMOVE(&container->background.maps, map, next);
    g_free(map);
}

/* The queue */

static void map_has_ended(void *bh)
{
    qemu_bh_schedule(bh);
}

static bool begin_map(VFIOIOMMUFDContainer *container, VFIOBackgroundMap *map)
{
    map->later = iommufd_backend_map_begin(container->be, container->ioas_id,
                                           map->iova, map->size, map->vaddr,
                                           map->section.readonly,
                                           qemu_ram_pagesize(
                                               map->section.mr->ram_block),
                                           map_has_ended,
                                           container->background.bh);
    return map->later;
}

/* The processors are held for each device that waits. */
static void stop_waiting(VFIOIOMMUFDContainer *container,
                         VFIODevice *vbasedev)
{
    if (vbasedev->dma.go_on) {
        vbasedev->dma.go_on = NULL;
        container->background.waiting--;
        processors_release();
    }
}

/* What could not be mapped keeps the VM from running, and devices waiting. */
static void let_devices_go_on(VFIOIOMMUFDContainer *container)
{
    VFIODevice *vbasedev;

    if (!QLIST_EMPTY(&container->missing.sections)) {
        return;
    }

    QLIST_FOREACH(vbasedev, &container->base.device_list, container_next) {
        void (*go_on)(VFIODevice *) = vbasedev->dma.go_on;

        if (go_on) {
            go_on(vbasedev);
            stop_waiting(container, vbasedev);
        }
    }
}

/*
 * Threads are started here and not by whoever adds a map: that may be a
 * processor of the guest, which may be bound to a processor of the host's, and
 * one change of the memory map may add what the next one removes.
 */
static void work_on(void *opaque)
{
    VFIOIOMMUFDContainer *container = opaque;
    VFIOBackground *background = &container->background;
    VFIOBackgroundMap *map;

    while ((map = QTAILQ_FIRST(&background->maps))) {
        if (!map->later && begin_map(container, map)) {
            timer_mod(background->timer,
                      qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + TELL_MS);
        }
        if (map->later && !iommufd_backend_map_has_ended(map->later)) {
            return;
        }
        settle(container, map);
    }
    timer_del(background->timer);
    let_devices_go_on(container);
}

static void tell(void *opaque)
{
    VFIOIOMMUFDContainer *container = opaque;
    VFIOBackgroundMap *map = QTAILQ_FIRST(&container->background.maps);

    if (map && map->later) {
        iommufd_backend_map_tell(map->later);
        timer_mod(container->background.timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + TELL_MS);
    }
}

static void finish(VFIOIOMMUFDContainer *container)
{
    VFIOBackgroundMap *map;

    while ((map = QTAILQ_FIRST(&container->background.maps))) {
        settle(container, map);
    }
    let_devices_go_on(container);
}

void vfio_background_finish_others(VFIOIOMMUFDContainer *container)
{
    VFIOIOMMUFDContainer *other = NULL;

    while ((other = next_of_object(container, other))) {
        finish(other);
    }
}

void vfio_background_add(VFIOIOMMUFDContainer *container,
                         MemoryRegionSection *section, hwaddr iova,
                         uint64_t size, void *vaddr)
{
    VFIOBackgroundMap *map = g_new0(VFIOBackgroundMap, 1);

    map->section = *section;
    map->section.fv = NULL;     /* it would keep regions that are gone */
    map->iova = iova;
    map->size = size;
    map->vaddr = vaddr;
    QTAILQ_INSERT_TAIL(&container->background.maps, map, next);
    trace_vfio_background_add(iova, size);
    qemu_bh_schedule(container->background.bh);
}

void vfio_background_cancel(VFIOIOMMUFDContainer *container, hwaddr iova,
                            uint64_t size)
{
    VFIOBackgroundMap *map, *next;
    Range range, of_map;

    range_set_bounds(&range, iova, iova + size - 1);
    for (map = QTAILQ_FIRST(&container->background.maps); map; map = next) {
        next = QTAILQ_NEXT(map, next);
        range_set_bounds(&of_map, map->iova, map->iova + map->size - 1);
        if (range_overlaps_range(&range, &of_map)) {
            cancel_map(container, map);
            qemu_bh_schedule(container->background.bh);
        }
    }
}

bool vfio_background_find(VFIOIOMMUFDContainer *container, Range *range,
                          Range *lowest)
{
    VFIOBackgroundMap *map;
    Range of_map;

    range_make_empty(lowest);
    for (map = QTAILQ_FIRST(&container->background.maps); map;
         map = QTAILQ_NEXT(map, next)) {
        range_set_bounds(&of_map, map->iova, map->iova + map->size - 1);
        if (range_overlaps_range(range, &of_map) &&
            (range_is_empty(lowest) || map->iova < range_lob(lowest))) {
            *lowest = of_map;
        }
    }
    return !range_is_empty(lowest);
}

void vfio_background_cancel_all(VFIOIOMMUFDContainer *container)
{
    VFIOBackgroundMap *map;

    while ((map = QTAILQ_FIRST(&container->background.maps))) {
        cancel_map(container, map);
    }
}

void vfio_background_look_again(VFIOIOMMUFDContainer *container)
{
    if (container->background.waiting) {
        qemu_bh_schedule(container->background.bh);
    }
}

uint64_t vfio_background_bytes(VFIOIOMMUFDContainer *container)
{
    VFIOBackgroundMap *map;
    uint64_t bytes = 0;

    for (map = QTAILQ_FIRST(&container->background.maps); map;
         map = QTAILQ_NEXT(map, next)) {
        bytes += map->size;
    }
    return bytes;
}

/* What may wait */

static bool reaches(VFIOIOMMUFDContainer *container, hwaddr iova, hwaddr last,
                    Error **errp)
{
    g_autofree Range *ranges = NULL;
    uint64_t alignment;
    uint32_t i, num_ranges;

    if (!iommufd_backend_iova_ranges(container->be, container->ioas_id,
                                     &ranges, &num_ranges, &alignment, errp)) {
        return false;
    }

    for (i = 0; i < num_ranges; i++) {
        if (range_contains(&ranges[i], iova) &&
            range_contains(&ranges[i], last)) {
            return true;
        }
    }
    error_setg(errp, "the host's IOMMU cannot map memory of the guest at IOVA "
               "0x%"HWADDR_PRIx" to 0x%"HWADDR_PRIx" for this device: it "
               "reserves a part of it or does not reach it", iova, last);
    return false;
}

bool vfio_background_reaches(VFIOIOMMUFDContainer *container, Error **errp)
{
    VFIOBackgroundMap *map;

    for (map = QTAILQ_FIRST(&container->background.maps); map;
         map = QTAILQ_NEXT(map, next)) {
        if (!reaches(container, map->iova, map->iova + map->size - 1, errp)) {
            return false;
        }
    }
    return true;
}

/*
 * What another container of the object has is copied, which takes little time.
 * What is tried again, or is in the way of something that could not be
 * unmapped, has somebody who waits for the answer.
 */
bool vfio_background_may_wait(VFIOIOMMUFDContainer *container, hwaddr iova,
                              uint64_t size)
{
    return container->pinning && !container->background.dma &&
           size >= IOMMUFD_PARALLEL_MIN && !container->leftovers &&
           !vfio_missing_is_retried(&container->missing) &&
           !next_of_object(container, NULL) &&
           reaches(container, iova, iova + size - 1, NULL);
}

/* Devices */

static bool is_wanted(VFIODevice *vbasedev)
{
    if (vbasedev->type != VFIO_DEVICE_TYPE_PCI || !vbasedev->pins) {
        return false;   /* nothing of it says when it can do DMA */
    }
    return vbasedev->dma.in_background == ON_OFF_AUTO_AUTO
           ? vbasedev->iommufd->map_in_background
           : vbasedev->dma.in_background == ON_OFF_AUTO_ON;
}

static void turn_on(VFIOIOMMUFDContainer *container, VFIODevice *vbasedev)
{
    vbasedev->dma.on = true;
    container->background.dma++;
}

void vfio_background_join(VFIOIOMMUFDContainer *container,
                          VFIODevice *vbasedev)
{
    vbasedev->dma.is_watched = is_wanted(vbasedev);
    if (!vbasedev->dma.is_watched) {
        finish(container);
        turn_on(container, vbasedev);
    }
}

void vfio_background_leave(VFIOIOMMUFDContainer *container,
                           VFIODevice *vbasedev)
{
    stop_waiting(container, vbasedev);
    container->background.dma -= vbasedev->dma.on;
    vbasedev->dma.on = false;
    vbasedev->dma.is_watched = false;
}

bool vfio_background_dma_on(VFIODevice *vbasedev,
                            void (*go_on)(VFIODevice *vbasedev))
{
    VFIOIOMMUFDContainer *container;

    if (!vbasedev->dma.is_watched || vbasedev->dma.on) {
        return true;
    }

    container = vfio_iommufd_container(vbasedev->container);
    if (!QTAILQ_EMPTY(&container->background.maps)) {
        trace_vfio_background_wait(vbasedev->name,
                                   vfio_background_bytes(container));
        if (qemu_in_vcpu_thread()) {
            if (!vbasedev->dma.go_on) {
                vbasedev->dma.go_on = go_on;
                container->background.waiting++;
                processors_hold();
            }
            return false;
        }
        finish(container);
    }
    turn_on(container, vbasedev);
    return true;
}

void vfio_background_dma_off(VFIODevice *vbasedev)
{
    VFIOIOMMUFDContainer *container;

    if (vbasedev->dma.is_watched) {
        container = vfio_iommufd_container(vbasedev->container);
        stop_waiting(container, vbasedev);
        container->background.dma -= vbasedev->dma.on;
        vbasedev->dma.on = false;
    }
}

/* A container's life */

static void qemu_exits(Notifier *notifier, void *unused)
{
    vfio_background_cancel_all(container_of(notifier, VFIOIOMMUFDContainer,
                                            background.exit));
}

void vfio_background_init(VFIOIOMMUFDContainer *container)
{
    VFIOBackground *background = &container->background;

    QTAILQ_INIT(&background->maps);
    background->bh = qemu_bh_new(work_on, container);
    background->timer = timer_new_ms(QEMU_CLOCK_REALTIME, tell, container);
    background->exit.notify = qemu_exits;
    qemu_add_exit_notifier(&background->exit);
    QLIST_INSERT_HEAD(&all_backgrounds, background, next);
}

void vfio_background_destroy(VFIOIOMMUFDContainer *container)
{
    VFIOBackground *background = &container->background;

    assert(QTAILQ_EMPTY(&background->maps));
    QLIST_REMOVE(background, next);
    qemu_remove_exit_notifier(&background->exit);
    timer_free(background->timer);
    qemu_bh_delete(background->bh);
}
