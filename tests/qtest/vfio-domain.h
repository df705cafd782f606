/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest in the rig as libvirt 12 starts it
 *
 * What libvirt does as root is done here: the character devices are opened and
 * passed as descriptors, locked memory is counted for the process, and QEMU
 * runs as an ordinary user without any capability, whose /dev has neither
 * /dev/iommu nor a device's node.  QEMU's monitor listens on a socket that QEMU
 * is given.
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
    GQueue *events;         /* received, but not waited for yet */
} VFIODomain;

/**
 * vfio_domain_new: a q35 with two free PCIe ports, pci.1 and pci.2
 *
 * Its guest does @task of tests/rig/guest/init; without a task it must not run.
 */
VFIODomain *vfio_domain_new(const char *task);

/* Append a word to the command line, formatted like printf(). */
void vfio_domain_argument(VFIODomain *d, const char *fmt, ...)
    G_GNUC_PRINTF(2, 3);

/**
 * vfio_domain_give: let QEMU inherit @fd, under the same number
 *
 * Once QEMU is started, only QEMU has it.  Returns @fd.
 */
int vfio_domain_give(VFIODomain *d, int fd);

/* Start QEMU with -S: its processors do not run yet. */
void vfio_domain_start(VFIODomain *d);

/* End QEMU like "virsh destroy": it ends well, and has not complained. */
void vfio_domain_stop(VFIODomain *d);

/* Open /dev/iommu, with locked memory counted for each process. */
int vfio_domain_open_iommu(void);

/* Open the node of a device of the rig. */
int vfio_domain_open_device(const char *name);

/**
 * vfio_domain_qmp: QEMU's answer to a command, written as for qtest_qmp()
 *
 * @fd is sent with it and then closed; -1 for none.
 */
QDict *vfio_domain_qmp(VFIODomain *d, int fd, const char *fmt, ...)
    G_GNUC_PRINTF(3, 4);

/* Wait for an @event of device @id that has not been waited for before. */
void vfio_domain_wait_event(VFIODomain *d, const char *event, const char *id);

/* Wait until the guest tells @key, and return its value; to be freed. */
char *vfio_domain_wait_told(VFIODomain *d, const char *key);

/* The value of @key in the kernel's status of the process; to be freed */
char *vfio_domain_status(VFIODomain *d, const char *key);

#endif /* TESTS_VFIO_DOMAIN_H */
