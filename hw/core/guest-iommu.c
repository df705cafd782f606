/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An IOMMU of the guest's that heeds what the host's cannot do */
#include "qemu/osdep.h"

#include "hw/guest-iommu.h"

static GuestIOMMU *find_iommu(AddressSpace *as)
{
    Object *owner = memory_region_owner(as->root);

    return owner && object_dynamic_cast(owner, TYPE_GUEST_IOMMU)
           ? GUEST_IOMMU(owner) : NULL;
}

bool guest_iommu_translates(AddressSpace *as)
{
    return find_iommu(as) != NULL;
}

bool guest_iommu_set_unreachable(AddressSpace *as, GList *ranges,
                                 Error **errp)
{
    GuestIOMMU *iommu = find_iommu(as);

    return !iommu ||
           GUEST_IOMMU_GET_CLASS(iommu)->set_unreachable(iommu, as, ranges,
                                                         errp);
}

static const TypeInfo guest_iommu_info = {
    .name = TYPE_GUEST_IOMMU,
    .parent = TYPE_INTERFACE,
    .class_size = sizeof(GuestIOMMUClass),
};

static void register_types(void)
{
    type_register_static(&guest_iommu_info);
}

type_init(register_types)
