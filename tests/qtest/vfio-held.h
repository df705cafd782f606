/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guests whose processors are held, because a device waits for its memory
 *
 * For programs that keep the threads that map memory in their calls
 * (vfio-fault.h).
 */
#ifndef TESTS_VFIO_HELD_H
#define TESTS_VFIO_HELD_H

#include "vfio-rig.h"

/*
 * Who is kept waiting shall wait so long; and in that time a processor sees that it
 * is held.
 */
#define VFIO_HELD_US (300 * 1000)

/* How often a device has begun to wait */
int vfio_held_waits(VFIOMachine *m);

/*
 * No processor does anything, and QEMU does all that it is asked for.  The device
 * that the rig calls @device waits.
 */
void vfio_held_check(VFIOMachine *m, const char *device);

#endif /* TESTS_VFIO_HELD_H */
