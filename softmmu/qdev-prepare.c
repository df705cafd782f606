/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices that are prepared before the board is made: see qdev-prepare.h */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "qemu/option.h"
#include "sysemu/qdev-prepare.h"

static GHashTable *prepares;    /* QDevPrepare by class */

void qdev_set_prepare(DeviceClass *dc, QDevPrepare *prepare)
{
    prepares = prepares ?: g_hash_table_new(NULL, NULL);
    g_hash_table_insert(prepares, dc, prepare);
}

/* A class may be prepared as the one above it is. */
static QDevPrepare *find(ObjectClass *oc)
{
    QDevPrepare *prepare = NULL;

    while (oc && prepares && !prepare) {
        prepare = g_hash_table_lookup(prepares, oc);
        oc = object_class_get_parent(oc);
    }
    return prepare;
}

/* A class of a module that is not loaded yet has nothing to prepare. */
void qdev_prepare(const QDict *options)
{
    const char *driver = qdict_get_try_str(options, "driver");
    ObjectClass *oc = driver ? object_class_by_name(driver) : NULL;
    QDevPrepare *prepare = find(oc);

    if (prepare && !object_class_is_abstract(oc)) {
        prepare(DEVICE_CLASS(oc), options);
    }
}

int qdev_prepare_opts(void *unused, QemuOpts *opts, Error **errp)
{
    QDict *options = qemu_opts_to_qdict(opts, NULL);

    qdev_prepare(options);
    qobject_unref(options);
    return 0;
}
