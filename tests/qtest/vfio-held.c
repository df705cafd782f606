/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guests whose processors are held: see vfio-held.h */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "qemu/atomic.h"
#include "vfio-held.h"
#include "vfio-query.h"

#define LOOK_US (10 * 1000)

int vfio_held_waits(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "vfio_background_wait");
}

/*
 * Who wakes late has had no processor.  The rig stands still now and then, for a
 * second and more; that is not QEMU's.
 */
typedef struct Witness {
    GThread *thread;
    bool stop;
    unsigned lost_us;
} Witness;

static void *sleep_and_look(void *opaque)
{
    Witness *witness = opaque;
    int64_t begun;

    while (!qatomic_read(&witness->stop)) {
        begun = g_get_monotonic_time();
        g_usleep(LOOK_US);
        qatomic_add(&witness->lost_us,
                    g_get_monotonic_time() - begun - LOOK_US);
    }
    return NULL;
}

static int64_t answer_takes(VFIOMachine *m, Witness *witness)
{
    unsigned lost = qatomic_read(&witness->lost_us);
    int64_t begun = g_get_monotonic_time(), took;

    qobject_unref(vfio_query(m, VFIO_RIG_IOMMUFD));
    took = g_get_monotonic_time() - begun;
    g_usleep(2 * LOOK_US);  /* the witness has looked once more */
    lost = qatomic_read(&witness->lost_us) - lost;
    if (took >= G_USEC_PER_SEC / 4) {
        g_test_message("an answer took %d us, %u of them without a processor",
                       (int)took, lost);
    }
    return MAX(took - lost, 0);
}

void vfio_held_check(VFIOMachine *m, const char *device)
{
    g_autofree char *before = vfio_machine_monitor(m, "info registers -a");
    g_autofree char *after = NULL;
    Witness witness = {};
    int64_t longest = 0;

    witness.thread = g_thread_new("witness", sleep_and_look, &witness);
    for (int i = 0; i < 50; i++) {
        longest = MAX(longest, answer_takes(m, &witness));
    }
    qatomic_set(&witness.stop, true);
    g_thread_join(witness.thread);

    g_test_message("the longest answer took %d us", (int)longest);
    g_assert_cmpint(longest, <, G_USEC_PER_SEC);
    after = vfio_machine_monitor(m, "info registers -a");
    g_assert_cmpstr(before, ==, after);
    g_assert_cmphex(vfio_query_background(m), >, 0);
    g_assert_false(vfio_rig_command(device) & PCI_COMMAND_MASTER);
}
