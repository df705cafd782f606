/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host's IOMMU must reach for one of a PC
 *
 * That is one like Intel's: no device is passed through behind one like AMD's.
 * The guest finds the width in a register, and may use all of it; what is
 * reserved within it cannot be told.  Below 4 GiB that is where interrupts go,
 * which no guest maps, or what the firmware of the host reports for a single
 * device.  What an IOMMU of AMD's reserves below 1 TiB ends the width that a
 * guest may have.
 */
#include "qemu/osdep.h"

#include "hw/i386/intel_iommu.h"
#include "hw/i386/x86-iommu-reach.h"
#include "qapi/error.h"
#include "qemu/range.h"
#include "qemu/units.h"

/* The address before the first of the sorted @ranges that ends behind 4 GiB */
static uint64_t highest_address(GList *ranges)
{
    while (ranges && range_upb(ranges->data) < 4 * GiB) {
        ranges = ranges->next;
    }
    return ranges ? range_lob(ranges->data) - 1 : UINT64_MAX;
}

static bool check_intel(IntelIOMMUState *s, uint64_t highest, Error **errp)
{
    int bits = 64 - clz64(highest);

    if (!s->dma_translation || s->aw_bits <= bits) {
        return true;
    }

    error_setg(errp, "the guest's intel-iommu has aw-bits=%u, but the host's "
               "IOMMU maps addresses of %d bits for the device, up to "
               "0x%"PRIx64"; %s", s->aw_bits, bits, highest,
               bits >= VTD_HOST_AW_39BIT
               ? "give intel-iommu aw-bits=" stringify(VTD_HOST_AW_39BIT)
               : "use virtio-iommu-pci, which can be told of that");
    return false;
}

bool x86_iommu_set_unreachable(GuestIOMMU *iommu, AddressSpace *as,
                               GList *ranges, Error **errp)
{
    return !object_dynamic_cast(OBJECT(iommu), TYPE_INTEL_IOMMU_DEVICE) ||
           check_intel(INTEL_IOMMU_DEVICE(iommu), highest_address(ranges),
                       errp);
}
