/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for a passed-through edu device, for tests
 *
 * See docs/specs/edu.txt.  Registers are accessed by 32 bits, which is enough
 * for an address of 28 bits, and required below 0x80.
 */
#ifndef TESTS_VFIO_EDU_H
#define TESTS_VFIO_EDU_H

#include "vfio-rig.h"

#define EDU_REG_ID              0x00
#define EDU_REG_LIVENESS        0x04
#define EDU_REG_FACTORIAL       0x08
#define EDU_REG_STATUS          0x20
#define EDU_REG_IRQ_STATUS      0x24
#define EDU_REG_IRQ_RAISE       0x60
#define EDU_REG_IRQ_ACK         0x64
#define EDU_REG_DMA_SRC         0x80
#define EDU_REG_DMA_DST         0x88
#define EDU_REG_DMA_COUNT       0x90
#define EDU_REG_DMA_CMD         0x98

#define EDU_STATUS_COMPUTING    0x01

#define EDU_IRQ_DMA             0x100

/* The longest transfer: see vfio_edu_dma_start(). */
#define EDU_DMA_MAX             4095

typedef enum VFIOEduDMA {
    EDU_DMA_FROM_MEMORY = 0,
    EDU_DMA_TO_MEMORY = 2,
} VFIOEduDMA;

typedef struct VFIOEdu {
    VFIOMachine *machine;
    QPCIDevice *pci;
    QPCIBar bar;
} VFIOEdu;

/* Find the device in @slot and enable it.  The test fails if it is no edu. */
VFIOEdu *vfio_edu_new(VFIOMachine *m, int slot);

/* The same for one function of it, or on another bus: bits 8 and up of @devfn */
VFIOEdu *vfio_edu_new_at(VFIOMachine *m, int devfn);
void vfio_edu_free(VFIOEdu *edu);

/**
 * vfio_edu_moved: the guest with the device is now in @m
 *
 * The device has the address and the command that it had, and MSI as it was.
 */
void vfio_edu_moved(VFIOEdu *edu, VFIOMachine *m);

/**
 * vfio_edu_enable: give the device its address, and set the PCI_COMMAND_* in
 * @command; has to be done again after a reset
 */
void vfio_edu_enable(VFIOEdu *edu, uint16_t command);

uint32_t vfio_edu_read(VFIOEdu *edu, uint32_t reg);
void vfio_edu_write(VFIOEdu *edu, uint32_t reg, uint32_t value);

/* Check that each register does what edu's specification says. */
void vfio_edu_check_registers(VFIOEdu *edu);

/**
 * vfio_edu_dma_start: make the device copy @size bytes between @iova and its
 * buffer; @irq says whether it raises EDU_IRQ_DMA at the end
 */
void vfio_edu_dma_start(VFIOEdu *edu, VFIOEduDMA direction, uint32_t iova,
                        uint32_t size, bool irq);
void vfio_edu_dma_wait(VFIOEdu *edu);

/* Start, and wait. */
void vfio_edu_dma(VFIOEdu *edu, VFIOEduDMA direction, uint32_t iova,
                  uint32_t size);

/* The same from @offset in its buffer on: make it write that to memory. */
void vfio_edu_dma_start_from(VFIOEdu *edu, uint32_t offset, uint32_t iova,
                             uint32_t size);

/**
 * vfio_edu_enable_msi: let interrupts be writes of @data to @addr
 *
 * There is no CPU to take an MSI.  But an MSI is a write, which may go to
 * memory as well as to an APIC.
 */
void vfio_edu_enable_msi(VFIOEdu *edu, uint32_t addr, uint16_t data);

/* Such an interrupt arrives, and is forgotten. */
void vfio_edu_check_msi(VFIOEdu *edu, uint32_t addr, uint16_t data);

/**
 * vfio_edu_gather: make the device read @size bytes at each of the @count
 * @iovas, and write all of them to @dst, one after the other
 *
 * All together are EDU_DMA_MAX bytes at most.
 */
void vfio_edu_gather(VFIOEdu *edu, const uint32_t *iovas, int count,
                     uint32_t size, uint32_t dst);

/**
 * vfio_edu_check_copy: check that the device copies @size bytes in guest memory
 * from @src to @dst, and changes no others
 *
 * This also uses 16 bytes on either side of @dst, as far as they exist.
 */
void vfio_edu_check_copy(VFIOEdu *edu, uint32_t src, uint32_t dst,
                         uint32_t size);

#endif /* TESTS_VFIO_EDU_H */
