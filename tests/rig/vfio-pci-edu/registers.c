// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The registers of edu: see QEMU's docs/specs/edu.txt, and tests/rig/patches for the
 * last two
 *
 * The driver sees each write that starts a transfer or a factorial. So it knows where
 * the device writes to, and can bring a result back by computing it again.
 */
#include <linux/delay.h>
#include <linux/io.h>
#include <linux/jiffies.h>
#include <linux/pci.h>

#include "edu.h"

#define LIVENESS	0x04	/* reads as the inverse of what was written */
#define FACTORIAL	0x08
#define STATUS		0x20
#define  COMPUTING	0x01
#define  IRQ_FACTORIAL	0x80
#define IRQ_STATUS	0x24
#define IRQ_RAISE	0x60
#define IRQ_ACK		0x64
#define DMA_SRC		0x80
#define DMA_DST		0x88
#define DMA_COUNT	0x90
#define DMA_COMMAND	0x98
#define  RUN		0x01
#define  TO_MEMORY	0x02
#define BUFFER		0x40000
#define TRANSFER_MS	0x41000

/* 34! is a multiple of 2^32, so that its result is what the register has first. */
#define ZERO_OPERAND	34

/* Far more than a transfer takes */
#define IDLE_SECONDS	10

u16 edu_registers_take(struct edu_device *edu, bool quiet)
{
	struct pci_dev *pdev = edu->core.pdev;
	u16 command;

	down_write(&edu->core.memory_lock);
	pci_read_config_word(pdev, PCI_COMMAND, &command);
	pci_write_config_word(pdev, PCI_COMMAND,
			      (command | PCI_COMMAND_MEMORY) &
			      ~(quiet ? PCI_COMMAND_MASTER : 0));
	return command;
}

void edu_registers_return(struct edu_device *edu, u16 command)
{
	pci_write_config_word(edu->core.pdev, PCI_COMMAND, command);
	up_write(&edu->core.memory_lock);
}

static bool edu_is_idle(struct edu_device *edu)
{
	return !(readl(edu->bar + DMA_COMMAND) & RUN) &&
	       !(readl(edu->bar + STATUS) & COMPUTING);
}

void edu_transfer_settle(struct edu_device *edu)
{
	if (!edu->transfer_count || (readl(edu->bar + DMA_COMMAND) & RUN))
		return;
	edu_log_add(edu, edu->transfer_dst, edu->transfer_count);
	edu->transfer_count = 0;
}

/* A command while a transfer runs is one that the device ignores. */
static void edu_transfer_start(struct edu_device *edu, u32 command)
{
	u64 mask = edu_setting(edu, dma_bits) >= 64 ? U64_MAX :
		   (1ULL << edu_setting(edu, dma_bits)) - 1;

	edu_transfer_settle(edu);
	if ((command & RUN) && !(readl(edu->bar + DMA_COMMAND) & RUN)) {
		if (command & TO_MEMORY) {
			edu->transfer_dst = readq(edu->bar + DMA_DST) & mask;
			edu->transfer_count = readq(edu->bar + DMA_COUNT);
		}
		atomic_inc(&edu->transfers);
		writel(edu_setting(edu, transfer_ms), edu->bar + TRANSFER_MS);
	}
	writel(command, edu->bar + DMA_COMMAND);
}

static void edu_write_command(struct edu_device *edu, u32 command)
{
	if (!edu->quiet)
		edu_transfer_start(edu, command);
	else if ((command & RUN) && !edu->held)
		edu->held = command;
}

static void edu_write_operand(struct edu_device *edu, u32 operand)
{
	if (!(readl(edu->bar + STATUS) & COMPUTING))
		edu->operand = operand;
	writel(operand, edu->bar + FACTORIAL);
}

/* The guest's write of a register that does something: of 32 bits, or the lower 32 */
static ssize_t edu_write_watched(struct edu_device *edu, const char __user *buf,
				 size_t count, loff_t *ppos)
{
	u64 offset = *ppos & VFIO_PCI_OFFSET_MASK;
	u32 value;
	u16 command;

	if ((offset != FACTORIAL && offset != DMA_COMMAND) ||
	    (count != 4 && count != 8))
		return -EINVAL;
	if (copy_from_user(&value, buf, sizeof(value)))
		return -EFAULT;

	down_write(&edu->core.memory_lock);
	pci_read_config_word(edu->core.pdev, PCI_COMMAND, &command);
	if (!(command & PCI_COMMAND_MEMORY)) {
		up_write(&edu->core.memory_lock);
		return -EIO;
	}
	if (offset == DMA_COMMAND)
		edu_write_command(edu, value);
	else if (count == 4)
		edu_write_operand(edu, value);
	up_write(&edu->core.memory_lock);
	*ppos += count;
	return count;
}

static bool edu_overlaps(loff_t pos, size_t count, u64 reg)
{
	u64 offset = pos & VFIO_PCI_OFFSET_MASK;

	return offset < reg + 4 && offset + count > reg;
}

ssize_t edu_bar_write(struct edu_device *edu, const char __user *buf, size_t count,
		      loff_t *ppos)
{
	if (!edu_state_has_registers(edu))
		return -EIO;
	if (edu_overlaps(*ppos, count, FACTORIAL) ||
	    edu_overlaps(*ppos, count, DMA_COMMAND))
		return edu_write_watched(edu, buf, count, ppos);
	return vfio_pci_core_write(&edu->core.vdev, buf, count, ppos);
}

/* A transfer that is held has not ended. */
ssize_t edu_bar_read(struct edu_device *edu, char __user *buf, size_t count,
		     loff_t *ppos)
{
	u64 held = READ_ONCE(edu->held);

	if (!edu_state_has_registers(edu))
		return -EIO;
	if (held && (*ppos & VFIO_PCI_OFFSET_MASK) == DMA_COMMAND &&
	    count <= sizeof(held)) {
		if (copy_to_user(buf, &held, count))
			return -EFAULT;
		*ppos += count;
		return count;
	}
	return vfio_pci_core_read(&edu->core.vdev, buf, count, ppos);
}

static void edu_registers_write(struct edu_device *edu,
				const struct edu_registers *registers)
{
	u32 irq_status = le32_to_cpu(registers->irq_status);

	writel(~le32_to_cpu(registers->liveness), edu->bar + LIVENESS);

	/* no interrupt for a result that the guest has had */
	writel(0, edu->bar + STATUS);
	edu_write_operand(edu, le32_to_cpu(registers->operand));
	for (int i = 0; i < 1000 && (readl(edu->bar + STATUS) & COMPUTING); i++)
		usleep_range(50, 100);
	writel(le32_to_cpu(registers->status) & IRQ_FACTORIAL, edu->bar + STATUS);

	writel(~0, edu->bar + IRQ_ACK);
	if (irq_status)
		writel(irq_status, edu->bar + IRQ_RAISE);

	writeq(le64_to_cpu(registers->src), edu->bar + DMA_SRC);
	writeq(le64_to_cpu(registers->dst), edu->bar + DMA_DST);
	writeq(le64_to_cpu(registers->count), edu->bar + DMA_COUNT);
	for (int i = 0; i < ARRAY_SIZE(registers->buffer); i++)
		writel(le32_to_cpu(registers->buffer[i]), edu->bar + BUFFER + 4 * i);
	edu->held = le32_to_cpu(registers->held);
}

void edu_registers_clear(struct edu_device *edu)
{
	static const struct edu_registers zero = {
		.operand = cpu_to_le32(ZERO_OPERAND),
	};
	unsigned long end = jiffies + IDLE_SECONDS * HZ;

	/* until then the device ignores what is written */
	while (!edu_is_idle(edu) && time_before(jiffies, end))
		usleep_range(1000, 2000);
	edu_transfer_settle(edu);
	edu_registers_write(edu, &zero);
	edu->quiet = false;
}

void edu_registers_save(struct edu_device *edu, struct edu_registers *registers)
{
	u16 command = edu_registers_take(edu, false);

	registers->liveness = cpu_to_le32(readl(edu->bar + LIVENESS));
	registers->operand = cpu_to_le32(edu->operand);
	registers->status = cpu_to_le32(readl(edu->bar + STATUS));
	registers->irq_status = cpu_to_le32(readl(edu->bar + IRQ_STATUS));
	registers->src = cpu_to_le64(readq(edu->bar + DMA_SRC));
	registers->dst = cpu_to_le64(readq(edu->bar + DMA_DST));
	registers->count = cpu_to_le64(readq(edu->bar + DMA_COUNT));
	registers->held = cpu_to_le32(edu->held);
	for (int i = 0; i < ARRAY_SIZE(registers->buffer); i++)
		registers->buffer[i] = cpu_to_le32(readl(edu->bar + BUFFER + 4 * i));
	edu_registers_return(edu, command);
}

/*
 * In RESUMING the guest's command register is not there yet: the device must be heard,
 * and must not send the interrupt that its source has sent.
 */
void edu_registers_load(struct edu_device *edu, const struct edu_registers *registers)
{
	u16 command = edu_registers_take(edu, true);

	edu_registers_write(edu, registers);
	edu_registers_return(edu, command);
}

static bool edu_look_if_idle(struct edu_device *edu)
{
	u16 command = edu_registers_take(edu, false);
	bool idle = edu_is_idle(edu);

	edu_transfer_settle(edu);
	edu_registers_return(edu, command);
	return idle;
}

int edu_transfers_stop(struct edu_device *edu)
{
	unsigned long end = jiffies + IDLE_SECONDS * HZ;

	down_write(&edu->core.memory_lock);
	edu->quiet = true;
	up_write(&edu->core.memory_lock);

	while (!edu_look_if_idle(edu)) {
		if (time_after(jiffies, end)) {
			edu_transfers_go_on(edu);
			return -ETIMEDOUT;
		}
		usleep_range(1000, 2000);
	}
	return 0;
}

void edu_transfers_go_on(struct edu_device *edu)
{
	u16 command = edu_registers_take(edu, false);
	u32 held = edu->held;

	edu->quiet = false;
	edu->held = 0;
	if (held)
		edu_transfer_start(edu, held);
	edu_registers_return(edu, command);
}
