/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: which devices may be migrated, and the reason why others may
 * not
 *
 * The device that can is an mtty, the kernel's sample of a mediated device; the
 * one that cannot is an edu, which the rig gives to vfio-pci.
 */
#include "qemu/osdep.h"


#include "qapi/qmp/qdict.h"
#include "vfio-mtty.h"

#define MDEV "2a1f5c0e-1c2d-4b7e-9a56-7d3c4e1f0b21"
#define MDEV_SYSFS "/sys/bus/mdev/devices/" MDEV
#define SLOT 4
#define PATIENCE 120    /* seconds that a migration may take */
#define QUITS 25

/* An option for -device; not to be freed */
static const char *mdev_option(const char *properties)
{
    g_autofree char *option =
        g_strdup_printf("vfio-pci,sysfsdev=" MDEV_SYSFS "%s,id=dev,addr=%d%s",
                        vfio_rig_iommufd() ? ",iommufd=" VFIO_RIG_IOMMUFD : "",
                        SLOT, properties);

    return g_intern_string(option);
}

static const char *edu_option(const char *properties)
{
    g_autofree char *option = g_strdup_printf("%s,id=dev,addr=%d%s",
                                              vfio_rig_device("EDU0"), SLOT,
                                              properties);

    return g_intern_string(option);
}

/* Why a migration is refused at once; NULL if it begins.  To be freed. */
static char *refusal(VFIOMachine *m)
{
    return vfio_machine_qmp_error(m, "migrate", "uri=exec:cat >/dev/null");
}

static void check_says(const char *text, const char *what)
{
    g_test_message("\"%s\" is to have \"%s\"", text ?: "nothing", what);
    g_assert_nonnull(text);
    g_assert_nonnull(strstr(text, what));
}

static QDict *query(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-migrate' }");
    QDict *info = qobject_ref(qdict_get_qdict(reply, "return"));

    qobject_unref(reply);
    return info;
}

/* The status comes a moment before the run state, and cont needs both. */
static bool has_completed(VFIOMachine *m)
{
    QDict *info = query(m);
    bool has = g_str_equal(qdict_get_try_str(info, "status") ?: "",
                           "completed");

    qobject_unref(info);
    return has && vfio_machine_has_run_state(m, "postmigrate");
}

/* A machine with @device is not migrated, for a reason that has @what. */
static void check_blocked(const char *device, const char *what)
{
    VFIOMachine *m = vfio_machine_start("-device %s", device);
    g_autofree char *error = refusal(m);

    check_says(error, what);
    vfio_machine_device_del(m, "dev", SLOT);
    g_free(g_steal_pointer(&error));
    error = refusal(m);
    g_assert_null(error);
    g_assert_true(vfio_rig_wait(has_completed(m)));
    vfio_machine_stop(m);
}

static void set_downtime(VFIOMachine *m, int64_t milliseconds)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-parameters', "
                             "'arguments': { 'downtime-limit': %" PRId64 " } }",
                             milliseconds);
}

/* Tests */

static void test_plain_driver_is_named(void)
{
    check_blocked(edu_option(""),
                  vfio_rig_iommufd() ? "driver vfio-pci has no migration"
                                     : "enable-migration=on");
}

static void test_off_is_named(void)
{
    check_blocked(edu_option(",enable-migration=off"), "enable-migration=off");
}

static void test_off_blocks_what_could(void)
{
    vfio_mtty_create(MDEV);
    check_blocked(mdev_option(",enable-migration=off"), "enable-migration=off");
    vfio_mtty_remove(MDEV);
}

static void test_group_is_not_asked(void)
{
    g_auto(GStrv) trace = NULL;
    VFIOMachine *m;

    vfio_mtty_create(MDEV);
    check_blocked(mdev_option(""), "enable-migration=on");
    m = vfio_machine_start("-device %s", mdev_option(""));
    trace = vfio_machine_trace(m);
    g_assert_cmpint(vfio_trace_count(trace, "vfio_feature"), ==, 0);
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

/* It can be tried as often as one wants, and nothing is left of it. */
static void check_plug_is_refused(VFIOMachine *m, const char *device,
                                  const char *what)
{
    g_autofree char *before = vfio_machine_state(m);

    for (int i = 0; i < 3; i++) {
        g_autofree char *error = vfio_machine_device_add(m, device);
        g_autofree char *after = NULL;

        check_says(error, what);
        check_says(error, vfio_rig_address("EDU0"));
        g_assert_true(vfio_rig_wait(({
            g_free(after);
            after = vfio_machine_state(m);
            g_str_equal(before, after);
        })));
    }
}

static void test_on_refuses_plain_driver(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *error = NULL;

    check_plug_is_refused(m, edu_option(",enable-migration=on"),
                          "driver vfio-pci has no migration");
    error = vfio_machine_device_add(m, edu_option(""));
    g_assert_null(error);
    vfio_machine_stop(m);
}

static void test_only_migratable_refuses(void)
{
    VFIOMachine *m = vfio_machine_start("-only-migratable");

    check_plug_is_refused(m, edu_option(""), "--only-migratable");
    vfio_machine_stop(m);
}

static void test_on_start_says_one_thing(void)
{
    g_autofree char *options =
        g_strdup_printf("-nodefaults %s -device %s",
                        vfio_rig_iommufd() ?
                        "-object iommufd,id=" VFIO_RIG_IOMMUFD : "",
                        edu_option(",enable-migration=on"));
    g_autofree char *err = NULL;
    int status = vfio_rig_run_qemu(options, NULL, &err);

    vfio_rig_check_refusal(status, err);
    check_says(err, "driver vfio-pci has no migration");
}

/* mtty has a header of 24 bytes, and 36 bytes for each of its two ports. */
static void check_bytes(VFIOMachine *m)
{
    QDict *info, *vfio;

    g_assert_null(refusal(m));
    g_assert_true(vfio_rig_wait_for(PATIENCE, has_completed(m)));
    info = query(m);
    vfio = qdict_get_qdict(info, "vfio");
    g_assert_nonnull(vfio);
    g_assert_cmpint(qdict_get_int(vfio, "transferred"), ==, 24 + 2 * 36);
    qobject_unref(info);
}

static void test_bytes_are_told(void)
{
    VFIOMachine *m;

    vfio_mtty_create(MDEV);
    m = vfio_machine_start("-m 16M -device %s",
                           mdev_option(",enable-migration=on"));
    set_downtime(m, 2000 * 1000);
    check_bytes(m);
    vfio_machine_cont(m);
    check_bytes(m);
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

static void check_state(VFIOMachine *m, const char *state)
{
    QDict *event = qtest_qmp_eventwait_ref(m->qts, "VFIO_MIGRATION");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpstr(qdict_get_str(data, "device-id"), ==, "dev");
    g_assert_cmpstr(qdict_get_str(data, "qom-path"), ==,
                    "/machine/peripheral/dev");
    g_assert_cmpstr(qdict_get_str(data, "device-state"), ==, state);
    qobject_unref(event);
}

static void test_states_are_told(void)
{
    VFIOMachine *m;

    vfio_mtty_create(MDEV);
    m = vfio_machine_start("-device %s", mdev_option(",enable-migration=on,"
                                                     "migration-events=on"));
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    check_state(m, "running-p2p");
    check_state(m, "stop");
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
    check_state(m, "running-p2p");
    check_state(m, "running");
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

/* The rig's kernel lacks what background-snapshot needs. */
static void test_postcopy_is_refused(void)
{
    g_autofree char *reason = NULL;
    VFIOMachine *m;

    vfio_mtty_create(MDEV);
    m = vfio_machine_start("-device %s", mdev_option(",enable-migration=on"));
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-capabilities', "
                             "'arguments': { 'capabilities': [ "
                             "{ 'capability': 'postcopy-ram', "
                             "'state': true } ] } }");
    reason = vfio_machine_qmp_error(m, "migrate", "uri=exec:cat >/dev/null");
    g_assert_nonnull(reason);
    check_says(reason, "postcopy-ram");
    check_says(reason, MDEV);
    vfio_machine_check_run_state(m, "running");
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

static void test_guest_iommu_is_named(void)
{
    VFIOMachine *m;
    g_autofree char *error = NULL;

    vfio_mtty_create(MDEV);
    m = vfio_machine_start("-machine q35 -device intel-iommu,caching-mode=on "
                           "-device %s", mdev_option(",enable-migration=on"));
    error = refusal(m);
    check_says(error, "IOMMU of the guest's");
    check_says(error, MDEV);
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

/* Its thread has hardly begun when the main thread has done with it. */
static void test_quits_at_once(void)
{
    for (int i = 0; i < QUITS; i++) {
        VFIOMachine *m = vfio_machine_start("%s", "");
        g_autofree char *error = refusal(m);

        g_assert_null(error);
        vfio_machine_stop(m);
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "mig-policy");

    vfio_rig_add("plain-driver-is-named", VFIO_RIG_BOTH,
                 test_plain_driver_is_named);
    vfio_rig_add("off-is-named", VFIO_RIG_BOTH, test_off_is_named);
    vfio_rig_add("off-blocks-what-could", VFIO_RIG_BOTH,
                 test_off_blocks_what_could);
    vfio_rig_add("group-is-not-asked", VFIO_RIG_LEGACY_ONLY,
                 test_group_is_not_asked);
    vfio_rig_add("on-refuses-plain-driver", VFIO_RIG_BOTH,
                 test_on_refuses_plain_driver);
    vfio_rig_add("on-start-says-one-thing", VFIO_RIG_BOTH,
                 test_on_start_says_one_thing);
    vfio_rig_add("only-migratable-refuses", VFIO_RIG_BOTH,
                 test_only_migratable_refuses);
    vfio_rig_add("bytes-are-told", VFIO_RIG_BOTH, test_bytes_are_told);
    vfio_rig_add("states-are-told", VFIO_RIG_BOTH, test_states_are_told);
    vfio_rig_add("postcopy-is-refused", VFIO_RIG_BOTH,
                 test_postcopy_is_refused);
    /* What the thread has then is lost, and nobody's fault. */
    if (!g_getenv("VFIO_TEST_SANITIZED")) {
        vfio_rig_add("quits-at-once", VFIO_RIG_BOTH, test_quits_at_once);
    }
    vfio_rig_add("guest-iommu-is-named", VFIO_RIG_BOTH,
                 test_guest_iommu_is_named);

    return g_test_run();
}
