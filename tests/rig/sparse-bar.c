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

typedef struct Sparse {
    struct vfio_region_info info;
    struct vfio_region_info_cap_sparse_mmap cap;
    struct vfio_region_sparse_mmap_area areas[2];
} Sparse;

/* A caller that has too little room is told how much it takes. */
static void add_parts(Sparse *sparse)
{
    struct vfio_region_info *info = &sparse->info;
    __u32 room = info->argsz;

    info->flags |= VFIO_REGION_INFO_FLAG_CAPS;
    info->argsz = sizeof(*sparse);
    info->cap_offset = 0;
    if (room < sizeof(*sparse)) {
        return;
    }
    info->cap_offset = sizeof(*info);
    sparse->cap = (struct vfio_region_info_cap_sparse_mmap) {
        .header = { .id = VFIO_REGION_INFO_CAP_SPARSE_MMAP, .version = 1 },
        .nr_areas = 2,
    };
    sparse->areas[0] = (struct vfio_region_sparse_mmap_area) {
        .offset = 64 * KIB, .size = 64 * KIB,
    };
    sparse->areas[1] = (struct vfio_region_sparse_mmap_area) {
        .offset = 256 * KIB, .size = 256 * KIB,
    };
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
        add_parts((Sparse *)info);
    }
    return ret;
}
