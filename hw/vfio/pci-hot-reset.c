/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hot reset of PCI devices that were opened by their character device
 *
 * A slot or a bus is reset as a whole, so the caller has to own every device
 * on it.  With groups the caller proves that with their descriptors.  Here the
 * kernel knows which iommufd each device is bound to, names devices by their
 * id in it (devid), and takes an empty array (Linux, uapi vfio.h,
 * VFIO_DEVICE_GET_PCI_HOT_RESET_INFO and VFIO_DEVICE_PCI_HOT_RESET).
 *
 * It is one of several ways to reset a device.  If it fails, ->reset_error says
 * why; vfio_pci_reset() reports that if no other way works, and drops it if one
 * does.
 *
 * Called with the big lock held.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>

#include "hw/pci/pci.h"
#include "hw/vfio/vfio-abi.h"
#include "pci.h"
#include "qapi/error.h"
#include "sysemu/iommufd.h"
#include "trace.h"

void vfio_pci_clear_reset_error(VFIOPCIDevice *vdev)
{
    error_free(vdev->reset_error);
    vdev->reset_error = NULL;
}

/* By a bridge's bus reset, a guest resets the device as often as it likes. */
void vfio_pci_report_reset_error(VFIOPCIDevice *vdev)
{
    vdev->reset_unsaid = !vdev->reset_error;
    if (vdev->reset_error) {
        vfio_guest_log(&vdev->reset_log, vdev->reset_error);
        vdev->reset_error = NULL;
    }
}

static void G_GNUC_PRINTF(2, 3)
hot_reset_failed(VFIOPCIDevice *vdev, const char *fmt, ...)
{
    g_autofree char *why = NULL;
    va_list ap;

    va_start(ap, fmt);
    why = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    vfio_pci_clear_reset_error(vdev);
    error_setg(&vdev->reset_error, "vfio: Cannot reset device %s%s",
               vdev->vbasedev.name, why);
}

/*
 * Which devices a reset of @vdev affects, to be freed.  NULL if @vdev cannot be
 * reset in this way; then *@ret is -errno.
 */
static struct vfio_pci_hot_reset_info *hot_reset_info(VFIOPCIDevice *vdev,
                                                      int *ret)
{
    size_t size = sizeof(struct vfio_pci_hot_reset_info);
    struct vfio_pci_hot_reset_info *info = g_malloc0(size);

    info->argsz = size;
    while (ioctl(vdev->vbasedev.fd, VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, info)) {
        size_t needed = sizeof(*info) + info->count * sizeof(info->devices[0]);

        *ret = -errno;
        if (*ret != -ENOSPC || needed <= size) {
            g_free(info);
            return NULL;
        }
        size = needed;
        info = g_realloc(info, size);
        memset(info, 0, size);
        info->argsz = size;
    }

    *ret = 0;
    return info;
}

/* The kernel puts the devid where the group's number is on the other path. */
static uint32_t hot_reset_devid(struct vfio_pci_dependent_device *dep)
{
    return dep->group_id;
}

/*
 * Compare ids if both devices are on one object.  Compare addresses as well:
 * two objects may hold the same iommufd, and the kernel counts those devices as
 * owned too.
 */
static bool hot_reset_names(VFIOPCIDevice *vdev,
                            struct vfio_pci_dependent_device *dep,
                            VFIODevice *vbasedev)
{
    g_autofree char *address =
        g_strdup_printf("%04x:%02x:%02x.%x", dep->segment, dep->bus,
                        PCI_SLOT(dep->devfn), PCI_FUNC(dep->devfn));

    return (vbasedev->iommufd &&
            vbasedev->iommufd == vdev->vbasedev.iommufd &&
            vbasedev->devid == hot_reset_devid(dep)) ||
           g_str_equal(vbasedev->name, address);
}

/* The device of this VM that @dep names, NULL if it is not one in use */
static VFIOPCIDevice *hot_reset_find(VFIOPCIDevice *vdev,
                                     struct vfio_pci_dependent_device *dep)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->type == VFIO_DEVICE_TYPE_PCI &&
            vbasedev->dev->realized && hot_reset_names(vdev, dep, vbasedev)) {
            return container_of(vbasedev, VFIOPCIDevice, vbasedev);
        }
    }
    return NULL;
}

static void hot_reset_explain_missing(VFIOPCIDevice *vdev,
                                      struct vfio_pci_hot_reset_info *info)
{
    g_autoptr(GString) missing = g_string_new(NULL);
    uint32_t i;

    for (i = 0; i < info->count; i++) {
        struct vfio_pci_dependent_device *dep = &info->devices[i];

        if (hot_reset_devid(dep) == (uint32_t)VFIO_PCI_DEVID_NOT_OWNED) {
            g_string_append_printf(missing, " %04x:%02x:%02x.%x", dep->segment,
                                   dep->bus, PCI_SLOT(dep->devfn),
                                   PCI_FUNC(dep->devfn));
        }
    }

    hot_reset_failed(vdev, " with its slot or bus: it shares them with devices "
                     "that iommufd object '%s' does not own:%s",
                     iommufd_backend_id(vdev->vbasedev.iommufd), missing->str);
}

/* Whether all of @info may be reset at once: 0 or -errno */
static int hot_reset_check(VFIOPCIDevice *vdev,
                           struct vfio_pci_hot_reset_info *info)
{
    if (!(info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID)) {
        hot_reset_failed(vdev, " with its slot or bus: the kernel does not "
                         "name the devices there");
        return -EINVAL;
    }

    if (!(info->flags & VFIO_PCI_HOT_RESET_FLAG_DEV_ID_OWNED)) {
        hot_reset_explain_missing(vdev, info);
        return -EPERM;
    }

    return 0;
}

/* Call @fn for each device of this VM in @info except @vdev; return how many */
static unsigned hot_reset_foreach_other(VFIOPCIDevice *vdev,
                                        struct vfio_pci_hot_reset_info *info,
                                        void (*fn)(VFIOPCIDevice *))
{
    unsigned count = 0;
    uint32_t i;

    for (i = 0; i < info->count; i++) {
        VFIOPCIDevice *other = hot_reset_find(vdev, &info->devices[i]);

        if (other && other != vdev) {
            count++;
            if (fn) {
                fn(other);
            }
        }
    }
    return count;
}

static void hot_reset_prepare(VFIOPCIDevice *vdev)
{
    vfio_pci_pre_reset(vdev);
    vdev->vbasedev.needs_reset = false;
}

static int hot_reset_do(VFIOPCIDevice *vdev)
{
    struct vfio_pci_hot_reset reset = {
        .argsz = sizeof(reset),
    };
    int ret = ioctl(vdev->vbasedev.fd, VFIO_DEVICE_PCI_HOT_RESET, &reset) ?
              -errno : 0;

    trace_vfio_pci_hot_reset_result(vdev->vbasedev.name,
                                    ret ? strerror(-ret) : "Success");
    if (ret) {
        hot_reset_failed(vdev, " with its slot or bus: %s", strerror(-ret));
    }
    return ret;
}

/*
 * Whether vfio_pci_reset() will try another way, for @vdev alone.  A reset of
 * the machine comes to a device that was plugged before it comes here; then
 * that has failed already, and had no reason to report.
 */
static bool hot_reset_has_pm(VFIOPCIDevice *vdev)
{
    return vdev->vbasedev.reset_works && vdev->has_pm_reset &&
           !vdev->reset_unsaid;
}

/* If @vdev is alone, VFIO_DEVICE_RESET has already tried all there is. */
static int hot_reset_set(VFIOPCIDevice *vdev, bool single,
                         struct vfio_pci_hot_reset_info *info)
{
    unsigned others = hot_reset_foreach_other(vdev, info, NULL);
    int ret;

    if (single ? others : !others) {
        return -EINVAL;
    }

    hot_reset_foreach_other(vdev, info, hot_reset_prepare);
    ret = hot_reset_do(vdev);
    hot_reset_foreach_other(vdev, info, vfio_pci_post_reset);
    if (!ret) {
        vfio_pci_clear_reset_error(vdev);
        hot_reset_foreach_other(vdev, info, vfio_pci_clear_reset_error);
    } else if (others && !hot_reset_has_pm(vdev)) {
        vfio_pci_report_reset_error(vdev);  /* nothing else is tried */
    }
    return ret;
}

/* Neither a device on the root bus nor an mdev has a slot or bus to reset. */
static bool hot_reset_is_absent(int ret)
{
    return ret == -ENODEV || ret == -ENOTTY;
}

/* A reset of the machine tries @vdev with others as well as alone. */
int vfio_pci_hot_reset_cdev(VFIOPCIDevice *vdev, bool single)
{
    struct vfio_pci_hot_reset_info *info;
    int ret;

    if (single) {
        vdev->reset_unsaid = false;
    } else {
        vfio_pci_pre_reset(vdev);
    }
    vdev->vbasedev.needs_reset = false;

    info = hot_reset_info(vdev, &ret);
    if (info) {
        ret = hot_reset_check(vdev, info);
        if (!ret) {
            ret = hot_reset_set(vdev, single, info);
        }
        g_free(info);
    } else if (hot_reset_is_absent(ret)) {
        hot_reset_failed(vdev, ", no available reset mechanism.");
    } else {
        hot_reset_failed(vdev, " with its slot or bus, the kernel does not say "
                         "what else is there: %s", strerror(-ret));
    }

    if (!single) {
        vfio_pci_post_reset(vdev);
    }
    return ret;
}
