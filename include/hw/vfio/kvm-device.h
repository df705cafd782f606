/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kvm-vfio pseudo device: how KVM learns which VFIO files belong to a VM
 *
 * There is at most one per VM.  It is created for the first file and stays
 * until QEMU ends, since closing its descriptor destroys nothing.
 *
 * All functions are called with the big lock held.
 */
#ifndef HW_VFIO_KVM_DEVICE_H
#define HW_VFIO_KVM_DEVICE_H

/**
 * vfio_kvm_device_add_fd: tell KVM of a VFIO group or device
 *
 * @fd: descriptor of a group, or of a device's character device.  KVM takes
 *      a reference on the file, which keeps it open until
 *      vfio_kvm_device_del_fd(), even if @fd is closed.
 * @what: the name to use in messages, for instance "group 12" or "0000:01:00.0"
 *
 * For a character device this must come before VFIO_DEVICE_BIND_IOMMUFD,
 * since the kernel hands the VM to the device's driver at that moment
 * (Linux, drivers/vfio/device_cdev.c, vfio_df_ioctl_bind_iommufd()).
 *
 * Returns true if KVM took it, or if the VM does not use KVM.
 */
bool vfio_kvm_device_add_fd(int fd, const char *what, Error **errp);

/**
 * vfio_kvm_device_del_fd: undo vfio_kvm_device_add_fd()
 *
 * Must come before @fd is closed.  Returns true also if no kvm-vfio device
 * exists, because then there is nothing to undo.
 */
bool vfio_kvm_device_del_fd(int fd, const char *what, Error **errp);

/**
 * vfio_kvm_device_set_spapr_tce: connect a group with a TCE table of sPAPR
 *
 * @group_fd: descriptor of the group, which has been added to KVM
 * @table_fd: descriptor of the table, from KVM_CREATE_SPAPR_TCE
 *
 * Returns 0 or -errno.
 */
int vfio_kvm_device_set_spapr_tce(int group_fd, int table_fd);

#endif /* HW_VFIO_KVM_DEVICE_H */
