/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a device that can be migrated: what the kernel is asked for
 *
 * The kernel finds the way from one state to another by itself, and every step
 * on it is real work of the driver's.  A step that fails leaves the device
 * before it, or in ERROR, which only a reset ends.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>

#include "dirty.h"
#include "hw/qdev-core.h"
#include "mig.h"
#include "qapi/error.h"
#include "qapi/qapi-events-vfio.h"
#include "sysemu/iommufd.h"
#include "trace.h"

/* One that user space is told of by the same name */
#define STATE(name, running) \
    [VFIO_DEVICE_STATE_ ## name] = { \
        #name, running, QAPI_VFIO_MIGRATION_STATE_ ## name \
    }

static const struct {
    const char *name;
    bool running;
    int told;   /* QapiVfioMigrationState, or -1 */
} states[] = {
    [VFIO_DEVICE_STATE_ERROR] = { "ERROR", false, -1 },
    STATE(STOP, false),
    STATE(RUNNING, true),
    STATE(STOP_COPY, false),
    STATE(RESUMING, false),
    STATE(RUNNING_P2P, true),
    STATE(PRE_COPY, true),
    STATE(PRE_COPY_P2P, true),
};

const char *vfio_mig_state_name(uint32_t state)
{
    return state < ARRAY_SIZE(states) ? states[state].name : "unknown";
}

bool vfio_mig_state_runs(uint32_t state)
{
    return states[state].running;
}

bool vfio_mig_state_pre_copies(uint32_t state)
{
    return state == VFIO_DEVICE_STATE_PRE_COPY ||
           state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

bool vfio_mig_is_running(VFIODevice *vbasedev)
{
    return vfio_mig_state_runs(vbasedev->mig->state);
}

int vfio_feature(VFIODevice *vbasedev, uint32_t what, void *data, size_t size)
{
    g_autofree struct vfio_device_feature *feature =
        g_malloc0(sizeof(*feature) + size);
    int ret;

    feature->argsz = sizeof(*feature) + size;
    feature->flags = what;
    if (size) {
        memcpy(feature->data, data, size);
    }

    ret = ioctl(vbasedev->fd, VFIO_DEVICE_FEATURE, feature);
    ret = ret < 0 ? -errno : ret;
    trace_vfio_feature(vbasedev->name, what & VFIO_DEVICE_FEATURE_MASK,
                       what & ~VFIO_DEVICE_FEATURE_MASK, ret);
    if (ret >= 0 && size) {
        memcpy(data, feature->data, size);
    }
    return ret;
}

/* What follows a change of state */

static void vfio_mig_tell(VFIOMig *mig)
{
    DeviceState *dev = mig->vbasedev->dev;
    g_autofree char *path = NULL;
    int told = states[mig->state].told;

    if (mig->vbasedev->migration_events && told >= 0) {
        path = object_get_canonical_path(OBJECT(dev));
        qapi_event_send_vfio_migration(dev->id ?: "", path, told);
    }
}

static void vfio_mig_enter(VFIOMig *mig, uint32_t state)
{
    trace_vfio_mig_enter(mig->vbasedev->name, vfio_mig_state_name(mig->state),
                         vfio_mig_state_name(state));
    if (state >= ARRAY_SIZE(states)) {
        state = VFIO_DEVICE_STATE_ERROR;
    }
    if (state == mig->state) {
        return;
    }
    qatomic_set(&mig->state, state);
    if (vfio_mig_state_runs(state)) {
        mig->vbasedev->ran = true;
        mig->vbasedev->untold = false;
    }
    vfio_mig_tell(mig);
}

void vfio_mig_ask_state(VFIOMig *mig)
{
    struct vfio_device_feature_mig_state now = {};
    int ret = vfio_feature(mig->vbasedev, VFIO_DEVICE_FEATURE_GET |
                           VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
                           &now, sizeof(now));

    vfio_mig_enter(mig, ret ? VFIO_DEVICE_STATE_ERROR : now.device_state);
}

/* Changes of state */

static bool vfio_mig_try_state(VFIOMig *mig, uint32_t state, Error **errp)
{
    struct vfio_device_feature_mig_state next = {
        .device_state = state,
        .data_fd = -1,
    };
    int ret = vfio_feature(mig->vbasedev, VFIO_DEVICE_FEATURE_SET |
                           VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
                           &next, sizeof(next));

    if (ret) {
        error_setg_errno(errp, -ret, "cannot take it from %s to %s",
                         vfio_mig_state_name(mig->state),
                         vfio_mig_state_name(state));
        return false;
    }
    vfio_mig_enter(mig, state);
    vfio_mig_take_fd(mig->session, next.data_fd);
    return true;
}

bool vfio_mig_set_state(VFIOMig *mig, uint32_t state, Error **errp)
{
    ERRP_GUARD();

    if (mig->state == state || vfio_mig_try_state(mig, state, errp)) {
        return true;
    }

    vfio_mig_ask_state(mig);
    if (mig->state == VFIO_DEVICE_STATE_ERROR) {
        vfio_mig_reset(mig, errp);
    }
    return false;
}

void vfio_mig_reset(VFIOMig *mig, Error **errp)
{
    int ret = ioctl(mig->vbasedev->fd, VFIO_DEVICE_RESET) ? -errno : 0;

    trace_vfio_mig_reset(mig->vbasedev->name, ret);
    vfio_mig_ask_state(mig);
    if (ret) {
        iommufd_error_append_remedy(errp, "it does not work any more, as a "
                                    "reset failed, too (%s): unplug it, or "
                                    "reset or end the VM", strerror(-ret));
    } else {
        iommufd_error_append_remedy(errp, "it has been reset, which its driver "
                                    "in the guest has to find out");
    }
}

/* Whether it is this file's */

static bool vfio_mig_may_ask(VFIODevice *vbasedev)
{
    bool saves = vbasedev->ops && vbasedev->ops->vfio_save_config;

    return saves && vbasedev->enable_mig != ON_OFF_AUTO_OFF &&
           (vbasedev->iommufd || vbasedev->enable_mig == ON_OFF_AUTO_ON);
}

static VFIOMig *vfio_mig_new(VFIODevice *vbasedev, uint64_t flags)
{
    VFIOMig *mig = g_new0(VFIOMig, 1);

    mig->vbasedev = vbasedev;
    mig->flags = flags;
    mig->state = VFIO_DEVICE_STATE_RUNNING;
    return mig;
}

bool vfio_mig_query(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();
    struct vfio_device_feature_migration has = {};
    int ret;

    if (!vfio_mig_may_ask(vbasedev)) {
        return true;
    }

    ret = vfio_feature(vbasedev, VFIO_DEVICE_FEATURE_GET |
                       VFIO_DEVICE_FEATURE_MIGRATION, &has, sizeof(has));
    if (!ret && !(has.flags & VFIO_MIGRATION_STOP_COPY)) {
        ret = -ENOTTY;
    }
    vbasedev->mig_errno = -ret;
    if (!ret) {
        vbasedev->mig = vfio_mig_new(vbasedev, has.flags);
        vfio_dirty_query(vbasedev);
    } else if (vbasedev->enable_mig == ON_OFF_AUTO_ON) {
        error_setg(errp, "enable-migration=on, but it cannot be migrated");
        vfio_mig_explain_driver(vbasedev, errp);
        return false;
    }
    return true;
}

void vfio_mig_forget(VFIODevice *vbasedev)
{
    if (vbasedev->mig) {
        assert(!vbasedev->mig->session);
        vfio_dirty_forget(vbasedev);
        g_free(vbasedev->mig);
        vbasedev->mig = NULL;
    }
}
