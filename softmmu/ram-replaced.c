/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory that gets new pages where it is: see sysemu/ram-replaced.h */
#include "qemu/osdep.h"

#include "qemu/range.h"
#include "sysemu/ram-replaced.h"

typedef struct Replaced {
    ram_addr_t addr;
    uint64_t size;
    QSLIST_ENTRY(Replaced) next;
} Replaced;

static QSLIST_HEAD(AllReplaced, Replaced) all_replaced =
    QSLIST_HEAD_INITIALIZER(all_replaced);

static NotifierList notifiers = NOTIFIER_LIST_INITIALIZER(notifiers);

void ram_replaced_add(ram_addr_t addr, uint64_t size)
{
    Replaced *replaced = g_new(Replaced, 1);

    replaced->addr = addr;
    replaced->size = size;
    QSLIST_INSERT_HEAD(&all_replaced, replaced, next);
}

void ram_replaced_notify(void)
{
    if (QSLIST_EMPTY(&all_replaced)) {
        return;
    }

    notifier_list_notify(&notifiers, NULL);
    while (!QSLIST_EMPTY(&all_replaced)) {
        Replaced *replaced = QSLIST_FIRST(&all_replaced);

        QSLIST_REMOVE_HEAD(&all_replaced, next);
        g_free(replaced);
    }
}

void ram_replaced_notifier_add(Notifier *notifier)
{
    notifier_list_add(&notifiers, notifier);
}

bool ram_replaced_is_in(ram_addr_t addr, uint64_t size)
{
    Replaced *replaced;

    QSLIST_FOREACH(replaced, &all_replaced, next) {
        if (ranges_overlap(addr, size, replaced->addr, replaced->size)) {
            return true;
        }
    }
    return false;
}
