/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An IOMMU of the guest's that heeds what the host's cannot do
 *
 * A device that is passed through reaches what both IOMMUs map.  The guest
 * knows only its own, so that has to reserve what the host's reserves, and must
 * not offer addresses that the host's does not have.
 *
 * An IOMMU that implements this interface owns the root region of each of its
 * address spaces.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_GUEST_IOMMU_H
#define HW_GUEST_IOMMU_H

#include "exec/memory.h"
#include "qom/object.h"

#define TYPE_GUEST_IOMMU "guest-iommu"

typedef struct GuestIOMMU GuestIOMMU;
typedef struct GuestIOMMUClass GuestIOMMUClass;
DECLARE_CLASS_CHECKERS(GuestIOMMUClass, GUEST_IOMMU, TYPE_GUEST_IOMMU)
#define GUEST_IOMMU(obj) \
    INTERFACE_CHECK(GuestIOMMU, (obj), TYPE_GUEST_IOMMU)

struct GuestIOMMUClass {
    InterfaceClass parent;

    /*
     * From now on the host cannot map @ranges for the devices in @as, and can
     * map all else; this replaces what was said before.
     *
     * @as: one of this IOMMU's
     * @ranges: Ranges of IOVAs, in ascending order and with gaps between them;
     *          NULL if the host has no device there any more.  They stay the
     *          caller's.
     *
     * Fails, and changes nothing, if a guest could not know of @ranges.  It
     * does not fail if they lie within those that were set before.
     */
    bool (*set_unreachable)(GuestIOMMU *iommu, AddressSpace *as, GList *ranges,
                            Error **errp);
};

/* Whether an IOMMU with this interface translates for @as, once it is on */
bool guest_iommu_translates(AddressSpace *as);

/* Tell that IOMMU, if there is one: see ->set_unreachable() */
bool guest_iommu_set_unreachable(AddressSpace *as, GList *ranges,
                                 Error **errp);

#endif /* HW_GUEST_IOMMU_H */
