/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * BARs of PCI devices as dma-bufs, which iommufd maps where it maps no address
 *
 * Since Linux 6.19 vfio-pci makes a dma-buf of parts of a BAR.  iommufd takes
 * one of a single part, so there is one for each part that QEMU has mapped
 * itself.  It is made when it is first asked for, and closed when its device
 * goes.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_DMA_BUF_H
#define HW_VFIO_DMA_BUF_H

#include "hw/vfio/vfio-common.h"

/* What iommufd_backend_map_file() maps */
typedef struct VFIODMABufPart {
    int fd;
    uint64_t start;
} VFIODMABufPart;

/* The VFIO device whose BAR is at @vaddr, or NULL */
VFIODevice *vfio_dma_buf_device(void *vaddr);

/**
 * vfio_dma_buf_find: find the dma-buf of the BAR at @vaddr
 *
 * Returns 0 or -errno: ENOTTY if the host's kernel has no dma-bufs of BARs,
 * EOPNOTSUPP if the host's driver of the device makes none, EDOM if the BAR is
 * smaller than a page.
 */
int vfio_dma_buf_find(void *vaddr, VFIODMABufPart *part);

/* Whether such a -errno leaves only the BAR's address to map it by */
bool vfio_dma_buf_is_missing(int ret);

/* Which BARs cannot be reached and why, for a person; to be freed */
char *vfio_dma_buf_explain(VFIODevice *vbasedev, int ret);

/* The device goes. */
void vfio_dma_buf_close(VFIODevice *vbasedev);

#endif /* HW_VFIO_DMA_BUF_H */
