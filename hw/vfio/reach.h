/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which addresses the host's IOMMU can map
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_REACH_H
#define HW_VFIO_REACH_H

#include "iommufd.h"

/**
 * vfio_reach_explain_bar: how far the host's IOMMU reaches, and what puts BARs
 * lower, if a BAR that ends at @last is out of its reach
 *
 * Returns NULL if it is not; to be freed.
 */
char *vfio_reach_explain_bar(VFIOIOMMUFDContainer *container, hwaddr last);

#endif /* HW_VFIO_REACH_H */
