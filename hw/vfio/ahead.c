/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are bound before it is their turn to be realized: see ahead.h
 *
 * A thread makes one call, the bind, and waits in the kernel for most of it.
 * It sees the stand-in's descriptor and that of the iommufd, which stay as they
 * are until it is joined.
 */
#include "qemu/osdep.h"

#include "ahead.h"
#include "cdev.h"
#include "hw/vfio/kvm-device.h"
#include "hw/vfio/vfio-device.h"
#include "qemu/notify.h"
#include "sysemu/sysemu.h"
#include "trace.h"

typedef struct VFIOAhead {
    VFIODevice *standin;
    bool begun;         /* it is open, and the thread runs */
    pthread_t thread;
    int ret;            /* of the bind, once the thread is joined */
    QTAILQ_ENTRY(VFIOAhead) next;
} VFIOAhead;

static QTAILQ_HEAD(VFIOAheads, VFIOAhead) aheads =
    QTAILQ_HEAD_INITIALIZER(aheads);

/* One of them, each step undone in reverse order */

static bool vfio_ahead_is_twice(VFIODevice *standin)
{
    VFIOAhead *other;
    struct stat a, b;

    QTAILQ_FOREACH(other, &aheads, next) {
        if (other->begun && !fstat(other->standin->fd, &a) &&
            !fstat(standin->fd, &b) && a.st_rdev == b.st_rdev) {
            return true;
        }
    }
    return false;
}

static bool vfio_ahead_open(VFIODevice *standin)
{
    if (!iommufd_backend_connect(standin->iommufd, NULL)) {
        return false;
    }

    if (!vfio_cdev_open(standin, NULL)) {
        goto disconnect;
    }

    if (vfio_ahead_is_twice(standin) ||
        !vfio_kvm_device_add_fd(standin->fd, standin->name, NULL)) {
        goto close;
    }
    return true;

close:
    vfio_cdev_close(standin);
disconnect:
    iommufd_backend_disconnect(standin->iommufd);
    return false;
}

static void vfio_ahead_close(VFIODevice *standin)
{
    vfio_kvm_device_del_fd(standin->fd, standin->name, NULL);
    vfio_cdev_close(standin);
    iommufd_backend_disconnect(standin->iommufd);
}

static void *vfio_ahead_bind(void *opaque)
{
    VFIOAhead *ahead = opaque;

    ahead->ret = vfio_cdev_bind_ahead(ahead->standin, ahead->standin->iommufd);
    return NULL;
}

/* Returns whether its thread runs. */
static bool vfio_ahead_begin(VFIOAhead *ahead)
{
    if (!vfio_ahead_open(ahead->standin)) {
        return false;
    }

    trace_vfio_ahead_begin(ahead->standin->name, ahead->standin->fd);
    if (!iommufd_start_helper(&ahead->thread, vfio_ahead_bind, ahead)) {
        vfio_ahead_close(ahead->standin);
        return false;
    }
    return true;
}

/* Whether it is bound now */
static bool vfio_ahead_wait(VFIOAhead *ahead)
{
    pthread_join(ahead->thread, NULL);
    return !ahead->ret;
}

static void vfio_ahead_free(VFIOAhead *ahead)
{
    QTAILQ_REMOVE(&aheads, ahead, next);
    object_unref(OBJECT(ahead->standin->dev));
    g_free(ahead);
}

static void vfio_ahead_undo(VFIOAhead *ahead)
{
    if (ahead->begun) {
        vfio_ahead_wait(ahead);
        trace_vfio_ahead_drop(ahead->standin->name, ahead->standin->fd);
        vfio_ahead_close(ahead->standin);
    }
    vfio_ahead_free(ahead);
}

/* All of them */

static bool vfio_ahead_is_for(const VFIODevice *standin,
                              const VFIODevice *vbasedev)
{
    if (standin->iommufd != vbasedev->iommufd ||
        standin->fd_given != vbasedev->fd_given ||
        !qemu_uuid_is_null(&vbasedev->vf_token)) {
        return false;
    }
    return standin->fd_given ? standin->fd == vbasedev->fd
                             : !g_strcmp0(standin->sysfsdev,
                                          vbasedev->sysfsdev);
}

static VFIOAhead *vfio_ahead_find(const VFIODevice *vbasedev)
{
    VFIOAhead *ahead;

    QTAILQ_FOREACH(ahead, &aheads, next) {
        if (vfio_ahead_is_for(ahead->standin, vbasedev)) {
            return ahead;
        }
    }
    return NULL;
}

/* It stays known to KVM, which goes by the descriptor. */
static void vfio_ahead_move(VFIODevice *standin, VFIODevice *vbasedev)
{
    vbasedev->fd = standin->fd;
    vbasedev->fd_lent = false;
    vbasedev->devid = standin->devid;
    vbasedev->kvm_knows = true;
    standin->fd = -1;
    standin->fd_given = false;
    iommufd_backend_disconnect(standin->iommufd);
}

bool vfio_ahead_take(VFIODevice *vbasedev)
{
    VFIOAhead *ahead;
    bool bound;

    ahead = vfio_ahead_find(vbasedev);
    if (!ahead) {
        return false;
    }

    bound = ahead->begun && vfio_ahead_wait(ahead);
    if (bound) {
        trace_vfio_ahead_take(vbasedev->name, ahead->standin->fd);
        vfio_ahead_move(ahead->standin, vbasedev);
    } else if (ahead->begun) {
        vfio_ahead_close(ahead->standin);
    }
    vfio_ahead_free(ahead);
    return bound;
}

bool vfio_ahead_drop(void)
{
    VFIOAhead *ahead, *next;
    bool dropped = false;

    QTAILQ_FOREACH_SAFE(ahead, &aheads, next, next) {
        if (ahead->begun && !ahead->standin->fd_given) {
            vfio_ahead_undo(ahead);
            dropped = true;
        }
    }
    return dropped;
}

/* No turn comes any more. */
static void vfio_ahead_machine_done(Notifier *n, void *opaque)
{
    VFIOAhead *ahead, *next;

    QTAILQ_FOREACH_SAFE(ahead, &aheads, next, next) {
        vfio_ahead_undo(ahead);
    }
}

void vfio_ahead_add(VFIODevice *standin)
{
    static Notifier machine_done = { .notify = vfio_ahead_machine_done };
    VFIOAhead *ahead = g_new0(VFIOAhead, 1);

    if (!machine_done.node.le_prev) {
        qemu_add_machine_init_done_notifier(&machine_done);
    }
    ahead->standin = standin;
    object_ref(OBJECT(standin->dev));
    QTAILQ_INSERT_TAIL(&aheads, ahead, next);
    ahead->begun = vfio_ahead_begin(ahead);
}
