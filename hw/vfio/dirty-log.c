/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device's own log of the memory that it writes to: dirty-log.h
 *
 * Drivers can log few ranges (mlx5 and pds join what is more), and large ones
 * cost them precision or memory.  A guest has its memory in up to three places
 * that are far from each other: below 4 GiB, from there on, and in BARs that
 * its firmware has put above all of that.  Each is one range, from its first to
 * its last byte, so that what firmware switches between (as with PAM) is in it
 * from the beginning.
 */
#include "qemu/osdep.h"

#include "dirty-log.h"
#include "hw/pci/pci.h"
#include "hw/vfio/vfio-abi.h"
#include "mig.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "trace.h"

VFIODirtyLog *vfio_dirty_log_query(VFIODevice *vbasedev)
{
    int ret = vfio_feature(vbasedev, VFIO_DEVICE_FEATURE_PROBE |
                           VFIO_DEVICE_FEATURE_SET |
                           VFIO_DEVICE_FEATURE_DMA_LOGGING_START, NULL, 0);

    return ret ? NULL : g_new0(VFIODirtyLog, 1);
}

/* What it is for */

static bool is_bar(MemoryRegion *mr)
{
    Object *owner = memory_region_owner(mr);

    return owner && object_dynamic_cast(owner, TYPE_PCI_DEVICE);
}

static Range *range_for(VFIODirtyLog *log, MemoryRegion *mr, hwaddr last)
{
    if (last < 4 * GiB) {
        return &log->ranges[0];
    }
    return &log->ranges[is_bar(mr) ? 2 : 1];
}

/* BARs of passed-through devices are no memory of the guest's. */
static bool extend_range(Int128 start, Int128 size, const MemoryRegion *region,
                         hwaddr offset, void *opaque)
{
    MemoryRegion *mr = (MemoryRegion *)region;
    VFIODirtyLog *log = opaque;
    hwaddr first, last;
    Range range;

    if (memory_region_is_ram(mr) && !memory_region_is_ram_device(mr)) {
        first = int128_get64(start);
        last = first + int128_get64(size) - 1;
        range_set_bounds(&range, first & qemu_real_host_page_mask(),
                         last | ~qemu_real_host_page_mask());
        range_extend(range_for(log, mr, last), &range);
    }
    return false;
}

static void find_ranges(VFIODirtyLog *log, AddressSpace *as)
{
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(log->ranges); i++) {
        range_make_empty(&log->ranges[i]);
    }
    WITH_RCU_READ_LOCK_GUARD() {
        flatview_for_each_range(address_space_to_flatview(as), extend_range,
                                log);
    }
}

/* What is asked for lies in one of the ranges, or a part may be missing. */
static bool is_logged(VFIODirtyLog *log, hwaddr iova, uint64_t size)
{
    Range range;
    unsigned i;

    range_set_bounds(&range, iova, iova + size - 1);
    for (i = 0; i < ARRAY_SIZE(log->ranges); i++) {
        if (range_contains_range(&log->ranges[i], &range)) {
            return true;
        }
    }
    return false;
}

/* On and off */

/* Returns how many @ranges there are. */
static unsigned get_ranges(VFIODirtyLog *log,
                           struct vfio_device_feature_dma_logging_range *ranges)
{
    unsigned i, count = 0;

    for (i = 0; i < ARRAY_SIZE(log->ranges); i++) {
        if (!range_is_empty(&log->ranges[i])) {
            ranges[count].iova = range_lob(&log->ranges[i]);
            ranges[count].length = range_size(&log->ranges[i]);
            count++;
        }
    }
    return count;
}

static int start(VFIODevice *vbasedev)
{
    VFIODirtyLog *log = vbasedev->dirty_log;
    struct vfio_device_feature_dma_logging_range
        ranges[ARRAY_SIZE(log->ranges)];
    struct vfio_device_feature_dma_logging_control control = {
        .page_size = qemu_real_host_page_size(),
        .num_ranges = get_ranges(log, ranges),
        .ranges = (uintptr_t)ranges,
    };
    int ret;

    ret = vfio_feature(vbasedev, VFIO_DEVICE_FEATURE_SET |
                       VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control,
                       sizeof(control));
    trace_vfio_dirty_log_start(vbasedev->name, control.num_ranges,
                               control.page_size, ret);
    return ret;
}

bool vfio_dirty_log_start(VFIODevice *vbasedev, Error **errp)
{
    VFIODirtyLog *log = vbasedev->dirty_log;
    int ret;

    if (log->on) {
        return true;
    }

    find_ranges(log, vbasedev->container->space->as);
    ret = start(vbasedev);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot let the device log what it "
                         "writes to");
    }
    log->on = !ret;
    log->failed = false;
    return !ret;
}

/* A log that stays on costs a little, and ends when the device is closed. */
void vfio_dirty_log_stop(VFIODevice *vbasedev)
{
    VFIODirtyLog *log = vbasedev->dirty_log;

    if (log->on) {
        vfio_feature(vbasedev, VFIO_DEVICE_FEATURE_SET |
                     VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, NULL, 0);
        log->on = false;
    }
}

/* What it says */

/*
 * An error can be that the device has written to more than it could log, or
 * that a reset has ended the log.  A migration may take longer then.
 *
 * A kernel without CONFIG_IOMMUFD_DRIVER has logs, and cannot read them
 * (include/linux/iova_bitmap.h); that of Debian 12 is such a one.
 */
static void say_failed(VFIODevice *vbasedev, int ret)
{
    const char *remedy = ret != -EOPNOTSUPP ? "" :
        "; this needs a kernel with CONFIG_IOMMUFD; on others the device needs "
        "x-pre-copy-dirty-page-tracking=off, and all memory is sent again when "
        "the guest has stopped";

    if (!vbasedev->dirty_log->failed) {
        vbasedev->dirty_log->failed = true;
        warn_report(VFIO_MSG_PREFIX "cannot read the device's log of what it "
                    "writes to: %s; all memory counts as written to as long as "
                    "that is so%s", vbasedev->name, strerror(-ret), remedy);
    }
}

bool vfio_dirty_log_report(VFIODevice *vbasedev, hwaddr iova, uint64_t size,
                           unsigned long *bits)
{
    struct vfio_device_feature_dma_logging_report report = {
        .iova = iova,
        .length = size,
        .page_size = qemu_real_host_page_size(),
        .bitmap = (uintptr_t)bits,
    };
    int ret;

    if (!is_logged(vbasedev->dirty_log, iova, size)) {
        return false;
    }

    ret = vfio_feature(vbasedev, VFIO_DEVICE_FEATURE_GET |
                       VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report,
                       sizeof(report));
    trace_vfio_dirty_log_report(vbasedev->name, iova, size, ret);
    if (ret) {
        say_failed(vbasedev, ret);
    }
    return !ret;
}
