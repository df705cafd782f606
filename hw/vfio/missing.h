/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that devices should reach and do not
 *
 * A section that could not be mapped while the VM runs is kept here until it
 * is mapped, tried again whenever the VM is about to run, or until it leaves
 * the address space.  While anything is kept, whatever the container, a gate
 * is closed: no processor of the guest runs.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_MISSING_H
#define HW_VFIO_MISSING_H

#include "exec/memory.h"
#include "qemu/queue.h"
#include "qemu/range.h"

typedef struct VFIOMissing VFIOMissing;
typedef struct VFIOMissingSection VFIOMissingSection;
typedef QLIST_HEAD(VFIOMissingSections, VFIOMissingSection)
    VFIOMissingSections;

/* Of one container */
struct VFIOMissing {
    MemoryListener *listener;
    VFIOMissingSections sections;
    Error **retried;    /* while region_add() tries again ... */
    const MemoryRegionSection *section;     /* ... with this */
    QLIST_ENTRY(VFIOMissing) next;
};

/**
 * vfio_missing_init: nothing is missing
 *
 * @listener: whose region_add() tries again; when that fails for the same section
 * it calls vfio_missing_still() instead of vfio_missing_add().
 */
void vfio_missing_init(VFIOMissing *missing, MemoryListener *listener);

/* Undo vfio_missing_init(), and forget what is missing. */
void vfio_missing_destroy(VFIOMissing *missing);

/**
 * vfio_missing_add: region_add() could not map @section
 *
 * The VM stops; see run_gate_close().  What leads on is added to *@errp, which
 * says why.
 */
void vfio_missing_add(VFIOMissing *missing, MemoryRegionSection *section,
                      Error **errp);

/* region_add() is called for a section that is kept here. */
bool vfio_missing_is_retried(VFIOMissing *missing);

/* ... and for this one; another one may fail meanwhile. */
bool vfio_missing_retries(VFIOMissing *missing,
                          const MemoryRegionSection *section);

/* It could not map the section this time either.  Takes @err. */
void vfio_missing_still(VFIOMissing *missing, Error *err);

/**
 * vfio_missing_remove: [@iova, @iova + @size - 1] is to be unmapped
 *
 * Sections that lie in it are no longer wanted.
 */
void vfio_missing_remove(VFIOMissing *missing, hwaddr iova, ram_addr_t size);

/**
 * vfio_missing_foreach: call @fn for each section that is kept
 *
 * @reason: why it could not be mapped when it was tried last, and what leads on
 */
void vfio_missing_foreach(VFIOMissing *missing,
                          void (*fn)(MemoryRegionSection *section,
                                     const char *reason, void *opaque),
                          void *opaque);

/* Set *@range to what can be mapped of @section: whole pages of the host's. */
void vfio_missing_range(const MemoryRegionSection *section, Range *range);

#endif /* HW_VFIO_MISSING_H */
