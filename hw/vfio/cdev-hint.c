/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why the kernel refused a character device, and what the user can do
 *
 * An errno alone says little: EPERM from the bind has three reasons, two of
 * which sysfs can tell apart.  What each errno can mean is from the kernel's
 * drivers/vfio/device_cdev.c, drivers/vfio/group.c and
 * drivers/iommu/iommufd/device.c, as of Linux 6.12; what is said of VF tokens is
 * from 7.2.
 */
#include "qemu/osdep.h"

#include "cdev.h"
#include "qapi/error.h"

/* The name of the driver that has the device, NULL if none; to be freed */
static char *sysfs_driver(const char *sysfsdev)
{
    g_autofree char *link = g_strdup_printf("%s/driver", sysfsdev);
    g_autofree char *target = g_file_read_link(link, NULL);

    return target ? g_path_get_basename(target) : NULL;
}

static bool is_vfio_driver(const char *driver)
{
    return strstr(driver, "vfio") != NULL;
}

/* The kernel lets these two stay in a group that user space owns. */
static bool is_harmless_driver(const char *driver)
{
    return is_vfio_driver(driver) || g_str_equal(driver, "pci-stub") ||
           g_str_equal(driver, "pcieport");
}

void vfio_cdev_explain_no_folder(const char *sysfsdev, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *driver = sysfs_driver(sysfsdev);
    g_autofree char *name = g_path_get_basename(sysfsdev);

    if (driver && is_vfio_driver(driver)) {
        error_setg(errp, "the host's driver '%s' shows no %s/vfio-dev", driver,
                   sysfsdev);
        error_append_hint(errp, "iommufd= needs Linux 6.6 or newer on the "
                          "host, with CONFIG_VFIO_DEVICE_CDEV.\n");
        return;
    }

    if (driver) {
        error_setg(errp, "the device is used by the host's driver '%s', which "
                   "is not a VFIO driver", driver);
    } else {
        error_setg(errp, "the device is not bound to a VFIO driver");
    }
    error_append_hint(errp, "A PCI device is given to vfio-pci with:\n"
                      "  modprobe vfio-pci\n"
                      "  echo vfio-pci > %s/driver_override\n", sysfsdev);
    if (driver) {
        error_append_hint(errp, "  echo %s > %s/driver/unbind\n", name,
                          sysfsdev);
    }
    error_append_hint(errp, "  echo %s > /sys/bus/pci/drivers_probe\n", name);
}

void vfio_cdev_explain_no_cdev(const char *sysfsdev, Error **errp)
{
    ERRP_GUARD();
    error_setg(errp, "the host's kernel has no character device for the "
               "device");
    error_append_hint(errp, "iommufd= needs Linux 6.6 or newer on the host, "
                      "with CONFIG_VFIO_DEVICE_CDEV,\nand a device behind an "
                      "IOMMU.\n");
}

void vfio_cdev_hint_open(const char *path, int err, Error **errp)
{
    switch (err) {
    case ENOENT:
    case ENXIO:
        error_append_hint(errp, "sysfs has the device, but /dev has no node "
                          "for it; in a container it must be\nmade visible, "
                          "as must /dev/iommu.\n");
        break;
    case EACCES:
    case EPERM:
        error_append_hint(errp, "Give the user that QEMU runs as access to %s "
                          "for reading and writing.\n", path);
        break;
    }
}

/*
 * Another device of the same group which a host driver has, with that driver,
 * as "0000:01:00.1 (e1000e)"; NULL if there is none.  To be freed.
 */
static char *sysfs_foreign_sibling(const char *sysfsdev)
{
    g_autofree char *folder = g_strdup_printf("%s/iommu_group/devices",
                                              sysfsdev ?: "");
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir))) {
        g_autofree char *path = g_strdup_printf("%s/%s", folder, entry);
        g_autofree char *driver = sysfs_driver(path);

        if (driver && !is_harmless_driver(driver)) {
            return g_strdup_printf("%s (%s)", entry, driver);
        }
    }

    return NULL;
}

/* The group's number as text, to be freed */
static char *sysfs_group(const char *sysfsdev)
{
    g_autofree char *link = g_strdup_printf("%s/iommu_group", sysfsdev ?: "");
    g_autofree char *target = g_file_read_link(link, NULL);

    return target ? g_path_get_basename(target) : g_strdup("N");
}

static void explain_bind_eperm(const char *sysfsdev, Error **errp)
{
    g_autofree char *sibling = sysfs_foreign_sibling(sysfsdev);

    if (sibling) {
        error_prepend(errp, "another device of its IOMMU group is on a host "
                      "driver, %s: ", sibling);
        error_append_hint(errp, "Give that one to vfio-pci as well.\n");
        return;
    }

    error_prepend(errp, "the host has no interrupt remapping (see "
                  "iommufd.allow_unsafe_interrupts), or the device's IOMMU "
                  "group belongs to another iommufd: ");
    error_append_hint(errp, "If there is no interrupt remapping and you trust "
                      "the guest:\n  echo 1 > "
                      "/sys/module/iommufd/parameters/allow_unsafe_interrupts"
                      "\nor iommufd.allow_unsafe_interrupts=1 on the kernel's "
                      "command line\n(the parameter of the same name of "
                      "vfio_iommu_type1 does not count here).\n");
}

static void explain_bind_ebusy(const char *sysfsdev, Error **errp)
{
    g_autofree char *group = sysfs_group(sysfsdev);

    error_prepend(errp, "its IOMMU group is open as /dev/vfio/%s: ", group);
    error_append_hint(errp, "Another process, or a device of this VM without "
                      "iommufd=, uses the group by the old way;\nonly one of "
                      "the two ways can be used at a time.\n");
}

static bool has_token(VFIODevice *vbasedev)
{
    return !qemu_uuid_is_null(&vbasedev->vf_token);
}

static bool sysfs_has(const char *sysfsdev, const char *file)
{
    g_autofree char *path = g_strdup_printf("%s/%s", sysfsdev, file);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/*
 * The kernel takes a token for a PF that has a VFIO driver, and for the VFs of
 * such a PF; of a device that sysfs does not show, nobody knows.
 */
static bool may_take_token(const char *sysfsdev)
{
    g_autofree char *pf = g_strdup_printf("%s/physfn", sysfsdev ?: "");
    g_autofree char *driver = NULL;

    if (!sysfsdev || !sysfs_has(sysfsdev, "physfn")) {
        return !sysfsdev || sysfs_has(sysfsdev, "sriov_totalvfs");
    }
    driver = sysfs_driver(pf);
    return driver && is_vfio_driver(driver);
}

static void explain_bind_eacces(VFIODevice *vbasedev, Error **errp)
{
    error_prepend(errp, "the user of its PF has set a VF token, which %s: ",
                  has_token(vbasedev) ? "is not this one" : "is not given");
    error_append_hint(errp, "Give the same vf-token= to the PF and to its "
                      "VFs.\n");
}

/* Linux 6.17 knows the flag, and reads too little of the call's argument. */
static void explain_bind_e2big(Error **errp)
{
    error_prepend(errp, "the host's kernel cannot read vf-token= with "
                  "iommufd=, a defect that is mended in Linux 6.19: ");
    error_append_hint(errp, "Update the host's kernel, or leave it out if the "
                      "device's PF is not used through VFIO.\n");
}

static void explain_bind_einval(VFIODevice *vbasedev, Error **errp)
{
    if (has_token(vbasedev) && !may_take_token(vbasedev->sysfsdev)) {
        error_prepend(errp, "vf-token= is given, and the device takes no VF "
                      "token: ");
        error_append_hint(errp, "Only a PF and its VFs take one, if the PF is "
                          "on a VFIO driver. Leave it out.\n");
        return;
    }

    error_prepend(errp, "it is bound already, or cannot be bound: ");
    error_append_hint(errp, "Most likely another process uses the device. If "
                      "none does: the platform keeps identity\nmappings for it "
                      "(the kernel's log says so), or its DMA is not "
                      "cache-coherent.\n");
}

/* Only a descriptor that was given, and that sysfs does not show */
static void explain_bind_enotty(Error **errp)
{
    error_prepend(errp, "the descriptor is not of a VFIO device: ");
    error_append_hint(errp, "fd= must be a descriptor of "
                      "/dev/vfio/devices/vfioN.\n");
}

void vfio_cdev_explain_bind(VFIODevice *vbasedev, int err, Error **errp)
{
    switch (err) {
    case EACCES:
        explain_bind_eacces(vbasedev, errp);
        break;
    case E2BIG:
        explain_bind_e2big(errp);
        break;
    case ENOTTY:
        explain_bind_enotty(errp);
        break;
    case EPERM:
        explain_bind_eperm(vbasedev->sysfsdev, errp);
        break;
    case EBUSY:
        explain_bind_ebusy(vbasedev->sysfsdev, errp);
        break;
    case EINVAL:
        explain_bind_einval(vbasedev, errp);
        break;
    }
}

void vfio_cdev_hint_attach(int err, Error **errp)
{
    switch (err) {
    case EADDRINUSE:
        error_append_hint(errp, "Guest memory lies where the device's IOMMU "
                          "reserves addresses or does not reach;\nsee "
                          "iommu_group/reserved_regions in the device's sysfs "
                          "folder.\n");
        break;
    case EINVAL:
        error_append_hint(errp, "Another device of its IOMMU group is attached "
                          "elsewhere, or its IOMMU knows only\npages that are "
                          "larger than the host's.\n");
        break;
    case ENOMEM:
        error_append_hint(errp, "All of the guest's memory is locked for DMA; "
                          "see RLIMIT_MEMLOCK (ulimit -l).\n");
        break;
    }
}
