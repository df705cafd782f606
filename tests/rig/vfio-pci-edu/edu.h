/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vfio-pci-edu: passes QEMU's edu device through, and can migrate it
 *
 * This is for tests of what migrates devices. The device's state is what its
 * registers and its buffer hold, and its log has exactly the pages that it wrote. It
 * behaves as its settings say: they are files in sysfs, in the folder "migration" of
 * the PCI device, and may be changed at any time.
 *
 * This is for the edu of the rig's QEMU: its buffer can be read and written in the BAR,
 * and how long a transfer takes can be set.
 *
 * Locks, in the order in which they are taken:
 *
 *	state_mutex	the state, the file, and whether writes are logged
 *	memory_lock	of vfio_pci_core_device, for writing: the registers, and what
 *			the driver knows of them
 *	lock		of a file: what is to be read or was written
 */
#ifndef VFIO_PCI_EDU_H
#define VFIO_PCI_EDU_H

#include <linux/atomic.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/vfio_pci_core.h>
#include <linux/xarray.h>

/*
 * The settings with their defaults. A state is a number of enum vfio_device_mig_state,
 * and a failure an errno; 0 is none.
 */
#define EDU_SETTINGS(setting)						\
	/* What the device can, from when it is opened next */		\
	setting(p2p, 1)							\
	setting(pre_copy, 1)						\
	setting(log, 1)							\
	/* Bits of an address that the device puts on the bus: edu's dma_mask */ \
	setting(dma_bits, 28)						\
	/* From a command to its transfer */				\
	setting(transfer_ms, 100)					\
									\
	/* Bytes at the begin of PRE_COPY, for each transfer that is	\
	 * started in it, and in STOP_COPY beside the state itself */	\
	setting(initial, 1000)						\
	setting(dirty, 100)						\
	setting(padding, 0)						\
	/* Where PRE_COPY has no more data for now, read() returns 0, not ENOMSG */ \
	setting(zero_at_end, 0)						\
	/* The most bytes that a read() or a write() moves; 0 is no limit */ \
	setting(max_bytes, 0)						\
	/* What is saved is damaged, which is noticed when it is loaded */ \
	setting(corrupt, 0)						\
									\
	/* The step to this state takes so many milliseconds more */	\
	setting(delay_state, 0)						\
	setting(delay_ms, 0)						\
	/* The step to this state fails: the next times (0: always), and	\
	 * whether the device is in ERROR then */			\
	setting(fail_state, 0)						\
	setting(fail_times, 0)						\
	setting(fail_to_error, 0)					\
	/* read() and write() fail, after so many bytes */		\
	setting(fail_read, 0)						\
	setting(fail_write, 0)						\
	setting(fail_after, 0)						\
	/* What else fails */						\
	setting(fail_get_state, 0)					\
	setting(fail_data_size, 0)					\
	setting(fail_precopy_info, 0)					\
	setting(fail_reset, 0)						\
	setting(fail_log_start, 0)					\
	setting(fail_log_stop, 0)					\
	setting(fail_log_report, 0)

struct edu_settings {
#define EDU_MEMBER(name, value) u64 name;
	EDU_SETTINGS(EDU_MEMBER)
#undef EDU_MEMBER
};

extern const struct edu_settings edu_default_settings;
extern const struct attribute_group edu_settings_group;

/* The value that it has now */
#define edu_setting(edu, name) READ_ONCE((edu)->settings.name)

/* What the registers and the buffer hold, as it is saved */
struct edu_registers {
	__le32 liveness;
	__le32 operand;		/* of the factorial, which is computed again */
	__le32 status;
	__le32 irq_status;
	__le64 src;
	__le64 dst;
	__le64 count;
	__le32 held;		/* a command that is started in RUNNING; 0 is none */
	__le32 buffer[1024];
	__le32 crc;		/* of all before */
} __packed;

struct edu_range {
	u64 first;
	u64 last;
};

struct edu_log {
	bool on;
	bool lost;		/* a page could not be stored */
	u32 num_ranges;
	struct edu_range *ranges;
	struct xarray pages;	/* those written, by IOVA / 4 KiB */
};

struct edu_file;

struct edu_device {
	struct vfio_pci_core_device core;
	struct edu_settings settings;

	/* state_mutex; a reset cannot take it, and leaves word */
	struct mutex state_mutex;
	spinlock_t reset_lock;
	bool was_reset;
	enum vfio_device_mig_state state;
	struct edu_file *file;	/* of the session; NULL outside of one */
	struct edu_log log;

	/* memory_lock */
	void __iomem *bar;	/* NULL while the device is closed */
	bool quiet;		/* no transfer may start */
	u32 held;		/* the command of the one that would have */
	u32 operand;
	u64 transfer_dst;	/* of the transfer to memory that is running */
	u64 transfer_count;	/* 0 is none */
	atomic_t transfers;	/* how many were started */
};

#define edu_of(device) container_of(device, struct edu_device, core.vdev)

/*
 * registers.c: the device itself. edu_registers_take() gives access to the registers
 * whatever the guest's command register says, and with @quiet without a message
 * signalled interrupt from the device. It returns what edu_registers_return() wants.
 */
u16 edu_registers_take(struct edu_device *edu, bool quiet);
void edu_registers_return(struct edu_device *edu, u16 command);

ssize_t edu_bar_read(struct edu_device *edu, char __user *buf, size_t count,
		     loff_t *ppos);
ssize_t edu_bar_write(struct edu_device *edu, const char __user *buf, size_t count,
		      loff_t *ppos);

/* To what the device has after power-on; the registers are taken. */
void edu_registers_clear(struct edu_device *edu);
void edu_registers_save(struct edu_device *edu, struct edu_registers *registers);
void edu_registers_load(struct edu_device *edu, const struct edu_registers *registers);

/* No more transfers start and none runs; and they may start again. */
int edu_transfers_stop(struct edu_device *edu);
void edu_transfers_go_on(struct edu_device *edu);

/* Logs the transfer that was running, if it has ended; the registers are taken. */
void edu_transfer_settle(struct edu_device *edu);

/* state.c */
extern const struct vfio_migration_ops edu_migration_ops;

/* Whether the guest may access the device's registers */
bool edu_state_has_registers(struct edu_device *edu);

void edu_state_lock(struct edu_device *edu);
void edu_state_unlock(struct edu_device *edu);

/* The device was reset; called without state_mutex. */
void edu_state_reset(struct edu_device *edu);

/* stream.c: the session's file; state_mutex is held. Files are for the user. */
void edu_stream_init(void);
struct file *edu_stream_open_saving(struct edu_device *edu);
struct file *edu_stream_open_resuming(struct edu_device *edu);

/* The device has stopped: the rest can be read. */
int edu_stream_finish_saving(struct edu_device *edu);

/* All has been written: load it. */
int edu_stream_load(struct edu_device *edu);

/* Nothing goes through the file any more, if there is one. */
void edu_stream_end(struct edu_device *edu);

/* Bytes that finishing would add */
u64 edu_stream_stop_copy_size(struct edu_device *edu);

/* log.c */
extern const struct vfio_log_ops edu_log_ops;

/* The device wrote; memory_lock is held. */
void edu_log_add(struct edu_device *edu, u64 iova, u64 size);

/* Forget all; state_mutex is held. */
void edu_log_end(struct edu_device *edu);

#endif /* VFIO_PCI_EDU_H */
