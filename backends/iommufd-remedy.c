/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the user can do, in the message itself
 *
 * Management programs see a message by QMP, which has no hints.
 */
#include "qemu/osdep.h"

#include "qapi/error.h"
#include "sysemu/iommufd.h"

void iommufd_error_append_remedy(Error **errp, const char *fmt, ...)
{
    ERRP_GUARD();
    g_autofree char *remedy = NULL;
    Error *err = *errp;
    va_list ap;

    va_start(ap, fmt);
    remedy = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    *errp = NULL;
    error_setg(errp, "%s; %s", error_get_pretty(err), remedy);
    error_free(err);
}
