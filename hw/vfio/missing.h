/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that devices should reach and do not
 *
 * A section that could not be mapped while the VM runs stops the VM.  It is
 * kept here until it is mapped or leaves the address space.  Mapping is tried
 * again whenever the VM is about to run.  Once the VM has stopped for a
 * section, no processor of the guest runs while the section is missing.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_MISSING_H
#define HW_VFIO_MISSING_H

#include "exec/memory.h"
#include "qemu/queue.h"
#include "sysemu/runstate.h"

typedef struct VFIOMissing VFIOMissing;
typedef struct VFIOMissingSection VFIOMissingSection;
typedef QLIST_HEAD(VFIOMissingSections, VFIOMissingSection)
    VFIOMissingSections;

struct VFIOMissing {
    MemoryListener *listener;
    VMChangeStateEntry *vm_state;
    VFIOMissingSections sections;
};

/**
 * vfio_missing_init: nothing is missing
 *
 * @listener: its region_add() tries again, and calls vfio_missing_add() if that
 * fails.
 */
void vfio_missing_init(VFIOMissing *missing, MemoryListener *listener);

/* Undo vfio_missing_init(), and forget what is missing. */
void vfio_missing_destroy(VFIOMissing *missing);

/**
 * vfio_missing_add: region_add() could not map @section
 *
 * The VM stops with the run state "io-error".  A running VM stops a little
 * later: a change of the memory map is no place to wait for the processors.
 */
void vfio_missing_add(VFIOMissing *missing, MemoryRegionSection *section);

/**
 * vfio_missing_remove: [@iova, @iova + @size - 1] is to be unmapped
 *
 * Sections that lie in it are no longer wanted.
 */
void vfio_missing_remove(VFIOMissing *missing, hwaddr iova, ram_addr_t size);

#endif /* HW_VFIO_MISSING_H */
