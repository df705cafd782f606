/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device's own log of the memory that it writes to
 *
 * It is an option of the device's driver in the host (linux/vfio.h,
 * VFIO_DEVICE_FEATURE_DMA_LOGGING_*).  When it is started it is told which
 * IOVAs it is for, and it knows no others until it is started again.
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_DIRTY_LOG_H
#define HW_VFIO_DIRTY_LOG_H

#include "hw/vfio/vfio-common.h"
#include "qemu/range.h"

typedef struct VFIODirtyLog {
    bool on;
    bool failed;        /* it could not be read, since it was started */
    Range ranges[3];    /* what it is for, while it is on; some may be empty */
} VFIODirtyLog;

/* The device's log, to be freed; NULL if it has none.  ->fd can be used. */
VFIODirtyLog *vfio_dirty_log_query(VFIODevice *vbasedev);

/**
 * vfio_dirty_log_start: log from now on what the device writes to
 *
 * It is logged for all memory that the address space of ->container has now,
 * and for what lies between.  Does nothing if ->dirty_log is on already.
 */
bool vfio_dirty_log_start(VFIODevice *vbasedev, Error **errp);
void vfio_dirty_log_stop(VFIODevice *vbasedev);

/**
 * vfio_dirty_log_report: add what is logged to @bits, and forget it
 *
 * @iova, @size: whole pages of the host, for each of which there is one bit
 *
 * Returns false if something may be missing.
 */
bool vfio_dirty_log_report(VFIODevice *vbasedev, hwaddr iova, uint64_t size,
                           unsigned long *bits);

#endif /* HW_VFIO_DIRTY_LOG_H */
