/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VFIO container of iommufd, and what becomes of memory that it cannot map
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_IOMMUFD_H
#define HW_VFIO_IOMMUFD_H

#include "background.h"
#include "change.h"
#include "guest-log.h"
#include "hw/vfio/vfio-common.h"
#include "hwpt.h"
#include "maps.h"
#include "missing.h"
#include "p2p.h"
#include "qemu/range.h"
#include "ram-maps.h"
#include "replaced.h"
#include "sysemu/iommufd.h"

struct VFIOIOMMUFDContainer {
    VFIOContainer base;
    IOMMUFDBackend *be;     /* connected */
    uint32_t ioas_id;
    VFIOHWPTList hwpts; /* its page tables that we have made */
    unsigned pinning;   /* devices with page tables; mdevs have none */
    bool leaving;   /* the last device has detached: nothing is mapped */
    bool leftovers; /* an unmap failed: something may be mapped still */
    bool bars;      /* a BAR of a device has been mapped by its address */
    bool no_bars;   /* ... and no more will be */
    char *out_of_reach; /* the first BARs that cannot be reached, and why */
    bool out_of_reach_said;
    Range far_bar;  /* a BAR where nothing can be mapped, empty if none is */
    bool far_bar_said;
    Range failed;   /* what could not be mapped when a map failed last */
    VFIOMissing missing;
    VFIOReplaced replaced;
    VFIOChange change;
    VFIOMaps maps;
    VFIORAMMaps ram_maps;
    VFIOP2P p2p;
    uint64_t mapped;    /* bytes */
    VFIOBackground background;

    VFIOGuestLog refused;   /* what the guest wanted mapped and did not get */
    VFIOGuestLog stuck;     /* what the kernel did not unmap */
};

static inline VFIOIOMMUFDContainer *vfio_iommufd_container(VFIOContainer *base)
{
    return container_of(base, VFIOIOMMUFDContainer, base);
}

/* A guest's IOMMU may have no more maps. */
static inline bool vfio_iommufd_is_full(VFIOIOMMUFDContainer *container)
{
    return vfio_maps_are_full(&container->maps, container->be);
}

/**
 * vfio_iommufd_map_now: map memory, or copy what another container has of it
 *
 * Returns 0 or -errno; what is mapped is recorded.
 */
int vfio_iommufd_map_now(VFIOIOMMUFDContainer *container, hwaddr iova,
                         uint64_t size, void *vaddr, bool readonly);

/**
 * vfio_iommufd_map_done: record a map that was made in the background
 *
 * @ret, @mapped: of iommufd_backend_map_finish()
 *
 * Returns 0 or -errno.
 */
int vfio_iommufd_map_done(VFIOIOMMUFDContainer *container, int ret,
                          hwaddr iova, uint64_t size, void *vaddr,
                          bool readonly, uint64_t mapped);

/* ... of which only @mapped bytes were mapped, by @count calls */
void vfio_iommufd_map_half_done(VFIOIOMMUFDContainer *container, hwaddr iova,
                                uint64_t size, unsigned count,
                                uint64_t mapped);

/*
 * For change.c: map and unmap at once, or in the background, what is left of a
 * change; see VFIOContainerOps
 */
int vfio_iommufd_map_memory(VFIOIOMMUFDContainer *container,
                            MemoryRegionSection *section, hwaddr iova,
                            ram_addr_t size, void *vaddr);
void vfio_iommufd_unmap(VFIOIOMMUFDContainer *container, hwaddr iova,
                        ram_addr_t size, IOMMUTLBEntry *iotlb);

/*
 * ... and set *@lowest to what is mapped as a whole, or waits to be, and has the
 * lowest part of @range; false if nothing has
 */
bool vfio_iommufd_find_map(VFIOIOMMUFDContainer *container, Range *range,
                           Range *lowest);

/* map-failure.c: see VFIOContainerOps */
void vfio_iommufd_map_error(VFIOContainer *base, hwaddr iova, ram_addr_t size,
                            void *vaddr, int ret, Error **errp);
void vfio_iommufd_map_failed(VFIOContainer *base, MemoryRegionSection *section,
                             Error *err);
void vfio_iommufd_map_refused(VFIOContainer *base, hwaddr iova,
                              ram_addr_t size, void *vaddr, int ret);
void vfio_iommufd_map_invalid(VFIOContainer *base, hwaddr iova,
                              ram_addr_t size, Error *err);

/*
 * ... and whether RLIMIT_MEMLOCK is enough for all memory, with the @size bytes
 * at @vaddr, as far as that can be known before.
 */
bool vfio_iommufd_memlock_suffices(VFIOContainer *base, const void *vaddr,
                                   ram_addr_t size);

/* ... and ENOMEM when a device was attached; adds the cause to *@errp */
void vfio_iommufd_attach_enomem(VFIOContainer *base, Error **errp);

#endif /* HW_VFIO_IOMMUFD_H */
