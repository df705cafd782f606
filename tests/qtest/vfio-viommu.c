/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for a virtio-iommu of the machine, for tests
 */
#include "qemu/osdep.h"

#include "libqos/malloc-pc.h"
#include "libqos/virtio.h"
#include "qemu/bitmap.h"
#include "qemu/bswap.h"
#include "standard-headers/linux/virtio_config.h"
#include "standard-headers/linux/virtio_ring.h"
#include "vfio-viommu.h"

#define TAIL_SIZE       sizeof(struct virtio_iommu_req_tail)

#define PROBE_SIZE      offsetof(struct virtio_iommu_config, probe_size)

/* The ring has room for one batch. */
#define RING_SIZE       (2 * VIOMMU_BATCH)

/* Only what is needed: no event suppression, no indirect descriptors. */
#define FEATURES        (1ull << VIRTIO_F_VERSION_1 | \
                         1ull << VIRTIO_IOMMU_F_MAP_UNMAP | \
                         1ull << VIRTIO_IOMMU_F_PROBE | \
                         1ull << VIRTIO_IOMMU_F_BYPASS_CONFIG)

static QVirtioDevice *viommu_device(VIOMMU *v)
{
    return &v->pci->vdev;
}

static void viommu_start(VIOMMU *v)
{
    QPCIAddress addr = { .devfn = QPCI_DEVFN(v->slot, 0) };
    QVirtioDevice *dev;

    v->pci = virtio_pci_new(v->machine->pci, &addr);
    g_assert_nonnull(v->pci);
    qvirtio_pci_device_enable(v->pci);

    dev = viommu_device(v);
    qvirtio_start_device(dev);
    qvirtio_set_features(dev, qvirtio_get_features(dev) & FEATURES);
    v->vq = qvirtqueue_setup(dev, &v->alloc, 0);
    g_assert_cmpint(v->vq->size, ==, RING_SIZE);
    qvirtio_set_driver_ok(dev);

    g_assert_cmpint(qvirtio_config_readl(dev, PROBE_SIZE), ==,
                    VIOMMU_PROPERTIES);
    v->memory = guest_alloc(&v->alloc, sizeof(v->requests));
    v->probe = guest_alloc(&v->alloc, sizeof(struct virtio_iommu_req_probe) +
                           VIOMMU_PROPERTIES + TAIL_SIZE);
    v->submitted = 0;
    v->queued = 0;
}

static void viommu_stop(VIOMMU *v)
{
    guest_free(&v->alloc, v->probe);
    guest_free(&v->alloc, v->memory);
    qvirtqueue_cleanup(viommu_device(v)->bus, v->vq, &v->alloc);
    qvirtio_pci_destructor(&v->pci->obj);
    g_free(v->pci);
}

VIOMMU *viommu_new(VFIOMachine *m, int slot)
{
    VIOMMU *v = g_new0(VIOMMU, 1);

    v->machine = m;
    v->slot = slot;
    pc_alloc_init(&v->alloc, m->qts, 0);
    viommu_start(v);
    return v;
}

void viommu_free(VIOMMU *v)
{
    viommu_stop(v);
    alloc_destroy(&v->alloc);
    g_free(v);
}

void viommu_restart(VIOMMU *v)
{
    viommu_stop(v);
    viommu_start(v);
}

/* Requests */

static VIOMMURequest *viommu_queue(VIOMMU *v, uint8_t type, uint32_t size)
{
    VIOMMURequest *request = &v->requests[v->queued];

    g_assert_cmpint(v->queued, <, VIOMMU_BATCH);
    v->sizes[v->queued++] = size;
    memset(request, 0, sizeof(*request));
    request->map.head.type = type;
    return request;
}

void viommu_queue_map(VIOMMU *v, uint32_t domain, uint64_t iova, uint64_t addr,
                      uint64_t size, uint32_t flags)
{
    struct virtio_iommu_req_map *map =
        &viommu_queue(v, VIRTIO_IOMMU_T_MAP, sizeof(*map))->map;

    map->domain = cpu_to_le32(domain);
    map->virt_start = cpu_to_le64(iova);
    map->virt_end = cpu_to_le64(iova + size - 1);
    map->phys_start = cpu_to_le64(addr);
    map->flags = cpu_to_le32(flags);
}

void viommu_queue_unmap(VIOMMU *v, uint32_t domain, uint64_t iova,
                        uint64_t size)
{
    struct virtio_iommu_req_unmap *unmap =
        &viommu_queue(v, VIRTIO_IOMMU_T_UNMAP, sizeof(*unmap))->unmap;

    unmap->domain = cpu_to_le32(domain);
    unmap->virt_start = cpu_to_le64(iova);
    unmap->virt_end = cpu_to_le64(iova + size - 1);
}

/*
 * Request n has descriptors 2n and 2n + 1: @out_size bytes at @addr, which the
 * device reads, and @in_size bytes after them, which it writes.
 */
static void set_descriptors(struct vring_desc *desc, int n, uint64_t addr,
                            uint32_t out_size, uint32_t in_size)
{
    desc[2 * n] = (struct vring_desc) {
        .addr = cpu_to_le64(addr),
        .len = cpu_to_le32(out_size),
        .flags = cpu_to_le16(VRING_DESC_F_NEXT),
        .next = cpu_to_le16(2 * n + 1),
    };
    desc[2 * n + 1] = (struct vring_desc) {
        .addr = cpu_to_le64(addr + out_size),
        .len = cpu_to_le32(in_size),
        .flags = cpu_to_le16(VRING_DESC_F_WRITE),
    };
}

static void viommu_fill_ring(VIOMMU *v, const struct vring_desc *desc,
                             int count)
{
    uint16_t ring[RING_SIZE];
    uint16_t index;

    for (int i = 0; i < RING_SIZE; i++) {
        uint16_t n = (uint16_t)(i - v->submitted) % VIOMMU_BATCH;

        ring[i] = cpu_to_le16(2 * n);
    }

    v->submitted += count;
    index = cpu_to_le16(v->submitted);
    qtest_bufwrite(v->machine->qts, v->vq->desc, desc,
                   2 * count * sizeof(*desc));
    qtest_bufwrite(v->machine->qts, v->vq->avail + 4, ring, sizeof(ring));
    qtest_bufwrite(v->machine->qts, v->vq->avail + 2, &index, sizeof(index));
}

static bool viommu_is_done(VIOMMU *v)
{
    return qtest_readw(v->machine->qts, v->vq->used + 2) == v->submitted;
}

/* Returns the time that it takes, in microseconds. */
static int64_t viommu_kick(VIOMMU *v)
{
    QVirtioDevice *dev = viommu_device(v);
    int64_t start = g_get_monotonic_time();

    dev->bus->virtqueue_kick(dev, v->vq);
    g_assert_true(vfio_rig_wait(viommu_is_done(v)));
    return g_get_monotonic_time() - start;
}

int64_t viommu_submit(VIOMMU *v)
{
    QTestState *qts = v->machine->qts;
    size_t size = v->queued * sizeof(VIOMMURequest);
    struct vring_desc desc[RING_SIZE];
    int64_t time;

    for (int i = 0; i < v->queued; i++) {
        set_descriptors(desc, i, v->memory + i * sizeof(VIOMMURequest),
                        v->sizes[i] - TAIL_SIZE, TAIL_SIZE);
    }
    qtest_bufwrite(qts, v->memory, v->requests, size);
    viommu_fill_ring(v, desc, v->queued);
    time = viommu_kick(v);

    qtest_bufread(qts, v->memory, v->requests, size);
    v->queued = 0;
    return time;
}

uint8_t viommu_status(VIOMMU *v, int n)
{
    return v->requests[n].bytes[v->sizes[n] - TAIL_SIZE];
}

static uint8_t viommu_submit_one(VIOMMU *v)
{
    g_assert_cmpint(v->queued, ==, 1);
    viommu_submit(v);
    return viommu_status(v, 0);
}

uint8_t viommu_attach(VIOMMU *v, uint32_t domain, uint32_t endpoint,
                      uint32_t flags)
{
    struct virtio_iommu_req_attach *attach =
        &viommu_queue(v, VIRTIO_IOMMU_T_ATTACH, sizeof(*attach))->attach;

    attach->domain = cpu_to_le32(domain);
    attach->endpoint = cpu_to_le32(endpoint);
    attach->flags = cpu_to_le32(flags);
    return viommu_submit_one(v);
}

uint8_t viommu_detach(VIOMMU *v, uint32_t domain, uint32_t endpoint)
{
    struct virtio_iommu_req_detach *detach =
        &viommu_queue(v, VIRTIO_IOMMU_T_DETACH, sizeof(*detach))->detach;

    detach->domain = cpu_to_le32(domain);
    detach->endpoint = cpu_to_le32(endpoint);
    return viommu_submit_one(v);
}

uint8_t viommu_map(VIOMMU *v, uint32_t domain, uint64_t iova, uint64_t addr,
                   uint64_t size, uint32_t flags)
{
    viommu_queue_map(v, domain, iova, addr, size, flags);
    return viommu_submit_one(v);
}

uint8_t viommu_unmap(VIOMMU *v, uint32_t domain, uint64_t iova, uint64_t size)
{
    viommu_queue_unmap(v, domain, iova, size);
    return viommu_submit_one(v);
}

uint8_t viommu_probe(VIOMMU *v, uint32_t endpoint,
                     uint8_t properties[VIOMMU_PROPERTIES])
{
    QTestState *qts = v->machine->qts;
    struct virtio_iommu_req_probe probe = {
        .head.type = VIRTIO_IOMMU_T_PROBE,
        .endpoint = cpu_to_le32(endpoint),
    };
    struct virtio_iommu_req_tail tail;
    struct vring_desc desc[2];

    g_assert_cmpint(v->queued, ==, 0);
    set_descriptors(desc, 0, v->probe, sizeof(probe),
                    VIOMMU_PROPERTIES + TAIL_SIZE);
    qtest_bufwrite(qts, v->probe, &probe, sizeof(probe));
    viommu_fill_ring(v, desc, 1);
    viommu_kick(v);

    qtest_bufread(qts, v->probe + sizeof(probe), properties,
                  VIOMMU_PROPERTIES);
    qtest_bufread(qts, v->probe + sizeof(probe) + VIOMMU_PROPERTIES, &tail,
                  sizeof(tail));
    return tail.status;
}

static int64_t viommu_submit_batch(VIOMMU *v)
{
    int64_t time = viommu_submit(v);

    for (int i = 0; i < VIOMMU_BATCH; i++) {
        g_assert_cmpint(viommu_status(v, i), ==, VIRTIO_IOMMU_S_OK);
    }
    return time;
}

int64_t viommu_map_batch(VIOMMU *v, uint32_t domain, uint64_t iova,
                         uint64_t addr)
{
    for (uint64_t i = 0; i < VIOMMU_BATCH; i++) {
        viommu_queue_map(v, domain, iova + i * VIOMMU_PAGE,
                         addr + i * VIOMMU_PAGE, VIOMMU_PAGE,
                         VIOMMU_READ | VIOMMU_WRITE);
    }
    return viommu_submit_batch(v);
}

int64_t viommu_unmap_batch(VIOMMU *v, uint32_t domain, uint64_t iova)
{
    for (uint64_t i = 0; i < VIOMMU_BATCH; i++) {
        viommu_queue_unmap(v, domain, iova + i * VIOMMU_PAGE, VIOMMU_PAGE);
    }
    return viommu_submit_batch(v);
}
