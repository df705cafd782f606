/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: an incoming migration that replaces the guest's memory
 *
 * Postcopy drops all pages at first, and others come while the guest runs.
 * What is pinned for devices stays as it was, and they would reach other memory
 * than the guest.
 */
#include "qemu/osdep.h"

#include "vfio-rig.h"

#define SLOT 4

static char *switch_postcopy_on(VFIOMachine *m)
{
    return vfio_reply_error(qtest_qmp(
        m->qts, "{ 'execute': 'migrate-set-capabilities', 'arguments': "
        "{ 'capabilities': [ { 'capability': 'postcopy-ram', "
        "'state': true } ] } }"));
}

/* The group's path lets it happen, as ever. */
static void test_device_allows_no_postcopy(void)
{
    char *log = vfio_rig_log_new();
    VFIOMachine *m = vfio_machine_start("-incoming defer "
                                        "-device %s,addr=%d,id=edu0 2>>%s",
                                        vfio_rig_device("EDU0"), SLOT, log);
    g_autofree char *error = switch_postcopy_on(m);
    g_autofree char *text = vfio_rig_log_take(log);

    if (vfio_rig_iommufd()) {
        g_assert_nonnull(error);
        g_assert_nonnull(strstr(error, "Postcopy is not supported"));
        g_assert_nonnull(strstr(text, "postcopy would give the guest other "
                                "pages"));
    } else {
        g_assert_null(error);
    }
    vfio_machine_device_del(m, "edu0", SLOT);
    g_assert_null(switch_postcopy_on(m));
    vfio_machine_stop(m);
    vfio_rig_log_free(log);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "postcopy");
    vfio_rig_add("is-refused-while-devices-have-memory", VFIO_RIG_BOTH,
                 test_device_allows_no_postcopy);
    return g_test_run();
}
