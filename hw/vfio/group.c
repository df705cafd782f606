/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device by way of its group: /dev/vfio/$GROUP
 *
 * pci, platform, ap and ccw find the group in the same way, from the
 * iommu_group link in the device's sysfs folder.  The kernel's name of the
 * device within its group is the name of that folder.  For a VF whose PF's user
 * has set a token, the name also has that token (Linux,
 * drivers/vfio/pci/vfio_pci_core.c, vfio_pci_core_match()).
 */
#include "qemu/osdep.h"
#include <glob.h>

#include "dirty.h"
#include "hw/vfio/vfio-common.h"
#include "mig.h"
#include "qapi/error.h"
#include "sysemu/iommufd.h"

static bool vfio_group_find(VFIODevice *vbasedev, int *groupid, Error **errp)
{
    g_autofree char *link = NULL;
    char group_path[PATH_MAX];
    ssize_t len;

    if (!vbasedev->sysfsdev) {
        error_setg(errp, "no host device: sysfsdev= is missing");
        return false;
    }

    link = g_strdup_printf("%s/iommu_group", vbasedev->sysfsdev);
    len = readlink(link, group_path, sizeof(group_path));
    if (len <= 0 || len >= sizeof(group_path)) {
        error_setg_errno(errp, len < 0 ? errno : ENAMETOOLONG,
                         "no iommu_group found");
        return false;
    }
    group_path[len] = 0;

    if (sscanf(basename(group_path), "%d", groupid) != 1) {
        error_setg_errno(errp, errno, "failed to read %s", group_path);
        return false;
    }

    return true;
}

static bool vfio_group_has(VFIOGroup *group, const char *name)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &group->device_list, next) {
        if (strcmp(vbasedev->name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* Whether both are in one group, according to sysfs */
static bool vfio_group_is_shared(VFIODevice *vbasedev, VFIODevice *other)
{
    g_autofree char *link = g_strdup_printf("%s/iommu_group",
                                            vbasedev->sysfsdev);
    g_autofree char *other_link = g_strdup_printf("%s/iommu_group",
                                                  other->sysfsdev ?: "");
    g_autofree char *group = realpath(link, NULL);
    g_autofree char *other_group = realpath(other_link, NULL);

    return group && g_strcmp0(group, other_group) == 0;
}

/* The kernel lets a group be used in one way at a time, but says no more. */
static void vfio_group_explain_iommufd(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();
    VFIODevice *other;

    QLIST_FOREACH(other, &vfio_device_list, global_next) {
        if (other->iommufd && vfio_group_is_shared(vbasedev, other)) {
            error_prepend(errp, "its IOMMU group is used with iommufd=, by "
                          "%s: ", other->name);
            iommufd_error_append_remedy(errp, "give both devices the same "
                                        "iommufd=");
            return;
        }
    }
}

static bool vfio_has_cdev(VFIODevice *vbasedev)
{
    g_autofree char *pattern = g_strdup_printf("%s/vfio-dev/vfio*/dev",
                                               vbasedev->sysfsdev);
    glob_t found = {};
    bool has = glob(pattern, 0, NULL, &found) == 0;

    globfree(&found);
    return has;
}

/* A kernel without VFIO_GROUP lacks exactly the files that are opened here. */
static void vfio_group_lead_to_iommufd(VFIODevice *vbasedev, Error **errp)
{
    if (access("/dev/vfio/vfio", F_OK) && errno == ENOENT &&
        vfio_has_cdev(vbasedev)) {
        iommufd_error_append_remedy(errp, "the host has no /dev/vfio/vfio, but "
                                    "a character device for this device, so "
                                    "use -object iommufd,id=iommufd0 and "
                                    "iommufd=iommufd0");
    }
}

/* To be freed */
static char *vfio_group_device_name(VFIODevice *vbasedev)
{
    g_autofree char *name = g_path_get_basename(vbasedev->sysfsdev);
    g_autofree char *token = NULL;

    if (qemu_uuid_is_null(&vbasedev->vf_token)) {
        return g_steal_pointer(&name);
    }

    token = qemu_uuid_unparse_strdup(&vbasedev->vf_token);
    return g_strdup_printf("%s vf_token=%s", name, token);
}

bool vfio_legacy_attach_device(VFIODevice *vbasedev, AddressSpace *as,
                               Error **errp)
{
    ERRP_GUARD();
    g_autofree char *kernel_name = NULL;
    VFIOGroup *group;
    int groupid;

    if (!vfio_group_find(vbasedev, &groupid, errp)) {
        return false;
    }

    group = vfio_get_group(groupid, as, errp);
    if (!group) {
        vfio_group_explain_iommufd(vbasedev, errp);
        vfio_group_lead_to_iommufd(vbasedev, errp);
        return false;
    }

    if (vfio_group_has(group, vbasedev->name)) {
        error_setg(errp, "device is already attached");
        goto put_group;
    }

    kernel_name = vfio_group_device_name(vbasedev);
    if (vfio_get_device(group, kernel_name, vbasedev, errp)) {
        goto put_group;
    }

    if (!vfio_mig_query(vbasedev, errp)) {
        goto put_device;
    }

    vfio_dirty_join(vbasedev);
    return true;

put_device:
    vfio_put_base_device(vbasedev);
put_group:
    vfio_put_group(group);
    return false;
}

void vfio_legacy_detach_device(VFIODevice *vbasedev)
{
    VFIOGroup *group = vbasedev->group;

    vfio_dirty_leave(vbasedev);
    vfio_mig_forget(vbasedev);
    vfio_put_base_device(vbasedev);
    vfio_put_group(group);
}
