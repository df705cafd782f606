/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a guest that was to move, and does not
 *
 * Whatever ends the move, the guest runs in one place, exactly one, and its
 * devices work there; and it can move later.
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qemu/units.h"
#include "vfio-acpi.h"
#include "vfio-mig-guest.h"

static const VFIOMigGuestKind one = {
    .edu = { VFIO_MIG_LOG, .pre_copy = true, .p2p = true },
    .count = 1,
};

static const VFIOMigGuestKind two = {
    .edu = { VFIO_MIG_LOG, .pre_copy = true, .p2p = true },
    .count = 2,
};

static const VFIOMigGuestKind simple = {
    .edu = { VFIO_MIG_LOG },
    .count = 1,
};

/* Begun, and all memory was sent once */
static void begin(VFIOMigGuest *g)
{
    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    vfio_mig_guest_write_on(g);
}

static void check_ok(VFIOMigGuest *g, const char *command)
{
    qtest_qmp_assert_success(g->here->machine->qts, "{ 'execute': %s }",
                             command);
}

/* Not begun */

/* It is refused, and @device of the rig is why. */
static void check_keeps(VFIOMigSide *side, const char *device)
{
    g_autofree char *error =
        vfio_machine_qmp_error(side->machine, "migrate",
                               "uri=exec:cat >/dev/null");

    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "cannot be migrated together"));
    g_assert_nonnull(strstr(error, vfio_rig_address(device)));
}

/* Without P2P, one device keeps others from moving, until it is gone. */
static void test_devices_without_p2p(void)
{
    const char *names[VFIO_MIG_MOST] = { "EDU0", "EDU1", "APART0" };
    VFIOMigOptions options = { .variable = "VFIO_TEST_FROM" };
    VFIOMigDevice devices[VFIO_MIG_MOST + 1] = { };
    VFIOMigSide *side;

    for (int i = 0; i < VFIO_MIG_MOST; i++) {
        vfio_mig_edu_bind(names[i], &simple.edu, i);
        devices[i].sysfs = vfio_mig_sysfs(names[i]);
    }
    side = vfio_mig_start(devices, &options);
    for (int i = 0; i < VFIO_MIG_MOST - 1; i++) {
        g_autofree char *id = g_strdup_printf("dev%d", i);

        check_keeps(side, names[i]);
        vfio_machine_device_del(side->machine, id, VFIO_MIG_SLOT(i));
    }
    vfio_mig_save(side, "/dev/null");
    vfio_mig_stop(side);
    for (int i = 0; i < VFIO_MIG_MOST; i++) {
        g_free((char *)devices[i].sysfs);
        vfio_mig_edu_unbind(names[i]);
    }
}

/* Cancelled */

/* ... while a write of each device runs */
static void check_cancel(const VFIOMigGuestKind *kind)
{
    VFIOMigGuest *g = vfio_mig_guest_new(kind);

    begin(g);
    vfio_mig_guest_write_last(g);
    vfio_mig_cancel(g->here);
    for (int i = 0; i < kind->count; i++) {
        vfio_mig_edu_wrote(g->edus[i]);
    }
    vfio_mig_guest_stay(g, VFIO_MIG_KEPT);
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

static void test_cancelled(void)
{
    check_cancel(&one);
}

static void test_cancelled_without_pre_copy(void)
{
    check_cancel(&simple);
}

static void test_cancelled_with_two(void)
{
    check_cancel(&two);
}

/* At any moment of what a move takes; in microseconds */
static void wait_some_time(int64_t most)
{
    int64_t pause = g_test_rand_int_range(0, most);

    g_test_message("cancelled after %" PRId64 " us", pause);
    g_usleep(pause);
}

static int64_t time_of_move(VFIOMigGuest *g)
{
    g_autofree char *reason = NULL;
    int64_t begin, time;

    vfio_mig_guest_prepare(g);
    begin = g_get_monotonic_time();
    vfio_mig_begin(g->here, g->there);
    vfio_mig_guest_release(g);
    g_assert_true(vfio_mig_wait_end(g->here, &reason));
    time = g_get_monotonic_time() - begin;
    vfio_mig_guest_arrive(g);
    return time;
}

static void test_cancelled_at_any_moment(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&two);
    uint64_t steps = vfio_rig_number("VFIO_TEST_STEPS", 8);
    int64_t most = time_of_move(g);
    int moved = 0;

    for (int i = 0; i < steps; i++) {
        g_autofree char *reason = NULL;

        vfio_mig_guest_prepare(g);
        vfio_mig_begin(g->here, g->there);
        wait_some_time(most);
        check_ok(g, "migrate_cancel");
        reason = vfio_mig_guest_end(g, VFIO_MIG_KEPT);
        moved += !reason;
    }
    g_test_message("%d of %" PRIu64 " came too late", moved, steps);
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

/* Disturbed by the guest or its user */

/* The device may be as new; then what it was sending is of no use. */
static void test_guest_resets(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    g_autofree char *reason = NULL;

    begin(g);
    vfio_machine_reset(g->here->machine);
    vfio_mig_edu_set_up(g->edus[0]);
    vfio_mig_guest_write(g, 4);
    reason = vfio_mig_guest_end(g, VFIO_MIG_KEPT);
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

static bool is_active(VFIOMigSide *side)
{
    g_autofree char *status = vfio_mig_status(side);

    return g_str_equal(status, "active");
}

static bool has_ended(VFIOMigSide *side)
{
    siginfo_t end = { };

    g_assert_cmpint(waitid(P_PID, side->machine->pid, &end,
                           WEXITED | WNOHANG | WNOWAIT), ==, 0);
    return end.si_pid;
}

/*
 * It goes on, and does not stand for a move that has failed; the other side does
 * not wait for more.
 */
static void test_guest_resets_before_switchover(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    g_autofree char *status = NULL;
    g_autofree char *reason = NULL;

    vfio_mig_set_capability(g->here, "pause-before-switchover", true);
    begin(g);
    vfio_machine_reset(g->here->machine);
    g_assert_true(vfio_rig_wait(!is_active(g->here)));
    status = vfio_mig_status(g->here);
    g_assert_cmpstr(status, ==, "failed");
    g_assert_false(vfio_mig_wait_end(g->here, &reason));
    g_assert_nonnull(strstr(reason, "reset while it was being migrated"));
    g_assert_true(vfio_rig_wait(has_ended(g->there)));
    vfio_mig_guest_stay(g, VFIO_MIG_RESET);
    vfio_mig_guest_free(g);
}

/* A guest that stands may move at once, whatever the size of the state. */
static void test_stopped_and_continued(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    g_autofree char *late = NULL;
    g_autofree char *reason = NULL;

    begin(g);
    check_ok(g, "stop");
    late = vfio_reply_error(qtest_qmp(g->here->machine->qts,
                                      "{ 'execute': 'cont' }"));
    if (!late) {
        vfio_mig_guest_write(g, 4);
    }
    reason = vfio_mig_guest_end(g, VFIO_MIG_KEPT);
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

static void test_no_device_comes_or_goes(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    g_autofree char *plugged = NULL;
    g_autofree char *unplugged = NULL;

    begin(g);
    plugged = vfio_machine_device_add(g->here->machine,
                                      "pci-testdev,id=new,addr=9");
    g_assert_nonnull(plugged);
    unplugged = vfio_machine_qmp_error(g->here->machine, "device_del",
                                       "id=dev0");
    g_assert_nonnull(unplugged);
    vfio_mig_guest_write_last(g);
    vfio_mig_guest_release(g);
    vfio_mig_guest_arrive(g);
    vfio_mig_guest_free(g);
}

#define EJECT_PORT 0xae08

/*
 * A guest asks nobody whether it may eject a device.  The migration thread may
 * be at work on it; the move fails, and a later one is without the device.
 */
static void test_guest_ejects(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&two);
    VFIOMachine *m = g->here->machine;
    g_autofree char *reason = NULL;

    begin(g);
    qtest_outl(m->qts, EJECT_PORT, 1 << VFIO_MIG_SLOT(1));
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    g_assert_false(vfio_mig_wait_end(g->here, &reason));
    g_test_message("%s", reason);
    g_assert_nonnull(strstr(reason, "unplugged while it was being migrated"));
    vfio_machine_check_run_state(m, "running");
    vfio_mig_edu_check(g->edus[0]);
    vfio_mig_abandon(g->there);
    g->there = NULL;

    vfio_mig_guest_release(g);
    vfio_mig_save(g->here, "/dev/null");
    vfio_mig_guest_free(g);
}

/* It has no downtime to be kept short, whatever becomes of its device. */
static void test_paused_guest_is_reset(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&simple);

    check_ok(g, "stop");
    vfio_mig_guest_prepare(g);
    vfio_mig_set(g->here, "max-bandwidth", 1 * MiB);
    vfio_mig_guest_begin(g);
    vfio_machine_reset(g->here->machine);
    vfio_mig_set(g->here, "max-bandwidth", 1 * GiB);
    vfio_mig_wait(g->here, "completed");
    vfio_mig_wait(g->there, "completed");
    vfio_machine_check_run_state(g->there->machine, "prelaunch");
    vfio_mig_check_memory(g->here, g->there);
    vfio_mig_guest_free(g);
}

/* The other side */

static void test_other_side_ends(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    g_autofree char *reason = NULL;

    begin(g);
    vfio_mig_abandon(g->there);
    g->there = NULL;
    g_assert_false(vfio_mig_wait_end(g->here, &reason));
    vfio_mig_edu_check(g->edus[0]);
    vfio_mig_guest_release(g);
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

static void test_disk_full(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    g_autofree char *reason = NULL;

    vfio_mig_begin_saving(g->here, "/dev/full");
    g_assert_false(vfio_mig_wait_end(g->here, &reason));
    vfio_machine_check_run_state(g->here->machine, "running");
    vfio_mig_edu_check(g->edus[0]);
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

/* The device fails */

/* enum vfio_device_mig_state */
#define STOP            1
#define RUNNING         2
#define STOP_COPY       3
#define RESUMING        4
#define RUNNING_P2P     5
#define PRE_COPY        6
#define PRE_COPY_P2P    7

typedef struct Failure {
    const char *name;
    bool there;             /* it is the device of the other place */
    const char *setting;    /* of the driver */
    uint64_t value;
    bool to_error;          /* the device is in ERROR then */
    bool simple;            /* it is without PRE_COPY and P2P */
    bool moves;             /* the guest moves all the same */
    bool ours;              /* newer QEMUs give up, or do not notice in time */
} Failure;

static const Failure failures[] = {
    { "pre-copy", false, "fail_state", PRE_COPY },
    { "pre-copy-error", false, "fail_state", PRE_COPY, true },
    { "pre-copy-p2p", false, "fail_state", PRE_COPY_P2P },
    { "pre-copy-p2p-error", false, "fail_state", PRE_COPY_P2P, true },
    { "stop-copy", false, "fail_state", STOP_COPY },
    { "stop-copy-error", false, "fail_state", STOP_COPY, true },
    { "simple-stop", false, "fail_state", STOP, .simple = true },
    { "simple-stop-error", false, "fail_state", STOP, true, true },
    { "simple-stop-copy", false, "fail_state", STOP_COPY, .simple = true },
    { "read", false, "fail_read", EIO },
    { "simple-read", false, "fail_read", EIO, .simple = true },
    { "log-start", false, "fail_log_start", ENOMEM, .moves = true, .ours = true },
    { "pre-copy-size", false, "fail_precopy_info", EIO, .moves = true },
    { "corrupt", false, "corrupt", 1, .ours = true },
    { "resuming", true, "fail_state", RESUMING },
    { "resuming-error", true, "fail_state", RESUMING, true },
    { "write", true, "fail_write", ENOSPC },
    { "loading", true, "fail_state", STOP, .ours = true },
    { "loading-error", true, "fail_state", STOP, true, .ours = true },
};

/*
 * It did not stop with the guest, when there was no move yet.  It does before
 * memory is sent, or what it writes meanwhile would be lost.
 */
static void test_device_had_not_stopped(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    const char *device = vfio_mig_guest_device(g, 0);
    g_auto(GStrv) before = NULL;
    g_auto(GStrv) after = NULL;

    vfio_mig_edu_set(device, "fail_state", STOP);
    check_ok(g, "stop");
    vfio_mig_edu_set(device, "fail_state", 0);
    before = vfio_mig_events(g->here);
    g_assert_false(g_strv_contains((const char **)before, "dev0 stop"));

    vfio_mig_guest_prepare(g);
    vfio_mig_begin(g->here, g->there);
    vfio_mig_wait_moved(g->here, g->there);
    vfio_mig_check_memory(g->here, g->there);
    after = vfio_mig_events(g->here);
    g_assert_cmpstr(after[0], ==, "dev0 stop");
    vfio_mig_guest_free(g);
}

/* A guest that sleeps */

static uint64_t state_of(const char *device)
{
    g_autofree char *path = vfio_rig_sysfs(device, "migration/state");
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(text, NULL, 10);
}

/* Who waits for the event loses those that came before it. */
static bool is_running(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-status' }");
    bool running = qdict_get_bool(qdict_get_qdict(reply, "return"), "running");

    qobject_unref(reply);
    return running;
}

/*
 * Waking up resets the devices, and that lets them run.  One that cannot be
 * reset is made to.
 */
static void check_wakes_up(VFIOMigSide *side, const char *const *devices)
{
    VFIOMigEdu *edu;
    int i;

    vfio_machine_check_run_state(side->machine, "suspended");
    for (i = 0; devices[i]; i++) {
        vfio_mig_edu_set(devices[i], "fail_reset", EIO);
    }
    qtest_qmp_assert_success(side->machine->qts,
                             "{ 'execute': 'system_wakeup' }");
    g_assert_true(vfio_rig_wait(is_running(side->machine)));
    for (i = 0; devices[i]; i++) {
        vfio_mig_edu_set(devices[i], "fail_reset", 0);
        g_assert_cmpuint(state_of(devices[i]), ==, RUNNING);
        edu = vfio_mig_edu_new(side, i);
        vfio_mig_edu_check(edu);
        vfio_mig_edu_free(edu);
    }
}

/* Let what was sent of a paused guest be what newer releases send of this. */
static void change_to_asleep(const char *path)
{
    g_autofree char *bytes = NULL;
    char *state;
    size_t size;

    g_assert_true(g_file_get_contents(path, &bytes, &size, NULL));
    state = memmem(bytes, size, "globalstate", strlen("globalstate"));
    g_assert_nonnull(state);
    state = memmem(state, bytes + size - state, "paused", strlen("paused"));
    g_assert_nonnull(state);
    strcpy(state, "suspended");     /* there is room for 100 bytes */
    g_assert_true(g_file_set_contents(path, bytes, size, NULL));
}

/* It came asleep, and its devices have not run since; they begin as with cont. */
static void test_guest_came_asleep(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&two);
    const char *devices[] = { vfio_mig_guest_device_there(g, 0),
                              vfio_mig_guest_device_there(g, 1), NULL };
    char *file = vfio_rig_log_new();

    check_ok(g, "stop");
    vfio_mig_save(g->here, file);
    change_to_asleep(file);
    vfio_mig_guest_prepare(g);
    vfio_mig_load(g->there, file);
    for (int i = 0; devices[i]; i++) {
        g_assert_cmpuint(state_of(devices[i]), ==, STOP);
    }
    g_strfreev(vfio_mig_events(g->there));
    check_wakes_up(g->there, devices);
    vfio_mig_guest_check_order(g, g->there, " running");
    vfio_mig_guest_free(g);
    vfio_rig_log_free(file);
}

/* Its device was kept from others, and could not leave that. */
static void test_guest_sleeps_beside_device(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    const char *device = vfio_mig_guest_device(g, 0);
    const char *devices[] = { device, NULL };

    check_ok(g, "stop");
    vfio_mig_edu_set(device, "fail_state", RUNNING);
    check_ok(g, "cont");
    vfio_mig_edu_set(device, "fail_state", 0);
    g_assert_cmpuint(state_of(device), ==, RUNNING_P2P);
    vfio_acpi_sleep(g->here->machine);
    check_wakes_up(g->here, devices);
    vfio_mig_guest_free(g);
}

/* Snapshots */

static bool is_job_done(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-jobs' }");
    const QListEntry *first = qlist_first(qdict_get_qlist(reply, "return"));
    QDict *job = qobject_to(QDict, qlist_entry_obj(first));
    bool done = g_str_equal(qdict_get_str(job, "status"), "concluded");

    g_assert_false(qdict_haskey(job, "error"));
    qobject_unref(reply);
    return done;
}

static void finish_job(VFIOMachine *m)
{
    g_assert_true(vfio_rig_wait(is_job_done(m)));
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'job-dismiss',"
                             " 'arguments': { 'id': 'job' } }");
}

/* A disk that has room for snapshots, in a new file */
static void add_disk(VFIOMachine *m, const char *path)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'blockdev-add',"
                             " 'arguments': { 'driver': 'file',"
                             " 'node-name': 'file', 'filename': %s } }", path);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'blockdev-create',"
                             " 'arguments': { 'job-id': 'job', 'options': {"
                             " 'driver': 'qcow2', 'file': 'file',"
                             " 'size': 1048576 } } }");
    finish_job(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'blockdev-add',"
                             " 'arguments': { 'driver': 'qcow2',"
                             " 'node-name': 'disk', 'file': 'file' } }");
}

/* Returns whether it succeeds. */
static bool snapshot(VFIOMachine *m, const char *command)
{
    g_autofree char *text = vfio_machine_monitor(m, command);

    g_test_message("%s: %s", command, text);
    return !strstr(text, "Error");
}

/* The second device cannot begin to load, and the first one has. */
static void test_snapshot_cannot_be_loaded(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&two);
    VFIOMachine *m = g->here->machine;
    const char *device = vfio_mig_guest_device(g, 1);
    char *disk = vfio_rig_log_new();

    add_disk(m, disk);
    g_assert_true(snapshot(m, "savevm one"));
    vfio_mig_edu_set(device, "fail_state", RESUMING);
    g_assert_false(snapshot(m, "loadvm one"));
    vfio_mig_edu_set(device, "fail_state", 0);
    check_ok(g, "cont");
    g_assert_true(snapshot(m, "savevm two"));
    for (int i = 0; i < two.count; i++) {
        vfio_mig_edu_set_up(g->edus[i]);
        vfio_mig_edu_check(g->edus[i]);
    }
    vfio_mig_guest_free(g);
    vfio_rig_log_free(disk);
}

/* Also if the guest was paused before: then it has another run state. */
static void test_failed_snapshot_is_explained(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);
    VFIOMachine *m = g->here->machine;
    const char *device = vfio_mig_guest_device(g, 0);
    char *disk = vfio_rig_log_new();
    g_autofree char *text = NULL;

    add_disk(m, disk);
    check_ok(g, "stop");
    vfio_mig_edu_set(device, "fail_state", STOP_COPY);
    text = vfio_machine_monitor(m, "savevm one");
    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, "Error while writing VM state"));
    g_assert_nonnull(strstr(text, "cannot take it from STOP to STOP_COPY"));
    vfio_mig_edu_set(device, "fail_state", 0);
    g_assert_true(snapshot(m, "savevm one"));
    check_ok(g, "cont");
    vfio_mig_edu_check(g->edus[0]);
    vfio_mig_guest_free(g);
    vfio_rig_log_free(disk);
}

/* All counts as written then, and less again later. */
static void test_log_is_lost_for_a_while(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&one);

    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    vfio_mig_edu_set(vfio_mig_guest_device(g, 0), "fail_log_report", EIO);
    vfio_mig_guest_write_on(g);
    vfio_mig_edu_set(vfio_mig_guest_device(g, 0), "fail_log_report", 0);
    vfio_mig_guest_write_on(g);
    vfio_mig_guest_write_last(g);
    vfio_mig_guest_release(g);
    vfio_mig_guest_arrive(g);
    vfio_mig_guest_free(g);
}

static void set_failure(const char *device, const Failure *f, bool on)
{
    vfio_mig_edu_set(device, "fail_to_error", on && f->to_error);
    vfio_mig_edu_set(device, f->setting, on ? f->value : 0);
}

/* A newer QEMU resets a device in more cases than it must. */
static VFIOMigReset expected_reset(const Failure *f)
{
    if (f->to_error && !f->there) {
        return VFIO_MIG_RESET;
    }
    return vfio_mig_all_ours() ? VFIO_MIG_KEPT : VFIO_MIG_MAY_BE_RESET;
}

static void test_device_fails(const void *data)
{
    const Failure *f = data;
    VFIOMigGuest *g = vfio_mig_guest_new(f->simple ? &simple : &one);
    const char *device = f->there ? vfio_mig_guest_device_there(g, 0)
                                  : vfio_mig_guest_device(g, 0);
    g_autofree char *refused = NULL;
    g_autofree char *reason = NULL;

    vfio_mig_guest_prepare(g);
    set_failure(device, f, true);
    refused = vfio_mig_begin_error(g->here, g->there);
    if (!refused) {
        vfio_mig_wait_end(g->here, &reason);
    }
    set_failure(device, f, false);
    g_assert_true(f->moves == !(refused ?: reason));

    if (vfio_mig_all_ours() && !f->moves) {
        g_assert_cmpstr(refused ?: reason, !=, "failed");   /* and not why */
    }

    if (f->moves) {
        vfio_mig_guest_arrive(g);
    } else {
        vfio_mig_guest_stay(g, expected_reset(f));
    }
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "stay");

    vfio_rig_add("cancelled", VFIO_RIG_BOTH, test_cancelled);
    vfio_rig_add("cancelled-without-pre-copy", VFIO_RIG_BOTH,
                 test_cancelled_without_pre_copy);
    vfio_rig_add("cancelled-with-two", VFIO_RIG_BOTH, test_cancelled_with_two);
    vfio_rig_add("cancelled-at-any-moment", VFIO_RIG_BOTH,
                 test_cancelled_at_any_moment);
    vfio_rig_add("guest-resets", VFIO_RIG_BOTH, test_guest_resets);
    vfio_rig_add("stopped-and-continued", VFIO_RIG_BOTH,
                 test_stopped_and_continued);
    vfio_rig_add("no-device-comes-or-goes", VFIO_RIG_BOTH,
                 test_no_device_comes_or_goes);
    vfio_rig_add("other-side-ends", VFIO_RIG_BOTH, test_other_side_ends);
    vfio_rig_add("disk-full", VFIO_RIG_BOTH, test_disk_full);
    if (vfio_mig_all_ours()) {
        vfio_rig_add("devices-without-p2p", VFIO_RIG_BOTH,
                     test_devices_without_p2p);
        vfio_rig_add("guest-resets-before-switchover", VFIO_RIG_BOTH,
                     test_guest_resets_before_switchover);
        vfio_rig_add("guest-ejects", VFIO_RIG_BOTH, test_guest_ejects);
        vfio_rig_add("paused-guest-is-reset", VFIO_RIG_BOTH,
                     test_paused_guest_is_reset);
        vfio_rig_add("device-had-not-stopped", VFIO_RIG_BOTH,
                     test_device_had_not_stopped);
        vfio_rig_add("guest-came-asleep", VFIO_RIG_BOTH,
                     test_guest_came_asleep);
        vfio_rig_add("guest-sleeps-beside-device", VFIO_RIG_BOTH,
                     test_guest_sleeps_beside_device);
        vfio_rig_add("snapshot-cannot-be-loaded", VFIO_RIG_BOTH,
                     test_snapshot_cannot_be_loaded);
        vfio_rig_add("failed-snapshot-is-explained", VFIO_RIG_BOTH,
                     test_failed_snapshot_is_explained);
        vfio_rig_add("log-is-lost-for-a-while", VFIO_RIG_BOTH,
                     test_log_is_lost_for_a_while);
    }
    for (int i = 0; i < ARRAY_SIZE(failures); i++) {
        g_autofree char *name = g_strdup_printf("device-fails/%s",
                                                failures[i].name);

        if (!failures[i].ours || vfio_mig_all_ours()) {
            vfio_rig_add_data(name, VFIO_RIG_BOTH, test_device_fails,
                              &failures[i]);
        }
    }
    return g_test_run();
}
