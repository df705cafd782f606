/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for a virtio-iommu of the machine, for tests
 *
 * With it a test makes each map and unmap request itself, as many at a time as
 * it likes.
 */
#ifndef TESTS_VFIO_VIOMMU_H
#define TESTS_VFIO_VIOMMU_H

#include "libqos/libqos-malloc.h"
#include "libqos/virtio-pci.h"
#include "standard-headers/linux/virtio_iommu.h"
#include "vfio-rig.h"

#define VIOMMU_PAGE     0x1000

/* At most this many requests at a time; each takes two descriptors. */
#define VIOMMU_BATCH    128

/* The bytes of properties that the device has room for */
#define VIOMMU_PROPERTIES 512

#define VIOMMU_READ     VIRTIO_IOMMU_MAP_F_READ
#define VIOMMU_WRITE    VIRTIO_IOMMU_MAP_F_WRITE

typedef union VIOMMURequest {
    struct virtio_iommu_req_attach attach;
    struct virtio_iommu_req_detach detach;
    struct virtio_iommu_req_map map;
    struct virtio_iommu_req_unmap unmap;
    uint8_t bytes[64];
} VIOMMURequest;

typedef struct VIOMMU {
    VFIOMachine *machine;
    int slot;
    QVirtioPCIDevice *pci;
    QVirtQueue *vq;
    QGuestAllocator alloc;
    uint64_t memory;        /* the guest's address of the requests */
    uint64_t probe;         /* ... and of one that asks for properties */
    uint16_t submitted;     /* since the start, as the queue counts them */
    int queued;
    VIOMMURequest requests[VIOMMU_BATCH];
    uint32_t sizes[VIOMMU_BATCH];   /* of each request, with its tail */
} VIOMMU;

/* The ID of an endpoint is its address on the bus. */
#define VIOMMU_ENDPOINT(slot) ((slot) << 3)

VIOMMU *viommu_new(VFIOMachine *m, int slot);
void viommu_free(VIOMMU *v);

/* Start again, after the machine was reset. */
void viommu_restart(VIOMMU *v);

/* Add a request to those that viommu_submit() hands over. */
void viommu_queue_map(VIOMMU *v, uint32_t domain, uint64_t iova, uint64_t addr,
                      uint64_t size, uint32_t flags);
void viommu_queue_unmap(VIOMMU *v, uint32_t domain, uint64_t iova,
                        uint64_t size);

/**
 * viommu_submit: hand over what is queued, and wait until it is done
 *
 * Returns the time from notifying the device to the end, in microseconds.
 */
int64_t viommu_submit(VIOMMU *v);

/* The result of the request that was queued as the @n-th: VIRTIO_IOMMU_S_* */
uint8_t viommu_status(VIOMMU *v, int n);

/* Make one request alone, and return its result. */
uint8_t viommu_attach(VIOMMU *v, uint32_t domain, uint32_t endpoint,
                      uint32_t flags);
uint8_t viommu_detach(VIOMMU *v, uint32_t domain, uint32_t endpoint);
uint8_t viommu_map(VIOMMU *v, uint32_t domain, uint64_t iova, uint64_t addr,
                   uint64_t size, uint32_t flags);
uint8_t viommu_unmap(VIOMMU *v, uint32_t domain, uint64_t iova, uint64_t size);

/* Ask what is to be known of @endpoint; ends with zeroes. */
uint8_t viommu_probe(VIOMMU *v, uint32_t endpoint,
                     uint8_t properties[VIOMMU_PROPERTIES]);

/**
 * viommu_map_batch, viommu_unmap_batch: map or unmap VIOMMU_BATCH adjacent
 * pages, each with a request of its own; all must succeed
 *
 * Returns the time, as viommu_submit() does.
 */
int64_t viommu_map_batch(VIOMMU *v, uint32_t domain, uint64_t iova,
                         uint64_t addr);
int64_t viommu_unmap_batch(VIOMMU *v, uint32_t domain, uint64_t iova);

#endif /* TESTS_VFIO_VIOMMU_H */
