// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which pages the device wrote
 *
 * A page is there when the transfer to it has ended, not before: what is asked for
 * while the transfer runs would be read too early.
 */
#include <linux/interval_tree.h>
#include <linux/iova_bitmap.h>
#include <linux/log2.h>
#include <linux/sizes.h>
#include <linux/slab.h>

#include "edu.h"

static bool edu_log_covers(const struct edu_log *log, u64 iova)
{
	for (u32 i = 0; i < log->num_ranges; i++) {
		if (iova >= log->ranges[i].first && iova <= log->ranges[i].last)
			return true;
	}
	return false;
}

void edu_log_add(struct edu_device *edu, u64 iova, u64 size)
{
	struct edu_log *log = &edu->log;

	if (!log->on || !size)
		return;
	for (u64 page = iova / SZ_4K; page <= (iova + size - 1) / SZ_4K; page++) {
		if (!edu_log_covers(log, page * SZ_4K))
			continue;
		if (xa_err(xa_store(&log->pages, page, xa_mk_value(1), GFP_KERNEL)))
			log->lost = true;
	}
}

static int edu_log_set_ranges(struct edu_log *log, struct rb_root_cached *ranges,
			      u32 num_ranges)
{
	struct interval_tree_node *node;
	u32 i = 0;

	log->ranges = kcalloc(num_ranges, sizeof(*log->ranges), GFP_KERNEL);
	if (!log->ranges)
		return -ENOMEM;
	for (node = interval_tree_iter_first(ranges, 0, ULONG_MAX); node;
	     node = interval_tree_iter_next(node, 0, ULONG_MAX)) {
		log->ranges[i].first = node->start;
		log->ranges[i].last = node->last;
		i++;
	}
	log->num_ranges = i;
	return 0;
}

/* A transfer that has ended by now belongs to the time before. */
static void edu_log_switch(struct edu_device *edu, bool on)
{
	u16 command = edu_registers_take(edu, false);

	edu_transfer_settle(edu);
	edu->log.on = on;
	edu->log.lost = false;
	edu_registers_return(edu, command);
}

static int edu_log_start(struct vfio_device *vdev, struct rb_root_cached *ranges,
			 u32 num_ranges, u64 *page_size)
{
	struct edu_device *edu = edu_of(vdev);
	int ret;

	edu_state_lock(edu);
	ret = -edu_setting(edu, fail_log_start);
	if (!ret && (edu->log.on || *page_size < SZ_4K || !is_power_of_2(*page_size)))
		ret = -EINVAL;
	if (!ret)
		ret = edu_log_set_ranges(&edu->log, ranges, num_ranges);
	if (!ret)
		edu_log_switch(edu, true);
	edu_state_unlock(edu);
	return ret;
}

void edu_log_end(struct edu_device *edu)
{
	struct edu_log *log = &edu->log;

	edu_log_switch(edu, false);
	xa_destroy(&log->pages);
	kfree(log->ranges);
	log->ranges = NULL;
	log->num_ranges = 0;
}

static int edu_log_stop(struct vfio_device *vdev)
{
	struct edu_device *edu = edu_of(vdev);
	int ret;

	edu_state_lock(edu);
	ret = -edu_setting(edu, fail_log_stop);
	if (!ret)
		edu_log_end(edu);
	edu_state_unlock(edu);
	return ret;
}

static void edu_log_report(struct edu_log *log, u64 first, u64 last,
			   struct iova_bitmap *dirty)
{
	unsigned long page;
	void *entry;

	xa_for_each_range(&log->pages, page, entry, first / SZ_4K, last / SZ_4K) {
		u64 from = max_t(u64, page * SZ_4K, first);
		u64 to = min_t(u64, page * SZ_4K + SZ_4K - 1, last);

		xa_erase(&log->pages, page);
		iova_bitmap_set(dirty, from, to - from + 1);
	}
}

static int edu_log_read_and_clear(struct vfio_device *vdev, unsigned long iova,
				  unsigned long length, struct iova_bitmap *dirty)
{
	struct edu_device *edu = edu_of(vdev);
	u16 command;
	int ret;

	edu_state_lock(edu);
	ret = -edu_setting(edu, fail_log_report);
	if (!ret && !edu->log.on)
		ret = -EINVAL;
	if (!ret) {
		command = edu_registers_take(edu, false);
		edu_transfer_settle(edu);
		ret = edu->log.lost ? -EIO : 0;
		edu_registers_return(edu, command);
	}
	if (!ret && length)
		edu_log_report(&edu->log, iova, (u64)iova + length - 1, dirty);
	edu_state_unlock(edu);
	return ret;
}

const struct vfio_log_ops edu_log_ops = {
	.log_start = edu_log_start,
	.log_stop = edu_log_stop,
	.log_read_and_clear = edu_log_read_and_clear,
};
