/* SPDX-License-Identifier: GPL-2.0-or-later */
/* BARs of PCI devices as dma-bufs: see dma-buf.h */
#include "qemu/osdep.h"
#include <sys/utsname.h>

#include "dma-buf.h"
#include "hw/vfio/vfio-abi.h"
#include "mig.h"

typedef struct Buf {
    VFIODevice *vbasedev;
    unsigned region;
    off_t offset;       /* in the region */
    int fd;             /* or -errno, if there is none and never will be */
    QLIST_ENTRY(Buf) next;
} Buf;

static QLIST_HEAD(Bufs, Buf) bufs = QLIST_HEAD_INITIALIZER(bufs);

static VFIOMmap *find_mmap(VFIORegion *region, MemoryRegion *mr)
{
    for (unsigned i = 0; i < region->nr_mmaps; i++) {
        if (&region->mmaps[i].mem == mr) {
            return &region->mmaps[i];
        }
    }
    return NULL;
}

/* NULL if @vaddr is not in a region of a VFIO device */
static VFIORegion *find_region(void *vaddr, VFIOMmap **mmap)
{
    ram_addr_t offset;
    MemoryRegion *mr = memory_region_from_host(vaddr, &offset);
    VFIORegion *region;

    if (!mr || !memory_region_is_ram_device(mr) || !mr->container ||
        mr->container->ops != &vfio_region_ops) {
        return NULL;
    }
    region = mr->container->opaque;
    *mmap = find_mmap(region, mr);
    return *mmap ? region : NULL;
}

VFIODevice *vfio_dma_buf_device(void *vaddr)
{
    VFIOMmap *mmap;
    VFIORegion *region = find_region(vaddr, &mmap);

    return region ? region->vbasedev : NULL;
}

/*
 * The kernel also says ENODEV or EINVAL of a BAR that it makes none of, and
 * EINVAL of anything but whole pages (Linux, drivers/vfio/pci/vfio_pci_dmabuf.c).
 */
static int export(VFIORegion *region, VFIOMmap *mmap)
{
    struct {
        struct vfio_device_feature_dma_buf buf;
        struct vfio_region_dma_range range;
    } get = {
        .buf.region_index = region->nr,
        .buf.open_flags = O_RDWR | O_CLOEXEC,
        .buf.nr_ranges = 1,
        .range.offset = mmap->offset,
        .range.length = mmap->size,
    };
    int fd;

    fd = vfio_feature(region->vbasedev, VFIO_DEVICE_FEATURE_GET |
                      VFIO_DEVICE_FEATURE_DMA_BUF, &get, sizeof(get));
    if (fd == -EINVAL &&
        !QEMU_IS_ALIGNED(mmap->size, qemu_real_host_page_size())) {
        return -EDOM;
    }
    return fd == -ENODEV || fd == -EINVAL ? -EOPNOTSUPP : fd;
}

static Buf *find_buf(VFIORegion *region, VFIOMmap *mmap)
{
    Buf *buf;

    QLIST_FOREACH(buf, &bufs, next) {
        if (buf->vbasedev == region->vbasedev && buf->region == region->nr &&
            buf->offset == mmap->offset) {
            return buf;
        }
    }
    return NULL;
}

/* The descriptor, or -errno; what will not change is asked for once. */
static int get_fd(VFIORegion *region, VFIOMmap *mmap)
{
    Buf *buf = find_buf(region, mmap);
    int fd;

    if (buf) {
        return buf->fd;
    }
    fd = export(region, mmap);
    if (fd >= 0 || vfio_dma_buf_is_missing(fd)) {
        buf = g_new(Buf, 1);
        *buf = (Buf) {
            .vbasedev = region->vbasedev,
            .region = region->nr,
            .offset = mmap->offset,
            .fd = fd,
        };
        QLIST_INSERT_HEAD(&bufs, buf, next);
    }
    return fd;
}

int vfio_dma_buf_find(void *vaddr, VFIODMABufPart *part)
{
    VFIOMmap *mmap;
    VFIORegion *region = find_region(vaddr, &mmap);

    if (!region) {
        return -EOPNOTSUPP;
    }
    part->fd = get_fd(region, mmap);
    part->start = (uintptr_t)vaddr - (uintptr_t)mmap->mmap;
    return MIN(part->fd, 0);
}

bool vfio_dma_buf_is_missing(int ret)
{
    return ret == -ENOTTY || ret == -EOPNOTSUPP || ret == -EDOM;
}

/* One that is new enough has them, unless it was built without. */
static bool kernel_is_new_enough(void)
{
    unsigned major, minor;
    struct utsname name;

    return !uname(&name) &&
           sscanf(name.release, "%u.%u", &major, &minor) == 2 &&
           (major > 6 || (major == 6 && minor >= 19));
}

char *vfio_dma_buf_explain(VFIODevice *vbasedev, int ret)
{
    switch (-ret) {
    case EOPNOTSUPP:
        return g_strdup_printf("the BARs of %s (peer-to-peer DMA): its driver "
                               "in the host makes no dma-bufs of them, as "
                               "vfio-pci does", vbasedev->name);
    case EDOM:
        return g_strdup_printf("a BAR of %s (peer-to-peer DMA): it is smaller "
                               "than a page", vbasedev->name);
    default:
        return g_strdup_printf("each other's BARs (peer-to-peer DMA): this "
                               "needs dma-buf, which %s",
                               kernel_is_new_enough() ?
                               "the host's kernel was built without "
                               "(CONFIG_VFIO_PCI_DMABUF, CONFIG_PCI_P2PDMA)" :
                               "is in Linux 6.19 and newer");
    }
}

void vfio_dma_buf_close(VFIODevice *vbasedev)
{
    Buf *buf, *next;

    QLIST_FOREACH_SAFE(buf, &bufs, next, next) {
        if (buf->vbasedev == vbasedev) {
            QLIST_REMOVE(buf, next);
            if (buf->fd >= 0) {
                close(buf->fd);
            }
            g_free(buf);
        }
    }
}
