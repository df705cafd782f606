/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for a passed-through NVMe controller, for tests
 *
 * It knows one command, Identify, by which the controller proves that its
 * registers and its DMA work.
 */
#ifndef TESTS_VFIO_NVME_H
#define TESTS_VFIO_NVME_H

#include "vfio-rig.h"

typedef struct VFIONVMe {
    VFIOMachine *machine;
    QPCIDevice *pci;
    QPCIBar bar;
    uint64_t memory;    /* where queues and data are in the guest's memory */
} VFIONVMe;

/*
 * Find the device in @slot, and give it its address and PCI_COMMAND.  Sets
 * ->memory to 4 MiB.
 */
VFIONVMe *vfio_nvme_new(VFIOMachine *m, int slot);
void vfio_nvme_free(VFIONVMe *nvme);

/* Do this again after a reset */
void vfio_nvme_enable(VFIONVMe *nvme);

/* Whether the controller was started and has not been reset since */
bool vfio_nvme_is_ready(VFIONVMe *nvme);

/**
 * vfio_nvme_check_identify: start the controller, which must be reset, and
 * ask it who it is; the answer must be @serial
 *
 * Uses 12 KiB of the guest's memory at @nvme->memory.
 */
void vfio_nvme_check_identify(VFIONVMe *nvme, const char *serial);

#endif /* TESTS_VFIO_NVME_H */
