/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which PCI devices are bound before their turn: see ahead.h
 *
 * An object that is never realized stands in for each, so that an option means
 * what it will mean then, and one that is given with -global counts.
 */
#include "qemu/osdep.h"

#include "ahead.h"
#include "hw/vfio/vfio-device.h"
#include "pci.h"
#include "qapi/error.h"
#include "qapi/qmp/qdict.h"
#include "qemu/ctype.h"

/* Of all its options, those that say which device it is and how it is bound */
static bool set_options(Object *obj, const QDict *options)
{
    static const char *const names[] = {
        "host", "sysfsdev", "iommufd", "fd", "vf-token",
    };

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        const char *value = qdict_get_try_str(options, names[i]);

        if (value && !object_property_parse(obj, names[i], value, NULL)) {
            return false;
        }
    }
    return true;
}

/*
 * A device with failover_pair_id= may be left to the host.  Who binds a device
 * with a token, in which order, is the user's matter.  A descriptor that is
 * given by name can be taken only once.
 */
static bool options_fit(VFIODevice *vbasedev, const QDict *options)
{
    return vbasedev->iommufd && !qdict_haskey(options, "failover_pair_id") &&
           qemu_uuid_is_null(&vbasedev->vf_token) &&
           (!vbasedev->fd_param || qemu_isdigit(vbasedev->fd_param[0]));
}

static bool identify(VFIOPCIDevice *vdev)
{
    VFIODevice *vbasedev = &vdev->vbasedev;
    PCIHostDeviceAddress *host = &vdev->host;

    if (!vfio_device_take_fd(vbasedev, ~host->domain ? "host=" : NULL, NULL)) {
        return false;
    }

    if (!vbasedev->sysfsdev && !vbasedev->fd_given) {
        vbasedev->sysfsdev =
            g_strdup_printf("/sys/bus/pci/devices/%04x:%02x:%02x.%01x",
                            host->domain, host->bus, host->slot,
                            host->function);
    }
    if (!vbasedev->sysfsdev) {
        return false;
    }

    vbasedev->name = vfio_device_kernel_name(vbasedev);
    vbasedev->dev = DEVICE(vdev);
    return true;
}

static bool has(const char *sysfsdev, const char *file)
{
    g_autofree char *path = g_strdup_printf("%s/%s", sysfsdev, file);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/*
 * A VF and its PF have a say in each other's reset, and in each other's token,
 * if both are with VFIO.  A mediated device's driver resets it as it likes.
 */
static bool is_on_its_own(VFIODevice *vbasedev)
{
    return !vfio_device_is_mdev(vbasedev) &&
           !has(vbasedev->sysfsdev, "physfn/vfio-dev") &&
           !has(vbasedev->sysfsdev, "virtfn0");
}

/*
 * Of two devices of an IOMMU group that are not of one object, the second is
 * refused.  If that were bound before the first, it would be the first that is
 * refused, or bound anew.
 */
static bool comes_after_other_kind(VFIODevice *vbasedev)
{
    static IOMMUFDBackend *first;
    static bool others;

    first = first ?: vbasedev->iommufd;
    others = others || !vbasedev->iommufd || vbasedev->iommufd != first;
    return others;
}

/* With -global, it is in the order of boot as if it were the device itself. */
static void leave_boot_order(Object *obj)
{
    object_property_set_int(obj, "bootindex", -1, &error_abort);
}

void vfio_pci_prepare(DeviceClass *dc, const QDict *options)
{
    Object *obj = object_new(object_class_get_name(OBJECT_CLASS(dc)));
    VFIOPCIDevice *vdev = VFIO_PCI(obj);
    VFIODevice *vbasedev = &vdev->vbasedev;

    leave_boot_order(obj);
    if (set_options(obj, options) && !comes_after_other_kind(vbasedev) &&
        options_fit(vbasedev, options) && identify(vdev) &&
        is_on_its_own(vbasedev)) {
        vfio_ahead_add(vbasedev);
    }
    object_unref(obj);
}
