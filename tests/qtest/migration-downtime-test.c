/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for what QEMU expects of the time for which a migration stops the guest
 *
 * What cannot be sent while the guest runs is here the bitmap of a disk: like a
 * device's state, it is sent at the end.  The guest's memory is empty, and no
 * processor writes to it.
 */
#include "qemu/osdep.h"

#include "libqtest.h"
#include "migration-helpers.h"
#include "qapi/qmp/qdict.h"
#include "qemu/units.h"

#define PARAMETER "avail-switchover-bandwidth"

/* QEMU counts a byte for each bit, that is for each sector of the disk. */
#define PENDING (128 * MiB)
#define DISK    (PENDING * 512)

static QTestState *start(const char *options)
{
    return qtest_initf("-machine pc -m 16M -nodefaults -display none %s",
                       options);
}

/* The parameter */

static int64_t get(QTestState *qts)
{
    QDict *parameters =
        qmp_command(qts, "{ 'execute': 'query-migrate-parameters' }");
    int64_t value = qdict_get_int(parameters, PARAMETER);

    qobject_unref(parameters);
    return value;
}

static void set(QTestState *qts, int64_t value)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { '" PARAMETER "': %" PRId64
                             " } }", value);
}

static void test_set_by_qmp(void)
{
    QTestState *qts = start("");

    g_assert_cmpint(get(qts), ==, 0);
    set(qts, 123456789);
    g_assert_cmpint(get(qts), ==, 123456789);
    set(qts, 0);
    g_assert_cmpint(get(qts), ==, 0);
    qtest_quit(qts);
}

static void check_shown(QTestState *qts, const char *value)
{
    g_autofree char *text = qtest_hmp(qts, "info migrate_parameters");
    g_autofree char *wanted = g_strdup_printf(PARAMETER ": %s bytes/second",
                                              value);

    if (!strstr(text, wanted)) {
        g_error("'%s' is not in: %s", wanted, text);
    }
}

/* A person gives MiB, as for max-bandwidth. */
static void test_set_by_hmp(void)
{
    QTestState *qts = start("");
    g_autofree char *said = NULL;
    g_autofree char *error = NULL;

    check_shown(qts, "0");
    said = qtest_hmp(qts, "migrate_set_parameter " PARAMETER " 10");
    g_assert_cmpstr(said, ==, "");
    check_shown(qts, "10485760");
    error = qtest_hmp(qts, "migrate_set_parameter " PARAMETER " much");
    g_assert_nonnull(strstr(error, "Invalid size much"));
    g_assert_cmpint(get(qts), ==, 10 * MiB);
    qtest_quit(qts);
}

static void test_set_by_option(void)
{
    QTestState *qts = start("-global migration." PARAMETER "=1G");

    g_assert_cmpint(get(qts), ==, GiB);
    qtest_quit(qts);
}

/* What it decides */

static void add_bitmap(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{ 'execute': 'blockdev-add', 'arguments':"
                             " { 'driver': 'null-co', 'node-name': 'disk',"
                             "   'size': %" PRId64 ", 'read-zeroes': true } }",
                             DISK);
    qtest_qmp_assert_success(qts, "{ 'execute': 'block-dirty-bitmap-add',"
                             " 'arguments': { 'node': 'disk', 'name': 'bitmap',"
                             " 'granularity': 512 } }");
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-capabilities',"
                             " 'arguments': { 'capabilities': [ {"
                             " 'capability': 'dirty-bitmaps', 'state': true } ]"
                             " } }");
}

/* To nowhere, with the guest stopped for @limit ms at most */
static QTestState *start_migration(int64_t bandwidth, int limit)
{
    QTestState *qts = start("");

    add_bitmap(qts);
    set(qts, bandwidth);
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'downtime-limit': %d } }", limit);
    migrate_qmp(qts, "exec:cat >/dev/null", "{}");
    return qts;
}

static bool expects(QTestState *qts, int64_t least, int64_t most)
{
    QDict *info = migrate_query_not_failed(qts);
    int64_t downtime = qdict_get_try_int(info, "expected-downtime", -1);

    qobject_unref(info);
    return downtime >= least && downtime <= most;
}

static void wait_expects(QTestState *qts, int64_t least, int64_t most)
{
    for (int i = 0; i < 600; i++) {
        if (expects(qts, least, most)) {
            return;
        }
        g_usleep(G_USEC_PER_SEC / 10);
    }
    g_error("it is not %" PRId64 " to %" PRId64 " ms", least, most);
}

/*
 * 128 MiB by 64 MiB/s take 2 seconds, and one is allowed.  By 32 MiB/s they
 * take 4, and by 256 MiB/s half a second.
 */
static void test_waits_for_bandwidth(void)
{
    QTestState *qts = start_migration(64 * MiB, 1000);

    wait_expects(qts, 1950, 2050);
    set(qts, 32 * MiB);
    wait_expects(qts, 3950, 4050);
    for (int i = 0; i < 10; i++) {
        g_usleep(G_USEC_PER_SEC / 10);
        g_assert_true(expects(qts, 3950, 4050));
    }
    set(qts, 256 * MiB);
    wait_for_migration_complete(qts);
    qtest_quit(qts);
}

/* The limit is as good to change as the bandwidth. */
static void test_waits_for_limit(void)
{
    QTestState *qts = start_migration(64 * MiB, 1000);

    wait_expects(qts, 1950, 2050);
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'downtime-limit': 3000 } }");
    wait_for_migration_complete(qts);
    qtest_quit(qts);
}

/*
 * Without the parameter, what counts is how fast memory was sent, also when
 * there is none left to send for some time.
 */
static void test_remembers_bandwidth(void)
{
    QTestState *qts = start("");

    add_bitmap(qts);
    qtest_memset(qts, 4 * MiB, 0x5a, 12 * MiB);
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'downtime-limit': 1 } }");
    migrate_qmp(qts, "exec:cat >/dev/null", "{}");
    g_usleep(3 * G_USEC_PER_SEC);
    qobject_unref(migrate_query_not_failed(qts));
    qtest_qmp_assert_success(qts, "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': { 'downtime-limit': 5000 } }");
    wait_for_migration_complete(qts);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/migration/downtime/set-by-qmp", test_set_by_qmp);
    qtest_add_func("/migration/downtime/set-by-hmp", test_set_by_hmp);
    qtest_add_func("/migration/downtime/set-by-option", test_set_by_option);
    qtest_add_func("/migration/downtime/waits-for-bandwidth",
                   test_waits_for_bandwidth);
    qtest_add_func("/migration/downtime/waits-for-limit", test_waits_for_limit);
    qtest_add_func("/migration/downtime/remembers-bandwidth",
                   test_remembers_bandwidth);

    return g_test_run();
}
