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

#endif /* HW_VFIO_VFIO_ABI_H */
