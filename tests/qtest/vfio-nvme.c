/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for a passed-through NVMe controller, for tests
 *
 * Registers and commands are those of the NVM Express Base Specification 1.4,
 * chapters 3.1 and 5.15.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "qemu/bswap.h"
#include "vfio-nvme.h"

#define NVME_REG_CC         0x14
#define NVME_REG_CSTS       0x1c
#define NVME_REG_AQA        0x24
#define NVME_REG_ASQ        0x28
#define NVME_REG_ACQ        0x30
#define NVME_REG_SQ0TDBL    0x1000

/* Enabled, with entries of 64 bytes (submissions) and 16 bytes (completions) */
#define NVME_CC_START       0x00460001
#define NVME_CSTS_RDY       0x1

#define NVME_OPC_IDENTIFY   0x06
#define NVME_CNS_CTRL       1

/* Places in the guest's memory */
#define PAGE                4096
#define SUBMISSIONS(nvme)   ((nvme)->memory)
#define COMPLETIONS(nvme)   ((nvme)->memory + PAGE)
#define ANSWER(nvme)        ((nvme)->memory + 2 * PAGE)

/* In dwords */
#define SQE_PRP1            6
#define SQE_CDW10           10
#define SQE_DWORDS          16
#define CQE_STATUS          3

#define CQE_PHASE           (1u << 16)
#define CQE_STATUS_CODE     0xfffe0000

/* The serial number in the data that Identify returns */
#define SERIAL_OFFSET       4
#define SERIAL_LENGTH       20

static uint32_t read_reg(VFIONVMe *nvme, uint32_t reg)
{
    return qpci_io_readl(nvme->pci, nvme->bar, reg);
}

static void write_reg(VFIONVMe *nvme, uint32_t reg, uint32_t value)
{
    qpci_io_writel(nvme->pci, nvme->bar, reg, value);
}

VFIONVMe *vfio_nvme_new(VFIOMachine *m, int slot)
{
    VFIONVMe *nvme = g_new0(VFIONVMe, 1);

    nvme->machine = m;
    nvme->pci = qpci_device_find(m->pci, QPCI_DEVFN(slot, 0));
    g_assert_nonnull(nvme->pci);
    nvme->memory = 4 * MiB;
    nvme->bar = qpci_iomap(nvme->pci, 0, NULL);
    vfio_nvme_enable(nvme);
    return nvme;
}

void vfio_nvme_free(VFIONVMe *nvme)
{
    g_free(nvme->pci);
    g_free(nvme);
}

void vfio_nvme_enable(VFIONVMe *nvme)
{
    qpci_config_writel(nvme->pci, PCI_BASE_ADDRESS_0, nvme->bar.addr);
    qpci_config_writel(nvme->pci, PCI_BASE_ADDRESS_1, nvme->bar.addr >> 32);
    qpci_config_writew(nvme->pci, PCI_COMMAND,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

bool vfio_nvme_is_ready(VFIONVMe *nvme)
{
    return read_reg(nvme, NVME_REG_CSTS) & NVME_CSTS_RDY;
}

/* With a pair of queues of two entries */
static void start(VFIONVMe *nvme)
{
    qtest_memset(nvme->machine->qts, SUBMISSIONS(nvme), 0, 3 * PAGE);
    write_reg(nvme, NVME_REG_AQA, 0x00010001);
    write_reg(nvme, NVME_REG_ASQ, SUBMISSIONS(nvme));
    write_reg(nvme, NVME_REG_ASQ + 4, SUBMISSIONS(nvme) >> 32);
    write_reg(nvme, NVME_REG_ACQ, COMPLETIONS(nvme));
    write_reg(nvme, NVME_REG_ACQ + 4, COMPLETIONS(nvme) >> 32);
    write_reg(nvme, NVME_REG_CC, NVME_CC_START);
    g_assert_true(vfio_rig_wait(vfio_nvme_is_ready(nvme)));
}

static void identify(VFIONVMe *nvme)
{
    QTestState *qts = nvme->machine->qts;
    uint64_t status_addr = COMPLETIONS(nvme) + 4 * CQE_STATUS;
    uint32_t command[SQE_DWORDS] = {
        [0] = cpu_to_le32(NVME_OPC_IDENTIFY),
        [SQE_PRP1] = cpu_to_le32(ANSWER(nvme)),
        [SQE_PRP1 + 1] = cpu_to_le32(ANSWER(nvme) >> 32),
        [SQE_CDW10] = cpu_to_le32(NVME_CNS_CTRL),
    };

    qtest_memwrite(qts, SUBMISSIONS(nvme), command, sizeof(command));
    write_reg(nvme, NVME_REG_SQ0TDBL, 1);
    g_assert_true(vfio_rig_wait(qtest_readl(qts, status_addr) & CQE_PHASE));
    g_assert_cmphex(qtest_readl(qts, status_addr) & CQE_STATUS_CODE, ==, 0);
}

void vfio_nvme_check_identify(VFIONVMe *nvme, const char *serial)
{
    char answer[SERIAL_LENGTH + 1] = "";

    g_assert_false(vfio_nvme_is_ready(nvme));
    start(nvme);
    identify(nvme);
    qtest_memread(nvme->machine->qts, ANSWER(nvme) + SERIAL_OFFSET, answer,
                  SERIAL_LENGTH);
    g_assert_cmpstr(g_strchomp(answer), ==, serial);
}
