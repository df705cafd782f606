/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for a passed-through edu device, for tests
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-edu.h"

#define EDU_VENDOR_ID   0x1234
#define EDU_DEVICE_ID   0x11e8
#define EDU_ID          0x010000ed

#define EDU_DMA_BUFFER  0x40000
#define EDU_DMA_RUN     0x1
#define EDU_DMA_IRQ     0x4

/* Bytes before and after the destination of a copy, which must not change */
#define GUARD           16
#define GUARD_BYTE      0xa5

VFIOEdu *vfio_edu_new_at(VFIOMachine *m, int devfn)
{
    VFIOEdu *edu = g_new0(VFIOEdu, 1);

    edu->machine = m;
    edu->pci = qpci_device_find(m->pci, devfn);
    g_assert_nonnull(edu->pci);
    g_assert_cmphex(qpci_config_readw(edu->pci, PCI_VENDOR_ID), ==,
                    EDU_VENDOR_ID);
    g_assert_cmphex(qpci_config_readw(edu->pci, PCI_DEVICE_ID), ==,
                    EDU_DEVICE_ID);

    edu->bar = qpci_iomap(edu->pci, 0, NULL);
    vfio_edu_enable(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    return edu;
}

VFIOEdu *vfio_edu_new(VFIOMachine *m, int slot)
{
    return vfio_edu_new_at(m, QPCI_DEVFN(slot, 0));
}

void vfio_edu_free(VFIOEdu *edu)
{
    g_free(edu->pci);
    g_free(edu);
}

void vfio_edu_moved(VFIOEdu *edu, VFIOMachine *m)
{
    QPCIDevice *was = edu->pci;

    edu->machine = m;
    edu->pci = qpci_device_find(m->pci, was->devfn);
    g_assert_nonnull(edu->pci);
    g_assert_cmphex(qpci_config_readl(edu->pci, PCI_VENDOR_ID), ==,
                    EDU_DEVICE_ID << 16 | EDU_VENDOR_ID);
    g_assert_cmphex(qpci_config_readl(edu->pci, PCI_BASE_ADDRESS_0), ==,
                    edu->bar.addr);
    g_assert_cmphex(qpci_config_readw(edu->pci, PCI_COMMAND), ==,
                    PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    g_free(was);
}

void vfio_edu_enable(VFIOEdu *edu, uint16_t command)
{
    qpci_config_writel(edu->pci, PCI_BASE_ADDRESS_0, edu->bar.addr);
    qpci_config_writew(edu->pci, PCI_COMMAND, command);
    g_assert_cmphex(qpci_config_readw(edu->pci, PCI_COMMAND), ==, command);
}

uint32_t vfio_edu_read(VFIOEdu *edu, uint32_t reg)
{
    return qpci_io_readl(edu->pci, edu->bar, reg);
}

void vfio_edu_write(VFIOEdu *edu, uint32_t reg, uint32_t value)
{
    qpci_io_writel(edu->pci, edu->bar, reg, value);
}

static void check_factorial(VFIOEdu *edu)
{
    vfio_edu_write(edu, EDU_REG_FACTORIAL, 10);
    g_assert_true(vfio_rig_wait(!(vfio_edu_read(edu, EDU_REG_STATUS) &
                                  EDU_STATUS_COMPUTING)));
    g_assert_cmpuint(vfio_edu_read(edu, EDU_REG_FACTORIAL), ==, 3628800);
}

void vfio_edu_check_registers(VFIOEdu *edu)
{
    uint32_t value = g_test_rand_int();

    g_assert_cmphex(vfio_edu_read(edu, EDU_REG_ID), ==, EDU_ID);

    vfio_edu_write(edu, EDU_REG_LIVENESS, value);
    g_assert_cmphex(vfio_edu_read(edu, EDU_REG_LIVENESS), ==, ~value);

    check_factorial(edu);
}

/*
 * The device's buffer has 4096 bytes, but edu_check_range() of QEMU 7.2 takes a
 * transfer that ends with the buffer for one that goes beyond it, and ends the
 * machine that has the device, that is, the rig.
 */
void vfio_edu_dma_start(VFIOEdu *edu, VFIOEduDMA direction, uint32_t iova,
                        uint32_t size, bool irq)
{
    bool to_memory = direction == EDU_DMA_TO_MEMORY;

    g_assert_cmpuint(size, <=, EDU_DMA_MAX);
    vfio_edu_write(edu, EDU_REG_DMA_SRC, to_memory ? EDU_DMA_BUFFER : iova);
    vfio_edu_write(edu, EDU_REG_DMA_DST, to_memory ? iova : EDU_DMA_BUFFER);
    vfio_edu_write(edu, EDU_REG_DMA_COUNT, size);
    vfio_edu_write(edu, EDU_REG_DMA_CMD,
                   EDU_DMA_RUN | direction | (irq ? EDU_DMA_IRQ : 0));
}

void vfio_edu_dma_wait(VFIOEdu *edu)
{
    g_assert_true(vfio_rig_wait(!(vfio_edu_read(edu, EDU_REG_DMA_CMD) &
                                  EDU_DMA_RUN)));
}

void vfio_edu_dma(VFIOEdu *edu, VFIOEduDMA direction, uint32_t iova,
                  uint32_t size)
{
    vfio_edu_dma_start(edu, direction, iova, size, false);
    vfio_edu_dma_wait(edu);
}

void vfio_edu_dma_start_from(VFIOEdu *edu, uint32_t offset, uint32_t iova,
                             uint32_t size)
{
    g_assert_cmpuint(offset + size, <=, EDU_DMA_MAX);
    vfio_edu_write(edu, EDU_REG_DMA_SRC, EDU_DMA_BUFFER + offset);
    vfio_edu_write(edu, EDU_REG_DMA_DST, iova);
    vfio_edu_write(edu, EDU_REG_DMA_COUNT, size);
    vfio_edu_write(edu, EDU_REG_DMA_CMD, EDU_DMA_RUN | EDU_DMA_TO_MEMORY);
}

void vfio_edu_enable_msi(VFIOEdu *edu, uint32_t addr, uint16_t data)
{
    uint8_t cap = qpci_find_capability(edu->pci, PCI_CAP_ID_MSI, 0);
    uint16_t flags;

    g_assert_cmphex(cap, !=, 0);
    flags = qpci_config_readw(edu->pci, cap + PCI_MSI_FLAGS);
    g_assert_true(flags & PCI_MSI_FLAGS_64BIT);

    qpci_config_writel(edu->pci, cap + PCI_MSI_ADDRESS_LO, addr);
    qpci_config_writel(edu->pci, cap + PCI_MSI_ADDRESS_HI, 0);
    qpci_config_writew(edu->pci, cap + PCI_MSI_DATA_64, data);
    qpci_config_writew(edu->pci, cap + PCI_MSI_FLAGS,
                       flags | PCI_MSI_FLAGS_ENABLE);
}

void vfio_edu_check_msi(VFIOEdu *edu, uint32_t addr, uint16_t data)
{
    g_assert_true(vfio_rig_wait(qtest_readl(edu->machine->qts, addr) == data));
    qtest_writel(edu->machine->qts, addr, 0);
}

void vfio_edu_gather(VFIOEdu *edu, const uint32_t *iovas, int count,
                     uint32_t size, uint32_t dst)
{
    g_assert_cmpuint(count * size, <=, EDU_DMA_MAX);
    for (int i = 0; i < count; i++) {
        vfio_edu_write(edu, EDU_REG_DMA_SRC, iovas[i]);
        vfio_edu_write(edu, EDU_REG_DMA_DST, EDU_DMA_BUFFER + i * size);
        vfio_edu_write(edu, EDU_REG_DMA_COUNT, size);
        vfio_edu_write(edu, EDU_REG_DMA_CMD,
                       EDU_DMA_RUN | EDU_DMA_FROM_MEMORY);
        vfio_edu_dma_wait(edu);
    }
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, dst, count * size);
}

static uint8_t *random_bytes(uint32_t size)
{
    uint8_t *bytes = g_malloc(size);

    for (uint32_t i = 0; i < size; i++) {
        bytes[i] = g_test_rand_int();
    }
    return bytes;
}

void vfio_edu_check_copy(VFIOEdu *edu, uint32_t src, uint32_t dst,
                         uint32_t size)
{
    QTestState *qts = edu->machine->qts;
    g_autofree uint8_t *data = random_bytes(size);
    uint32_t before = MIN(GUARD, dst);
    uint32_t after = MIN(GUARD, VFIO_MACHINE_MEMORY - dst - size);
    uint32_t around = before + size + after;
    g_autofree uint8_t *expected = g_malloc(around);
    g_autofree uint8_t *actual = g_malloc(around);

    g_test_message("copying 0x%x bytes from 0x%x to 0x%x", size, src, dst);
    memset(expected, GUARD_BYTE, around);
    memcpy(expected + before, data, size);

    qtest_bufwrite(qts, src, data, size);
    qtest_memset(qts, dst - before, GUARD_BYTE, around);
    vfio_edu_dma(edu, EDU_DMA_FROM_MEMORY, src, size);
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, dst, size);
    qtest_bufread(qts, dst - before, actual, around);

    g_assert_cmpmem(actual, around, expected, around);
}
