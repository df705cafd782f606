/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device's character device, /dev/vfio/devices/vfioN
 *
 * The life of one, each step undone in reverse order:
 *
 *   vfio_cdev_open()         vfio_cdev_close()
 *   vfio_cdev_bind()         (closing it; the file's last reference counts)
 *   vfio_cdev_attach_ioas()  vfio_cdev_detach_ioas()
 *
 * Before the bind the kernel allows nothing else on it (Linux,
 * include/uapi/linux/vfio.h, VFIO_DEVICE_BIND_IOMMUFD).
 *
 * Everything but vfio_cdev_bind_ahead() is called with the big lock held.  A
 * step that fails has changed nothing.
 */
#ifndef HW_VFIO_CDEV_H
#define HW_VFIO_CDEV_H

#include "hw/vfio/vfio-common.h"
#include "sysemu/iommufd.h"

/**
 * vfio_cdev_open: find the character device from ->sysfsdev, and open it
 *
 * On success ->fd is its descriptor.  Does nothing if the descriptor was
 * given.
 */
bool vfio_cdev_open(VFIODevice *vbasedev, Error **errp);

/**
 * vfio_cdev_close: undo vfio_cdev_open()
 *
 * A descriptor that is only lent, see vfio_device_take_fd(), stays open.
 *
 * The device stays bound as long as anybody holds the file: kvm-vfio does,
 * and so does every mapping of a BAR.
 */
void vfio_cdev_close(VFIODevice *vbasedev);

/**
 * vfio_cdev_bind: let @be decide where the device's DMA goes
 *
 * From now on the device can be used, and its DMA is blocked until it is
 * attached.  On success ->devid is its id within @be, and the descriptor is
 * QEMU's own: only closing it undoes this.
 *
 * A VF whose PF's user has set a token is bound with the same one, ->vf_token.
 */
bool vfio_cdev_bind(VFIODevice *vbasedev, IOMMUFDBackend *be, Error **errp);

/**
 * vfio_cdev_bind_ahead: the same without a token, by any thread
 *
 * Returns 0 or -errno, and does not explain it.
 */
int vfio_cdev_bind_ahead(VFIODevice *vbasedev, IOMMUFDBackend *be);

/**
 * vfio_cdev_check_iommu: refuse a device that reaches all of the host's memory
 *
 * From Linux 7.3 on, a device without an IOMMU can be bound and attached if the
 * host allows it, and maps succeed; but the addresses that the guest gives the
 * device go to the bus as they are.  The device is bound to @be.
 */
bool vfio_cdev_check_iommu(VFIODevice *vbasedev, IOMMUFDBackend *be,
                           Error **errp);

/**
 * vfio_cdev_attach_ioas: let the device's DMA go to an I/O address space
 *
 * @base: that of the I/O address space, which an error is explained by
 *
 * On success ->pins says whether the device has a page table of the host's
 * IOMMU, ->pt_id, so that what is mapped is pinned for it.  A mediated device
 * has none.
 */
bool vfio_cdev_attach_ioas(VFIODevice *vbasedev, uint32_t ioas_id,
                           VFIOContainer *base, Error **errp);

/**
 * vfio_cdev_attach_hwpt: the same, by a page table of the I/O address space
 *
 * Returns 0 or -errno; EINVAL if the device's IOMMU does not take it.
 */
int vfio_cdev_attach_hwpt(VFIODevice *vbasedev, uint32_t hwpt_id);

/**
 * vfio_cdev_detach_ioas: block the device's DMA
 *
 * If it was the last device of its kind in the IOAS, the kernel unpins what was
 * pinned for it.
 */
bool vfio_cdev_detach_ioas(VFIODevice *vbasedev, Error **errp);

/**
 * vfio_cdev_get_info: set what VFIO_DEVICE_GET_INFO says of the device
 */
bool vfio_cdev_get_info(VFIODevice *vbasedev, Error **errp);

/**
 * vfio_cdev_is_fresh: whether the device needs no reset
 *
 * The kernel resets a PCI device when it is bound, and VFIO_DEVICE_FLAGS_RESET
 * says that it could (Linux, drivers/vfio/pci/vfio_pci_core.c,
 * vfio_pci_core_enable()).  Until something is written to its configuration,
 * which comes before any other use, it is as that left it.  QEMU's own resets
 * begin with such a write, so that this is asked before it.
 *
 * Never true of a device that was opened by its group, nor of a mediated one,
 * whose driver decides what is done when it is bound.
 */
bool vfio_cdev_is_fresh(VFIODevice *vbasedev);

/*
 * cdev-hint.c: why the kernel said no, and what the user can do about it
 *
 * ->sysfsdev may be NULL for a device that was given by its descriptor.
 */

/* @sysfsdev has no vfio-dev folder; sets *@errp */
void vfio_cdev_explain_no_folder(const char *sysfsdev, Error **errp);

/* The folder is there, but no character device; sets *@errp */
void vfio_cdev_explain_no_cdev(const char *sysfsdev, Error **errp);

/* There is one, but no IOMMU behind it; sets *@errp */
void vfio_cdev_explain_no_iommu(Error **errp);

/* @err is errno from opening the node; adds the remedy to *@errp */
void vfio_cdev_explain_open(int err, Error **errp);

/*
 * @err is errno from VFIO_DEVICE_BIND_IOMMUFD; adds the cause and the remedy to
 * *@errp, and more to its hint, which only a person sees.
 */
void vfio_cdev_explain_bind(VFIODevice *vbasedev, int err, Error **errp);

/* The same for VFIO_DEVICE_ATTACH_IOMMUFD_PT and a device that is for @base */
void vfio_cdev_explain_attach(VFIODevice *vbasedev, VFIOContainer *base,
                              int err, Error **errp);

#endif /* HW_VFIO_CDEV_H */
