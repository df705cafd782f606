/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of the command line that begin with what takes long before the board
 * is made
 *
 * One that is plugged finds a machine that is there, and is not prepared.
 * Everything is called with the big lock held.
 */
#ifndef SYSEMU_QDEV_PREPARE_H
#define SYSEMU_QDEV_PREPARE_H

#include "hw/qdev-core.h"

/* What the options say may be wrong; creating the device tells. */
typedef void QDevPrepare(DeviceClass *dc, const QDict *options);

/**
 * qdev_set_prepare: call @prepare for each -device of @dc, or of a class below
 *
 * It is kept here and not in the class, whose layout the code of every device
 * knows.
 */
void qdev_set_prepare(DeviceClass *dc, QDevPrepare *prepare);

/* For vl.c: a -device with these options, in either of its forms */
void qdev_prepare(const QDict *options);
int qdev_prepare_opts(void *unused, QemuOpts *opts, Error **errp);

#endif /* SYSEMU_QDEV_PREPARE_H */
