/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The VM starts and stops, and its devices with it
 *
 * A device that can be kept from reaching others (P2P) must be, before any of
 * them stops, and until all of them run.  So each device has two handlers of
 * the run state.  When the VM stops, the ones with the highest priority come
 * first; when it starts, they come last:
 *
 *             "peers", of all devices      "run", by place in the device tree
 *   stops     1. RUNNING  to RUNNING_P2P   2. RUNNING_P2P  to STOP
 *                PRE_COPY to PRE_COPY_P2P     PRE_COPY_P2P to STOP_COPY
 *   starts    2. RUNNING_P2P to RUNNING    1. STOP to RUNNING_P2P
 *
 * From PRE_COPY a device goes to STOP_COPY for whatever reason the VM stops:
 * any other way out of it ends the session (Linux, drivers/vfio/vfio_main.c,
 * vfio_mig_get_next_state()).  If the VM is continued before the migration is
 * done, the session has ended, and so has the migration.
 *
 * The gate of missing.h is closed or open before any handler is called.
 */
#include "qemu/osdep.h"

#include "hw/qdev-core.h"
#include "mig.h"
#include "migration/misc.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "sysemu/iommufd.h"
#include "sysemu/runstate.h"

/* Without P2P, nothing comes between running and standing. */
static uint32_t vfio_mig_apart(VFIOMig *mig)
{
    bool p2p = mig->flags & VFIO_MIGRATION_P2P;

    switch (mig->state) {
    case VFIO_DEVICE_STATE_RUNNING:
        return p2p ? VFIO_DEVICE_STATE_RUNNING_P2P : mig->state;
    case VFIO_DEVICE_STATE_PRE_COPY:
        return p2p ? VFIO_DEVICE_STATE_PRE_COPY_P2P : mig->state;
    default:
        return mig->state;
    }
}

static uint32_t vfio_mig_standing(VFIOMig *mig)
{
    switch (mig->state) {
    case VFIO_DEVICE_STATE_RUNNING:
    case VFIO_DEVICE_STATE_RUNNING_P2P:
        return VFIO_DEVICE_STATE_STOP;
    case VFIO_DEVICE_STATE_PRE_COPY:
    case VFIO_DEVICE_STATE_PRE_COPY_P2P:
        return VFIO_DEVICE_STATE_STOP_COPY;
    default:
        return mig->state;
    }
}

/* A device that cannot stop goes on; a migration fails for it. */
static void vfio_mig_stop(VFIOMig *mig, uint32_t state)
{
    Error *err = NULL;

    if (!vfio_mig_set_state(mig, state, &err)) {
        vfio_mig_lose(mig->session, err);
    }
}

/*
 * A guest that runs wants a device that runs.  One that went to ERROR has been
 * reset already.
 */
static bool vfio_mig_go(VFIOMig *mig, uint32_t state, Error **errp)
{
    ERRP_GUARD();

    if (vfio_mig_set_state(mig, state, errp)) {
        return true;
    }
    if (mig->state != VFIO_DEVICE_STATE_ERROR &&
        !vfio_mig_is_running(mig->vbasedev)) {
        vfio_mig_reset(mig, errp);
    }
    return false;
}

bool vfio_mig_start(VFIOMig *mig, Error **errp)
{
    return vfio_mig_go(mig, VFIO_DEVICE_STATE_RUNNING, errp);
}

/* What has been sent of the session is worth nothing without its end. */
static void vfio_mig_leave_session(VFIOMig *mig)
{
    VFIOMigSession *session = mig->session;
    Error *err = NULL;

    if (session->way == VFIO_MIG_SAVING && session->data_fd >= 0) {
        error_setg(&err, "the VM was continued after its device had stopped "
                   "for the migration");
        iommufd_error_append_remedy(&err, "migrate again");
        vfio_mig_lose(session, err);
    }
}

static void vfio_mig_start_apart(VFIOMig *mig)
{
    bool p2p = mig->flags & VFIO_MIGRATION_P2P;
    Error *err = NULL;

    if (vfio_mig_is_running(mig->vbasedev)) {
        return;
    }
    vfio_mig_leave_session(mig);
    if (!vfio_mig_go(mig, p2p ? VFIO_DEVICE_STATE_RUNNING_P2P
                              : VFIO_DEVICE_STATE_RUNNING, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, mig->vbasedev->name);
    }
}

static void vfio_mig_meet_peers(VFIOMig *mig)
{
    Error *err = NULL;

    /*
     * In PRE_COPY_P2P is one that could not be stopped.  One that could not be
     * started is in ERROR, and the log has it.
     */
    if ((mig->state == VFIO_DEVICE_STATE_RUNNING_P2P ||
         mig->state == VFIO_DEVICE_STATE_PRE_COPY_P2P) &&
        !vfio_mig_start(mig, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, mig->vbasedev->name);
    }
}

static void vfio_mig_peers_changed(void *opaque, bool running, RunState state)
{
    VFIOMig *mig = opaque;

    if (running) {
        vfio_mig_meet_peers(mig);
    } else {
        vfio_mig_stop(mig, vfio_mig_apart(mig));
    }
}

static void vfio_mig_run_changed(void *opaque, bool running, RunState state)
{
    VFIOMig *mig = opaque;

    mig->vm_runs = running;
    if (running) {
        vfio_mig_start_apart(mig);
    } else {
        vfio_mig_stop(mig, vfio_mig_standing(mig));
    }
}

/*
 * A guest that sleeps counts as running: nobody is told when it falls asleep,
 * or wakes up.  If it came here asleep, its devices stand.  Each device has a
 * notifier, and the first that is called starts them all.
 */
static void vfio_mig_woken_up(Notifier *notifier, void *data)
{
    VFIODevice *vbasedev;

    if (!runstate_is_running()) {
        return;     /* woken for a migration, it was stopped before we came */
    }
    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->mig) {
            vfio_mig_run_changed(vbasedev->mig, true, RUN_STATE_RUNNING);
        }
    }
    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->mig) {
            vfio_mig_peers_changed(vbasedev->mig, true, RUN_STATE_RUNNING);
        }
    }
}

/* The counter is of the migration that began last. */
static void vfio_mig_migration_changed(Notifier *notifier, void *data)
{
    if (migration_in_setup(data)) {
        vfio_mig_forget_bytes_sent();
    }
}

void vfio_mig_watch(VFIOMig *mig)
{
    mig->vm_runs = runstate_is_running() ||
                   runstate_check(RUN_STATE_SUSPENDED);
    mig->peers =
        qemu_add_vm_change_state_handler_prio(vfio_mig_peers_changed, mig,
                                              INT_MAX);
    mig->run = qdev_add_vm_change_state_handler(mig->vbasedev->dev,
                                                vfio_mig_run_changed, mig);
    mig->wakeup.notify = vfio_mig_woken_up;
    qemu_register_wakeup_notifier(&mig->wakeup);
    mig->notifier.notify = vfio_mig_migration_changed;
    add_migration_state_change_notifier(&mig->notifier);
}

void vfio_mig_unwatch(VFIOMig *mig)
{
    remove_migration_state_change_notifier(&mig->notifier);
    notifier_remove(&mig->wakeup);
    qemu_del_vm_change_state_handler(mig->run);
    qemu_del_vm_change_state_handler(mig->peers);
}

/* It runs now, also if the guest does not. */
static void vfio_mig_session_was_reset(VFIOMig *mig)
{
    VFIOMigSession *session = mig->session;
    Error *err = NULL;

    if (session->data_fd >= 0) {
        error_setg(&err, "it was reset while it was being migrated");
        iommufd_error_append_remedy(&err, "migrate again; a guest that sleeps "
                                    "is woken up for a migration, and that "
                                    "resets its devices");
        vfio_mig_lose(session, err);
    } else if (session->way == VFIO_MIG_SAVING && !mig->vm_runs &&
               vfio_mig_is_running(mig->vbasedev)) {
        vfio_mig_stop(mig, VFIO_DEVICE_STATE_STOP);
    }
}

void vfio_mig_was_reset(VFIODevice *vbasedev)
{
    VFIOMig *mig = vbasedev->mig;

    if (mig) {
        vfio_mig_ask_state(mig);
    }
    if (mig && mig->session) {
        vfio_mig_session_was_reset(mig);
    }
}
