/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tells how long the kernel takes to say which pages are written.
 *
 * When preloaded (LD_PRELOAD), it appends a line to the file that DIRTY_TIME names
 * for each IOMMU_HWPT_GET_DIRTY_BITMAP: the seconds that it took.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/vfio.h>

/* The number in Linux 6.12; the build's headers may be older. */
#define IOMMU_GET_DIRTY_BITMAP      _IO(VFIO_TYPE, 0x8c)

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void tell(double seconds)
{
    char line[32];
    int size = snprintf(line, sizeof(line), "%.9f\n", seconds);
    int fd = open(getenv("DIRTY_TIME"), O_WRONLY | O_APPEND | O_CLOEXEC);

    if (fd < 0 || write(fd, line, size) != size) {
        abort();
    }
    close(fd);
}

int ioctl(int fd, unsigned long request, ...)
{
    double begin = now();
    void *arg;
    va_list ap;
    int ret;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);

    ret = syscall(SYS_ioctl, fd, request, arg);
    if ((uint32_t)request == IOMMU_GET_DIRTY_BITMAP && ret == 0) {
        tell(now() - begin);
    }
    return ret;
}
