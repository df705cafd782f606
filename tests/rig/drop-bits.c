/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loses some of the pages that the kernel says are written.
 *
 * When preloaded (LD_PRELOAD), it takes each n-th bit away that the kernel sets in
 * a bitmap of dirty pages, where n is DROP_BITS in the environment. So a test can be
 * seen to fail that compares memory.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/vfio.h>

/* Numbers and layouts of Linux 6.12; the build's headers may be older. */
#define FEATURE_DMA_LOGGING_REPORT  8
#define IOMMU_GET_DIRTY_BITMAP      _IO(VFIO_TYPE, 0x8c)

typedef struct LoggingReport {
    uint64_t iova;
    uint64_t length;
    uint64_t page_size;
    uint64_t bitmap;
} LoggingReport;

typedef struct GetDirtyBitmap {
    uint32_t size;
    uint32_t hwpt_id;
    uint32_t flags;
    uint32_t reserved;
    uint64_t iova;
    uint64_t length;
    uint64_t page_size;
    uint64_t data;
} GetDirtyBitmap;

typedef struct Bitmap {
    uint64_t *words;    /* NULL if the call has none */
    size_t count;
} Bitmap;

static Bitmap bitmap(uint64_t address, uint64_t length, uint64_t page_size)
{
    return (Bitmap) {
        .words = (uint64_t *)(uintptr_t)address,
        .count = (length / page_size + 63) / 64,
    };
}

/* The bitmap that the kernel is asked to fill */
static Bitmap asked_for(unsigned long request, const void *arg)
{
    if ((uint32_t)request == VFIO_DEVICE_FEATURE) {
        const struct vfio_device_feature *feature = arg;
        const LoggingReport *report = (const void *)feature->data;

        if ((feature->flags & VFIO_DEVICE_FEATURE_MASK) ==
            FEATURE_DMA_LOGGING_REPORT &&
            !(feature->flags & VFIO_DEVICE_FEATURE_PROBE)) {
            return bitmap(report->bitmap, report->length, report->page_size);
        }
    }
    if ((uint32_t)request == IOMMU_GET_DIRTY_BITMAP) {
        const GetDirtyBitmap *get = arg;

        return bitmap(get->data, get->length, get->page_size);
    }
    return (Bitmap) { };
}

/* Takes each n-th bit away that is in @b and was not in @before. */
static void drop(Bitmap b, const uint64_t *before)
{
    static unsigned long seen;
    unsigned long every = strtoul(getenv("DROP_BITS") ?: "1000", NULL, 10);

    for (size_t i = 0; i < b.count; i++) {
        uint64_t new = b.words[i] & ~before[i];

        for (; new; new &= new - 1) {
            if (++seen % every == 0) {
                b.words[i] &= ~(new & -new);
            }
        }
    }
}

int ioctl(int fd, unsigned long request, ...)
{
    uint64_t *before = NULL;
    Bitmap b;
    void *arg;
    va_list ap;
    int ret;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);

    b = asked_for(request, arg);
    if (b.words) {
        before = malloc(b.count * sizeof(*before));
        memcpy(before, b.words, b.count * sizeof(*before));
    }
    ret = syscall(SYS_ioctl, fd, request, arg);
    if (b.words && ret == 0) {
        drop(b, before);
    }
    free(before);
    return ret;
}
