/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of a device that can be migrated: what the kernel is asked for
 *
 * The kernel finds the way from one state to another by itself, and every step
 * on it is real work of the driver's.  A step that fails leaves the device
 * before it, or in ERROR, which only a reset ends.
 *
 * A session ends when the device leaves its states, by whatever way: a reset
 * may come from the guest, without a word to QEMU.  What the descriptor has
 * given until then is worth nothing without the rest.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>

#include "dirty.h"
#include "hw/qdev-core.h"
#include "mig.h"
#include "qapi/error.h"
#include "qapi/qapi-events-vfio.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
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

    ret = ioctl(vbasedev->fd, VFIO_DEVICE_FEATURE, feature) < 0 ? -errno : 0;
    trace_vfio_feature(vbasedev->name, what & VFIO_DEVICE_FEATURE_MASK,
                       what & ~VFIO_DEVICE_FEATURE_MASK, ret);
    if (!ret && size) {
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
    mig->ran |= states[state].running;
    vfio_mig_tell(mig);
}

bool vfio_mig_is_running(VFIODevice *vbasedev)
{
    return states[qatomic_read(&vbasedev->mig->state)].running;
}

bool vfio_mig_is_pre_copying(VFIOMig *mig)
{
    uint32_t state = qatomic_read(&mig->state);

    return state == VFIO_DEVICE_STATE_PRE_COPY ||
           state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

void vfio_mig_ask_state(VFIOMig *mig)
{
    struct vfio_device_feature_mig_state now = {};
    int ret = vfio_feature(mig->vbasedev, VFIO_DEVICE_FEATURE_GET |
                           VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE,
                           &now, sizeof(now));

    vfio_mig_enter(mig, ret ? VFIO_DEVICE_STATE_ERROR : now.device_state);
}

/* Sessions */

bool vfio_mig_begin(VFIOMig *mig, VFIOMigSession session, Error **errp)
{
    if (mig->session != VFIO_MIG_IDLE) {
        error_setg(errp, "it is being migrated already");
        return false;
    }

    mig->buffer = g_try_malloc(VFIO_MIG_BUFFER);
    if (!mig->buffer) {
        error_setg(errp, "no memory for a buffer of %d bytes",
                   (int)VFIO_MIG_BUFFER);
        return false;
    }

    mig->session = session;
    mig->initial_bytes = 0;
    mig->dirty_bytes = 0;
    mig->others_least = UINT64_MAX;
    mig->unknown_size_said = false;
    return true;
}

void vfio_mig_end(VFIOMig *mig)
{
    if (mig->data_fd >= 0) {
        close(mig->data_fd);
        mig->data_fd = -1;
    }
    g_free(mig->buffer);
    mig->buffer = NULL;
    error_free(mig->error);
    qatomic_set(&mig->error, NULL);
    mig->session = VFIO_MIG_IDLE;
}

void vfio_mig_lose(VFIOMig *mig, Error *err)
{
    if (mig->session == VFIO_MIG_IDLE || mig->error) {
        error_reportf_err(err, VFIO_MSG_PREFIX, mig->vbasedev->name);
    } else {
        qatomic_set(&mig->error, err);
    }
}

bool vfio_mig_check(VFIOMig *mig, Error **errp)
{
    if (mig->error) {
        error_propagate(errp, error_copy(mig->error));
    }
    return !mig->error;
}

/*
 * With a session under way, another descriptor means that the device has begun
 * anew.  The migration thread may be reading from the one that is there.
 */
static void vfio_mig_take_fd(VFIOMig *mig, int fd)
{
    Error *err = NULL;

    if (fd < 0) {
        return;
    }
    if (mig->data_fd < 0) {
        mig->data_fd = fd;
        return;
    }

    close(fd);
    error_setg(&err, "it has begun its state anew, as after a reset");
    iommufd_error_append_remedy(&err, "migrate again");
    vfio_mig_lose(mig, err);
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
    vfio_mig_take_fd(mig, next.data_fd);
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
                                    "end the VM", strerror(-ret));
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
    mig->data_fd = -1;
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
        assert(!vbasedev->mig->registered);
        vfio_dirty_forget(vbasedev);
        vfio_mig_end(vbasedev->mig);
        g_free(vbasedev->mig);
        vbasedev->mig = NULL;
    }
}
