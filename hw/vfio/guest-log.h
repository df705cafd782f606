/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest can make QEMU report, as often as it likes
 *
 * The host's log gets one line a second of it at most, with the number of those
 * that were left out since the line before.
 */
#ifndef HW_VFIO_GUEST_LOG_H
#define HW_VFIO_GUEST_LOG_H

/* All zeroes at first */
typedef struct VFIOGuestLog {
    int64_t said;       /* ns of the real-time clock, 0: never */
    uint64_t unsaid;    /* since then */
} VFIOGuestLog;

/**
 * vfio_guest_log_is_due: whether a line would be said now
 *
 * If not, it counts as left out.  For those whose error takes work to put into
 * words.
 */
bool vfio_guest_log_is_due(VFIOGuestLog *log);

/**
 * vfio_guest_log_say: report @err without its hints, and free it
 *
 * vfio_guest_log_is_due() has said that it is time.
 */
void vfio_guest_log_say(VFIOGuestLog *log, Error *err);

/* Do both: report @err if a line is due, and free it in any case. */
void vfio_guest_log(VFIOGuestLog *log, Error *err);

#endif /* HW_VFIO_GUEST_LOG_H */
