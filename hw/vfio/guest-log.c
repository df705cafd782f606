/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a guest can make QEMU report, as often as it likes: see guest-log.h */
#include "qemu/osdep.h"

#include "guest-log.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/timer.h"

bool vfio_guest_log_is_due(VFIOGuestLog *log)
{
    int64_t now = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);

    if (log->said && now - log->said < NANOSECONDS_PER_SECOND) {
        log->unsaid++;
        return false;
    }
    log->said = now;
    return true;
}

void vfio_guest_log_say(VFIOGuestLog *log, Error *err)
{
    g_autofree char *more = NULL;

    if (log->unsaid) {
        more = g_strdup_printf(" (and %"PRIu64" others since the last such "
                               "line)", log->unsaid);
        log->unsaid = 0;
    }
    error_report("%s%s", error_get_pretty(err), more ?: "");
    error_free(err);
}

void vfio_guest_log(VFIOGuestLog *log, Error *err)
{
    if (vfio_guest_log_is_due(log)) {
        vfio_guest_log_say(log, err);
    } else {
        error_free(err);
    }
}
