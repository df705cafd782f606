/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a migration has of a device, to its own end
 *
 * A session begins when the device is to be saved or loaded.  It is lost when
 * the device leaves the states of it, by whatever way: a reset may come from
 * the guest, without a word to QEMU.  What the descriptor has given until then
 * is worth nothing without the rest.
 *
 * It is lost as well when the device goes.  But neither QEMU's list of what is
 * migrated nor the migration thread that goes over it can do without it then:
 * see mig.h.
 */
#include "qemu/osdep.h"

#include "mig.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/lockable.h"
#include "qemu/units.h"
#include "sysemu/iommufd.h"

VFIOMigSession *vfio_mig_session_new(VFIOMig *mig, char *id)
{
    VFIOMigSession *session = g_new0(VFIOMigSession, 1);

    qemu_mutex_init(&session->lock);
    session->mig = mig;
    session->name = g_strdup(mig->vbasedev->name);
    session->id = id;
    session->data_fd = -1;
    return session;
}

void vfio_mig_session_free(VFIOMigSession *session)
{
    vfio_mig_end(session);
    g_free(session->id);
    g_free(session->name);
    qemu_mutex_destroy(&session->lock);
    g_free(session);
}

/* The device */

static Error *vfio_mig_session_error_gone(void)
{
    Error *err = NULL;

    error_setg(&err, "it was unplugged while it was being migrated");
    iommufd_error_append_remedy(&err, "migrate again");
    return err;
}

void vfio_mig_session_leave(VFIOMigSession *session)
{
    if (session->way != VFIO_MIG_IDLE) {
        vfio_mig_lose(session, vfio_mig_session_error_gone());
    }
    WITH_QEMU_LOCK_GUARD(&session->lock) {
        session->mig = NULL;
    }
}

uint32_t vfio_mig_session_state(VFIOMigSession *session)
{
    QEMU_LOCK_GUARD(&session->lock);

    return session->mig ? qatomic_read(&session->mig->state)
                        : VFIO_DEVICE_STATE_ERROR;
}

int vfio_mig_session_feature(VFIOMigSession *session, uint32_t what, void *data,
                             size_t size)
{
    QEMU_LOCK_GUARD(&session->lock);

    return session->mig ? vfio_feature(session->mig->vbasedev, what, data, size)
                        : -ENODEV;
}

/* Begin and end */

bool vfio_mig_begin(VFIOMigSession *session, VFIOMigWay way, Error **errp)
{
    if (!session->mig) {
        error_propagate(errp, vfio_mig_session_error_gone());
        return false;
    }
    if (session->way != VFIO_MIG_IDLE) {
        error_setg(errp, "it is being migrated already");
        return false;
    }

    session->buffer = g_try_malloc(VFIO_MIG_BUFFER);
    if (!session->buffer) {
        error_setg(errp, "no memory for a buffer of %d bytes",
                   (int)VFIO_MIG_BUFFER);
        return false;
    }

    session->way = way;
    session->initial_bytes = 0;
    session->dirty_bytes = 0;
    session->size_asked = 0;
    session->sent = false;
    session->others_least = UINT64_MAX;
    session->insisted = 0;
    session->unknown_size_said = false;
    return true;
}

void vfio_mig_end(VFIOMigSession *session)
{
    if (session->data_fd >= 0) {
        close(session->data_fd);
        session->data_fd = -1;
    }
    g_free(session->buffer);
    session->buffer = NULL;
    error_free(session->error);
    qatomic_set(&session->error, NULL);
    session->way = VFIO_MIG_IDLE;
}

/*
 * With a session under way, another descriptor means that the device has begun
 * anew.  The migration thread may be reading from the one that is there.
 */
void vfio_mig_take_fd(VFIOMigSession *session, int fd)
{
    Error *err = NULL;

    if (fd < 0) {
        return;
    }
    if (session->data_fd < 0) {
        session->data_fd = fd;
        return;
    }

    close(fd);
    error_setg(&err, "it has begun its state anew, as after a reset");
    iommufd_error_append_remedy(&err, "migrate again");
    vfio_mig_lose(session, err);
}

/* Whether it can go on */

void vfio_mig_lose(VFIOMigSession *session, Error *err)
{
    if (session->way == VFIO_MIG_IDLE || session->error) {
        error_reportf_err(err, VFIO_MSG_PREFIX, session->name);
    } else {
        qatomic_set(&session->error, err);
    }
}

bool vfio_mig_check(VFIOMigSession *session, Error **errp)
{
    if (session->error) {
        error_propagate(errp, error_copy(session->error));
    }
    return !session->error;
}
