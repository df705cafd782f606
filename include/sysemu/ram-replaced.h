/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory that gets new pages where it is
 *
 * When pages of the host's memory have failed, a reset gives the guest others
 * in their place.  Whoever has made the old ones known to a device has to be
 * told.
 *
 * Everything is called with the big lock held.
 */
#ifndef SYSEMU_RAM_REPLACED_H
#define SYSEMU_RAM_REPLACED_H

#include "exec/cpu-common.h"
#include "qemu/notify.h"

/* The @size bytes at @addr have new pages; nobody is told yet. */
void ram_replaced_add(ram_addr_t addr, uint64_t size);

/* That was all: tell the notifiers, if there was anything. */
void ram_replaced_notify(void);

void ram_replaced_notifier_add(Notifier *notifier);

/* For a notifier: some of the @size bytes at @addr have new pages. */
bool ram_replaced_is_in(ram_addr_t addr, uint64_t size);

#endif /* SYSEMU_RAM_REPLACED_H */
