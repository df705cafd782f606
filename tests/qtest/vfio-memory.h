/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Small steps that change the memory map of a running guest
 *
 * Each does what a guest or its user does; the caller looks at the outcome.
 */
#ifndef TESTS_VFIO_MEMORY_H
#define TESTS_VFIO_MEMORY_H

#include "libqos/virtio-pci.h"
#include "vfio-mapped.h"

/* A virtio device, with its queues ready */
typedef struct VFIOVirtio {
    VFIOMachine *machine;
    QVirtioPCIDevice *pci;
    QGuestAllocator alloc;
    QVirtQueue *queues[2];
    int num_queues;
} VFIOVirtio;

/* A virtio-mem device, and what a driver knows of it */
typedef struct VFIOVirtioMem {
    VFIOVirtio *virtio;
    uint64_t addr;
    uint64_t block_size;
    uint64_t num_blocks;
    unsigned long *plugged; /* a bit for each block */
} VFIOVirtioMem;

/*
 * DIMMs.  What QEMU can refuse returns NULL, or QEMU's reason, which is to be
 * freed.
 */

/**
 * vfio_memory_plug: plug a DIMM with memory of its own
 *
 * @driver: pc-dimm or nvdimm, and its properties as for -device
 * @slot: of the DIMM, "dimm<slot>"; its memory is "mem<slot>", which stays if
 *        only the DIMM is refused
 * @backend: for instance "memory-backend-ram", with its properties
 */
char *vfio_memory_plug(VFIOMachine *m, const char *driver, int slot,
                       const char *backend, uint64_t size);

/* Ask the guest to let the DIMM go, and do what a guest then does. */
char *vfio_memory_ask_back(VFIOMachine *m, int slot);
void vfio_memory_eject(VFIOMachine *m, int slot);

/* Drop the memory of a DIMM that is gone. */
char *vfio_memory_drop(VFIOMachine *m, int slot);

/* Wait until QEMU has given back the memory of @size bytes that was dropped. */
void vfio_memory_wait_freed(VFIOMachine *m, uint64_t size);

/* The i440fx's register for the memory at 0xf0000, and memory there */
#define I440FX_PAM0 0x59
#define PAM0_RAM    0x30
#define PAM0_BASE   0xf0000

/* PCI configuration of the device in @slot */
void vfio_memory_config_byte(VFIOMachine *m, int slot, uint8_t reg,
                             uint8_t value);
void vfio_memory_command(VFIOMachine *m, int slot, uint16_t command);

/* Write a BAR of 32 or 64 bits; @reg: PCI_BASE_ADDRESS_0 or another. */
void vfio_memory_bar(VFIOMachine *m, int slot, uint8_t reg, uint32_t value);
void vfio_memory_bar64(VFIOMachine *m, int slot, uint8_t reg, uint64_t value);

/* Virtio devices, found in @slot */

VFIOVirtio *vfio_virtio_new(VFIOMachine *m, int slot, int num_queues);
void vfio_virtio_free(VFIOVirtio *v);

/* Send @out_size bytes to @queue, and wait for an answer of @in_size. */
void vfio_virtio_request(VFIOVirtio *v, int queue, const void *out,
                         size_t out_size, void *in, size_t in_size);

/* A device of which nothing is plugged yet */
VFIOVirtioMem *vfio_virtio_mem_new(VFIOMachine *m, int slot);
void vfio_virtio_mem_free(VFIOVirtioMem *mem);

/* Set how many bytes the guest may plug; @id: the device's */
void vfio_virtio_mem_offer(VFIOVirtioMem *mem, const char *id, uint64_t size);

/* Ask the device, and return its VIRTIO_MEM_RESP_*. */
int vfio_virtio_mem_plug(VFIOVirtioMem *mem, uint64_t block, uint16_t count);
int vfio_virtio_mem_unplug(VFIOVirtioMem *mem, uint64_t block,
                           uint16_t count);
int vfio_virtio_mem_unplug_all(VFIOVirtioMem *mem);

/* Put the page of guest memory at @addr in the balloon, or take it out. */
void vfio_balloon_inflate(VFIOVirtio *v, uint64_t addr);
void vfio_balloon_deflate(VFIOVirtio *v, uint64_t addr);

#endif /* TESTS_VFIO_MEMORY_H */
