/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guests whose processors are held: see vfio-held.h */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-held.h"
#include "vfio-query.h"

int vfio_held_waits(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "vfio_background_wait");
}

void vfio_held_check(VFIOMachine *m, const char *device)
{
    g_autofree char *before = vfio_machine_monitor(m, "info registers -a");
    g_autofree char *after = NULL;
    int64_t begun, longest = 0;

    for (int i = 0; i < 50; i++) {
        begun = g_get_monotonic_time();
        qobject_unref(vfio_query(m, VFIO_RIG_IOMMUFD));
        longest = MAX(longest, g_get_monotonic_time() - begun);
        g_usleep(10 * 1000);
    }
    g_test_message("the longest answer took %d us", (int)longest);
    g_assert_cmpint(longest, <, G_USEC_PER_SEC);
    after = vfio_machine_monitor(m, "info registers -a");
    g_assert_cmpstr(before, ==, after);
    g_assert_cmphex(vfio_query_background(m), >, 0);
    g_assert_false(vfio_rig_command(device) & PCI_COMMAND_MASTER);
}
