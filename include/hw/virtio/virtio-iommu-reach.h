/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host's IOMMU cannot map, as a virtio-iommu tells its guest
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VIRTIO_IOMMU_REACH_H
#define HW_VIRTIO_IOMMU_REACH_H

#include "hw/guest-iommu.h"
#include "hw/virtio/virtio-iommu.h"

/* See GuestIOMMUClass. */
bool virtio_iommu_set_unreachable(GuestIOMMU *iommu, AddressSpace *as,
                                  GList *ranges, Error **errp);

/**
 * virtio_iommu_fill_unreachable: add the reserved regions of the endpoint
 * behind @mr to the answer to a PROBE request
 *
 * @ep: the endpoint's number, for the trace
 * @buf: where the answer goes on; @free bytes are left
 *
 * Returns how many bytes these are, or -ENOSPC.
 */
ssize_t virtio_iommu_fill_unreachable(IOMMUMemoryRegion *mr, uint32_t ep,
                                      uint8_t *buf, size_t free);

/*
 * The guest has, or has not, asked for each of the endpoints.  One that comes
 * by migration has; no device was passed through to it then, so nothing was
 * told.
 */
void virtio_iommu_set_probed(VirtIOIOMMU *s, bool probed);

#endif /* HW_VIRTIO_IOMMU_REACH_H */
