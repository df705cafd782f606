/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What /dev/iommu has that the header of Linux 6.12 lacks
 *
 * The contract is in the kernel's include/uapi/linux/iommufd.h.
 */
#ifndef SYSEMU_IOMMUFD_ABI_H
#define SYSEMU_IOMMUFD_ABI_H

#include <linux/iommufd.h>

#ifndef IOMMU_IOAS_MAP_FILE

/*
 * As IOMMU_IOAS_MAP, but of @length bytes from @start on in the file @fd: of
 * shared memory, or (Linux 6.19) a dma-buf with one range of a PCI device's BAR
 */
struct iommu_ioas_map_file {
    __u32 size;
    __u32 flags;
    __u32 ioas_id;
    __s32 fd;
    __aligned_u64 start;
    __aligned_u64 length;
    __aligned_u64 iova;
};
#define IOMMU_IOAS_MAP_FILE _IO(IOMMUFD_TYPE, 0x8f)

#endif /* IOMMU_IOAS_MAP_FILE */

#endif /* SYSEMU_IOMMUFD_ABI_H */
