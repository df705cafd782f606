/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: as long as a device's state would take longer than its user
 * allows, QEMU says so, and the guest runs; then it moves in the time that it has
 *
 * The state has 1 GiB.  A link of 10 Gbit/s would carry it in 0.9 s.  The rig copies
 * some 25 MB in a second when others use its processors, so its link is SCALE times
 * as slow, and the downtime that is allowed is SCALE times as long.
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "vfio-mig-link.h"
#include "vfio-mig-guest.h"

#define STATE       GiB
#define SCALE       100
#define RATE        (1250000000 / SCALE)            /* bytes per second */
#define NEEDED      (STATE * 1000.0 / RATE)         /* milliseconds */

/* Milliseconds; the rig is sometimes slower than its link. */
#define ENOUGH      ((int64_t)(NEEDED * 2))
#define TOO_SHORT   ((int64_t)(NEEDED / 2))

/* How long it is looked at that a guest does not stop, in seconds */
#define WATCHED     3

static const VFIOMigGuestKind kind = {
    .edu = { VFIO_MIG_LOG, .pre_copy = true, .p2p = true },
    .count = 1,
};

static VFIOMigGuest *guest_new(int64_t downtime)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&kind);

    vfio_mig_edu_set(vfio_mig_guest_device(g, 0), "padding", STATE);
    vfio_mig_guest_prepare(g);
    vfio_mig_set(g->here, "downtime-limit", downtime);
    vfio_mig_set(g->here, "max-bandwidth", RATE);
    vfio_mig_set(g->here, "avail-switchover-bandwidth", RATE);
    return g;
}

static void check_downtime(VFIOMigGuest *g)
{
    double seconds;

    vfio_mig_wait_moved(g->here, g->there);
    seconds = vfio_mig_time_of_event(g->there, "MIGRATION", "completed") -
              vfio_mig_time_of_event(g->here, "STOP", NULL);
    g_test_message("it stood for %.3f s, of which the link takes %.3f s",
                   seconds, NEEDED / 1000);
    g_assert_cmpfloat(seconds * 1000, >=, NEEDED * 0.95);
    g_assert_cmpfloat(seconds * 1000, <=, ENOUGH);
    g_assert_cmpint(vfio_mig_device_bytes(g->here), >=, STATE);
    vfio_mig_check_memory(g->here, g->there);
}

static int64_t expected_downtime(VFIOMigGuest *g)
{
    QDict *info = vfio_mig_query(g->here);
    int64_t milliseconds = qdict_get_try_int(info, "expected-downtime", -1);

    g_assert_cmpstr(qdict_get_str(info, "status"), ==, "active");
    qobject_unref(info);
    return milliseconds;
}

/* It runs on, and expected-downtime says which limit it needs. */
static void watch_run_on(VFIOMigGuest *g)
{
    int64_t end;

    vfio_mig_wait(g->here, "active");
    g_assert_true(vfio_rig_wait(expected_downtime(g) > NEEDED * 0.95));
    end = g_get_monotonic_time() + WATCHED * G_USEC_PER_SEC;
    while (g_get_monotonic_time() < end) {
        int64_t expected = expected_downtime(g);

        g_assert_cmpint(expected, >=, NEEDED * 0.95);
        g_assert_cmpint(expected, <=, ENOUGH);
        vfio_mig_guest_write(g, 1);
    }
}

static void test_takes_its_time(void)
{
    VFIOMigGuest *g = guest_new(TOO_SHORT);
    VFIOMigLink *link = vfio_mig_link_begin(g->here, g->there, RATE);

    watch_run_on(g);
    vfio_mig_set(g->here, "downtime-limit", ENOUGH);
    check_downtime(g);
    vfio_mig_link_end(link);
    vfio_mig_guest_free(g);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "mig-large");
    vfio_rig_add("takes-its-time", VFIO_RIG_BOTH, test_takes_its_time);
    return g_test_run();
}
