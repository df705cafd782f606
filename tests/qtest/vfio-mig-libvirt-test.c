/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what libvirt sends when a domain is migrated or saved
 *
 * The commands, and their order, are those of libvirt 9.0, Debian 12's, and of
 * 11.3, Debian 13's: their qemuMigrationSrcRun(), qemuMigrationDstPrepareActive(),
 * qemuMigrationSrcToFile() and what they call.  For libvirt only QEMU decides
 * whether a device can be migrated: it asks for blocked-reasons, and shows them
 * to the user.
 *
 * The device is the kernel's mtty sample, whose serial ports receive what they
 * send.  What was sent before the domain moved is received after that.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "qapi/error.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qstring.h"
#include "qemu/sockets.h"
#include "vfio-descriptor.h"
#include "vfio-mtty.h"

#define SLOT 4

/* Of "any speed", in bytes per second */
#define UNLIMITED (INT64_MAX / MiB * MiB)

static const char *const mdevs[] = {
    "51f6a8a5-0e4a-4ac3-8a2d-1c0a5b8f3a01",
    "51f6a8a5-0e4a-4ac3-8a2d-1c0a5b8f3a02",
};

/*
 * Capabilities that libvirt knows and QEMU has, but for "events"; 9.0 does not
 * know the last one.
 */
static const char *const capabilities[] = {
    "xbzrle", "auto-converge", "rdma-pin-all", "postcopy-ram", "compress",
    "pause-before-switchover", "late-block-activate", "multifd",
    "dirty-bitmaps", "return-path", "zero-copy-send", "postcopy-preempt",
};

/* Those that it sets, of the sender, of the receiver, and for a file */
static const char *const on_sender[] = {
    "pause-before-switchover", "return-path", NULL
};
static const char *const on_receiver[] = {
    "late-block-activate", "return-path", NULL
};
static const char *const on_saving[] = { NULL };
static const char *const on_restoring[] = { "late-block-activate", NULL };

/* Domains */

static void create_mdevs(void)
{
    for (int i = 0; i < ARRAY_SIZE(mdevs); i++) {
        vfio_mtty_create(mdevs[i]);
    }
}

static void remove_mdevs(void)
{
    for (int i = 0; i < ARRAY_SIZE(mdevs); i++) {
        vfio_mtty_remove(mdevs[i]);
    }
}

static void set_capability(VFIOMachine *m, const char *name, bool on)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-capabilities',"
                             " 'arguments': { 'capabilities': [ {"
                             " 'capability': %s, 'state': %i } ] } }", name, on);
}

/* Where the kernel cannot read logs, its user does without. */
static const char *tracking_properties(void)
{
    return vfio_rig_number("VFIO_TEST_UNREAD_LOGS", 0)
           ? ",x-pre-copy-dirty-page-tracking=off" : "";
}

/* A domain with mdev @i; libvirt wants to be told of migrations at once. */
static VFIOMachine *start_domain(int i, const char *options)
{
    g_autofree char *sysfs = vfio_mtty_sysfs(mdevs[i]);
    VFIOMachine *m =
        vfio_machine_start("-m 64M -S %s -device vfio-pci,id=hostdev0,"
                           "sysfsdev=%s,addr=%d,enable-migration=on%s%s",
                           options, sysfs, SLOT, tracking_properties(),
                           vfio_rig_iommufd()
                           ? ",iommufd=" VFIO_RIG_IOMMUFD : "");

    set_capability(m, "events", true);
    return m;
}

static void run(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
}

static VFIOMachine *start_running_domain(int i)
{
    VFIOMachine *m = start_domain(i, "");

    run(m);
    return m;
}

/* The guest's driver does not notice that the domain is in another QEMU. */
static void check_moved(VFIOMtty *mtty, VFIOMachine *m, const char *text)
{
    vfio_mtty_moved(mtty, m);
    vfio_mtty_check_received(mtty, 0, text);
    vfio_mtty_check(mtty);
}

/* What libvirt sends */

static void check_allowed(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-migrate' }");

    g_assert_false(qdict_haskey(qdict_get_qdict(reply, "return"),
                                "blocked-reasons"));
    qobject_unref(reply);
}

/* All that libvirt knows are set, to off for the most part. */
static void set_capabilities(VFIOMachine *m, const char *const *on)
{
    QDict *arguments = qdict_new();
    QList *list = qlist_new();

    for (int i = 0; i < ARRAY_SIZE(capabilities); i++) {
        QDict *capability = qdict_new();

        qdict_put_str(capability, "capability", capabilities[i]);
        qdict_put_bool(capability, "state",
                       g_strv_contains(on, capabilities[i]));
        qlist_append(list, capability);
    }
    qdict_put(arguments, "capabilities", list);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-capabilities',"
                             " 'arguments': %p }", arguments);
}

static void set_parameters(VFIOMachine *m)
{
    qobject_unref(qtest_qmp(m->qts,
                            "{ 'execute': 'query-migrate-parameters' }"));
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'tls-creds': '',"
                             " 'tls-hostname': '' } }");
}

static void set_bandwidth(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'max-bandwidth': %" PRId64
                             " } }", UNLIMITED);
}

static void prepare_incoming(VFIOMachine *m, const char *const *on,
                             const char *uri)
{
    set_capabilities(m, on);
    set_parameters(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-incoming',"
                             " 'arguments': { 'uri': %s } }", uri);
}

static void send_to(VFIOMachine *m, int fd)
{
    vfio_descriptor_pass(m->qts, fd, "migrate");
    close(fd);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate', 'arguments': {"
                             " 'detach': true, 'resume': false,"
                             " 'uri': 'fd:migrate' } }");
}

/* The next status that MIGRATION tells of is one of those on the way there. */
static void wait_status(VFIOMachine *m, const char *wanted)
{
    bool there = false;

    while (!there) {
        QDict *event = qtest_qmp_eventwait_ref(m->qts, "MIGRATION");
        const char *status = qdict_get_str(qdict_get_qdict(event, "data"),
                                           "status");

        g_test_message("%s", status);
        there = g_str_equal(status, wanted);
        if (!there && g_str_equal(status, "failed")) {
            g_error("it failed instead of %s", wanted);
        }
        qobject_unref(event);
    }
}

static void go_on_after_switchover(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-continue',"
                             " 'arguments': { 'state': 'pre-switchover' } }");
}

/* Virsh shows it: bytes of the device are in no other figure. */
static void check_sent(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-migrate' }");
    QDict *info = qdict_get_qdict(reply, "return");

    g_assert_cmpstr(qdict_get_str(info, "status"), ==, "completed");
    g_assert_true(qdict_haskey(info, "downtime"));
    g_assert_cmpint(qdict_get_int(qdict_get_qdict(info, "vfio"),
                                  "transferred"), >, 0);
    qobject_unref(reply);
}

/* virsh migrate --live */

typedef struct Move {
    VFIOMachine *from;
    VFIOMachine *to;
    VFIOMtty *mtty;
    char *dir;
} Move;

/* Up to the moment when the guest stands, and libvirt is asked to go on */
static Move move_until_switchover(void)
{
    Move move = {
        .from = start_running_domain(0),
        .dir = g_dir_make_tmp("vfio-mig-XXXXXX", NULL),
    };
    g_autofree char *path = g_build_filename(move.dir, "socket", NULL);
    g_autofree char *uri = g_strdup_printf("unix:%s", path);

    move.mtty = vfio_mtty_new(move.from, SLOT);
    vfio_mtty_send(move.mtty, 0, "on the way");
    check_allowed(move.from);

    move.to = start_domain(1, "-incoming defer");
    prepare_incoming(move.to, on_receiver, uri);

    set_capabilities(move.from, on_sender);
    set_parameters(move.from);
    set_bandwidth(move.from);
    send_to(move.from, unix_connect(path, &error_abort));
    wait_status(move.from, "pre-switchover");
    g_unlink(path);
    g_rmdir(move.dir);
    g_free(move.dir);
    return move;
}

static void test_migrate(void)
{
    Move move;

    create_mdevs();
    move = move_until_switchover();
    vfio_machine_check_run_state(move.from, "finish-migrate");
    go_on_after_switchover(move.from);
    wait_status(move.from, "completed");
    check_sent(move.from);
    wait_status(move.to, "completed");
    run(move.to);
    g_assert_true(vfio_rig_wait(vfio_machine_has_run_state(move.from,
                                                           "postmigrate")));
    vfio_machine_stop(move.from);

    check_moved(move.mtty, move.to, "on the way");
    vfio_mtty_free(move.mtty);
    vfio_machine_stop(move.to);
    remove_mdevs();
}

/* virsh domjobabort: the other side is killed, and the guest goes on here. */
static void test_abort(void)
{
    Move move;

    create_mdevs();
    move = move_until_switchover();
    qtest_qmp_assert_success(move.from->qts, "{ 'execute': 'migrate_cancel' }");
    wait_status(move.from, "cancelled");
    vfio_machine_abandon(move.to);
    vfio_machine_stop(move.to);
    run(move.from);
    vfio_machine_check_run_state(move.from, "running");

    vfio_mtty_check_received(move.mtty, 0, "on the way");
    vfio_mtty_check(move.mtty);
    vfio_mtty_free(move.mtty);
    vfio_machine_stop(move.from);
    remove_mdevs();
}

/* virsh managedsave, and start */

/* libvirt's helper writes the file. */
static int open_pipe(const char *path, GPid *pid)
{
    g_autofree char *command = g_strdup_printf("exec cat >%s", path);
    char *argv[] = { (char *)"sh", (char *)"-c", command, NULL };
    GError *err = NULL;
    int fd;

    g_spawn_async_with_pipes(NULL, argv, NULL, G_SPAWN_SEARCH_PATH |
                             G_SPAWN_DO_NOT_REAP_CHILD, NULL, NULL, pid, &fd,
                             NULL, NULL, &err);
    g_assert_no_error(err);
    return fd;
}

static void save(VFIOMachine *m, const char *path)
{
    GPid pid;
    int fd = open_pipe(path, &pid);

    check_allowed(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    set_capabilities(m, on_saving);
    set_bandwidth(m);
    send_to(m, fd);
    wait_status(m, "completed");
    check_sent(m);
    vfio_machine_stop(m);
    g_assert_cmpint(waitpid(pid, NULL, 0), ==, pid);
}

static VFIOMachine *restore(const char *path)
{
    int fd = vfio_rig_open(path, O_RDONLY);
    g_autofree char *uri = g_strdup_printf("fd:%d", fd);
    VFIOMachine *m = start_domain(1, "-incoming defer");

    close(fd);
    prepare_incoming(m, on_restoring, uri);
    wait_status(m, "completed");
    run(m);
    return m;
}

static void test_managed_save(void)
{
    g_autofree char *path = NULL;
    VFIOMachine *m;
    VFIOMtty *mtty;

    close(g_file_open_tmp("vfio-mig-XXXXXX", &path, NULL));
    create_mdevs();
    m = start_running_domain(0);
    mtty = vfio_mtty_new(m, SLOT);
    vfio_mtty_send(mtty, 0, "kept");
    save(m, path);

    m = restore(path);
    check_moved(mtty, m, "kept");
    vfio_mtty_free(mtty);
    vfio_machine_stop(m);
    g_unlink(path);
    remove_mdevs();
}

/* "cannot migrate domain: REASONS" */
static void test_blocked(void)
{
    VFIOMachine *m = vfio_machine_start("-m 64M -device %s,id=hostdev0",
                                        vfio_rig_device("EDU0"));
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-migrate' }");
    QList *reasons = qdict_get_qlist(qdict_get_qdict(reply, "return"),
                                     "blocked-reasons");
    const char *reason;

    g_assert_cmpint(qlist_size(reasons), ==, 1);
    reason = qstring_get_str(qobject_to(QString, qlist_peek(reasons)));
    g_test_message("%s", reason);
    g_assert_nonnull(strstr(reason, vfio_rig_address("EDU0")));
    qobject_unref(reply);
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "mig-libvirt");

    vfio_rig_add("migrate", VFIO_RIG_BOTH, test_migrate);
    vfio_rig_add("abort", VFIO_RIG_BOTH, test_abort);
    vfio_rig_add("managed-save", VFIO_RIG_BOTH, test_managed_save);
    vfio_rig_add("blocked", VFIO_RIG_BOTH, test_blocked);

    return g_test_run();
}
