/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The iommufd object: QEMU's side of /dev/iommu
 *
 *   -object iommufd,id=ID[,fd=DESCRIPTOR][,memlock-accounting=user|process]
 *                        [,huge-pages=on|off][,map-threads=N]
 *                        [,max-guest-maps=N]
 *
 * It holds one descriptor of /dev/iommu and wraps each ioctl on it.  It knows
 * nothing of VFIO; anything that wants DMA for devices can use it.
 *
 * The contract of the ioctls is in the kernel's include/uapi/linux/iommufd.h.
 * Below, "IOAS" is an I/O address space of the kernel's, named by a 32-bit id
 * that is valid in one iommufd only.  IOVAs and sizes are in bytes.
 *
 * All functions but iommufd_backend_map_dma(), iommufd_backend_map_file(),
 * iommufd_backend_copy_dma() and iommufd_backend_unmap_dma() are called with
 * the big lock held; these four may be called by any thread while the object
 * is connected.
 */
#ifndef SYSEMU_IOMMUFD_H
#define SYSEMU_IOMMUFD_H

#include "exec/hwaddr.h"
#include "hw/qdev-properties.h"
#include "qapi/qapi-types-common.h"
#include "qemu/range.h"
#include "qemu/stats64.h"
#include "qemu/units.h"
#include "qom/object.h"

/* What has been asked of the kernel; any thread may count, and read */
typedef struct IOMMUFDCounters {
    Stat64 calls;       /* those that failed, too */
    Stat64 failures;
    Stat64 bytes;       /* by all that succeeded */
    Stat64 large_bytes; /* of these, by requests that are large enough ... */
    Stat64 large_ns;    /* ... to be worth a look at the clock, and its time */
} IOMMUFDCounters;

#define TYPE_IOMMUFD_BACKEND "iommufd"
OBJECT_DECLARE_SIMPLE_TYPE(IOMMUFDBackend, IOMMUFD_BACKEND)

/* Bytes; the caller makes a smaller map or unmap alone. */
#define IOMMUFD_PARALLEL_MIN (64 * MiB)

#define IOMMUFD_MAP_THREADS_MAX 64

struct IOMMUFDBackend {
    Object parent;

    /*
     * -1 while there is none.  Our own is opened for the first user and
     * closed after the last; one given with fd= stays open.
     */
    int fd;
    bool fd_given;
    unsigned users;     /* while > 0 the object cannot be deleted */

    /* What the user set; what is not set is left as the kernel has it. */
    int memlock_accounting;     /* IommufdMemlockAccounting, -1 if not set */
    OnOffAuto huge_pages;       /* auto if not set */
    uint32_t map_threads;       /* 0 if not set */
    uint32_t max_guest_maps;    /* in each address space, 0 if not set */
    bool map_in_background;

    unsigned threads;   /* at most, for maps and unmaps; set while connected */

    /* Since the object was created */
    IOMMUFDCounters maps;
    IOMMUFDCounters unmaps;
};

/**
 * iommufd_backend_id: the object's id, for messages
 *
 * Returns a string that lives as long as the object.
 */
const char *iommufd_backend_id(IOMMUFDBackend *be);

/**
 * iommufd_error_append_remedy: add "; REMEDY" to the message of *@errp
 *
 * It is short.  Commands and explanations can follow, as hints for a person;
 * hints that *@errp has already are lost.
 */
void iommufd_error_append_remedy(Error **errp, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/* The number of processors that the calling thread may run on */
unsigned iommufd_processors(void);

/**
 * iommufd_start_helper: start a thread that only makes calls of the kernel's
 *
 * Its stack is small, and it gets no signals: these are for QEMU's own threads.
 * Whoever starts it joins it.  Returns false if there can be no more threads.
 */
bool iommufd_start_helper(pthread_t *thread, void *(*fn)(void *),
                          void *opaque);

/**
 * iommufd_backend_connect: become a user of the object
 *
 * For the first user, opens /dev/iommu if @be has no descriptor yet, and
 * applies memlock-accounting=, which must be done before anything is made in
 * the iommufd (EBUSY) and is privileged (EPERM).  On success ->fd and @be
 * itself are valid until the matching iommufd_backend_disconnect().
 */
bool iommufd_backend_connect(IOMMUFDBackend *be, Error **errp);
void iommufd_backend_disconnect(IOMMUFDBackend *be);

/**
 * iommufd_backend_alloc_ioas: make an empty I/O address space, with huge
 * pages as set by huge-pages=
 *
 * @ioas_id: set on success
 */
bool iommufd_backend_alloc_ioas(IOMMUFDBackend *be, uint32_t *ioas_id,
                                Error **errp);

/**
 * iommufd_backend_destroy_id: destroy an object of the kernel's
 *
 * Destroying an IOAS unmaps everything in it.  Fails while a device is attached
 * to it (EBUSY).
 */
bool iommufd_backend_destroy_id(IOMMUFDBackend *be, uint32_t id, Error **errp);

/**
 * iommufd_backend_map_dma: map memory of this process at a fixed IOVA
 *
 * @iova, @size, @vaddr: multiples of the page size; nothing is mapped in
 *                       [@iova, @iova + @size - 1] yet
 * @readonly: devices may not write
 * @page_size: bytes, of the memory at @vaddr; used only from
 *             IOMMUFD_PARALLEL_MIN on, to keep threads from sharing a page
 * @failed: on failure, the part that could not be mapped, or the first of them
 * @mapped: set to the bytes that are mapped now and were not before: @size, or
 *          on failure what could not be unmapped again, which is 0 as a rule
 *
 * A large range is mapped in parts by up to map-threads= threads at a time, and
 * this function waits for them.  If map-threads= is not set, there are no more
 * threads than processors that the caller may run on.  On failure nothing of
 * the range is mapped.
 *
 * The memory is pinned if a device with page tables is attached to the IOAS.
 * Otherwise the kernel does not even look at it until such a device comes.
 *
 * Returns how many maps of the kernel's it has become, at least 1, or -errno;
 * the notable ones are EEXIST (overlap), EINVAL (an IOVA that the host reserves
 * or cannot reach), EFAULT (@vaddr is not ordinary memory, for instance a BAR),
 * ENOMEM (RLIMIT_MEMLOCK, or no memory).
 */
int iommufd_backend_map_dma(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                            uint64_t size, void *vaddr, bool readonly,
                            uint64_t page_size, Range *failed,
                            uint64_t *mapped);

/* A map or a copy that has been begun, and that nobody waits for */
typedef struct IOMMUFDLater IOMMUFDLater;

/**
 * iommufd_backend_map_chunk: where the kernel's maps end
 *
 * @iova, @size, @count: what was mapped, and how many maps that took
 *
 * Returns a power of two, in bytes.  Each of them ends at the next multiple, the
 * last one with the range.
 */
uint64_t iommufd_backend_map_chunk(hwaddr iova, uint64_t size, unsigned count);

/**
 * iommufd_backend_map_begin: begin what iommufd_backend_map_dma() does, in
 * threads, and do not wait for it
 *
 * The threads leave one processor to the guest, unless map-threads= is set.
 *
 * @size: IOMMUFD_PARALLEL_MIN or more
 * @ended: called once, by one of the threads and without any lock, when all of
 *         the range has been mapped or a part of it has failed
 *
 * The memory, @be and its connection stay until iommufd_backend_map_finish() or
 * iommufd_backend_map_cancel(), one of which has to follow.
 *
 * Returns NULL if no thread can be started.
 */
IOMMUFDLater *iommufd_backend_map_begin(IOMMUFDBackend *be, uint32_t ioas_id,
                                        hwaddr iova, uint64_t size,
                                        void *vaddr, bool readonly,
                                        uint64_t page_size,
                                        void (*ended)(void *opaque),
                                        void *opaque);

/* ... what iommufd_backend_copy_dma() does */
IOMMUFDLater *iommufd_backend_copy_begin(IOMMUFDBackend *be, uint32_t ioas_id,
                                         hwaddr iova, uint64_t size,
                                         uint32_t source_id, hwaddr source,
                                         bool readonly, uint64_t page_size,
                                         void (*ended)(void *opaque),
                                         void *opaque);

/* The guest waits for @later: the threads need leave nothing to it any more. */
void iommufd_backend_map_hurry(IOMMUFDLater *later);

/* @ended has been called, or is about to be: finishing it takes no time. */
bool iommufd_backend_map_has_ended(const IOMMUFDLater *later);

/* Let the log have a line if the last one is some seconds old. */
void iommufd_backend_map_tell(IOMMUFDLater *later);

/**
 * iommufd_backend_map_finish: do what is left of @later, and wait for it
 *
 * Frees @later.  Sets and returns what iommufd_backend_map_dma(), or _copy_dma(),
 * does; here, too, nothing of the range is mapped on failure.
 */
int iommufd_backend_map_finish(IOMMUFDLater *later, Range *failed,
                               uint64_t *mapped);

/**
 * iommufd_backend_map_cancel: wait for the parts that are being mapped, and
 * begin no more
 *
 * @mapped: set to the bytes that have been mapped, and stay so
 *
 * Frees @later.  Returns how many maps of the kernel's there are.
 */
unsigned iommufd_backend_map_cancel(IOMMUFDLater *later, uint64_t *mapped);

/**
 * iommufd_backend_map_file: map a part of a file, for instance of a dma-buf
 *
 * @file, @start: its descriptor, and where the @size bytes begin in it
 *
 * Like iommufd_backend_map_dma().  The descriptor may be closed afterwards.
 *
 * Returns what iommufd_backend_map_dma() does, and -ENOTTY before Linux 6.13,
 * -ENODEV for a dma-buf that is revoked.
 */
int iommufd_backend_map_file(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                             uint64_t size, int file, uint64_t start,
                             bool readonly, Range *failed, uint64_t *mapped);

/**
 * iommufd_backend_copy_dma: map what another IOAS has mapped
 *
 * @source_id, @source: the other IOAS of @be, and the IOVA at which the @size
 *                      bytes begin there
 *
 * Like iommufd_backend_map_dma(), but the memory is the other's.  What is pinned
 * already is neither pinned nor counted again, and stays until neither IOAS has
 * it mapped.
 *
 * Returns what iommufd_backend_map_dma() does, and -ENOENT if not all of it is
 * mapped there, -EPERM if it is read-only there and @readonly is not set.
 */
int iommufd_backend_copy_dma(IOMMUFDBackend *be, uint32_t ioas_id, hwaddr iova,
                             uint64_t size, uint32_t source_id, hwaddr source,
                             bool readonly, uint64_t page_size, Range *failed,
                             uint64_t *mapped);

/**
 * iommufd_backend_unmap_dma: remove the maps that lie within a range
 *
 * Each map must lie entirely in [@iova, @iova + @size - 1].
 *
 * @at_once: use one ioctl, whatever the size: if little is mapped, threads cost
 *           more than they save
 * @unmapped: set to the bytes that were mapped and are no longer, also on
 *            failure
 *
 * Returns 0 or -errno.  With @at_once, or if there are no threads for it, the
 * kernel answers ENOENT if there was no map, and also if it came upon one that
 * the range cuts in two: then those before it are gone.  With several ioctls
 * both look like success.
 */
int iommufd_backend_unmap_dma(IOMMUFDBackend *be, uint32_t ioas_id,
                              hwaddr iova, uint64_t size, bool at_once,
                              uint64_t *unmapped);

/* What an IOMMU says of itself */
typedef struct IOMMUFDHwInfo {
    uint32_t type;          /* enum iommu_hw_info_type; 0: it says nothing */
    uint64_t capabilities;  /* enum iommufd_hw_capabilities, a mask */
    uint64_t data[8];       /* a struct that depends on the type */
} IOMMUFDHwInfo;

/**
 * iommufd_backend_get_hw_info: ask for the IOMMU of a device
 *
 * @devid: the id in @be that the bind returned
 * @info: set on success; may be NULL
 *
 * Returns 0 if there is one, whether it tells anything of itself or not, or
 * -errno: EOPNOTSUPP if no IOMMU stands behind the device (Linux 7.3), ENOENT
 * for a device that needs none, such as an mdev.
 */
int iommufd_backend_get_hw_info(IOMMUFDBackend *be, uint32_t devid,
                                IOMMUFDHwInfo *info);

/**
 * iommufd_backend_tracks_dirty: whether the IOMMU of a device can have page
 * tables that tell which pages were written to
 *
 * @devid: the id in @be that the bind returned
 */
bool iommufd_backend_tracks_dirty(IOMMUFDBackend *be, uint32_t devid);

/**
 * iommufd_backend_alloc_hwpt: make such a page table, with all that an IOAS has
 * mapped, now and later
 *
 * @devid: a device that may be attached to it; others may if their IOMMU takes
 *         the same page tables
 * @hwpt_id: set on success
 *
 * From now on what is mapped is pinned, whether a device is attached or not.
 * It is destroyed by iommufd_backend_destroy_id() after the last device has
 * detached, and before the IOAS.
 *
 * Returns 0 or -errno; EOPNOTSUPP if the device's IOMMU cannot.
 */
int iommufd_backend_alloc_hwpt(IOMMUFDBackend *be, uint32_t devid,
                               uint32_t ioas_id, uint32_t *hwpt_id);

/**
 * iommufd_backend_set_dirty_tracking: begin or end to record in a page table
 *
 * Beginning forgets what was recorded, also if it was recording already.
 *
 * Returns 0 or -errno; EOPNOTSUPP for a page table that was not made by
 * iommufd_backend_alloc_hwpt().
 */
int iommufd_backend_set_dirty_tracking(IOMMUFDBackend *be, uint32_t hwpt_id,
                                       bool on);

/**
 * iommufd_backend_get_dirty_bitmap: get what was written to, and forget it
 *
 * @iova, @size: multiples of @page_size; no hole is in the range, and neither
 *               end is within a page of the page table, which may be large
 * @page_size: a power of two, for which there is one bit
 * @bits: in units of 64 bits, the first bit for @iova.  Bits are set and not
 *        cleared, so that several page tables add up.
 *
 * Returns 0 or -errno.  After a failure some of the bits may be lost.  0 is also
 * returned, with bits missing, if there is a hole in the range, if nothing is
 * recorded, or if the kernel cannot write to @bits (Linux,
 * drivers/iommu/iommufd/io_pagetable.c, iommu_read_and_clear_dirty()).
 */
int iommufd_backend_get_dirty_bitmap(IOMMUFDBackend *be, uint32_t hwpt_id,
                                     hwaddr iova, uint64_t size,
                                     uint64_t page_size, unsigned long *bits);

/**
 * iommufd_backend_accounting: find out how locked memory is counted
 *
 * Returns IommufdMemlockAccounting as the kernel has it, or as the object is
 * to set it; -1 if neither is known yet.
 */
int iommufd_backend_accounting(IOMMUFDBackend *be);

/**
 * iommufd_backend_max_guest_maps: how many maps a guest's IOMMU may have at a
 * time in each address space
 *
 * Unless max-guest-maps= is set, it goes by the memory that the guest has now.
 */
uint64_t iommufd_backend_max_guest_maps(IOMMUFDBackend *be);

/**
 * iommufd_backend_iova_ranges: get the IOVAs that can be mapped at present
 *
 * They depend on the devices that are attached: host IOMMUs reserve ranges, and
 * reach only up to some address.
 *
 * @ranges: set to an array of @num_ranges, in ascending order; g_free() it
 * @alignment: set to the number of bytes that each IOVA must be a multiple of
 */
bool iommufd_backend_iova_ranges(IOMMUFDBackend *be, uint32_t ioas_id,
                                 Range **ranges, uint32_t *num_ranges,
                                 uint64_t *alignment, Error **errp);

/*
 * DEFINE_PROP_IOMMUFD: a device's property that names an iommufd object by
 * its id, and holds a reference on it.  An id that names nothing is an error
 * that says how to create the object.
 */
extern const struct PropertyInfo qdev_prop_iommufd;
#define DEFINE_PROP_IOMMUFD(_name, _state, _field) \
    DEFINE_PROP(_name, _state, _field, qdev_prop_iommufd, IOMMUFDBackend *)

#endif /* SYSEMU_IOMMUFD_H */
