/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of QEMU's memory one container of iommufd has mapped, and where
 *
 * Behind a guest's IOMMU that lets everything pass, each device has an address
 * space with all of the guest's memory.  The first container maps it, and the
 * others of the same object copy it from there: the kernel pins it, and counts
 * it against RLIMIT_MEMLOCK, only once.
 *
 * What is recorded is mapped.  Not all that is mapped is recorded: no BARs, not
 * what a guest's IOMMU maps, and not the same memory twice.  Who does not find
 * memory here maps it as if it were new, which is right in any case.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_RAM_MAPS_H
#define HW_VFIO_RAM_MAPS_H

#include "exec/hwaddr.h"
#include "qemu/iova-tree.h"
#include "qemu/queue.h"
#include "qemu/range.h"
#include "sysemu/iommufd.h"

/* Of one container; each map is in both trees */
typedef struct VFIORAMMaps VFIORAMMaps;
struct VFIORAMMaps {
    IOMMUFDBackend *be;
    uint32_t ioas_id;
    unsigned discarding;    /* devices with ->ram_block_discard_allowed */
    IOVATree *by_iova;
    IOVATree *by_host;
    QLIST_ENTRY(VFIORAMMaps) next;
};

/* What iommufd_backend_copy_dma() copies from */
typedef struct VFIORAMSource {
    uint32_t ioas_id;
    hwaddr iova;
} VFIORAMSource;

void vfio_ram_maps_init(VFIORAMMaps *maps, IOMMUFDBackend *be,
                        uint32_t ioas_id);
void vfio_ram_maps_destroy(VFIORAMMaps *maps);

/* [@iova, @iova + @size - 1] has been mapped; nothing else is there now. */
void vfio_ram_maps_add(VFIORAMMaps *maps, hwaddr iova, uint64_t size,
                       const void *vaddr, bool readonly);

/*
 * @range is to be unmapped.  Call this before: what the kernel then fails to
 * unmap may have other pages than QEMU when somebody would copy it.
 */
void vfio_ram_maps_remove(VFIORAMMaps *maps, Range *range);

/**
 * vfio_ram_maps_find: find memory that another container has mapped
 *
 * @readonly: whether it suffices if devices may only read it there
 * @source: set to where it is
 *
 * Returns false if no other container of the same object has all of it.
 */
bool vfio_ram_maps_find(const VFIORAMMaps *asking, const void *vaddr,
                        uint64_t size, bool readonly, VFIORAMSource *source);

#endif /* HW_VFIO_RAM_MAPS_H */
