/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whether QEMU still starts
 *
 * The machine is ready before the start is over: after that come the notifiers
 * that wait for it, and the first reset, in which a q35 maps some of its memory
 * anew.  Who starts QEMU takes the start for done when the main loop runs.
 */
#ifndef HW_VFIO_START_H
#define HW_VFIO_START_H

/* Learn of the end of the start, from now on. */
void vfio_start_watch(void);

/* The machine is ready, and the main loop has run since. */
bool vfio_start_is_over(void);

#endif /* HW_VFIO_START_H */
