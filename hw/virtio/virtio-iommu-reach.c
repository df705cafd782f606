/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host's IOMMU cannot map, as a virtio-iommu tells its guest
 *
 * Each endpoint has a list of ranges (->unreachable), which become reserved
 * regions in the answer to a PROBE request.  What the machine reserves itself
 * (the property reserved-regions) is cut out, since regions should not overlap.
 *
 * A guest makes that request when it finds a device, and not again.  Devices
 * behind one conventional bridge are one endpoint, and share what the guest
 * maps.  So when a device comes to others there, its list must lie within what
 * the guest has been told (->told).  Where it is alone, whatever was told was
 * for a device that is gone.  After a reset the guest asks again.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci.h"
#include "hw/pci/pci_bus.h"
#include "hw/virtio/virtio-iommu-reach.h"
#include "qapi/error.h"
#include "qemu/range.h"
#include "trace.h"

#define PROPERTY_SIZE sizeof(struct virtio_iommu_probe_resv_mem)

/* The list */

static void free_ranges(GList *ranges)
{
    g_list_free_full(ranges, g_free);
}

static gpointer copy_range(gconstpointer range, gpointer unused)
{
    return g_memdup2(range, sizeof(Range));
}

static GList *copy_ranges(GList *ranges)
{
    return g_list_copy_deep(ranges, copy_range, NULL);
}

static Range *new_range(uint64_t lob, uint64_t upb)
{
    Range *range = g_new(Range, 1);

    range_set_bounds(range, lob, upb);
    return range;
}

static GList *fixed_ranges(VirtIOIOMMU *s)
{
    GList *ranges = NULL;

    for (uint32_t i = 0; i < s->nb_reserved_regions; i++) {
        ReservedRegion *region = &s->reserved_regions[i];

        ranges = range_list_insert(ranges, new_range(region->low,
                                                     region->high));
    }
    return ranges;
}

/* Append what of [@lob, @upb] is not in @fixed, which is in ascending order. */
static GList *append_rest(GList *list, uint64_t lob, uint64_t upb, GList *fixed)
{
    for (; fixed && range_lob(fixed->data) <= upb; fixed = fixed->next) {
        Range *cut = fixed->data;

        if (range_upb(cut) < lob) {
            continue;
        }
        if (range_lob(cut) > lob) {
            list = g_list_append(list, new_range(lob, range_lob(cut) - 1));
        }
        if (range_upb(cut) >= upb) {
            return list;
        }
        lob = range_upb(cut) + 1;
    }
    return g_list_append(list, new_range(lob, upb));
}

static GList *without_fixed(VirtIOIOMMU *s, GList *ranges)
{
    GList *fixed = fixed_ranges(s);
    GList *list = NULL;

    for (; ranges; ranges = ranges->next) {
        list = append_rest(list, range_lob(ranges->data),
                           range_upb(ranges->data), fixed);
    }
    free_ranges(fixed);
    return list;
}

/* The first of @ranges that lies in none of @others; NULL if there is none */
static Range *find_outside(GList *ranges, GList *others)
{
    for (; ranges; ranges = ranges->next) {
        GList *other = others;

        while (other && !range_contains_range(other->data, ranges->data)) {
            other = other->next;
        }
        if (!other) {
            return ranges->data;
        }
    }
    return NULL;
}

/* Who else is there */

typedef struct Count {
    AddressSpace *as;
    unsigned devices;
} Count;

static void count_device(PCIBus *bus, PCIDevice *dev, void *opaque)
{
    Count *count = opaque;

    count->devices += pci_device_iommu_address_space(dev) == count->as;
}

static void count_devices(PCIBus *bus, void *opaque)
{
    pci_for_each_device_under_bus(bus, count_device, opaque);
}

/* The device that comes is on its bus. */
static bool is_shared(IOMMUDevice *sdev)
{
    Count count = { .as = &sdev->as };

    pci_for_each_bus(sdev->bus, count_devices, &count);
    return count.devices > 1;
}

/* Setting and telling it */

static bool check_room(VirtIOIOMMU *s, GList *list, Error **errp)
{
    unsigned room = s->config.probe_size / PROPERTY_SIZE;
    unsigned count = s->nb_reserved_regions + g_list_length(list);

    if (count > room) {
        error_setg(errp, "the guest's virtio-iommu would have to tell of %u "
                   "reserved regions, with those of the host's IOMMU for the "
                   "device, and has room for %u; use intel-iommu", count, room);
    }
    return count <= room;
}

static bool check_told(IOMMUDevice *sdev, GList *list, Error **errp)
{
    Range *untold = sdev->probed ? find_outside(list, sdev->told) : NULL;

    if (!untold) {
        return true;
    }
    if (!is_shared(sdev)) {
        sdev->probed = false;
        return true;
    }

    error_setg(errp, "the host's IOMMU cannot map 0x%"PRIx64" to 0x%"PRIx64" "
               "for the device, and virtio-iommu has not told the guest so for "
               "the others behind the same bridge; plug it elsewhere, or start "
               "the VM with it", range_lob(untold), range_upb(untold));
    return false;
}

bool virtio_iommu_set_unreachable(GuestIOMMU *iommu, AddressSpace *as,
                                  GList *ranges, Error **errp)
{
    VirtIOIOMMU *s = VIRTIO_IOMMU(iommu);
    IOMMUDevice *sdev = container_of(as, IOMMUDevice, as);
    GList *list = without_fixed(s, ranges);

    if (!check_room(s, list, errp) || !check_told(sdev, list, errp)) {
        free_ranges(list);
        return false;
    }
    free_ranges(sdev->unreachable);
    sdev->unreachable = list;
    return true;
}

ssize_t virtio_iommu_fill_unreachable(IOMMUMemoryRegion *mr, uint32_t ep,
                                      uint8_t *buf, size_t free)
{
    IOMMUDevice *sdev = container_of(mr, IOMMUDevice, iommu_mr);
    struct virtio_iommu_probe_resv_mem prop = {
        .head.type = cpu_to_le16(VIRTIO_IOMMU_PROBE_T_RESV_MEM),
        .head.length = cpu_to_le16(PROPERTY_SIZE - sizeof(prop.head)),
        .subtype = VIRTIO_IOMMU_RESV_MEM_T_RESERVED,
    };
    size_t total = g_list_length(sdev->unreachable) * PROPERTY_SIZE;

    if (total > free) {
        return -ENOSPC;
    }

    for (GList *l = sdev->unreachable; l; l = l->next) {
        prop.start = cpu_to_le64(range_lob(l->data));
        prop.end = cpu_to_le64(range_upb(l->data));
        memcpy(buf, &prop, PROPERTY_SIZE);
        buf += PROPERTY_SIZE;
        trace_virtio_iommu_fill_resv_property(ep, prop.subtype,
                                              range_lob(l->data),
                                              range_upb(l->data));
    }
    free_ranges(sdev->told);
    sdev->told = copy_ranges(sdev->unreachable);
    sdev->probed = true;
    return total;
}

void virtio_iommu_set_probed(VirtIOIOMMU *s, bool probed)
{
    GHashTableIter iter;
    IOMMUPciBus *sbus;

    g_hash_table_iter_init(&iter, s->as_by_busptr);
    while (g_hash_table_iter_next(&iter, NULL, (void **)&sbus)) {
        for (int i = 0; i < PCI_DEVFN_MAX; i++) {
            if (sbus->pbdev[i]) {
                sbus->pbdev[i]->probed = probed;
            }
        }
    }
}
