/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel has had for VFIO devices since Linux 6.6, and QEMU 7.2's copy
 * of linux/vfio.h lacks
 *
 * That copy is not replaced by a newer one: structs have grown since, so the
 * legacy path would pass a different argsz than it always has.
 *
 * The contract is in the kernel's include/uapi/linux/vfio.h.
 */
#ifndef HW_VFIO_VFIO_ABI_H
#define HW_VFIO_VFIO_ABI_H

#include <linux/vfio.h>

#ifndef VFIO_DEVICE_BIND_IOMMUFD

/*
 * For a character device that is not bound yet.  @iommufd is a descriptor of
 * /dev/iommu; @out_devid is the device's id there.  With the flag,
 * @token_uuid_ptr points to the 16 bytes of a VF token; Linux 6.12 does not
 * know it and answers EINVAL.
 */
struct vfio_device_bind_iommufd {
    __u32 argsz;
    __u32 flags;
    __s32 iommufd;
    __u32 out_devid;
    __aligned_u64 token_uuid_ptr;
};
#define VFIO_DEVICE_BIND_FLAG_TOKEN (1 << 0)
#define VFIO_DEVICE_BIND_IOMMUFD _IO(VFIO_TYPE, VFIO_BASE + 18)

/*
 * For a bound device.  @pt_id is the id of an IOAS or of a page table; the
 * kernel returns the page table's id, or the IOAS's for a device without one.
 */
struct vfio_device_attach_iommufd_pt {
    __u32 argsz;
    __u32 flags;    /* 0 */
    __u32 pt_id;
};
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)

struct vfio_device_detach_iommufd_pt {
    __u32 argsz;
    __u32 flags;    /* 0 */
};
#define VFIO_DEVICE_DETACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 20)

#endif /* VFIO_DEVICE_BIND_IOMMUFD */

#ifndef VFIO_PCI_HOT_RESET_FLAG_DEV_ID

/*
 * In the flags of struct vfio_pci_hot_reset_info: the group_id of each entry is
 * an id in the iommufd (devid); the iommufd owns all of the devices.
 */
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID       (1 << 0)
#define VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED (1 << 1)

/* Owned but not opened; owned by somebody else */
#define VFIO_PCI_DEVID_OWNED     0
#define VFIO_PCI_DEVID_NOT_OWNED -1

#endif /* VFIO_PCI_HOT_RESET_FLAG_DEV_ID */

#ifndef VFIO_MIGRATION_PRE_COPY

/*
 * Migration, protocol version 2: a flag of VFIO_DEVICE_FEATURE_MIGRATION, and two
 * values of enum vfio_device_mig_state.  A device can go there only if it has
 * the flag, and VFIO_MIGRATION_P2P as well for the second one.
 */
#define VFIO_MIGRATION_PRE_COPY         (1 << 2)
#define VFIO_DEVICE_STATE_PRE_COPY      6
#define VFIO_DEVICE_STATE_PRE_COPY_P2P  7

/*
 * For the data_fd of a device in PRE_COPY or PRE_COPY_P2P.  The device should
 * not be stopped before @initial_bytes are 0; @dirty_bytes have changed since
 * they were read.
 */
struct vfio_precopy_info {
    __u32 argsz;
    __u32 flags;
    __aligned_u64 initial_bytes;
    __aligned_u64 dirty_bytes;
};
#define VFIO_MIG_GET_PRECOPY_INFO _IO(VFIO_TYPE, VFIO_BASE + 21)

#endif /* VFIO_MIGRATION_PRE_COPY */

#ifndef VFIO_DEVICE_FEATURE_MIG_DATA_SIZE

/*
 * GET, in any state: an estimate of what would have to be sent if the device
 * went to STOP_COPY now
 */
struct vfio_device_feature_mig_data_size {
    __aligned_u64 stop_copy_length;
};
#define VFIO_DEVICE_FEATURE_MIG_DATA_SIZE 9

#endif /* VFIO_DEVICE_FEATURE_MIG_DATA_SIZE */
#ifndef VFIO_DEVICE_FEATURE_DMA_LOGGING_START

/*
 * SET: log the device's writes to memory at some IOVAs.  @page_size is the
 * finest that is wanted, and becomes what the device has; @ranges points to
 * @num_ranges of struct vfio_device_feature_dma_logging_range, each of whole
 * pages, without overlap.  What is outside of them is not logged.
 */
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_START 6

struct vfio_device_feature_dma_logging_control {
    __aligned_u64 page_size;
    __u32 num_ranges;
    __u32 __reserved;
    __aligned_u64 ranges;
};

struct vfio_device_feature_dma_logging_range {
    __aligned_u64 iova;
    __aligned_u64 length;
};

/* SET, without a payload: undo that. */
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP 7

/*
 * GET: set a bit in @bitmap for each page of @page_size bytes that was written
 * to, the first one for @iova, and forget what is reported.
 */
#define VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT 8

struct vfio_device_feature_dma_logging_report {
    __aligned_u64 iova;
    __aligned_u64 length;
    __aligned_u64 page_size;
    __aligned_u64 bitmap;
};

#endif /* VFIO_DEVICE_FEATURE_DMA_LOGGING_START */

#ifndef VFIO_DEVICE_FEATURE_DMA_BUF

/*
 * GET (Linux 6.19): the call returns the descriptor of a dma-buf, which has the
 * @nr_ranges of BAR @region_index that follow, one after the other.  They are of
 * whole pages.
 */
#define VFIO_DEVICE_FEATURE_DMA_BUF 11

struct vfio_device_feature_dma_buf {
    __u32 region_index;
    __u32 open_flags;
    __u32 flags;    /* 0 */
    __u32 nr_ranges;
};

struct vfio_region_dma_range {
    __u64 offset;
    __u64 length;
};

#endif /* VFIO_DEVICE_FEATURE_DMA_BUF */

#endif /* HW_VFIO_VFIO_ABI_H */
