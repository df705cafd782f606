/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that is mapped while the guest runs: see background.h */
#include "qemu/osdep.h"

#include "hw/core/cpu.h"
#include "iommufd.h"
#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "sysemu/cpus.h"
#include "sysemu/run-gate.h"
#include "sysemu/sysemu.h"
#include "trace.h"

#define TELL_MS 5000

/* Of the heap of a processor's thread; larger blocks are not taken from it. */
#define HEAP_BLOCK      (64 * KiB)
#define HEAP_BLOCKS     128

typedef struct VFIOBackgroundMap VFIOBackgroundMap;
struct VFIOBackgroundMap {
    VFIOIOMMUFDContainer *container;
    MemoryRegionSection section;    /* region_add() has a reference */
    hwaddr iova;
    uint64_t size;
    void *vaddr;
    IOMMUFDLater *later;    /* NULL while it waits for others */
    bool copies;            /* what another container has */
    bool anew;              /* that has failed */
    QTAILQ_ENTRY(VFIOBackgroundMap) next;
};

typedef QTAILQ_HEAD(VFIOBackgroundMaps, VFIOBackgroundMap) VFIOBackgroundMaps;
typedef QLIST_HEAD(VFIOBackgrounds, VFIOBackground) VFIOBackgrounds;

struct VFIOBackgroundQueue {
    IOMMUFDBackend *be;
    VFIOBackgroundMaps maps;    /* only the first has threads */
    VFIOBackgrounds users;
    QEMUBH *bh;
    QEMUTimer *timer;   /* for lines on the log while it takes long */
    Notifier exit;
    QLIST_ENTRY(VFIOBackgroundQueue) next;
};

static QLIST_HEAD(AllQueues, VFIOBackgroundQueue) queues =
    QLIST_HEAD_INITIALIZER(queues);

/* The first of the container's after @map, or of all if that is NULL */
static VFIOBackgroundMap *next_of(VFIOIOMMUFDContainer *container,
                                  VFIOBackgroundMap *map)
{
    map = map ? QTAILQ_NEXT(map, next)
              : QTAILQ_FIRST(&container->background.queue->maps);
    while (map && map->container != container) {
        map = QTAILQ_NEXT(map, next);
    }
    return map;
}

/* What becomes of a map */

/* What cannot be copied is mapped anew, unless there is too little memory. */
static bool is_to_be_mapped_anew(const VFIOBackgroundMap *map, int ret,
                                 uint64_t mapped)
{
    return map->copies && ret < 0 && ret != -ENOMEM && !mapped;
}

/* Waits.  Returns whether it is done with, and sets *@ret to 0 or -errno. */
static bool finish_map(VFIOBackgroundMap *map, int *ret)
{
    VFIOIOMMUFDContainer *container = map->container;
    uint64_t mapped;

    if (!map->later) {
        *ret = vfio_iommufd_map_now(container, map->iova, map->size, map->vaddr,
                                    map->section.readonly);
        return true;
    }

    *ret = iommufd_backend_map_finish(map->later, &container->failed, &mapped);
    map->later = NULL;
    map->anew = is_to_be_mapped_anew(map, *ret, mapped);
    if (!map->anew) {
        *ret = vfio_iommufd_map_done(container, *ret, map->iova, map->size,
                                     map->vaddr, map->section.readonly, mapped);
    }
    return !map->anew;
}

static void map_failed(VFIOBackgroundMap *map, int ret)
{
    Error *err = NULL;

    vfio_iommufd_map_error(&map->container->base, map->iova, map->size,
                           map->vaddr, ret, &err);
    vfio_iommufd_map_failed(&map->container->base, &map->section, err);
}

/*
 * Waits, unless the map has ended.  It leaves the queue before anything can
 * fail: a failure can end QEMU, or unmap what is there.
 */
static void settle(VFIOBackgroundQueue *queue, VFIOBackgroundMap *map)
{
    int ret;

    QTAILQ_REMOVE(&queue->maps, map, next);
    if (!finish_map(map, &ret)) {
        QTAILQ_INSERT_HEAD(&queue->maps, map, next);
        return;
    }

    trace_vfio_background_settle(map->iova, map->size, ret);
    if (ret) {
        map_failed(map, ret);
    }
    g_free(map);
}

static void cancel_map(VFIOBackgroundQueue *queue, VFIOBackgroundMap *map)
{
    uint64_t mapped = 0;
    unsigned count = 0;

    if (map->later) {
        count = iommufd_backend_map_cancel(map->later, &mapped);
    }
    trace_vfio_background_cancel(map->iova, map->size, mapped);
    vfio_iommufd_map_half_done(map->container, map->iova, map->size, count,
                               mapped);
    QTAILQ_REMOVE(&queue->maps, map, next);
    g_free(map);
    qemu_bh_schedule(queue->bh);    /* for what comes after it */
}

/* The queue */

static void map_has_ended(void *bh)
{
    qemu_bh_schedule(bh);
}

/* What came before it has ended, so what it can be copied from is there. */
static bool begin_map(VFIOBackgroundQueue *queue, VFIOBackgroundMap *map)
{
    VFIOIOMMUFDContainer *container = map->container;
    bool readonly = map->section.readonly;
    uint64_t page_size = qemu_ram_pagesize(map->section.mr->ram_block);
    VFIORAMSource source;

    map->copies = !map->anew &&
                  vfio_ram_maps_find(&container->ram_maps, map->vaddr,
                                     map->size, readonly, &source);
    if (map->copies) {
        map->later = iommufd_backend_copy_begin(queue->be, container->ioas_id,
                                                map->iova, map->size,
                                                source.ioas_id, source.iova,
                                                readonly, page_size,
                                                map_has_ended, queue->bh);
    } else {
        map->later = iommufd_backend_map_begin(queue->be, container->ioas_id,
                                               map->iova, map->size,
                                               map->vaddr, readonly, page_size,
                                               map_has_ended, queue->bh);
    }
    return map->later;
}

/*
 * The heap of a thread grows by mprotect(), for one page after another (glibc,
 * grow_heap()), and that of a processor by some MiB while firmware changes the
 * memory map.  Each of these calls would wait for the threads, which have
 * mmap_lock while they let memory have its pages (Linux, mm/gup.c,
 * __gup_longterm_locked()).  What a heap once had it gets again without a call,
 * so it has it before.
 */
static void grow_heap(CPUState *cpu, run_on_cpu_data unused)
{
    void *blocks[HEAP_BLOCKS];
    int i;

    for (i = 0; i < HEAP_BLOCKS; i++) {
        blocks[i] = g_malloc(HEAP_BLOCK);
    }
    while (i--) {
        g_free(blocks[i]);
    }
}

static void grow_heaps(void)
{
    CPUState *cpu;

    CPU_FOREACH(cpu) {
        async_run_on_cpu(cpu, grow_heap, RUN_ON_CPU_NULL);
    }
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

    if (next_of(container, NULL) ||
        !QLIST_EMPTY(&container->missing.sections)) {
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

static bool somebody_waits(VFIOBackgroundQueue *queue)
{
    VFIOBackground *background = QLIST_FIRST(&queue->users);

    while (background && !background->waiting) {
        background = QLIST_NEXT(background, next);
    }
    return background;
}

/*
 * Threads are started here and not by whoever adds a map: that may be a
 * processor of the guest, which may be bound to a processor of the host's, and
 * one change of the memory map may add what the next one removes.
 */
static void map_what_waits(VFIOBackgroundQueue *queue)
{
    VFIOBackgroundMap *map;

    while ((map = QTAILQ_FIRST(&queue->maps))) {
        if (!map->later && begin_map(queue, map)) {
            timer_mod(queue->timer,
                      qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + TELL_MS);
        }
        if (map->later && somebody_waits(queue)) {
            iommufd_backend_map_hurry(map->later);
        }
        if (map->later && !iommufd_backend_map_has_ended(map->later)) {
            return;
        }
        settle(queue, map);
    }
    timer_del(queue->timer);
}

static void work_on(void *opaque)
{
    VFIOBackgroundQueue *queue = opaque;
    VFIOBackground *background;

    map_what_waits(queue);
    QLIST_FOREACH(background, &queue->users, next) {
        let_devices_go_on(container_of(background, VFIOIOMMUFDContainer,
                                       background));
    }
}

static void tell(void *opaque)
{
    VFIOBackgroundQueue *queue = opaque;
    VFIOBackgroundMap *map = QTAILQ_FIRST(&queue->maps);

    if (map && map->later) {
        iommufd_backend_map_tell(map->later);
        timer_mod(queue->timer,
                  qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + TELL_MS);
    }
}

/* What comes before it may be what it is copied from. */
static void finish(VFIOIOMMUFDContainer *container)
{
    VFIOBackgroundQueue *queue = container->background.queue;

    while (next_of(container, NULL)) {
        settle(queue, QTAILQ_FIRST(&queue->maps));
    }
    let_devices_go_on(container);
}

/* What has not been begun is copied from @container when its turn comes. */
void vfio_background_finish_memory(VFIOIOMMUFDContainer *container,
                                   const void *vaddr, uint64_t size)
{
    VFIOBackgroundQueue *queue = container->background.queue;
    VFIOBackgroundMap *map = QTAILQ_FIRST(&queue->maps);

    if (map && map->later && map->container != container &&
        ranges_overlap((uintptr_t)vaddr, size, (uintptr_t)map->vaddr,
                       map->size)) {
        settle(queue, map);
    }
}

void vfio_background_add(VFIOIOMMUFDContainer *container,
                         MemoryRegionSection *section, hwaddr iova,
                         uint64_t size, void *vaddr)
{
    VFIOBackgroundQueue *queue = container->background.queue;
    VFIOBackgroundMap *map = g_new0(VFIOBackgroundMap, 1);

    map->container = container;
    map->section = *section;
    map->section.fv = NULL;     /* it would keep regions that are gone */
    map->iova = iova;
    map->size = size;
    map->vaddr = vaddr;
    if (QTAILQ_EMPTY(&queue->maps)) {
        grow_heaps();
    }
    QTAILQ_INSERT_TAIL(&queue->maps, map, next);
    trace_vfio_background_add(iova, size);
    qemu_bh_schedule(queue->bh);
}

void vfio_background_cancel(VFIOIOMMUFDContainer *container, hwaddr iova,
                            uint64_t size)
{
    VFIOBackgroundMap *map, *next;
    Range range, of_map;

    range_set_bounds(&range, iova, iova + size - 1);
    for (map = next_of(container, NULL); map; map = next) {
        next = next_of(container, map);
        range_set_bounds(&of_map, map->iova, map->iova + map->size - 1);
        if (range_overlaps_range(&range, &of_map)) {
            cancel_map(container->background.queue, map);
        }
    }
}

bool vfio_background_find(VFIOIOMMUFDContainer *container, Range *range,
                          Range *lowest)
{
    VFIOBackgroundMap *map;
    Range of_map;

    range_make_empty(lowest);
    for (map = next_of(container, NULL); map; map = next_of(container, map)) {
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

    while ((map = next_of(container, NULL))) {
        cancel_map(container->background.queue, map);
    }
}

void vfio_background_look_again(VFIOIOMMUFDContainer *container)
{
    if (container->background.waiting) {
        qemu_bh_schedule(container->background.queue->bh);
    }
}

bool vfio_background_is_busy(VFIOIOMMUFDContainer *container)
{
    return !QTAILQ_EMPTY(&container->background.queue->maps);
}

uint64_t vfio_background_bytes(VFIOIOMMUFDContainer *container)
{
    VFIOBackgroundMap *map;
    uint64_t bytes = 0;

    for (map = next_of(container, NULL); map; map = next_of(container, map)) {
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

    for (map = next_of(container, NULL); map; map = next_of(container, map)) {
        if (!reaches(container, map->iova, map->iova + map->size - 1, errp)) {
            return false;
        }
    }
    return true;
}

/*
 * What is tried again, or is in the way of something that could not be
 * unmapped, has somebody who waits for the answer.
 */
bool vfio_background_may_wait(VFIOIOMMUFDContainer *container, hwaddr iova,
                              uint64_t size)
{
    return container->pinning && !container->background.dma &&
           size >= IOMMUFD_PARALLEL_MIN && !container->leftovers &&
           !vfio_missing_is_retried(&container->missing) &&
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
    if (next_of(container, NULL)) {
        trace_vfio_background_wait(vbasedev->name,
                                   vfio_background_bytes(container));
        if (qemu_in_vcpu_thread()) {
            if (!vbasedev->dma.go_on) {
                vbasedev->dma.go_on = go_on;
                container->background.waiting++;
                processors_hold();
                qemu_bh_schedule(container->background.queue->bh);
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

/* A queue's life, and a container's */

static void qemu_exits(Notifier *notifier, void *unused)
{
    VFIOBackgroundQueue *queue = container_of(notifier, VFIOBackgroundQueue,
                                              exit);
    VFIOBackgroundMap *map;

    while ((map = QTAILQ_FIRST(&queue->maps))) {
        cancel_map(queue, map);
    }
}

static VFIOBackgroundQueue *get_queue(IOMMUFDBackend *be)
{
    VFIOBackgroundQueue *queue = QLIST_FIRST(&queues);

    while (queue && queue->be != be) {
        queue = QLIST_NEXT(queue, next);
    }
    if (queue) {
        return queue;
    }

    queue = g_new0(VFIOBackgroundQueue, 1);
    queue->be = be;
    QTAILQ_INIT(&queue->maps);
    queue->bh = qemu_bh_new(work_on, queue);
    queue->timer = timer_new_ms(QEMU_CLOCK_REALTIME, tell, queue);
    queue->exit.notify = qemu_exits;
    qemu_add_exit_notifier(&queue->exit);
    QLIST_INSERT_HEAD(&queues, queue, next);
    return queue;
}

/* Does nothing while it has users. */
static void put_queue(VFIOBackgroundQueue *queue)
{
    if (!QLIST_EMPTY(&queue->users)) {
        return;
    }

    QLIST_REMOVE(queue, next);
    qemu_remove_exit_notifier(&queue->exit);
    timer_free(queue->timer);
    qemu_bh_delete(queue->bh);
    g_free(queue);
}

void vfio_background_init(VFIOIOMMUFDContainer *container)
{
    VFIOBackground *background = &container->background;

    background->queue = get_queue(container->be);
    QLIST_INSERT_HEAD(&background->queue->users, background, next);
}

void vfio_background_destroy(VFIOIOMMUFDContainer *container)
{
    VFIOBackground *background = &container->background;

    assert(!next_of(container, NULL));
    QLIST_REMOVE(background, next);
    put_queue(background->queue);
}
