/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for the intel-iommu of a q35, for tests
 *
 * One device, or one bridge, is behind it, in one domain.  Its page table has
 * three levels, and maps only the 2 MiB from VTD_IOVA on: by one large page, or
 * by a table of small ones.  The table is in the guest's memory from VTD_TABLES
 * on.
 */
#ifndef TESTS_VFIO_VTD_H
#define TESTS_VFIO_VTD_H

#include "vfio-rig.h"

#define VTD_TABLES      (16 * MiB)
#define VTD_IOVA        (64 * MiB)

#define VTD_PAGE        (4 * KiB)
#define VTD_LARGE_PAGE  (2 * MiB)
#define VTD_PAGES       (VTD_LARGE_PAGE / VTD_PAGE)

/* Switch translation on for the device in @slot; nothing is mapped. */
void vtd_start(VFIOMachine *m, int slot);

/* The same for all devices on @bus, whose requests come from its bridge */
void vtd_start_bridge(VFIOMachine *m, uint8_t bus);

/* Switch translation off for all devices. */
void vtd_stop(VFIOMachine *m);

/* Map all by one large page at @addr. */
void vtd_set_large(VFIOMachine *m, uint64_t addr);

/* Map small pages: the n-th to @addrs[n], or not at all if that is 0. */
void vtd_set_small(VFIOMachine *m, const uint64_t addrs[VTD_PAGES]);

/* Tell the IOMMU that the 2 MiB have changed. */
void vtd_flush(VFIOMachine *m);

#endif /* TESTS_VFIO_VTD_H */
