/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the host's IOMMU must reach for one of a PC
 */
#ifndef HW_I386_X86_IOMMU_REACH_H
#define HW_I386_X86_IOMMU_REACH_H

#include "hw/guest-iommu.h"

/* See GuestIOMMUClass. */
bool x86_iommu_set_unreachable(GuestIOMMU *iommu, AddressSpace *as,
                               GList *ranges, Error **errp);

#endif /* HW_I386_X86_IOMMU_REACH_H */
