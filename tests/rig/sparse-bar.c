/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lets only parts of a device's BAR 2 seem to be mappable, as drivers do that are
 * made for a device.
 *
 * When preloaded (LD_PRELOAD), it adds to what the kernel says of a BAR 2 of 1 MiB
 * that these parts can be mapped: from 64 KiB to 128 KiB, and from 256 KiB to
 * 512 KiB.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

#define KIB 1024ull

/* A caller that has too little room is told how much it takes. */
static void add_parts(struct vfio_region_info *info)
{
    struct vfio_region_info_cap_sparse_mmap *cap = (void *)(info + 1);
    __u32 needed = sizeof(*info) + sizeof(*cap) + 2 * sizeof(cap->areas[0]);
    __u32 room = info->argsz;

    info->flags |= VFIO_REGION_INFO_FLAG_CAPS;
    info->argsz = needed;
    info->cap_offset = 0;
    if (room < needed) {
        return;
    }
    info->cap_offset = sizeof(*info);
    cap->header.id = VFIO_REGION_INFO_CAP_SPARSE_MMAP;
    cap->header.version = 1;
    cap->header.next = 0;
    cap->nr_areas = 2;
    cap->reserved = 0;
    cap->areas[0].offset = 64 * KIB;
    cap->areas[0].size = 64 * KIB;
    cap->areas[1].offset = 256 * KIB;
    cap->areas[1].size = 256 * KIB;
}

int ioctl(int fd, unsigned long request, ...)
{
    struct vfio_region_info *info;
    __u32 room;
    va_list ap;
    int ret;

    va_start(ap, request);
    info = va_arg(ap, void *);
    va_end(ap);

    room = (__u32)request == VFIO_DEVICE_GET_REGION_INFO ? info->argsz : 0;
    ret = syscall(SYS_ioctl, fd, request, info);
    if (room && ret == 0 && info->index == VFIO_PCI_BAR2_REGION_INDEX &&
        info->size == 1024 * KIB) {
        info->argsz = room;
        add_parts(info);
    }
    return ret;
}
