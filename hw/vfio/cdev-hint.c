/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Why the kernel refused a character device, and what the user can do
 *
 * An errno alone says little: EPERM from the bind has four reasons.  sysfs and
 * the other devices of this VM tell which one it is, but only the kernel knows
 * what other processes have.
 *
 * What each errno can mean is from the kernel's drivers/vfio/device_cdev.c,
 * drivers/vfio/group.c and drivers/iommu/iommufd/device.c, as of Linux 6.12;
 * what is said of VF tokens is from 7.2, of resets from drivers/iommu/iommu.c of
 * 7.3.
 */
#include "qemu/osdep.h"

#include "cdev.h"
#include "iommufd.h"
#include "memory-hint.h"
#include "qapi/error.h"

#define UNSAFE_INTERRUPTS \
    "/sys/module/iommufd/parameters/allow_unsafe_interrupts"

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
        iommufd_error_append_remedy(errp, "iommufd= needs Linux 6.6 or newer "
                                    "on the host, with "
                                    "CONFIG_VFIO_DEVICE_CDEV");
        return;
    }

    if (driver) {
        error_setg(errp, "the device is used by the host's driver '%s', which "
                   "is not a VFIO driver", driver);
    } else {
        error_setg(errp, "the device is not bound to a VFIO driver");
    }
    iommufd_error_append_remedy(errp, "give it to vfio-pci, by "
                                "driver_override in its sysfs folder");
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
    iommufd_error_append_remedy(errp, "iommufd= needs Linux 6.6 or newer on "
                                "the host, with CONFIG_VFIO_DEVICE_CDEV, and a "
                                "device behind an IOMMU");
}

void vfio_cdev_explain_no_iommu(Error **errp)
{
    ERRP_GUARD();
    error_setg(errp, "no IOMMU stands between this device and the host's "
               "memory, all of which the guest could read and write");
    iommufd_error_append_remedy(errp, "switch the host's IOMMU on, in the "
                                "firmware and with intel_iommu=on for Intel's");
    error_append_hint(errp, "vfio's enable_unsafe_noiommu_mode should be "
                      "off.\n");
}

void vfio_cdev_explain_open(int err, Error **errp)
{
    switch (err) {
    case ENOENT:
    case ENXIO:
        iommufd_error_append_remedy(errp, "sysfs has the device, and its node "
                                    "must be made visible, as must /dev/iommu, "
                                    "in a container for instance");
        break;
    case EACCES:
    case EPERM:
        iommufd_error_append_remedy(errp, "give the user that QEMU runs as "
                                    "access to it, for reading and writing");
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

/* The group's number as text, to be freed; NULL if sysfs does not show it */
static char *sysfs_group(const char *sysfsdev)
{
    g_autofree char *link = g_strdup_printf("%s/iommu_group", sysfsdev ?: "");
    g_autofree char *target = g_file_read_link(link, NULL);

    return target ? g_path_get_basename(target) : NULL;
}

/* A device of this VM, in the same IOMMU group, for which @fits; else NULL */
static VFIODevice *find_sibling(VFIODevice *vbasedev,
                                bool (*fits)(VFIODevice *other, void *opaque),
                                void *opaque)
{
    g_autofree char *group = sysfs_group(vbasedev->sysfsdev);
    VFIODevice *other;

    QLIST_FOREACH(other, &vfio_device_list, global_next) {
        g_autofree char *others = sysfs_group(other->sysfsdev);

        if (group && !g_strcmp0(group, others) && fits(other, opaque)) {
            return other;
        }
    }
    return NULL;
}

static bool uses_group(VFIODevice *other, void *opaque)
{
    return other->group != NULL;
}

static bool uses_other_object(VFIODevice *other, void *be)
{
    return other->iommufd && other->iommufd != be;
}

static bool is_in_other_space(VFIODevice *other, void *space)
{
    return other->container && other->container->space != space;
}

/* The kernel then does not ask for interrupt remapping. */
static bool unsafe_interrupts_are_allowed(void)
{
    g_autofree char *text = NULL;

    return g_file_get_contents(UNSAFE_INTERRUPTS, &text, NULL, NULL) &&
           text[0] == 'Y';
}

static void explain_other_object(VFIODevice *sibling, Error **errp)
{
    error_prepend(errp, "%s of its IOMMU group uses iommufd object '%s': ",
                  sibling->name, iommufd_backend_id(sibling->iommufd));
    iommufd_error_append_remedy(errp, "give both devices the same");
}

static void explain_bind_eperm(VFIODevice *vbasedev, Error **errp)
{
    g_autofree char *foreign = sysfs_foreign_sibling(vbasedev->sysfsdev);
    VFIODevice *sibling = find_sibling(vbasedev, uses_other_object,
                                       vbasedev->iommufd);

    if (foreign) {
        error_prepend(errp, "another device of its IOMMU group is on a host "
                      "driver, %s: ", foreign);
        iommufd_error_append_remedy(errp, "give that one to vfio-pci as well");
        return;
    }

    if (sibling) {
        explain_other_object(sibling, errp);
        return;
    }

    if (unsafe_interrupts_are_allowed()) {
        error_prepend(errp, "another process uses a device of its IOMMU group "
                      "by iommufd: ");
        iommufd_error_append_remedy(errp, "give all devices of a group to one "
                                    "process");
        return;
    }

    error_prepend(errp, "the host has no interrupt remapping, or another "
                  "process uses a device of its IOMMU group by iommufd: ");
    iommufd_error_append_remedy(errp, "without remapping, and if you trust the "
                                "guest, write 1 to " UNSAFE_INTERRUPTS);
    error_append_hint(errp, "Or put iommufd.allow_unsafe_interrupts=1 on the "
                      "kernel's command line. The parameter\nof the same name "
                      "of vfio_iommu_type1 does not count here.\n");
}

static void explain_bind_ebusy(VFIODevice *vbasedev, Error **errp)
{
    g_autofree char *group = sysfs_group(vbasedev->sysfsdev);
    VFIODevice *sibling = find_sibling(vbasedev, uses_group, NULL);
    g_autofree char *who =
        sibling ? g_strdup_printf("for %s of this VM, which has no iommufd=",
                                  sibling->name)
                : g_strdup("by another process, or a device of it is being "
                           "reset");

    error_prepend(errp, "its IOMMU group is open as /dev/vfio/%s %s: ",
                  group ?: "N", who);
    iommufd_error_append_remedy(errp, sibling ? "give both devices iommufd=" :
                                "a group can be used in one of the two ways at "
                                "a time");
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
    iommufd_error_append_remedy(errp, "give the same vf-token= to the PF and "
                                "to its VFs");
}

/* Linux 6.17 knows the flag, and reads too little of the call's argument. */
static void explain_bind_e2big(Error **errp)
{
    error_prepend(errp, "the host's kernel cannot read vf-token= with "
                  "iommufd=, a defect that is mended in Linux 6.19: ");
    iommufd_error_append_remedy(errp, "update the host's kernel, or leave it "
                                "out if the device's PF is not used through "
                                "VFIO");
}

static void explain_bind_einval(VFIODevice *vbasedev, Error **errp)
{
    if (has_token(vbasedev) && !may_take_token(vbasedev->sysfsdev)) {
        error_prepend(errp, "vf-token= is given, and the device takes no VF "
                      "token: ");
        iommufd_error_append_remedy(errp, "leave it out: a PF and its VFs take "
                                    "one, if the PF is on a VFIO driver");
        return;
    }

    error_prepend(errp, "it is bound already, or cannot be bound: ");
    iommufd_error_append_remedy(errp, "see whether another process uses it, "
                                "and else the kernel's log");
    error_append_hint(errp, "If no process does, the platform keeps identity "
                      "mappings for it (the kernel's log says so),\nor its DMA "
                      "is not cache-coherent.\n");
}

/* Only a descriptor that was given, and that sysfs does not show */
static void explain_bind_enotty(Error **errp)
{
    error_prepend(errp, "the descriptor is not of a VFIO device: ");
    iommufd_error_append_remedy(errp, "fd= must be a descriptor of "
                                "/dev/vfio/devices/vfioN");
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
        explain_bind_eperm(vbasedev, errp);
        break;
    case EBUSY:
        explain_bind_ebusy(vbasedev, errp);
        break;
    case EINVAL:
        explain_bind_einval(vbasedev, errp);
        break;
    }
}

/* The kernel gives a group one page table. */
static void explain_attach_einval(VFIODevice *vbasedev, VFIOAddressSpace *space,
                                  Error **errp)
{
    VFIODevice *apart = find_sibling(vbasedev, is_in_other_space, space);
    VFIODevice *sibling = find_sibling(vbasedev, uses_other_object,
                                       vbasedev->iommufd);

    if (apart) {
        error_prepend(errp, "%s of its IOMMU group is in another address space "
                      "of the guest: ", apart->name);
        iommufd_error_append_remedy(errp, "put both behind one "
                                    "pcie-pci-bridge");
        error_append_hint(errp, "A guest's IOMMU gives each device an address "
                          "space, but one to all devices behind a\n"
                          "conventional bridge.\n");
    } else if (sibling) {
        explain_other_object(sibling, errp);
    } else {
        error_prepend(errp, "its IOMMU may know only pages that are larger "
                      "than the host's: ");
    }
}

/* What is mapped for mediated devices is locked once another device comes. */
static void explain_attach_efault(VFIOContainer *base, Error **errp)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    if (container->mapped && !container->pinning) {
        vfio_memory_explain_any_efault(base->space->as, errp);
    }
}

void vfio_cdev_explain_attach(VFIODevice *vbasedev, VFIOContainer *base,
                              int err, Error **errp)
{
    switch (err) {
    case EADDRINUSE:
        error_prepend(errp, "guest memory lies where the device's IOMMU "
                      "reserves addresses or does not reach: ");
        iommufd_error_append_remedy(errp, "iommu_group/reserved_regions in the "
                                    "device's sysfs folder lists these");
        break;
    case EBUSY:
        error_prepend(errp, "a device of its IOMMU group is being reset, or in "
                      "use otherwise: ");
        iommufd_error_append_remedy(errp, "try again, and else see the "
                                    "kernel's log");
        break;
    case EFAULT:
        explain_attach_efault(base, errp);
        break;
    case EINVAL:
        explain_attach_einval(vbasedev, base->space, errp);
        break;
    case ENOMEM:
        vfio_iommufd_attach_enomem(base, errp);
        break;
    }
}
