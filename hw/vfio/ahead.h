/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices that are bound before it is their turn to be realized
 *
 * The kernel resets a PCI device when it is bound, which takes a tenth of a
 * second or more.  Those that QEMU starts with are opened before the machine is
 * made, and bound by a thread for each.  At their turns they find that done.
 *
 * Nothing is decided here.  What cannot be done ahead is done at the device's
 * turn as if it had never been tried, and there it is that errors are told.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_AHEAD_H
#define HW_VFIO_AHEAD_H

#include "hw/vfio/vfio-common.h"

/**
 * vfio_ahead_add: begin to bind a device, before any is realized
 *
 * @standin: of an object that is never realized, and is kept meanwhile.
 *           ->name, ->sysfsdev, ->dev, ->iommufd and the descriptor if one is
 *           given are as they will be in the device.
 */
void vfio_ahead_add(VFIODevice *standin);

/**
 * vfio_ahead_take: get what was done for a device whose turn it is
 *
 * Waits for it.  Returns true if @vbasedev is open, known to KVM and bound now,
 * as after vfio_cdev_open() and vfio_cdev_bind(); the caller is connected to
 * ->iommufd.
 */
bool vfio_ahead_take(VFIODevice *vbasedev);

/**
 * vfio_ahead_drop: close what is open ahead of its turn
 *
 * A descriptor that was given stays, as closing it is the only way to undo its
 * bind.
 *
 * Returns whether anything was closed, so that what has failed is worth another
 * try.
 */
bool vfio_ahead_drop(void);

#endif /* HW_VFIO_AHEAD_H */
