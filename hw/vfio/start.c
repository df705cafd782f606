/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether QEMU still starts: see start.h */
#include "qemu/osdep.h"

#include "hw/qdev-core.h"
#include "qemu/main-loop.h"
#include "start.h"

static bool is_watched;
static bool is_over;

/* With -preconfig it also runs while there is no machine. */
static void main_loop_runs(Notifier *notifier, void *unused)
{
    if (phase_check(PHASE_MACHINE_READY)) {
        is_over = true;
        main_loop_poll_remove_notifier(notifier);
    }
}

static Notifier notifier = { .notify = main_loop_runs };

/* What comes when the machine is ready comes by a monitor, in the main loop. */
void vfio_start_watch(void)
{
    if (phase_check(PHASE_MACHINE_READY)) {
        is_over = true;
    } else if (!is_watched) {
        main_loop_poll_add_notifier(&notifier);
    }
    is_watched = true;
}

bool vfio_start_is_over(void)
{
    return is_over;
}
