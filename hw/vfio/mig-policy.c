/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether a VFIO device may be migrated, and why not
 *
 * enable-migration=   with iommufd=                 by the group
 *   auto              if its driver can and its     blocked, without asking, as
 *                     writes are told of            ever
 *   on                if its driver can, or the     the same
 *                     device is refused
 *   off               blocked                       blocked
 *
 * What blocks is known when the device comes, and a migration is refused for it
 * at once.  What depends on the migration is looked at when that begins.
 */
#include "qemu/osdep.h"

#include "dirty.h"
#include "mig.h"
#include "migration/blocker.h"
#include "migration/migration.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "sysemu/iommufd.h"
#include "trace.h"

bool vfio_mig_serves(VFIODevice *vbasedev)
{
    return vbasedev->iommufd || vbasedev->mig || !vbasedev->enable_migration;
}

/* The name of the driver that has it, to be freed; NULL if sysfs has none */
static char *vfio_mig_driver(VFIODevice *vbasedev)
{
    g_autofree char *link = g_strdup_printf("%s/driver",
                                            vbasedev->sysfsdev ?: "");
    g_autofree char *driver = g_file_read_link(link, NULL);

    return driver ? g_path_get_basename(driver) : NULL;
}

void vfio_mig_explain_driver(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *driver = vfio_mig_driver(vbasedev);

    if (vbasedev->mig_errno != ENOTTY) {
        iommufd_error_append_remedy(errp, "the host's kernel says: %s",
                                    strerror(vbasedev->mig_errno));
    } else if (g_strcmp0(driver, "vfio-pci") == 0) {
        iommufd_error_append_remedy(errp, "the host's driver vfio-pci has no "
                                    "migration for any device: bind the device "
                                    "to the driver that is made for it, such "
                                    "as mlx5_vfio_pci");
    } else {
        iommufd_error_append_remedy(errp, "the host's driver %s has no "
                                    "migration for this device",
                                    driver ?: "of the device");
    }
}

/* Why it is not migrated */

static void vfio_mig_why_not_asked(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();

    if (vbasedev->enable_mig == ON_OFF_AUTO_OFF) {
        error_setg(errp, "the device has enable-migration=off");
    } else {
        error_setg(errp, "VFIO device doesn't support migration");
        iommufd_error_append_remedy(errp, "if its driver does, give the device "
                                    "enable-migration=on, or iommufd=");
    }
}

static void vfio_mig_why_driver(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();

    error_setg(errp, "VFIO device doesn't support migration");
    vfio_mig_explain_driver(vbasedev, errp);
}

static void vfio_mig_why_untracked(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();

    error_setg(errp, "neither the device nor the host's IOMMU tells which "
               "memory it writes to");
    iommufd_error_append_remedy(errp, "enable-migration=on migrates it "
                                "nevertheless, with all memory sent again and "
                                "again");
}

/* NULL if nothing speaks against it */
static Error *vfio_mig_why_not(VFIODevice *vbasedev)
{
    Error *why = NULL;

    if (!vbasedev->mig) {
        if (vbasedev->mig_errno) {
            vfio_mig_why_driver(vbasedev, &why);
        } else {
            vfio_mig_why_not_asked(vbasedev, &why);
        }
    } else if (!vfio_container_is_direct(vbasedev->container)) {
        error_setg(&why, "the device is behind an IOMMU of the guest's, and "
                   "which memory it writes to is not known then");
    } else if (vbasedev->enable_mig != ON_OFF_AUTO_ON &&
               !vfio_dirty_can_track(vbasedev)) {
        vfio_mig_why_untracked(vbasedev, &why);
    }

    if (why) {
        error_prepend(&why, VFIO_MSG_PREFIX, vbasedev->name);
    }
    return why;
}

/* The device comes, but nothing with it is migrated.  Takes @why. */
static int vfio_mig_block(VFIODevice *vbasedev, Error *why, Error **errp)
{
    int ret = migrate_add_blocker(why, errp);

    if (ret) {
        error_free(why);
    } else {
        vbasedev->migration_blocker = why;
    }
    return ret;
}

/*
 * Several devices
 *
 * While one of them stands, another may still write to it.  What it writes then
 * is lost, unless both can be kept from reaching others.
 */

static Error *several;  /* the blocker, while it is needed */

/* NULL if they can be migrated together */
static VFIODevice *vfio_mig_find_unsafe(void)
{
    VFIODevice *vbasedev, *unsafe = NULL;
    int count = 0;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->mig && vbasedev->mig->session) {
            count++;
            if (!(vbasedev->mig->flags & VFIO_MIGRATION_P2P)) {
                unsafe = vbasedev;
            }
        }
    }
    return count > 1 ? unsafe : NULL;
}

static int vfio_mig_block_several(Error **errp)
{
    VFIODevice *unsafe = vfio_mig_find_unsafe();
    int ret;

    if (!unsafe || several) {
        return 0;
    }

    error_setg(&several, VFIO_MSG_PREFIX "it cannot be migrated together with "
               "other devices, as its driver cannot keep it from reaching them "
               "(P2P)", unsafe->name);
    ret = migrate_add_blocker(several, errp);
    if (ret) {
        error_free(several);
        several = NULL;
    }
    return ret;
}

/*
 * One has gone, perhaps the one that the blocker names.  Nothing keeps another
 * blocker from being made: there was one, so no migration is under way.
 */
static void vfio_mig_unblock_several(void)
{
    if (several) {
        migrate_del_blocker(several);
        error_free(several);
        several = NULL;
        vfio_mig_block_several(&error_abort);
    }
}

/* With and without migration */

static void vfio_mig_warn_untracked(VFIODevice *vbasedev)
{
    if (!vfio_dirty_can_track(vbasedev) &&
        vbasedev->pre_copy_dirty_page_tracking != ON_OFF_AUTO_OFF) {
        warn_report(VFIO_MSG_PREFIX "neither the device nor the host's IOMMU "
                    "tells which memory it writes to, so all of it is sent "
                    "again and again; x-pre-copy-dirty-page-tracking=off sends "
                    "it once more when the VM has stopped", vbasedev->name);
    }
}

static void vfio_mig_register(VFIOMig *mig)
{
    vfio_mig_watch(mig);
    vfio_mig_register_stream(mig);
}

static void vfio_mig_unregister(VFIOMig *mig)
{
    vfio_mig_unregister_stream(mig);
    vfio_mig_unwatch(mig);
}

int vfio_mig_probe(VFIODevice *vbasedev, Error **errp)
{
    Error *why = vfio_mig_why_not(vbasedev);
    int ret;

    trace_vfio_mig_probe(vbasedev->name,
                         vbasedev->mig ? vbasedev->mig->flags : 0,
                         why ? error_get_pretty(why) : "yes");
    if (why) {
        return vfio_mig_block(vbasedev, why, errp);
    }

    vfio_mig_register(vbasedev->mig);
    ret = vfio_mig_block_several(errp);
    if (ret) {
        vfio_mig_unregister(vbasedev->mig);
    } else {
        vfio_mig_warn_untracked(vbasedev);
    }
    return ret;
}

void vfio_mig_unprobe(VFIODevice *vbasedev)
{
    VFIOMig *mig = vbasedev->mig;

    if (mig && mig->session) {
        vfio_mig_unregister(mig);
        vfio_mig_unblock_several();
    }
}

/* Before a migration begins */

static VFIODevice *vfio_mig_find_migratable(void)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->mig && vbasedev->mig->session) {
            return vbasedev;
        }
    }
    return NULL;
}

bool vfio_mig_check_kind(Error **errp)
{
    VFIODevice *vbasedev = vfio_mig_find_migratable();
    const char *kind = migrate_postcopy_ram() ? "postcopy-ram"
                       : migrate_background_snapshot() ? "background-snapshot"
                       : migrate_colo_enabled() ? "x-colo" : NULL;

    if (!vbasedev || !kind) {
        return true;
    }
    error_setg(errp, VFIO_MSG_PREFIX "it is not migrated with the capability "
               "%s: devices need all of the guest's memory, and their state is "
               "taken once", vbasedev->name, kind);
    return false;
}
