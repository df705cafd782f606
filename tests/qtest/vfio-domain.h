/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest in the rig as libvirt 12 starts it
 *
 * What libvirt does as root is done here: the character devices are opened and
 * given by descriptor, locked memory is counted for the process, and QEMU
 * becomes an ordinary user's without any capability, whose /dev has neither
 * /dev/iommu nor a device's node.  QEMU listens for the monitor on a socket
 * that it is given.
 */
#ifndef TESTS_VFIO_DOMAIN_H
#define TESTS_VFIO_DOMAIN_H

#include "qapi/qmp/qdict.h"
#include "vfio-rig.h"

#define VFIO_DOMAIN_MEMORY (256 * MiB)

typedef struct VFIODomain {
    pid_t pid;
    int monitor;            /* a socket */
    char *dir;              /* holds the files monitor, console and errors */
    GPtrArray *arguments;
    GArray *given;          /* descriptors that QEMU inherits */
    GQueue *events;         /* that came and were not waited for */
} VFIODomain;

/**
 * vfio_domain_new: a q35 with two free PCIe ports, pci.1 and pci.2
 *
 * Its guest does @task of tests/rig/guest/init; without one it is never to run.
 */
VFIODomain *vfio_domain_new(const char *task);

/* Append a word to the command line, formatted like printf(). */
void vfio_domain_argument(VFIODomain *d, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/**
 * vfio_domain_give: let QEMU inherit @fd, under the same number
 *
 * It is QEMU's alone once that has been started.  Returns @fd.
 */
int vfio_domain_give(VFIODomain *d, int fd);

/* Start QEMU; its processors do not run, since it is given -S. */
void vfio_domain_start(VFIODomain *d);

/* End QEMU as "virsh destroy" does: it ends well, and complained of nothing. */
void vfio_domain_stop(VFIODomain *d);

/* /dev/iommu, with locked memory counted for each process */
int vfio_domain_open_iommu(void);

/* The node of a device of the rig */
int vfio_domain_open_device(const char *name);

/**
 * vfio_domain_qmp: what QEMU answers to a command, written as for qtest_qmp()
 *
 * @fd goes with it, and is closed here; -1: none does.
 */
QDict *vfio_domain_qmp(VFIODomain *d, int fd, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* Wait for @event of device @id, which has not been waited for. */
void vfio_domain_wait_event(VFIODomain *d, const char *event, const char *id);

/* Wait until the guest tells of @key, and return what; to be freed. */
char *vfio_domain_wait_told(VFIODomain *d, const char *key);

/* What the kernel has for @key in the process's status; to be freed. */
char *vfio_domain_status(VFIODomain *d, const char *key);

#endif /* TESTS_VFIO_DOMAIN_H */
