/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest of its own will, for tests: the rig's Linux, under KVM
 *
 * Its "task=alive" reads from the NVMe that is passed through, if there is one,
 * and writes a line to its console each time.
 */
#ifndef TESTS_VFIO_GUEST_H
#define TESTS_VFIO_GUEST_H

#include <stdint.h>
#include <stdbool.h>

/* QEMU's options for it, without -append */
#define VFIO_GUEST_OPTIONS \
    "-accel kvm -cpu host,xsave=off -kernel /rig/bzImage " \
    "-initrd /rig/guest.cpio"

/* How many such lines its console, the file @path, has, and the memory in them */
int vfio_guest_alive_lines(const char *path, uint64_t *memory_kib);

/* It is alive, from now on; returns how much memory it has, in KiB. */
uint64_t vfio_guest_wait_alive(const char *path);

/* Whether its console has @text */
bool vfio_guest_says(const char *path, const char *text);

#endif /* TESTS_VFIO_GUEST_H */
