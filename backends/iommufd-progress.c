/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Large maps and unmaps that are being made: see iommufd-progress.h */
#include "qemu/osdep.h"

#include "iommufd-progress.h"
#include "qemu/lockable.h"
#include "qemu/timer.h"

static QemuMutex under_way_lock;
static QLIST_HEAD(IOMMUFDUnderWay, IOMMUFDProgress) under_way =
    QLIST_HEAD_INITIALIZER(under_way);

void iommufd_progress_begin(IOMMUFDProgress *progress)
{
    progress->start = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    stat64_init(&progress->done, 0);
    stat64_init(&progress->moved, 0);
    QEMU_LOCK_GUARD(&under_way_lock);
    QLIST_INSERT_HEAD(&under_way, progress, next);
}

void iommufd_progress_end(IOMMUFDProgress *progress, IOMMUFDCounters *counters,
                          bool succeeded)
{
    uint64_t moved = stat64_get(&progress->moved);

    /* All that a guest's IOMMU spans is unmapped, however little is there. */
    if (succeeded && moved >= IOMMUFD_PARALLEL_MIN) {
        stat64_add(&counters->large_bytes, moved);
        stat64_add(&counters->large_ns,
                   qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - progress->start);
    }
    QEMU_LOCK_GUARD(&under_way_lock);
    QLIST_REMOVE(progress, next);
}

void iommufd_progress_foreach(void (*fn)(const IOMMUFDProgress *progress,
                                         void *opaque),
                              void *opaque)
{
    IOMMUFDProgress *progress;

    QEMU_LOCK_GUARD(&under_way_lock);
    QLIST_FOREACH(progress, &under_way, next) {
        fn(progress, opaque);
    }
}

static void __attribute__((constructor)) init_under_way_lock(void)
{
    qemu_mutex_init(&under_way_lock);
}
