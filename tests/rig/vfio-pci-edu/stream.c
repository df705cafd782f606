// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What is read while the device is saved, and written while it is loaded
 *
 * A stream is records, each with its kind and its size: first a header; then filling,
 * which is there only to be long; at last the registers. It may be cut anywhere.
 */
#include <linux/anon_inodes.h>
#include <linux/crc32.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "edu.h"

#define MAGIC	0x6564752d6d696772ULL
#define VERSION	1

enum edu_kind {
	EDU_HEADER = 1,
	EDU_FILLING,
	EDU_REGISTERS,
};

struct edu_record {
	__le32 kind;
	__le32 reserved;
	__le64 size;	/* of what follows */
};

struct edu_header {
	__le64 magic;
	__le64 version;
};

/* A record that is to be read */
struct edu_piece {
	struct list_head next;
	struct edu_record record;
	const void *content;	/* NULL: filling */
	u64 size;
	u64 pos;		/* how much of both was read */
	bool initial;
};

struct edu_file {
	struct edu_device *edu;
	struct file *filp;

	struct mutex lock;
	bool ended;		/* the session is over */
	bool complete;		/* the registers are in it */
	u64 moved;		/* bytes in all */
	struct edu_header header;
	struct edu_registers registers;

	/* saving */
	struct list_head pieces;
	int transfers;		/* how many there were when it was looked last */

	/* resuming: the record that is being written */
	struct edu_record record;
	u64 pos;
	u8 bounce[PAGE_SIZE];
};

/* Filling repeats this. */
static u8 edu_filling[PAGE_SIZE];

void edu_stream_init(void)
{
	for (int i = 0; i < PAGE_SIZE; i++)
		edu_filling[i] = i * 7 + i / 256;
}

u64 edu_stream_stop_copy_size(struct edu_device *edu)
{
	return 3 * sizeof(struct edu_record) + sizeof(struct edu_header) +
	       edu_setting(edu, padding) + sizeof(struct edu_registers);
}

/* limit: how much of @len may be moved now; or an errno */
static ssize_t edu_file_limit(struct edu_file *file, size_t len, u64 failure)
{
	u64 after = edu_setting(file->edu, fail_after);
	u64 most = edu_setting(file->edu, max_bytes);

	if (file->ended)
		return -ENODEV;
	if (most)
		len = min_t(u64, len, most);
	if (!failure)
		return len;
	return file->moved >= after ? -failure : min_t(u64, len, after - file->moved);
}

/* Saving */

static int edu_file_add(struct edu_file *file, enum edu_kind kind,
			const void *content, u64 size)
{
	struct edu_piece *piece = kzalloc(sizeof(*piece), GFP_KERNEL);

	if (!piece)
		return -ENOMEM;
	piece->record.kind = cpu_to_le32(kind);
	piece->record.size = cpu_to_le64(size);
	piece->content = content;
	piece->size = size;
	list_add_tail(&piece->next, &file->pieces);
	return 0;
}

/* The header, and in PRE_COPY what comes at its begin */
static int edu_file_add_initial(struct edu_file *file)
{
	u64 size = file->edu->state == VFIO_DEVICE_STATE_STOP ? 0 :
		   edu_setting(file->edu, initial);
	struct edu_piece *piece;
	int ret;

	file->header.magic = cpu_to_le64(MAGIC);
	file->header.version = cpu_to_le64(VERSION);
	ret = edu_file_add(file, EDU_HEADER, &file->header, sizeof(file->header));
	if (!ret && size)
		ret = edu_file_add(file, EDU_FILLING, NULL, size);
	list_for_each_entry(piece, &file->pieces, next)
		piece->initial = true;
	return ret;
}

/* For transfers that were started since */
static int edu_file_add_dirty(struct edu_file *file)
{
	int transfers = atomic_read(&file->edu->transfers);
	u64 size = (transfers - file->transfers) * edu_setting(file->edu, dirty);

	if (file->complete || !size)
		return 0;
	file->transfers = transfers;
	return edu_file_add(file, EDU_FILLING, NULL, size);
}

static int edu_file_add_rest(struct edu_file *file)
{
	struct edu_device *edu = file->edu;
	struct edu_registers *registers = &file->registers;
	int ret;

	edu_registers_save(edu, registers);
	registers->crc = cpu_to_le32(crc32_le(~0, (u8 *)registers,
					      offsetof(struct edu_registers, crc)));
	if (edu_setting(edu, corrupt))
		registers->crc ^= cpu_to_le32(1);
	ret = edu_file_add(file, EDU_FILLING, NULL, edu_setting(edu, padding));
	if (!ret)
		ret = edu_file_add(file, EDU_REGISTERS, registers, sizeof(*registers));
	if (!ret)
		file->complete = true;
	return ret;
}

static void edu_piece_free(struct edu_piece *piece)
{
	list_del(&piece->next);
	kfree(piece);
}

static u64 edu_piece_left(const struct edu_piece *piece)
{
	return sizeof(piece->record) + piece->size - piece->pos;
}

/* Copies some of it, at least a byte; how much, or an errno */
static ssize_t edu_piece_read(struct edu_piece *piece, char __user *buf, size_t len)
{
	u64 offset = piece->pos - sizeof(piece->record);
	const void *from;
	size_t count;

	if (piece->pos < sizeof(piece->record)) {
		from = (void *)&piece->record + piece->pos;
		count = sizeof(piece->record) - piece->pos;
	} else if (piece->content) {
		from = piece->content + offset;
		count = piece->size - offset;
	} else {
		from = edu_filling + offset % PAGE_SIZE;
		count = min_t(u64, piece->size - offset, PAGE_SIZE - offset % PAGE_SIZE);
	}

	count = min(count, len);
	if (copy_to_user(buf, from, count))
		return -EFAULT;
	piece->pos += count;
	return count;
}

static ssize_t edu_file_copy_out(struct edu_file *file, char __user *buf, size_t len)
{
	struct edu_piece *piece, *next;
	size_t done = 0;
	ssize_t count;

	list_for_each_entry_safe(piece, next, &file->pieces, next) {
		while (done < len && edu_piece_left(piece)) {
			count = edu_piece_read(piece, buf + done, len - done);
			if (count < 0)
				return count;
			done += count;
			file->moved += count;
		}
		if (edu_piece_left(piece))
			break;
		edu_piece_free(piece);
	}
	return done;
}

static ssize_t edu_file_read(struct file *filp, char __user *buf, size_t len,
			     loff_t *pos)
{
	struct edu_file *file = filp->private_data;
	struct edu_device *edu = file->edu;
	ssize_t ret;

	mutex_lock(&file->lock);
	ret = edu_file_limit(file, len, edu_setting(edu, fail_read));
	if (ret > 0) {
		len = ret;
		ret = edu_file_add_dirty(file);
		if (!ret)
			ret = edu_file_copy_out(file, buf, len);
		if (!ret && !file->complete && !edu_setting(edu, zero_at_end))
			ret = -ENOMSG;
	}
	mutex_unlock(&file->lock);
	return ret;
}

static int edu_file_precopy_info(struct edu_file *file, struct vfio_precopy_info *info)
{
	struct edu_piece *piece;
	int ret;

	if (file->ended)
		return -ENODEV;
	ret = edu_file_add_dirty(file);
	list_for_each_entry(piece, &file->pieces, next) {
		if (piece->initial)
			info->initial_bytes += edu_piece_left(piece);
		else
			info->dirty_bytes += edu_piece_left(piece);
	}
	return ret;
}

static bool edu_is_in_precopy(struct edu_device *edu)
{
	return edu->state == VFIO_DEVICE_STATE_PRE_COPY ||
	       edu->state == VFIO_DEVICE_STATE_PRE_COPY_P2P;
}

static long edu_file_ioctl(struct file *filp, unsigned int cmd, unsigned long arg)
{
	size_t minsz = offsetofend(struct vfio_precopy_info, dirty_bytes);
	struct edu_file *file = filp->private_data;
	struct edu_device *edu = file->edu;
	struct vfio_precopy_info info = {};
	int ret;

	if (cmd != VFIO_MIG_GET_PRECOPY_INFO)
		return -ENOTTY;
	if (copy_from_user(&info, (void __user *)arg, minsz))
		return -EFAULT;
	if (info.argsz < minsz)
		return -EINVAL;

	info.flags = 0;
	info.initial_bytes = 0;
	info.dirty_bytes = 0;
	edu_state_lock(edu);
	ret = -edu_setting(edu, fail_precopy_info);
	if (!ret && !edu_is_in_precopy(edu))
		ret = -EINVAL;
	if (!ret) {
		mutex_lock(&file->lock);
		ret = edu_file_precopy_info(file, &info);
		mutex_unlock(&file->lock);
	}
	edu_state_unlock(edu);

	if (ret)
		return ret;
	return copy_to_user((void __user *)arg, &info, minsz) ? -EFAULT : 0;
}

/* Resuming */

static u64 edu_record_size(const struct edu_file *file)
{
	return le64_to_cpu(file->record.size);
}

/* Where the content of the record is kept; NULL for filling */
static void *edu_record_content(struct edu_file *file)
{
	switch (le32_to_cpu(file->record.kind)) {
	case EDU_HEADER:
		return &file->header;
	case EDU_REGISTERS:
		return &file->registers;
	default:
		return NULL;
	}
}

/* Whether such a record may come now */
static bool edu_record_is_valid(const struct edu_file *file)
{
	bool begun = file->header.magic;

	if (file->record.reserved || file->complete)
		return false;
	switch (le32_to_cpu(file->record.kind)) {
	case EDU_HEADER:
		return !begun && edu_record_size(file) == sizeof(file->header);
	case EDU_FILLING:
		return begun;
	case EDU_REGISTERS:
		return begun && edu_record_size(file) == sizeof(file->registers);
	default:
		return false;
	}
}

/* Whether the content is right that has been written */
static bool edu_record_end(struct edu_file *file)
{
	file->pos = 0;
	switch (le32_to_cpu(file->record.kind)) {
	case EDU_HEADER:
		return file->header.magic == cpu_to_le64(MAGIC) &&
		       file->header.version == cpu_to_le64(VERSION);
	case EDU_REGISTERS:
		file->complete = true;
		return true;
	default:
		return true;
	}
}

static ssize_t edu_file_take_content(struct edu_file *file, const char __user *buf,
				     size_t len)
{
	u64 offset = file->pos - sizeof(file->record);
	void *content = edu_record_content(file);
	size_t count = min_t(u64, len, edu_record_size(file) - offset);

	if (content)
		return copy_from_user(content + offset, buf, count) ? -EFAULT : count;

	offset %= PAGE_SIZE;
	count = min_t(size_t, count, PAGE_SIZE - offset);
	if (copy_from_user(file->bounce, buf, count))
		return -EFAULT;
	return memcmp(file->bounce, edu_filling + offset, count) ? -EINVAL : count;
}

static ssize_t edu_file_take(struct edu_file *file, const char __user *buf, size_t len)
{
	ssize_t count;

	if (file->pos < sizeof(file->record)) {
		count = min_t(u64, len, sizeof(file->record) - file->pos);
		if (copy_from_user((void *)&file->record + file->pos, buf, count))
			return -EFAULT;
	} else {
		count = edu_file_take_content(file, buf, len);
		if (count < 0)
			return count;
	}

	file->pos += count;
	file->moved += count;
	if (file->pos == sizeof(file->record) && !edu_record_is_valid(file))
		return -EINVAL;
	if (file->pos == sizeof(file->record) + edu_record_size(file) &&
	    !edu_record_end(file))
		return -EINVAL;
	return count;
}

static ssize_t edu_file_write(struct file *filp, const char __user *buf, size_t len,
			      loff_t *pos)
{
	struct edu_file *file = filp->private_data;
	ssize_t limit, count = 0, done = 0;

	mutex_lock(&file->lock);
	limit = edu_file_limit(file, len, edu_setting(file->edu, fail_write));
	while (done < limit) {
		count = edu_file_take(file, buf + done, limit - done);
		if (count < 0)
			break;
		done += count;
	}
	mutex_unlock(&file->lock);
	return limit < 0 ? limit : count < 0 ? count : done;
}

int edu_stream_load(struct edu_device *edu)
{
	struct edu_file *file = edu->file;
	struct edu_registers *registers = &file->registers;
	int ret = 0;

	mutex_lock(&file->lock);
	if (!file->complete || file->pos ||
	    le32_to_cpu(registers->crc) != crc32_le(~0, (u8 *)registers,
						    offsetof(struct edu_registers, crc)))
		ret = -EINVAL;
	mutex_unlock(&file->lock);
	if (!ret)
		edu_registers_load(edu, registers);
	return ret;
}

/* Both */

static int edu_file_release(struct inode *inode, struct file *filp)
{
	struct edu_file *file = filp->private_data;
	struct edu_piece *piece, *next;

	list_for_each_entry_safe(piece, next, &file->pieces, next)
		edu_piece_free(piece);
	put_device(&file->edu->core.vdev.device);
	kvfree(file);
	return 0;
}

static const struct file_operations edu_saving_fops = {
	.owner = THIS_MODULE,
	.read = edu_file_read,
	.unlocked_ioctl = edu_file_ioctl,
	.release = edu_file_release,
};

static const struct file_operations edu_resuming_fops = {
	.owner = THIS_MODULE,
	.write = edu_file_write,
	.release = edu_file_release,
};

/* The file has the device until it is released, which may be after the device went. */
static struct edu_file *edu_file_open(struct edu_device *edu, bool saving)
{
	struct edu_file *file = kvzalloc(sizeof(*file), GFP_KERNEL);
	struct file *filp;

	if (!file)
		return ERR_PTR(-ENOMEM);
	filp = anon_inode_getfile("edu_migration",
				  saving ? &edu_saving_fops : &edu_resuming_fops, file,
				  saving ? O_RDONLY : O_WRONLY);
	if (IS_ERR(filp)) {
		kvfree(file);
		return ERR_CAST(filp);
	}
	stream_open(filp->f_inode, filp);
	mutex_init(&file->lock);
	INIT_LIST_HEAD(&file->pieces);
	file->edu = edu;
	file->filp = filp;
	file->transfers = atomic_read(&edu->transfers);
	get_device(&edu->core.vdev.device);
	return file;
}

/* Makes it the session's; the reference for the user is returned. */
static struct file *edu_file_publish(struct edu_device *edu, struct edu_file *file)
{
	edu->file = file;
	return get_file(file->filp);
}

struct file *edu_stream_open_saving(struct edu_device *edu)
{
	struct edu_file *file = edu_file_open(edu, true);
	int ret;

	if (IS_ERR(file))
		return ERR_CAST(file);
	ret = edu_file_add_initial(file);
	if (ret) {
		fput(file->filp);
		return ERR_PTR(ret);
	}
	return edu_file_publish(edu, file);
}

struct file *edu_stream_open_resuming(struct edu_device *edu)
{
	struct edu_file *file = edu_file_open(edu, false);

	return IS_ERR(file) ? ERR_CAST(file) : edu_file_publish(edu, file);
}

int edu_stream_finish_saving(struct edu_device *edu)
{
	struct edu_file *file = edu->file;
	int ret;

	mutex_lock(&file->lock);
	ret = edu_file_add_dirty(file);
	if (!ret)
		ret = edu_file_add_rest(file);
	mutex_unlock(&file->lock);
	return ret;
}

void edu_stream_end(struct edu_device *edu)
{
	struct edu_file *file = edu->file;

	if (!file)
		return;
	edu->file = NULL;
	mutex_lock(&file->lock);
	file->ended = true;
	mutex_unlock(&file->lock);
	fput(file->filp);
}
