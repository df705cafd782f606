/*
 * Logs what a program asks of vfio by ioctl, to compare two programs.
 *
 * When preloaded (LD_PRELOAD), it writes a line for each ioctl on a descriptor
 * of vfio's and for each on KVM's vfio device to the file that IOCTL_LOG names.
 * strace shows only a pointer where these ioctls have a struct; this logs the
 * struct's content as it was before the call.
 *
 * Values that differ from run to run without a meaning are written in a form
 * that stays the same: a descriptor by what it is open on, a virtual address by
 * its place in its mapping. Of the result, only the sign is logged.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/vfio.h>

#define LINE_MAX 1024
#define NAME_LEN 128

/* How to read an ioctl's argument */
typedef enum ArgKind {
    ARG_NONE,       /* the argument means nothing */
    ARG_VALUE,      /* the argument itself is the value */
    ARG_STRING,
    ARG_FD,         /* points to one descriptor */
    ARG_STRUCT,     /* points to a struct whose first u32 is its length */
    ARG_SIZE,       /* the same; the kernel fills the rest */
    ARG_INDEX,      /* the same, except that the third u32 is an index */
    ARG_MAP,        /* struct vfio_iommu_type1_dma_map */
    ARG_UNMAP,      /* struct vfio_iommu_type1_dma_unmap */
    ARG_IRQS,       /* struct vfio_irq_set, maybe with descriptors at its end */
    ARG_KVM_ATTR,   /* struct kvm_device_attr, whose addr points to one */
} ArgKind;

typedef struct Ioctl {
    unsigned long number;
    const char *name;
    ArgKind kind;
} Ioctl;

/* An ioctl that is not here is logged by number, as a struct. */
static const Ioctl ioctls[] = {
    { VFIO_GET_API_VERSION, "GET_API_VERSION", ARG_NONE },
    { VFIO_CHECK_EXTENSION, "CHECK_EXTENSION", ARG_VALUE },
    { VFIO_SET_IOMMU, "SET_IOMMU", ARG_VALUE },
    { VFIO_GROUP_GET_STATUS, "GROUP_GET_STATUS", ARG_SIZE },
    { VFIO_GROUP_SET_CONTAINER, "GROUP_SET_CONTAINER", ARG_FD },
    { VFIO_GROUP_UNSET_CONTAINER, "GROUP_UNSET_CONTAINER", ARG_NONE },
    { VFIO_GROUP_GET_DEVICE_FD, "GROUP_GET_DEVICE_FD", ARG_STRING },
    { VFIO_DEVICE_GET_INFO, "DEVICE_GET_INFO", ARG_SIZE },
    { VFIO_DEVICE_GET_REGION_INFO, "DEVICE_GET_REGION_INFO", ARG_INDEX },
    { VFIO_DEVICE_GET_IRQ_INFO, "DEVICE_GET_IRQ_INFO", ARG_INDEX },
    { VFIO_DEVICE_SET_IRQS, "DEVICE_SET_IRQS", ARG_IRQS },
    { VFIO_DEVICE_RESET, "DEVICE_RESET", ARG_NONE },
    { VFIO_DEVICE_GET_PCI_HOT_RESET_INFO, "PCI_HOT_RESET_INFO", ARG_SIZE },
    { VFIO_DEVICE_PCI_HOT_RESET, "PCI_HOT_RESET", ARG_STRUCT },
    { VFIO_DEVICE_FEATURE, "DEVICE_FEATURE", ARG_STRUCT },
};

/* A container's ioctls have the same numbers as a device's. */
static const Ioctl container_ioctls[] = {
    { VFIO_IOMMU_GET_INFO, "IOMMU_GET_INFO", ARG_SIZE },
    { VFIO_IOMMU_MAP_DMA, "IOMMU_MAP_DMA", ARG_MAP },
    { VFIO_IOMMU_UNMAP_DMA, "IOMMU_UNMAP_DMA", ARG_UNMAP },
    { VFIO_IOMMU_DIRTY_PAGES, "IOMMU_DIRTY_PAGES", ARG_STRUCT },
};

static const Ioctl kvm_ioctls[] = {
    { KVM_SET_DEVICE_ATTR, "KVM_SET_DEVICE_ATTR", ARG_KVM_ATTR },
    { KVM_HAS_DEVICE_ATTR, "KVM_HAS_DEVICE_ATTR", ARG_KVM_ATTR },
};

typedef struct Line {
    char text[LINE_MAX];
    size_t len;
} Line;

static void __attribute__((format(printf, 2, 3)))
line_add(Line *line, const char *format, ...)
{
    va_list ap;
    size_t room = sizeof(line->text) - line->len;
    int n;

    va_start(ap, format);
    n = vsnprintf(line->text + line->len, room, format, ap);
    va_end(ap);
    if (n > 0) {
        line->len += (size_t)n < room ? (size_t)n : room - 1;
    }
}

/* fd_name: set @name, of NAME_LEN bytes, to what @fd is open on. */
static void fd_name(int fd, char *name)
{
    char link[NAME_LEN];
    ssize_t n;

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = readlink(link, name, NAME_LEN - 1);
    name[n > 0 ? n : 0] = '\0';
}

static void line_add_fd(Line *line, int fd)
{
    char name[NAME_LEN];

    fd_name(fd, name);
    line_add(line, " %s", fd < 0 ? "-1" : name);
}

/*
 * line_add_address: add the offset in the mapping that @address is in, and the
 * mapping's size. QEMU keeps a hole between two RAM blocks, so the kernel
 * merges none of them.
 */
static void line_add_address(Line *line, uint64_t address)
{
    FILE *maps = fopen("/proc/self/maps", "re");
    uint64_t start, end;
    char row[512];

    while (maps && fgets(row, sizeof(row), maps)) {
        if (sscanf(row, "%" SCNx64 "-%" SCNx64, &start, &end) == 2 &&
            start <= address && address < end) {
            line_add(line, " vaddr=0x%" PRIx64 "/0x%" PRIx64,
                     address - start, end - start);
            break;
        }
    }
    if (maps) {
        fclose(maps);
    }
}

static void line_add_struct(Line *line, const void *arg)
{
    const unsigned char *bytes = arg;
    uint32_t len;

    memcpy(&len, arg, sizeof(len));
    line_add(line, " ");
    for (uint32_t i = 0; i < len; i++) {
        line_add(line, "%s%02x", i && i % 4 == 0 ? "." : "", bytes[i]);
    }
}

static void line_add_map(Line *line, const struct vfio_iommu_type1_dma_map *map)
{
    line_add(line, " flags=0x%x", map->flags);
    line_add_address(line, map->vaddr);
    line_add(line, " iova=0x%" PRIx64 " size=0x%" PRIx64,
             (uint64_t)map->iova, (uint64_t)map->size);
}

static void line_add_unmap(Line *line,
                           const struct vfio_iommu_type1_dma_unmap *unmap)
{
    line_add(line, " flags=0x%x iova=0x%" PRIx64 " size=0x%" PRIx64,
             unmap->flags, (uint64_t)unmap->iova, (uint64_t)unmap->size);
}

static void line_add_irqs(Line *line, const struct vfio_irq_set *set)
{
    const int32_t *fds = (const int32_t *)set->data;

    line_add(line, " argsz=%u flags=0x%x index=%u start=%u count=%u",
             set->argsz, set->flags, set->index, set->start, set->count);
    if (set->flags & VFIO_IRQ_SET_DATA_EVENTFD) {
        for (uint32_t i = 0; i < set->count; i++) {
            line_add_fd(line, fds[i]);
        }
    }
}

static void line_add_arg(Line *line, ArgKind kind, void *arg)
{
    const uint32_t *words = arg;

    switch (kind) {
    case ARG_NONE:
        break;
    case ARG_SIZE:
        line_add(line, " argsz=%u", words[0]);
        break;
    case ARG_INDEX:
        line_add(line, " argsz=%u index=%u", words[0], words[2]);
        break;
    case ARG_VALUE:
        line_add(line, " %lu", (unsigned long)arg);
        break;
    case ARG_STRING:
        line_add(line, " %s", (const char *)arg);
        break;
    case ARG_FD:
        line_add_fd(line, *(const int *)arg);
        break;
    case ARG_STRUCT:
        line_add_struct(line, arg);
        break;
    case ARG_MAP:
        line_add_map(line, arg);
        break;
    case ARG_UNMAP:
        line_add_unmap(line, arg);
        break;
    case ARG_IRQS:
        line_add_irqs(line, arg);
        break;
    case ARG_KVM_ATTR: {
        const struct kvm_device_attr *attr = arg;

        line_add(line, " group=%u attr=%" PRIu64, attr->group,
                 (uint64_t)attr->attr);
        if (attr->addr) {
            line_add_fd(line, *(const int *)(uintptr_t)attr->addr);
        }
        break;
    }
    }
}

static const Ioctl *ioctl_find(const Ioctl *table, size_t count,
                               unsigned long number)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].number == number) {
            return &table[i];
        }
    }
    return NULL;
}

#define FIND(table, number) \
    ioctl_find(table, sizeof(table) / sizeof((table)[0]), number)

/* describe: set @line for a call; returns false if the call is not logged. */
static bool describe(Line *line, int fd, unsigned long number, void *arg)
{
    static const Ioctl unknown = { 0, NULL, ARG_STRUCT };
    char name[NAME_LEN];
    const Ioctl *known;

    if (_IOC_TYPE(number) == VFIO_TYPE) {
        fd_name(fd, name);
        known = strcmp(name, "/dev/vfio/vfio") == 0 ?
            FIND(container_ioctls, number) : NULL;
        known = known ? known : FIND(ioctls, number);
    } else if (_IOC_TYPE(number) == KVMIO) {
        known = FIND(kvm_ioctls, number);
        if (!known) {
            return false;
        }
        fd_name(fd, name);
        if (!strstr(name, "kvm-vfio")) {
            return false;
        }
    } else {
        return false;
    }

    line_add(line, "%s ", name);
    if (!known) {
        known = &unknown;
        line_add(line, "0x%lx", number);
    } else {
        line_add(line, "%s", known->name);
    }
    line_add_arg(line, known->kind, arg);
    return true;
}

/* One write for each line: lines of two threads do not mix. */
static void line_write(const Line *line)
{
    static int log = -1;

    if (log < 0) {
        const char *path = getenv("IOCTL_LOG");

        log = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600)
                   : STDERR_FILENO;
    }
    if (write(log, line->text, line->len) < 0) {
        abort();
    }
}

/* As glibc declares it; musl and others have another parameter list. */
int ioctl(int fd, unsigned long number, ...)
{
    Line line = { .len = 0 };
    bool logged;
    void *arg;
    va_list ap;
    int ret;

    va_start(ap, number);
    arg = va_arg(ap, void *);
    va_end(ap);

    logged = describe(&line, fd, number, arg);
    ret = syscall(SYS_ioctl, fd, number, arg);
    if (logged) {
        int saved_errno = errno;

        line_add(&line, " = %s\n", ret < 0 ? strerror(saved_errno) : "ok");
        line_write(&line);
        errno = saved_errno;
    }
    return ret;
}
