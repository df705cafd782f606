/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kvm-vfio pseudo device
 *
 * The kernel documents it in Documentation/virt/kvm/devices/vfio.rst.  Since
 * Linux 6.6 it takes the descriptor of a device's character device wherever
 * it took that of a group; KVM_DEV_VFIO_FILE_ADD is the new name of
 * KVM_DEV_VFIO_GROUP_ADD, the numbers are the same.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#ifdef CONFIG_KVM
#include <linux/kvm.h>
#endif

#include "hw/vfio/kvm-device.h"
#include "qapi/error.h"
#include "sysemu/kvm.h"
#include "trace.h"

#ifdef CONFIG_KVM

/* -1 until the first file comes */
static int vfio_kvm_device_fd = -1;

static bool vfio_kvm_device_create(Error **errp)
{
    struct kvm_create_device cd = {
        .type = KVM_DEV_TYPE_VFIO,
    };
    int ret;

    ret = kvm_vm_ioctl(kvm_state, KVM_CREATE_DEVICE, &cd);
    if (ret) {
        error_setg_errno(errp, -ret, "Failed to create KVM VFIO device");
        return false;
    }

    vfio_kvm_device_fd = cd.fd;
    return true;
}

static int vfio_kvm_device_set_attr(uint64_t attr, void *addr)
{
    struct kvm_device_attr kda = {
        .group = KVM_DEV_VFIO_GROUP,
        .attr = attr,
        .addr = (uintptr_t)addr,
    };
    int ret = ioctl(vfio_kvm_device_fd, KVM_SET_DEVICE_ATTR, &kda) ? -errno : 0;

    trace_vfio_kvm_device_set_attr(attr, ret);
    return ret;
}

bool vfio_kvm_device_add_fd(int fd, const char *what, Error **errp)
{
    int ret;

    if (!kvm_enabled()) {
        return true;
    }

    if (vfio_kvm_device_fd < 0 && !vfio_kvm_device_create(errp)) {
        return false;
    }

    ret = vfio_kvm_device_set_attr(KVM_DEV_VFIO_GROUP_ADD, &fd);
    if (ret) {
        error_setg_errno(errp, -ret, "Failed to add %s to KVM VFIO device",
                         what);
    }
    return !ret;
}

bool vfio_kvm_device_del_fd(int fd, const char *what, Error **errp)
{
    int ret;

    if (vfio_kvm_device_fd < 0) {
        return true;
    }

    ret = vfio_kvm_device_set_attr(KVM_DEV_VFIO_GROUP_DEL, &fd);
    if (ret) {
        error_setg_errno(errp, -ret, "Failed to remove %s from KVM VFIO device",
                         what);
    }
    return !ret;
}

int vfio_kvm_device_set_spapr_tce(int group_fd, int table_fd)
{
    struct kvm_vfio_spapr_tce param = {
        .groupfd = group_fd,
        .tablefd = table_fd,
    };

    return vfio_kvm_device_set_attr(KVM_DEV_VFIO_GROUP_SET_SPAPR_TCE, &param);
}

#else /* !CONFIG_KVM */

bool vfio_kvm_device_add_fd(int fd, const char *what, Error **errp)
{
    return true;
}

bool vfio_kvm_device_del_fd(int fd, const char *what, Error **errp)
{
    return true;
}

int vfio_kvm_device_set_spapr_tce(int group_fd, int table_fd)
{
    return -ENODEV;
}

#endif /* CONFIG_KVM */
