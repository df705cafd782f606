/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where devices of one container reach BARs (peer-to-peer DMA), by dma-bufs
 *
 * The kernel revokes a dma-buf while its device does not decode memory or is
 * in D3hot, and while it is reset; mapping it fails with ENODEV then.  The
 * dma-buf is good again afterwards, but what was mapped of it stays dead for
 * ever: the kernel has cleared it out of the page tables, and forgotten where
 * the BAR is (Linux 7.3, drivers/vfio/pci/vfio_pci_dmabuf.c,
 * vfio_pci_dma_buf_move(), and drivers/iommu/iommufd/pages.c,
 * iopt_revoke_notify()).  So it is unmapped and mapped anew when its device is
 * back.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_P2P_H
#define HW_VFIO_P2P_H

#include "hw/vfio/vfio-common.h"
#include "qemu/range.h"

typedef struct VFIOIOMMUFDContainer VFIOIOMMUFDContainer;

typedef struct VFIOP2P VFIOP2P;
struct VFIOP2P {
    VFIOIOMMUFDContainer *container;
    GTree *tree;
    QLIST_ENTRY(VFIOP2P) next;
};

/* A BAR of @owner, or a part of it, in a container's address space */
typedef struct VFIOP2PMap {
    hwaddr iova;
    uint64_t size;
    VFIODevice *owner;
    void *vaddr;
    bool readonly;
    bool guest;     /* a guest's IOMMU wants it there */
    bool waits;     /* it is not mapped: its device is away, or has no peer */
} VFIOP2PMap;

void vfio_p2p_init(VFIOP2P *p2p, VFIOIOMMUFDContainer *container);
void vfio_p2p_destroy(VFIOP2P *p2p);

/* Whether the container has a device that can do DMA to a BAR of @owner */
bool vfio_p2p_has_peer(const VFIOP2P *p2p, VFIODevice *owner);

/* @map is mapped, or waits.  Nothing else is there now. */
void vfio_p2p_add(VFIOP2P *p2p, const VFIOP2PMap *map);

/* @range is unmapped. */
void vfio_p2p_remove(VFIOP2P *p2p, Range *range);

/* Whether any BAR is mapped */
bool vfio_p2p_is_used(VFIOP2P *p2p);

/* A device has joined: map what no device was to reach before. */
void vfio_p2p_join(VFIOP2P *p2p);

/* Maps of the device's BARs are dead now; it is back. */
void vfio_p2p_revoked(VFIODevice *owner);
void vfio_p2p_revive(VFIODevice *owner);

/* Whether either has anything to do */
bool vfio_p2p_is_reached(VFIODevice *owner);

/* The device goes; its regions are unmapped. */
void vfio_p2p_leave(VFIODevice *owner);

/* pci-p2p.c: the kernel has been told of a write to the configuration. */
void vfio_p2p_config_written(VFIODevice *owner, PCIDevice *pdev, uint32_t addr,
                             uint32_t val, int len);

#endif /* HW_VFIO_P2P_H */
