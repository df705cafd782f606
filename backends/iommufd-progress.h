/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Large maps and unmaps that are being made, and what all of them have done
 *
 * A large map holds the big lock, so only what does not need the lock can look
 * at it meanwhile.  The counters are atomic; the list of what is being made has
 * a lock of its own, which is held for a few instructions at a time.
 */
#ifndef BACKENDS_IOMMUFD_PROGRESS_H
#define BACKENDS_IOMMUFD_PROGRESS_H

#include "qemu/queue.h"
#include "qemu/stats64.h"
#include "sysemu/iommufd.h"

typedef struct IOMMUFDProgress IOMMUFDProgress;

/* Of one request; all but the counts is set before it begins, and stays. */
struct IOMMUFDProgress {
    const char *id;     /* the object's */
    uint32_t ioas_id;
    bool unmaps;
    uint64_t iova;
    uint64_t size;
    int64_t start;      /* ns of the real-time clock */
    Stat64 done;        /* bytes of the range that are dealt with */
    Stat64 moved;       /* bytes that were mapped or unmapped */
    QLIST_ENTRY(IOMMUFDProgress) next;
};

/* Sets ->start; @progress stays where it is until the end. */
void iommufd_progress_begin(IOMMUFDProgress *progress);

/* Adds it to @counters, if it has @succeeded and moved much. */
void iommufd_progress_end(IOMMUFDProgress *progress, IOMMUFDCounters *counters,
                          bool succeeded);

/* Calls @fn, which must not wait for anything, for each that is being made. */
void iommufd_progress_foreach(void (*fn)(const IOMMUFDProgress *progress,
                                         void *opaque),
                              void *opaque);

/*
 * One call of the kernel's has mapped or unmapped @bytes, or has failed
 *
 * This is the only place where calls are counted.  A guest's IOMMU makes many,
 * for a page each: it costs them two additions.
 */
static inline void iommufd_count(IOMMUFDCounters *counters, uint64_t bytes,
                                 bool failed)
{
    stat64_add(&counters->calls, 1);
    if (failed) {
        stat64_add(&counters->failures, 1);
    } else {
        stat64_add(&counters->bytes, bytes);
    }
}

#endif /* BACKENDS_IOMMUFD_PROGRESS_H */
