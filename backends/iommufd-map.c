/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps, copies and unmaps of an I/O address space, by threads if large
 *
 * A map spends nearly all of its time on faulting in, clearing and pinning
 * memory, and the kernel lets several maps into one IOAS do that at a time
 * (Linux, drivers/iommu/iommufd/io_pagetable.c, iopt_map_pages(): the lock that
 * it holds meanwhile is held for reading).  So the range is cut into chunks,
 * which the caller and its helpers take one after another.
 *
 * A copy is a map of what another IOAS has mapped.  The kernel does not look
 * for its pages, but it fills the page table one page after another.  A chunk
 * that is cut as the original was waits for no other (pages.c, the lock of an
 * iopt_pages, which each map creates).
 *
 * The helpers live for one call.  They make ioctls and count them, and touch
 * nothing else of QEMU's; the caller, which may hold the big lock, waits for
 * them.  A helper runs where its caller may run, and has its memory policy.
 *
 * A map or a copy can also be begun by one call and finished or cancelled by
 * another: the helpers take the chunks in between.  These are small, since
 * whoever needs the range for something else waits for those that are being
 * made.
 *
 * No area that the kernel knows crosses a multiple of AREA_LIMIT, however many
 * threads there are.  So a range may be unmapped in pieces that end there, no
 * matter by whom and in which pieces it was mapped.  An unmap that cuts an area
 * would leave it mapped, and would look like one that finds nothing.
 */
#include "qemu/osdep.h"
#include <sched.h>
#include <sys/ioctl.h>

#include "iommufd-progress.h"
#include "qemu/atomic.h"
#include "qemu/error-report.h"
#include "qemu/host-utils.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "sysemu/iommufd-abi.h"
#include "sysemu/iommufd.h"
#include "trace.h"

#define AREA_LIMIT (1 * GiB)

/* Chunks for each thread; several, so that none waits long for the last */
#define CHUNKS_PER_THREAD 8
#define CHUNK_MIN (8 * MiB)

/* ... of a map that nobody waits for: some 10 ms of clearing memory */
#define CHUNK_LATER (16 * MiB)

/* Bytes; an ioctl needs few, but thread-local data of libraries is on it. */
#define HELPER_STACK (256 * KiB)

#define PROGRESS_NS (5 * NANOSECONDS_PER_SECOND)

typedef struct IOMMUFDWork IOMMUFDWork;

struct IOMMUFDWork {
    int (*do_chunk)(IOMMUFDWork *work, uint64_t iova, uint64_t size);
    IOMMUFDBackend *be;
    int fd;
    uint32_t ioas_id;
    uint64_t iova;
    uint64_t size;      /* not 0 */
    uint8_t *vaddr;     /* of a map */
    int file;           /* of a map of a file, ... */
    uint64_t start;     /* ... and where in it @iova is */
    uint32_t source_id; /* of a copy: an IOAS, ... */
    uint64_t source;    /* ... and the IOVA there of what comes to @iova */
    bool readonly;      /* of both */
    bool unmaps;        /* else, if it fails, nothing of it must remain */
    unsigned threads;   /* the caller is one of them */

    IOMMUFDProgress *progress;  /* NULL if the range is not large */
    uint64_t moved;     /* bytes mapped or unmapped; in ->progress if set */

    unsigned count;     /* chunks, the first and the last may be shorter */

    /* The rest is used only if there are several chunks. */
    uint64_t chunk;     /* bytes, a power of two */
    int *results;       /* of each chunk, NOT_DONE before it is done */
    unsigned next;      /* the chunk to be taken next; atomic */
    bool failed;        /* no more need be taken; atomic */
};

/* Not a possible result: 0 is success, -errno is failure */
#define NOT_DONE 1

/* The ioctls */

static uint32_t map_flags(const IOMMUFDWork *work)
{
    return IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
           (work->readonly ? 0 : IOMMU_IOAS_MAP_WRITEABLE);
}

/* Only a large range has several threads. */
static void count_bytes(IOMMUFDWork *work, uint64_t bytes)
{
    if (work->progress) {
        stat64_add(&work->progress->moved, bytes);
    } else {
        work->moved += bytes;
    }
}

static void count_map(IOMMUFDWork *work, uint64_t size, int ret)
{
    uint64_t bytes = ret ? 0 : size;

    iommufd_count(&work->be->maps, bytes, ret);
    count_bytes(work, bytes);
}

static int ioas_map(IOMMUFDWork *work, uint64_t iova, uint64_t size)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = map_flags(work),
        .ioas_id = work->ioas_id,
        .user_va = (uintptr_t)work->vaddr + (iova - work->iova),
        .length = size,
        .iova = iova,
    };
    int ret = ioctl(work->fd, IOMMU_IOAS_MAP, &map) ? -errno : 0;

    count_map(work, size, ret);
    return ret;
}

static int ioas_map_file(IOMMUFDWork *work, uint64_t iova, uint64_t size)
{
    struct iommu_ioas_map_file map = {
        .size = sizeof(map),
        .flags = map_flags(work),
        .ioas_id = work->ioas_id,
        .fd = work->file,
        .start = work->start + (iova - work->iova),
        .length = size,
        .iova = iova,
    };
    int ret = ioctl(work->fd, IOMMU_IOAS_MAP_FILE, &map) ? -errno : 0;

    count_map(work, size, ret);
    return ret;
}

static int ioas_copy(IOMMUFDWork *work, uint64_t iova, uint64_t size)
{
    struct iommu_ioas_copy copy = {
        .size = sizeof(copy),
        .flags = map_flags(work),
        .dst_ioas_id = work->ioas_id,
        .src_ioas_id = work->source_id,
        .length = size,
        .dst_iova = iova,
        .src_iova = work->source + (iova - work->iova),
    };
    int ret = ioctl(work->fd, IOMMU_IOAS_COPY, &copy) ? -errno : 0;

    count_map(work, size, ret);
    return ret;
}

/*
 * @size is what the kernel has unmapped; ENOENT: nothing was there.  A map that
 * fails half way takes back what it has mapped.
 */
static void count_unmap(IOMMUFDWork *work, uint64_t size, int ret)
{
    uint64_t bytes = ret ? 0 : size;

    iommufd_count(&work->be->unmaps, bytes, ret && ret != -ENOENT);
    count_bytes(work, work->unmaps ? bytes : -bytes);
}

static int ioas_unmap(IOMMUFDWork *work, uint64_t iova, uint64_t size)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = work->ioas_id,
        .iova = iova,
        .length = size,
    };
    int ret = ioctl(work->fd, IOMMU_IOAS_UNMAP, &unmap) ? -errno : 0;

    count_unmap(work, unmap.length, ret);
    return ret;
}

static void trace_chunk(const IOMMUFDWork *work, uint64_t iova, uint64_t size,
                        int ret)
{
    if (work->do_chunk == ioas_map) {
        trace_iommufd_backend_map_dma(work->fd, work->ioas_id, iova, size,
                                      work->vaddr + (iova - work->iova),
                                      work->readonly, ret);
    } else if (work->do_chunk == ioas_map_file) {
        trace_iommufd_backend_map_file(work->fd, work->ioas_id, iova, size,
                                       work->file,
                                       work->start + (iova - work->iova),
                                       work->readonly, ret);
    } else if (work->do_chunk == ioas_copy) {
        trace_iommufd_backend_copy_dma(work->fd, work->ioas_id, iova, size,
                                       work->source_id,
                                       work->source + (iova - work->iova),
                                       work->readonly, ret);
    } else {
        trace_iommufd_backend_unmap_dma(work->fd, work->ioas_id, iova, size,
                                        ret);
    }
}

/* Chunks */

static unsigned count_chunks(uint64_t iova, uint64_t size, uint64_t chunk)
{
    return (iova + size - 1 - QEMU_ALIGN_DOWN(iova, chunk)) / chunk + 1;
}

/* If two sizes make as many chunks, these end at the same places. */
uint64_t iommufd_backend_map_chunk(hwaddr iova, uint64_t size, unsigned count)
{
    uint64_t chunk = AREA_LIMIT;

    while (count_chunks(iova, size, chunk) < count) {
        chunk /= 2;
    }
    return chunk;
}

static void cut(IOMMUFDWork *work, uint64_t chunk)
{
    work->chunk = chunk;
    work->count = count_chunks(work->iova, work->size, chunk);
}

static void chunk_range(const IOMMUFDWork *work, unsigned i, uint64_t *iova,
                        uint64_t *size)
{
    uint64_t first = QEMU_ALIGN_DOWN(work->iova, work->chunk) +
                     i * work->chunk;
    uint64_t last = MIN(first + work->chunk - 1, work->iova + work->size - 1);

    *iova = MAX(first, work->iova);
    *size = last - *iova + 1;
}

/* In bytes; small enough that each thread takes several */
static uint64_t chunk_share(const IOMMUFDWork *work)
{
    return work->size / (work->threads * CHUNKS_PER_THREAD);
}

static uint64_t map_chunk(const IOMMUFDWork *work, uint64_t page_size)
{
    uint64_t least = MAX(CHUNK_MIN, pow2ceil(page_size));

    if (work->threads == 1 || work->size < IOMMUFD_PARALLEL_MIN) {
        return AREA_LIMIT;
    }
    return MIN(MAX(pow2floor(chunk_share(work)), least), AREA_LIMIT);
}

/* The range may be the whole 64-bit space, with holes. */
static uint64_t unmap_chunk(const IOMMUFDWork *work)
{
    return MAX(pow2ceil(chunk_share(work)), AREA_LIMIT);
}

/* Threads */

unsigned iommufd_processors(void)
{
    cpu_set_t cpus[8] = {};     /* 8192, the most that Linux has */

    if (sched_getaffinity(0, sizeof(cpus), cpus)) {
        return 1;
    }
    return CPU_COUNT_S(sizeof(cpus), cpus);
}

/* The caller may be a pinned vCPU that maps for its guest's IOMMU. */
static unsigned threads_for(IOMMUFDBackend *be, uint64_t size)
{
    if (be->map_threads || size < IOMMUFD_PARALLEL_MIN) {
        return be->threads;
    }
    return MIN(be->threads, iommufd_processors());
}

static bool take_chunk(IOMMUFDWork *work)
{
    uint64_t iova, size;
    unsigned i;
    int ret;

    if (qatomic_read(&work->failed)) {
        return false;
    }

    i = qatomic_fetch_inc(&work->next);
    if (i >= work->count) {
        return false;
    }

    chunk_range(work, i, &iova, &size);
    ret = work->do_chunk(work, iova, size);
    work->results[i] = ret;
    if (work->progress) {
        stat64_add(&work->progress->done, size);
    }
    if (ret && !work->unmaps) {
        qatomic_set(&work->failed, true);
    }
    return true;
}

static void *help(void *opaque)
{
    while (take_chunk(opaque)) {
        /* as long as there are any */
    }
    return NULL;
}

bool iommufd_start_helper(pthread_t *thread, void *(*fn)(void *), void *opaque)
{
    pthread_attr_t attr;
    sigset_t all, old;
    bool started;

    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, MAX(HELPER_STACK, PTHREAD_STACK_MIN));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    started = pthread_create(thread, &attr, fn, opaque) == 0;
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attr);
    return started;
}

static void tell_progress(const IOMMUFDProgress *progress, int64_t *told)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    uint64_t done = stat64_get(&progress->done);
    double seconds = (double)(now - progress->start) / NANOSECONDS_PER_SECOND;

    if (now - *told < PROGRESS_NS) {
        return;
    }
    *told = now;
    info_report("iommufd object '%s': %s %" PRIu64 " of %" PRIu64 " MiB after "
                "%.0f s, %.0f MiB/s", progress->id,
                progress->unmaps ? "unmapped" : "mapped", done / MiB,
                progress->size / MiB, seconds, done / MiB / seconds);
}

/* If not all helpers can be started, the others do the work. */
static void do_chunks(IOMMUFDWork *work)
{
    int64_t told = work->progress->start;
    pthread_t helpers[IOMMUFD_MAP_THREADS_MAX];
    unsigned wanted = MIN(work->threads, work->count) - 1;
    unsigned started = 0;

    while (started < wanted &&
           iommufd_start_helper(&helpers[started], help, work)) {
        started++;
    }
    trace_iommufd_backend_parallel(work->fd, work->iova, work->size,
                                   work->chunk, work->count, started + 1);

    while (take_chunk(work)) {
        tell_progress(work->progress, &told);
    }
    while (started) {
        pthread_join(helpers[--started], NULL);
    }
}

/* An unmap makes a range empty, so finding a part of it empty is success. */
static bool is_error(const IOMMUFDWork *work, int ret)
{
    return ret < 0 && !(ret == -ENOENT && work->unmaps);
}

/* The first by address */
static int first_error(const IOMMUFDWork *work, uint64_t *iova, uint64_t *size)
{
    unsigned i;

    for (i = 0; i < work->count; i++) {
        if (is_error(work, work->results[i])) {
            chunk_range(work, i, iova, size);
            return work->results[i];
        }
    }
    return 0;
}

static void trace_chunks(const IOMMUFDWork *work)
{
    uint64_t iova, size;
    unsigned i;

    for (i = 0; i < work->count; i++) {
        if (work->results[i] != NOT_DONE) {
            chunk_range(work, i, &iova, &size);
            trace_chunk(work, iova, size, work->results[i]);
        }
    }
}

/* Unmap only what was mapped here: EEXIST means there are other maps. */
static void undo_map(IOMMUFDWork *work)
{
    uint64_t iova, size;
    unsigned i;

    for (i = 0; i < work->count; i++) {
        if (work->results[i] == 0) {
            chunk_range(work, i, &iova, &size);
            trace_iommufd_backend_unmap_dma(work->fd, work->ioas_id, iova, size,
                                            ioas_unmap(work, iova, size));
        }
    }
}

static int *new_results(const IOMMUFDWork *work)
{
    int *results = g_new(int, work->count);
    unsigned i;

    for (i = 0; i < work->count; i++) {
        results[i] = NOT_DONE;
    }
    return results;
}

/* No helper is left.  On failure, see run_chunks(). */
static int end_chunks(IOMMUFDWork *work, uint64_t *iova, uint64_t *size)
{
    int ret;

    trace_chunks(work);
    ret = first_error(work, iova, size);
    if (ret && !work->unmaps) {
        undo_map(work);
    }
    return ret;
}

/* On failure, set *@iova and *@size to the chunk that failed. */
static int run_chunks(IOMMUFDWork *work, uint64_t *iova, uint64_t *size)
{
    g_autofree int *results = new_results(work);

    work->results = results;
    if (work->progress) {
        do_chunks(work);
    } else {
        help(work);
    }
    return end_chunks(work, iova, size);
}

/* Most have one chunk, like all from a guest's IOMMU: just one ioctl */
static int run_all(IOMMUFDWork *work, uint64_t *iova, uint64_t *size)
{
    int ret;

    if (work->count > 1) {
        return run_chunks(work, iova, size);
    }
    ret = work->do_chunk(work, *iova, *size);
    trace_chunk(work, *iova, *size, ret);
    return ret;
}

/* It can be watched while it lasts. */
static void begin_progress(IOMMUFDWork *work, IOMMUFDProgress *progress)
{
    *progress = (IOMMUFDProgress) {
        .id = iommufd_backend_id(work->be),
        .ioas_id = work->ioas_id,
        .unmaps = work->unmaps,
        .iova = work->iova,
        .size = work->size,
    };
    work->progress = progress;
    iommufd_progress_begin(progress);
}

static void end_progress(IOMMUFDWork *work, bool succeeded)
{
    IOMMUFDProgress *progress = work->progress;

    iommufd_progress_end(progress, work->unmaps ? &work->be->unmaps
                                                : &work->be->maps, succeeded);
    work->progress = NULL;
    work->moved = stat64_get(&progress->moved);
}

static int run_large(IOMMUFDWork *work, uint64_t *iova, uint64_t *size)
{
    g_autofree IOMMUFDProgress *progress = g_new(IOMMUFDProgress, 1);
    int ret;

    begin_progress(work, progress);
    ret = run_all(work, iova, size);
    end_progress(work, !ret);
    return ret;
}

static int run(IOMMUFDWork *work, Range *failed)
{
    uint64_t iova = work->iova, size = work->size;
    int ret = size < IOMMUFD_PARALLEL_MIN ? run_all(work, &iova, &size)
                                          : run_large(work, &iova, &size);

    if (ret && failed) {
        range_set_bounds(failed, iova, iova + size - 1);
    }
    return ret;
}

/* See iommufd_backend_map_dma(). */
static int map_all(IOMMUFDWork *work, uint64_t page_size, Range *failed,
                   uint64_t *mapped)
{
    int ret;

    cut(work, map_chunk(work, page_size));
    ret = run(work, failed);
    *mapped = work->moved;
    return ret ?: work->count;
}

static IOMMUFDWork map_work(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                            uint64_t size, void *vaddr, bool readonly)
{
    return (IOMMUFDWork) {
        .do_chunk = ioas_map,
        .be = be,
        .fd = be->fd,
        .ioas_id = ioas_id,
        .iova = iova,
        .size = size,
        .vaddr = vaddr,
        .readonly = readonly,
        .threads = threads_for(be, size),
    };
}

static IOMMUFDWork copy_work(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                             uint64_t size, uint32_t source_id, hwaddr source,
                             bool readonly)
{
    IOMMUFDWork work = map_work(be, ioas_id, iova, size, NULL, readonly);

    work.do_chunk = ioas_copy;
    work.source_id = source_id;
    work.source = source;
    return work;
}

int iommufd_backend_map_dma(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                            uint64_t size, void *vaddr, bool readonly,
                            uint64_t page_size, Range *failed,
                            uint64_t *mapped)
{
    IOMMUFDWork work = map_work(be, ioas_id, iova, size, vaddr, readonly);

    return map_all(&work, page_size, failed, mapped);
}

int iommufd_backend_map_file(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                             uint64_t size, int file, uint64_t start,
                             bool readonly, Range *failed, uint64_t *mapped)
{
    IOMMUFDWork work = {
        .do_chunk = ioas_map_file,
        .be = be,
        .fd = be->fd,
        .ioas_id = ioas_id,
        .iova = iova,
        .size = size,
        .file = file,
        .start = start,
        .readonly = readonly,
        .threads = 1,
    };

    return map_all(&work, 0, failed, mapped);
}

int iommufd_backend_copy_dma(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                             uint64_t size, uint32_t source_id, hwaddr source,
                             bool readonly, uint64_t page_size, Range *failed,
                             uint64_t *mapped)
{
    IOMMUFDWork work = copy_work(be, ioas_id, iova, size, source_id, source,
                                 readonly);

    return map_all(&work, page_size, failed, mapped);
}

int iommufd_backend_unmap_dma(IOMMUFDBackend *be, uint32_t ioas_id,
                              hwaddr iova, uint64_t size, bool at_once,
                              uint64_t *unmapped)
{
    IOMMUFDWork work = {
        .do_chunk = ioas_unmap,
        .unmaps = true,
        .be = be,
        .fd = be->fd,
        .ioas_id = ioas_id,
        .iova = iova,
        .size = size,
        .threads = threads_for(be, size),
        .count = 1,
    };
    int ret;

    if (work.threads > 1 && !at_once) {
        cut(&work, unmap_chunk(&work));
    }
    ret = run(&work, NULL);
    *unmapped = work.moved;
    return ret;
}

/* A map that is begun by one call, and finished or cancelled by another */

struct IOMMUFDLater {
    IOMMUFDWork work;
    IOMMUFDProgress progress;
    int64_t told;
    pthread_t helpers[IOMMUFD_MAP_THREADS_MAX];
    unsigned started;   /* helpers that have to be joined */
    unsigned running;   /* of these, and whoever starts them; atomic */
    void (*ended)(void *opaque);
    void *opaque;
};

static void end_running(IOMMUFDLater *later)
{
    if (qatomic_fetch_dec(&later->running) == 1) {
        later->ended(later->opaque);
    }
}

static void *help_later(void *opaque)
{
    IOMMUFDLater *later = opaque;

    help(&later->work);
    end_running(later);
    return NULL;
}

/* Let there be @wanted helpers, unless the last one has ended. */
static void start_helpers(IOMMUFDLater *later, unsigned wanted)
{
    if (!qatomic_fetch_inc_nonzero(&later->running)) {
        return;
    }

    wanted = MIN(wanted, later->work.count);
    while (later->started < wanted) {
        qatomic_inc(&later->running);
        if (!iommufd_start_helper(&later->helpers[later->started], help_later,
                                  later)) {
            qatomic_dec(&later->running);
            break;
        }
        later->started++;
    }
    end_running(later);
}

/*
 * Firmware, and a kernel that boots, keep one processor busy.  Beside as many
 * threads as there are processors it would often wait for its turn.
 */
static unsigned threads_beside_guest(const IOMMUFDWork *work)
{
    return work->be->map_threads ? work->threads :
           MIN(work->threads, MAX(iommufd_processors(), 2) - 1);
}

static void free_later(IOMMUFDLater *later)
{
    g_free(later->work.results);
    g_free(later);
}

static void join_later(IOMMUFDLater *later)
{
    while (later->started) {
        pthread_join(later->helpers[--later->started], NULL);
    }
}

static IOMMUFDLater *begin_later(IOMMUFDWork all, uint64_t page_size,
                                 void (*ended)(void *opaque), void *opaque)
{
    IOMMUFDLater *later = g_new0(IOMMUFDLater, 1);
    IOMMUFDWork *work = &later->work;

    *work = all;
    later->ended = ended;
    later->opaque = opaque;
    cut(work, MIN(MAX(CHUNK_LATER, pow2ceil(page_size)), AREA_LIMIT));
    work->results = new_results(work);
    begin_progress(work, &later->progress);
    later->told = later->progress.start;
    later->running = 1;
    start_helpers(later, threads_beside_guest(work));
    if (!later->started) {
        end_progress(work, false);
        free_later(later);
        return NULL;
    }
    end_running(later);
    trace_iommufd_backend_parallel(work->fd, work->iova, work->size,
                                   work->chunk, work->count, later->started);
    return later;
}

void iommufd_backend_map_hurry(IOMMUFDLater *later)
{
    start_helpers(later, later->work.threads);
}

IOMMUFDLater *iommufd_backend_map_begin(IOMMUFDBackend *be, uint32_t ioas_id,
                                        hwaddr iova, uint64_t size,
                                        void *vaddr, bool readonly,
                                        uint64_t page_size,
                                        void (*ended)(void *opaque),
                                        void *opaque)
{
    return begin_later(map_work(be, ioas_id, iova, size, vaddr, readonly),
                       page_size, ended, opaque);
}

IOMMUFDLater *iommufd_backend_copy_begin(IOMMUFDBackend *be, uint32_t ioas_id,
                                         hwaddr iova, uint64_t size,
                                         uint32_t source_id, hwaddr source,
                                         bool readonly, uint64_t page_size,
                                         void (*ended)(void *opaque),
                                         void *opaque)
{
    return begin_later(copy_work(be, ioas_id, iova, size, source_id, source,
                                 readonly), page_size, ended, opaque);
}

bool iommufd_backend_map_has_ended(const IOMMUFDLater *later)
{
    return !qatomic_read(&later->running);
}

void iommufd_backend_map_tell(IOMMUFDLater *later)
{
    tell_progress(&later->progress, &later->told);
}

int iommufd_backend_map_finish(IOMMUFDLater *later, Range *failed,
                               uint64_t *mapped)
{
    IOMMUFDWork *work = &later->work;
    uint64_t iova = work->iova, size = work->size;
    int ret;

    start_helpers(later, work->threads - 1);
    while (take_chunk(work)) {
        iommufd_backend_map_tell(later);
    }
    join_later(later);
    ret = end_chunks(work, &iova, &size);
    end_progress(work, !ret);
    if (ret) {
        range_set_bounds(failed, iova, iova + size - 1);
    }
    *mapped = work->moved;
    ret = ret ?: work->count;
    free_later(later);
    return ret;
}

unsigned iommufd_backend_map_cancel(IOMMUFDLater *later, uint64_t *mapped)
{
    IOMMUFDWork *work = &later->work;
    unsigned i, count = 0;

    qatomic_set(&work->failed, true);
    join_later(later);
    trace_chunks(work);
    for (i = 0; i < work->count; i++) {
        count += work->results[i] == 0;
    }
    end_progress(work, false);
    *mapped = work->moved;
    free_later(later);
    return count;
}
