/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device in the migration stream
 *
 * The sections of a device are the same as in newer releases, which can send to
 * and receive from this one.  What is in them begins with a word of 64 bits:
 *
 *   START   SETUP, END
 *   PART    { DATA, size, bytes }, END       while the guest runs, any number
 *   END     { DATA, size, bytes }, END       until the device has no more
 *   FULL    CONFIG, what the bus has, END    after the END of all devices
 *
 * The bytes are what the device's descriptor gives, in order; how they are cut
 * is of no importance.
 *
 * At CONFIG the receiver leaves RESUMING, which is when the driver looks at
 * what it was given.  So bad data are found while the sender can still go on,
 * if it waits for the answer (migration capability return-path).  Newer
 * releases load the configuration in RESUMING.
 *
 * A part is sent for VFIO_MIG_TURN, and not for a fixed number of bytes:
 * between two parts all of RAM may be looked through for dirty pages.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>

#include "mig.h"
#include "migration/migration.h"
#include "migration/misc.h"
#include "migration/qemu-file.h"
#include "migration/register.h"
#include "migration/vmstate.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/stats64.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "sysemu/iommufd.h"
#include "trace.h"

#define VFIO_MIG_END                0xffffffffef100001ULL
#define VFIO_MIG_CONFIG             0xffffffffef100002ULL
#define VFIO_MIG_SETUP              0xffffffffef100003ULL
#define VFIO_MIG_DATA               0xffffffffef100004ULL
#define VFIO_MIG_INIT_DATA_SENT     0xffffffffef100005ULL
#define VFIO_MIG_CONFIG_LOAD_READY  0xffffffffef100006ULL

#define VFIO_MIG_TURN 50    /* milliseconds */

/* For how long what a driver says of its state's size is good: milliseconds */
#define VFIO_MIG_SIZE_AGE 100

/* Bytes: a QEMUFile's own buffer has room for two, and gives them uncopied. */
#define VFIO_MIG_PIECE (16 * KiB)

#define VFIO_MIG_REST (50 * 1000)   /* microseconds; see vfio_mig_rest() */

/* How often it keeps the VM from stopping though the rest makes no progress */
#define VFIO_MIG_INSIST 8

/* More than any downtime allows, where the driver does not say how much */
#define VFIO_MIG_UNKNOWN_SIZE (100 * GiB)

static Stat64 bytes_sent;

int64_t vfio_mig_bytes_sent(void)
{
    return stat64_get(&bytes_sent);
}

void vfio_mig_forget_bytes_sent(void)
{
    stat64_init(&bytes_sent, 0);
}

/* Saving */

/*
 * Only the error of a file that fails while the guest runs finds its way into
 * query-migrate, and none finds it into the answer to a snapshot.
 */
static int vfio_mig_save_failed(VFIOMigSession *session, QEMUFile *f,
                                Error *err)
{
    error_prepend(&err, VFIO_MSG_PREFIX, session->name);
    if (!migrate_get_current()->migration_thread_running) {
        error_report_err(error_copy(err));
    }
    migrate_set_error(migrate_get_current(), err);
    qemu_file_set_error_obj(f, -EIO, err);
    return -EIO;
}

/* For the migration thread */
static bool vfio_mig_check_locked(VFIOMigSession *session, Error **errp)
{
    bool ok = true;

    if (qatomic_read(&session->error)) {
        qemu_mutex_lock_iothread();
        ok = vfio_mig_check(session, errp);
        qemu_mutex_unlock_iothread();
    }
    return ok;
}

static void vfio_mig_take_off(uint64_t *bytes, uint64_t *size)
{
    uint64_t part = MIN(*bytes, *size);

    *bytes -= part;
    *size -= part;
}

/* Having sent something, it may insist again: see vfio_mig_insists(). */
static void vfio_mig_count(VFIOMigSession *session, uint64_t size)
{
    stat64_add(&bytes_sent, size);
    session->others_least = UINT64_MAX;
    session->sent = true;
    vfio_mig_take_off(&session->initial_bytes, &size);
    vfio_mig_take_off(&session->dirty_bytes, &size);
}

/* What the kernel says to a read when the device has been reset: ENODEV */
static void vfio_mig_explain_read(int err, Error **errp)
{
    if (err == ENODEV) {
        iommufd_error_append_remedy(errp, "it was reset while it was being "
                                    "migrated, so migrate again");
    }
}

/*
 * Send a record, if the device has data for one.  Drivers say in two ways that
 * there are none now, but may be later: ENOMSG, or 0 as at the end.
 *
 * Returns how much was sent, or -errno.
 */
static ssize_t vfio_mig_save_record(VFIOMigSession *session, QEMUFile *f,
                                    bool last, Error **errp)
{
    ERRP_GUARD();
    ssize_t size;
    int err;

    TFR(size = read(session->data_fd, session->buffer, VFIO_MIG_BUFFER));
    err = size < 0 ? errno : 0;
    trace_vfio_mig_save_record(session->name, size, err);
    if (err == ENOMSG && !last) {
        return 0;
    }
    if (err) {
        error_setg_errno(errp, err, "cannot read its state");
        vfio_mig_explain_read(err, errp);
        return -err;
    }

    if (size) {
        qemu_put_be64(f, VFIO_MIG_DATA);
        qemu_put_be64(f, size);
        /* Sent from where it is; then the buffer may be used again. */
        qemu_put_buffer_async(f, session->buffer, size, false);
        qemu_fflush(f);
        vfio_mig_count(session, size);
    }
    return size;
}

/*
 * A guest that stands may have been reset, and its device with it, or the
 * device did not stop with it.  Until the handlers of the run state have been
 * called, other devices may still reach this one, so it does not stop here.
 */
static bool vfio_mig_first_state(VFIOMig *mig, Error **errp)
{
    if (mig->state == VFIO_DEVICE_STATE_ERROR) {
        error_setg(errp, "it does not work any more, as a reset failed");
        return false;
    }
    if (!vfio_mig_is_running(mig->vbasedev)) {
        return true;
    }
    if (!mig->vm_runs) {
        return vfio_mig_set_state(mig, VFIO_DEVICE_STATE_STOP, errp);
    }
    /* It may not have come back from an earlier migration. */
    return vfio_mig_set_state(mig, VFIO_DEVICE_STATE_RUNNING, errp) &&
           (!(mig->flags & VFIO_MIGRATION_PRE_COPY) ||
            vfio_mig_set_state(mig, VFIO_DEVICE_STATE_PRE_COPY, errp));
}

static bool vfio_mig_begin_saving(VFIOMigSession *session, Error **errp)
{
    return vfio_mig_begin(session, VFIO_MIG_SAVING, errp) &&
           vfio_mig_first_state(session->mig, errp);
}

/* Without the big lock, also for a snapshot */
static int vfio_mig_save_setup(QEMUFile *f, void *opaque)
{
    VFIOMigSession *session = opaque;
    Error *err = NULL;
    bool ok;

    qemu_put_be64(f, VFIO_MIG_SETUP);
    qemu_mutex_lock_iothread();
    ok = vfio_mig_begin_saving(session, &err);
    qemu_mutex_unlock_iothread();
    if (!ok) {
        return vfio_mig_save_failed(session, f, err);
    }
    qemu_put_be64(f, VFIO_MIG_END);
    return qemu_file_get_error(f);
}

static void vfio_mig_ask_pre_copy(VFIOMigSession *session)
{
    struct vfio_precopy_info info = {
        .argsz = sizeof(info),
    };
    int ret = ioctl(session->data_fd, VFIO_MIG_GET_PRECOPY_INFO, &info) ? -errno
                                                                        : 0;

    trace_vfio_mig_ask_pre_copy(session->name, info.initial_bytes,
                                info.dirty_bytes, ret);
    /* EINVAL: the device has just stopped; others show at the next read. */
    session->initial_bytes = ret ? 0 : info.initial_bytes;
    session->dirty_bytes = ret ? 0 : info.dirty_bytes;
}

static uint64_t vfio_mig_ask_size(VFIOMigSession *session)
{
    struct vfio_device_feature_mig_data_size size = {};
    int ret = vfio_mig_session_feature(session, VFIO_DEVICE_FEATURE_GET |
                                       VFIO_DEVICE_FEATURE_MIG_DATA_SIZE,
                                       &size, sizeof(size));

    if (!ret) {
        return size.stop_copy_length;
    }
    if (!session->unknown_size_said) {
        session->unknown_size_said = true;
        warn_report(VFIO_MSG_PREFIX "its driver does not tell how much state "
                    "it has (%s), so no downtime-limit seems long enough; stop "
                    "the VM, and the migration goes on", session->name,
                    strerror(-ret));
    }
    return VFIO_MIG_UNKNOWN_SIZE;
}

/* Drivers may have to work for the answer, so they are not asked often. */
static uint64_t vfio_mig_find_size(VFIOMigSession *session)
{
    int64_t now = qemu_clock_get_ms(QEMU_CLOCK_REALTIME);

    if (now >= session->size_asked + VFIO_MIG_SIZE_AGE) {
        session->size = vfio_mig_ask_size(session);
        session->size_asked = now;
    }
    return session->size;
}

/*
 * The device should send its first bytes before it stops.  It has its turn when
 * the rest of the VM was sent, and that may never be if RAM changes fast.
 */
static bool vfio_mig_insists(VFIOMigSession *session, uint64_t others)
{
    if (others < session->others_least) {
        session->others_least = others;
        session->insisted = 0;
    } else {
        session->insisted++;
    }
    return session->initial_bytes && session->insisted < VFIO_MIG_INSIST;
}

/*
 * How much the device has to send.  What it has when it stops is asked for only
 * if RAM would not keep it from stopping.
 */
static uint64_t vfio_mig_left(VFIOMigSession *session, uint64_t others,
                              uint64_t threshold)
{
    uint32_t state = vfio_mig_session_state(session);
    uint64_t size = session->initial_bytes + session->dirty_bytes;

    if (!vfio_mig_state_runs(state)) {
        return 0;   /* the guest stands: no downtime has to be kept short */
    }
    if (others + size <= threshold) {
        if (vfio_mig_state_pre_copies(state)) {
            vfio_mig_ask_pre_copy(session);
        }
        size = MAX(session->initial_bytes + session->dirty_bytes,
                   vfio_mig_find_size(session));
    }
    if (others + size < threshold && vfio_mig_insists(session, others)) {
        size = threshold;
    }
    return size;
}

/*
 * If only a device's state keeps the VM from stopping there is next to nothing
 * to send, and nothing else that the migration thread waits for.  In each turn
 * it would look through all of RAM for dirty pages, with the big lock held, as
 * fast as it can.  So it rests for as long as it has worked, and the lock is
 * free for half of the time, for processors and the monitor.
 *
 * How little is sent meanwhile must not be taken for the speed of the network,
 * or no state would be small enough: migration_update_counters() goes by what
 * it has measured before.
 */
static void vfio_mig_rest(void)
{
    static int64_t rested;      /* until when; the migration thread's */
    int64_t worked = g_get_monotonic_time() - rested;

    g_usleep(MIN(worked, VFIO_MIG_REST));
    rested = g_get_monotonic_time();
}

/*
 * Asked at the end of every round, and RAM first
 *
 * Without the big lock
 */
static void vfio_mig_save_pending(QEMUFile *f, void *opaque,
                                  uint64_t threshold, uint64_t *pre_copy,
                                  uint64_t *compatible, uint64_t *post_copy)
{
    VFIOMigSession *session = opaque;
    uint64_t others = *pre_copy + *compatible + *post_copy;
    Error *err = NULL;
    uint64_t size;

    if (session->way != VFIO_MIG_SAVING) {
        return;
    }
    if (!vfio_mig_check_locked(session, &err)) {
        vfio_mig_save_failed(session, f, err);
        *pre_copy += MAX(threshold, 1);     /* the VM must not stop for it */
        return;
    }

    size = vfio_mig_left(session, others, threshold);
    trace_vfio_mig_save_pending(session->name, size, others, threshold);
    *pre_copy += size;
    if (others <= threshold && others + size > threshold && !session->sent) {
        vfio_mig_rest();
    }
    session->sent = false;
}

static bool vfio_mig_has_parts(void *opaque)
{
    return vfio_mig_state_pre_copies(vfio_mig_session_state(opaque));
}

/*
 * Without the big lock; returns 1, as the next device may have its turn.  A
 * failure is on the file, and for the core to report once.
 */
static int vfio_mig_save_part(QEMUFile *f, void *opaque)
{
    VFIOMigSession *session = opaque;
    int64_t end = qemu_clock_get_ms(QEMU_CLOCK_REALTIME) + VFIO_MIG_TURN;
    Error *err = NULL;
    ssize_t size;

    if (!vfio_mig_check_locked(session, &err)) {
        vfio_mig_save_failed(session, f, err);
        return 1;
    }

    do {
        size = vfio_mig_save_record(session, f, false, &err);
        if (size < 0) {
            vfio_mig_save_failed(session, f, err);
            return 1;
        }
    } while (size && !qemu_file_rate_limit(f) &&
             qemu_clock_get_ms(QEMU_CLOCK_REALTIME) < end);

    qemu_put_be64(f, VFIO_MIG_END);
    return 1;
}

/*
 * RAM has been sent.  The device has stopped with the VM: in STOP_COPY if its
 * session has begun.  One that did not stop may have written to RAM since.
 */
static bool vfio_mig_last_begin(VFIOMigSession *session, Error **errp)
{
    ERRP_GUARD();

    if (!vfio_mig_check(session, errp)) {
        return false;
    }
    if (vfio_mig_is_running(session->mig->vbasedev)) {
        error_setg(errp, "it still runs, and what it writes to memory from now "
                   "on would be lost");
        iommufd_error_append_remedy(errp, "wake the guest up if it sleeps, "
                                    "stop the VM, and try again");
        return false;
    }
    return vfio_mig_set_state(session->mig, VFIO_DEVICE_STATE_STOP_COPY,
                              errp) &&
           vfio_mig_check(session, errp);
}

static bool vfio_mig_save_rest(VFIOMigSession *session, QEMUFile *f,
                               Error **errp)
{
    ssize_t size;

    if (!vfio_mig_last_begin(session, errp)) {
        return false;
    }
    do {
        size = vfio_mig_save_record(session, f, true, errp);
    } while (size > 0 && !qemu_file_get_error(f));
    return size >= 0;
}

static int vfio_mig_save_end(QEMUFile *f, void *opaque)
{
    VFIOMigSession *session = opaque;
    Error *err = NULL;

    if (session->way != VFIO_MIG_SAVING) {
        return -EINVAL;     /* save_setup() has failed, and said why */
    }
    if (!vfio_mig_save_rest(session, f, &err)) {
        return vfio_mig_save_failed(session, f, err);
    }
    qemu_put_be64(f, VFIO_MIG_END);
    return qemu_file_get_error(f);
}

/* With background-snapshot, the core comes here even if save_setup() failed. */
static void vfio_mig_save_config(QEMUFile *f, void *opaque)
{
    VFIOMigSession *session = opaque;
    Error *err = NULL;

    if (session->way != VFIO_MIG_SAVING) {
        return;
    }
    if (!vfio_mig_check(session, &err)) {
        vfio_mig_save_failed(session, f, err);
        return;
    }
    qemu_put_be64(f, VFIO_MIG_CONFIG);
    session->mig->vbasedev->ops->vfio_save_config(session->mig->vbasedev, f);
    qemu_put_be64(f, VFIO_MIG_END);
}

/* The state after a migration that was done, or failed, or was cancelled */
static bool vfio_mig_last_state(VFIOMig *mig, Error **errp)
{
    if (mig->vm_runs) {
        return vfio_mig_start(mig, errp);
    }
    if (vfio_mig_is_running(mig->vbasedev) ||
        mig->state == VFIO_DEVICE_STATE_STOP_COPY) {
        return vfio_mig_set_state(mig, VFIO_DEVICE_STATE_STOP, errp);
    }
    return true;
}

/*
 * The device has gone, and its session is no longer needed.  The migration
 * thread goes over the core's list, in which that is, as long as it has a file,
 * whatever the state of the migration.
 */
static bool vfio_mig_stream_free(VFIOMigSession *session)
{
    if (session->way != VFIO_MIG_IDLE || !migration_is_idle() ||
        migrate_get_current()->to_dst_file) {
        return false;
    }

    unregister_savevm(NULL, session->id, session);
    qemu_bh_delete(session->gone);
    vfio_mig_session_free(session);
    return true;
}

/* If it is too early, the migration's cleanup is still to come. */
static void vfio_mig_stream_gone(void *opaque)
{
    vfio_mig_stream_free(opaque);
}

/* For the core, which goes over its list: a device's place there stays. */
static void vfio_mig_cleanup(VFIOMigSession *session)
{
    vfio_mig_end(session);
    if (!session->mig) {
        qemu_bh_schedule(session->gone);
    }
}

/* The migration thread has come to its end. */
static void vfio_mig_save_cleanup(void *opaque)
{
    VFIOMigSession *session = opaque;
    Error *err = NULL;

    if (session->way == VFIO_MIG_SAVING && session->mig &&
        !vfio_mig_last_state(session->mig, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, session->name);
    }
    if (session->way != VFIO_MIG_LOADING) {
        vfio_mig_cleanup(session);
    }
}

/* Loading: in a coroutine of the main thread, with the big lock */

/*
 * A device that has not got its state is in RESUMING still; see mig-run.c.
 *
 * Without the lock, after the bitmaps of disks that come when the guest runs
 * already (postcopy_ram_listen_thread())
 */
static int vfio_mig_load_cleanup(void *opaque)
{
    VFIOMigSession *session = opaque;
    bool locked = qemu_mutex_iothread_locked();

    if (!locked) {
        qemu_mutex_lock_iothread();
    }
    if (session->way == VFIO_MIG_LOADING) {
        vfio_mig_cleanup(session);
    }
    if (!locked) {
        qemu_mutex_unlock_iothread();
    }
    return 0;
}

/* The core does not, if one of them cannot begin (qemu_loadvm_state()). */
static void vfio_mig_cleanup_all(void)
{
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->mig && vbasedev->mig->session) {
            vfio_mig_load_cleanup(vbasedev->mig->session);
        }
    }
}

static int vfio_mig_load_setup(QEMUFile *f, void *opaque)
{
    VFIOMigSession *session = opaque;
    Error *err = NULL;

    if (!vfio_mig_begin(session, VFIO_MIG_LOADING, &err) ||
        !vfio_mig_set_state(session->mig, VFIO_DEVICE_STATE_RESUMING, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, session->name);
        vfio_mig_cleanup_all();
        return -EIO;
    }
    return 0;
}

static void vfio_mig_explain_refusal(Error **errp)
{
    iommufd_error_append_remedy(errp, "device, driver and firmware must be of "
                                "the same kind as where it comes from");
}

static bool vfio_mig_write(VFIOMigSession *session, const uint8_t *data,
                           size_t size, Error **errp)
{
    ERRP_GUARD();
    size_t done = 0;
    ssize_t ret;
    int err;

    if (session->mig->state != VFIO_DEVICE_STATE_RESUMING) {
        error_setg(errp, "some of its state comes after the end of it");
        return false;
    }

    while (done < size) {
        TFR(ret = write(session->data_fd, data + done, size - done));
        err = ret < 0 ? errno : 0;
        trace_vfio_mig_write(session->name, size - done, ret, err);
        if (ret <= 0) {
            error_setg(errp, "its state was refused: %s",
                       err ? strerror(err) : "no more is taken");
            vfio_mig_explain_refusal(errp);
            return false;
        }
        done += ret;
    }
    return true;
}

/* While the rest of a record is waited for, the device may be reset, or go. */
static bool vfio_mig_load_record(VFIOMigSession *session, QEMUFile *f,
                                 Error **errp)
{
    uint64_t left = qemu_get_be64(f);
    size_t size;

    for (; left; left -= size) {
        uint8_t *data = session->buffer;

        size = MIN(left, VFIO_MIG_PIECE);
        if (qemu_get_buffer_in_place(f, &data, size) != size) {
            error_setg(errp, "the stream ends within its state");
            return false;
        }
        if (!vfio_mig_check(session, errp) ||
            !vfio_mig_write(session, data, size, errp)) {
            return false;
        }
    }
    return true;
}

/* The driver looks at what it was given. */
static bool vfio_mig_load_rest(VFIOMigSession *session, Error **errp)
{
    ERRP_GUARD();

    if (!vfio_mig_check(session, errp)) {
        return false;
    }
    if (!vfio_mig_set_state(session->mig, VFIO_DEVICE_STATE_STOP, errp)) {
        vfio_mig_explain_refusal(errp);
        return false;
    }
    return true;
}

static bool vfio_mig_load_word(QEMUFile *f, uint64_t word, const char *what,
                               Error **errp)
{
    uint64_t got = qemu_get_be64(f);

    if (got != word) {
        error_setg(errp, "0x%"PRIx64" stands at the end of its %s", got, what);
    }
    return got == word;
}

static bool vfio_mig_load_config(VFIOMigSession *session, QEMUFile *f,
                                 Error **errp)
{
    ERRP_GUARD();
    VFIODevice *vbasedev;
    int ret;

    if (!vfio_mig_load_rest(session, errp)) {
        return false;
    }

    vbasedev = session->mig->vbasedev;
    ret = vbasedev->ops->vfio_load_config(vbasedev, f);
    if (ret) {
        error_setg_errno(errp, -ret, "its configuration was refused");
        vfio_mig_explain_refusal(errp);
        return false;
    }
    return vfio_mig_load_word(f, VFIO_MIG_END, "configuration", errp);
}

static void vfio_mig_refuse_word(uint64_t word, Error **errp)
{
    ERRP_GUARD();

    switch (word) {
    case VFIO_MIG_INIT_DATA_SENT:
        error_setg(errp, "the sender wants to be told when the first of its "
                   "state is loaded");
        iommufd_error_append_remedy(errp, "switch the sender's migration "
                                    "capability switchover-ack off");
        break;
    case VFIO_MIG_CONFIG_LOAD_READY:
        error_setg(errp, "the sender sends its state by several channels");
        iommufd_error_append_remedy(errp, "give the sender's device "
                                    "x-migration-multifd-transfer=off");
        break;
    default:
        error_setg(errp, "the stream has an unknown word, 0x%"PRIx64, word);
    }
}

/* What a section has, up to its END */
static bool vfio_mig_load_section(VFIOMigSession *session, QEMUFile *f,
                                  Error **errp)
{
    for (;;) {
        uint64_t word = qemu_get_be64(f);

        trace_vfio_mig_load_word(session->name, word);
        if (qemu_file_get_error(f)) {
            error_setg(errp, "the stream has ended");
            return false;
        }
        switch (word) {
        case VFIO_MIG_END:
            return true;
        case VFIO_MIG_SETUP:
            return vfio_mig_load_word(f, VFIO_MIG_END, "setup", errp);
        case VFIO_MIG_CONFIG:
            return vfio_mig_load_config(session, f, errp);
        case VFIO_MIG_DATA:
            if (!vfio_mig_load_record(session, f, errp)) {
                return false;
            }
            break;
        default:
            vfio_mig_refuse_word(word, errp);
            return false;
        }
    }
}

static int vfio_mig_load_state(QEMUFile *f, void *opaque, int version_id)
{
    VFIOMigSession *session = opaque;
    Error *err = NULL;

    if (session->way != VFIO_MIG_LOADING) {
        error_report(VFIO_MSG_PREFIX "it was not there yet when the migration "
                     "began to come in", session->name);
        return -EINVAL;
    }
    if (!vfio_mig_load_section(session, f, &err)) {
        error_reportf_err(err, VFIO_MSG_PREFIX, session->name);
        return -EINVAL;
    }
    return qemu_file_get_error(f);
}

static const SaveVMHandlers handlers = {
    .save_setup = vfio_mig_save_setup,
    .save_live_pending = vfio_mig_save_pending,
    .is_active_iterate = vfio_mig_has_parts,
    .save_live_iterate = vfio_mig_save_part,
    .save_live_complete_precopy = vfio_mig_save_end,
    .save_state = vfio_mig_save_config,
    .save_cleanup = vfio_mig_save_cleanup,
    .load_setup = vfio_mig_load_setup,
    .load_state = vfio_mig_load_state,
    .load_cleanup = vfio_mig_load_cleanup,
};

void vfio_mig_register_stream(VFIOMig *mig)
{
    DeviceState *dev = mig->vbasedev->dev;
    g_autofree char *path = vmstate_if_get_id(VMSTATE_IF(dev));
    char *id = path ? g_strdup_printf("%s/vfio", path) : g_strdup("vfio");

    mig->session = vfio_mig_session_new(mig, id);
    mig->session->gone = qemu_bh_new(vfio_mig_stream_gone, mig->session);
    /* The place is the device's alone, even if another's session is there. */
    register_savevm_live(id, path ? 0 : VMSTATE_INSTANCE_ID_ANY, 1, &handlers,
                         mig->session);
}

/*
 * The migration thread may have it before its session begins: until the cleanup
 * it goes over the list, and may be waiting for the lock that we hold.  But the
 * cleanup may be over, too: it lets go of the lock at its end.
 */
void vfio_mig_unregister_stream(VFIOMig *mig)
{
    VFIOMigSession *session = mig->session;

    mig->session = NULL;
    vfio_mig_session_leave(session);
    if (!vfio_mig_stream_free(session)) {
        qemu_bh_schedule(session->gone);
    }
}
