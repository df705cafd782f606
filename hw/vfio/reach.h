/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which addresses the host's IOMMU can map, and who has to know
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_REACH_H
#define HW_VFIO_REACH_H

#include "iommufd.h"

/**
 * vfio_reach_tell_guest: let the guest's IOMMU, if one translates for @as, know
 * what the host's cannot map for the devices that are in @as now
 *
 * Called when a device has come or gone; only devices of iommufd count.  Fails,
 * and tells nothing, if that IOMMU cannot heed it.  When a device has gone this
 * is no harm: what was told before is more than what is true.
 */
bool vfio_reach_tell_guest(AddressSpace *as, Error **errp);

/**
 * vfio_reach_explain_bar: how far the host's IOMMU reaches, and what puts BARs
 * lower, if a BAR that ends at @last is out of its reach
 *
 * Returns NULL if it is not; to be freed.
 */
char *vfio_reach_explain_bar(VFIOIOMMUFDContainer *container, hwaddr last);

#endif /* HW_VFIO_REACH_H */
