/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The kernel's mtty sample, for tests: a mediated device, and its driver
 *
 * It is a PCI card with two serial ports, each of which receives what it sends.
 * It has no DMA, and no page table in the host's IOMMU.
 */
#ifndef TESTS_VFIO_MTTY_H
#define TESTS_VFIO_MTTY_H

#include "vfio-rig.h"

#define VFIO_MTTY_PORTS 2

/* What a port holds until it is read; it takes a full buffer for an empty one. */
#define VFIO_MTTY_FIFO  15

typedef struct VFIOMtty {
    QPCIDevice *pci;
    QPCIBar ports[VFIO_MTTY_PORTS];
} VFIOMtty;

/* Create the mdev with this UUID on the host, or remove it. */
void vfio_mtty_create(const char *uuid);
void vfio_mtty_remove(const char *uuid);

/* Its folder in sysfs; to be freed */
char *vfio_mtty_sysfs(const char *uuid);

/* The guest's side of the mdev in @slot; the test fails if it is no mtty. */
VFIOMtty *vfio_mtty_new(VFIOMachine *m, int slot);
void vfio_mtty_free(VFIOMtty *mtty);

/* @m has the device that another machine had; its registers are left alone. */
void vfio_mtty_moved(VFIOMtty *mtty, VFIOMachine *m);

/* Send @text, of VFIO_MTTY_FIFO bytes at most. */
void vfio_mtty_send(VFIOMtty *mtty, int port, const char *text);

/* The port has received @text and no more. */
void vfio_mtty_check_received(VFIOMtty *mtty, int port, const char *text);

/* Both at the same time, since each has a buffer of its own */
void vfio_mtty_check(VFIOMtty *mtty);

#endif /* TESTS_VFIO_MTTY_H */
