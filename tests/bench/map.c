/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Maps memory for a device by the kernel's calls alone, and prints how long they took
 *
 *     map legacy|map-N|file-N PAGES MIB
 *
 * legacy is VFIO_IOMMU_MAP_DMA, map-N is IOMMU_IOAS_MAP in N threads, and file-N
 * IOMMU_IOAS_MAP_FILE (Linux 6.13; nothing is printed where the kernel has none). PAGES
 * are rounds.sh's, which prepares them: "small" and "thp" are anonymous, all others are
 * of a memfd.
 *
 * Lines of "NAME SECONDS":
 *   cold   to map memory that was never touched
 *   touch  to write to each page of it then, mapped no more
 *   warm   to map it after that; several lines
 *   unmap  to unmap it; as many
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "raw-vfio.h"
#include "sysemu/iommufd-abi.h"

#define DEVICE      "edu2"
#define IOVA        (4ULL << 30)    /* no hole is above it */
#define ADDRESS     ((void *)(1ULL << 40)) /* free, and a large page can begin there */
#define WARM_ROUNDS 4
#define THREADS_MAX 64

typedef struct Range {
    size_t start;       /* from IOVA on, and in the file */
    size_t size;
    int error;          /* of the call; 0 for none */
} Range;

static int container = -1;  /* of the group; else there is an IOAS */
static __u32 ioas;
static int file = -1;       /* that the memory is of; -1 for none */
static bool by_file;
static uint8_t *memory;
static size_t size;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

/* The device */

static void open_group(void)
{
    char path[128], link[512] = "";
    int group;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/iommu_group",
             address_of(DEVICE));
    must(readlink(path, link, sizeof(link) - 1), path);
    snprintf(path, sizeof(path), "/dev/vfio/%s", strrchr(link, '/') + 1);

    container = must(open("/dev/vfio/vfio", O_RDWR), "/dev/vfio/vfio");
    group = must(open(path, O_RDWR), path);
    must(ioctl(group, VFIO_GROUP_SET_CONTAINER, &container),
         "VFIO_GROUP_SET_CONTAINER");
    must(ioctl(container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), "VFIO_SET_IOMMU");
}

static void open_ioas(void)
{
    Device device = device_open(DEVICE);

    ioas = ioas_alloc();
    device_attach(&device, ioas);
}

/* Memory */

static void make_memory(const char *pages)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS;

    if (strcmp(pages, "small") && strcmp(pages, "thp")) {
        file = must(memfd_create("memory", strcmp(pages, "huge") ? 0 : MFD_HUGETLB),
                    "memfd_create");
        must(ftruncate(file, size), "ftruncate");
        flags = MAP_SHARED;
    }
    memory = mmap(ADDRESS, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE,
                  file, 0);
    must(memory == MAP_FAILED ? -1 : 0, "mmap");
}

/* The calls */

static int map_legacy(const Range *range)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)memory + range->start,
        .iova = IOVA + range->start,
        .size = range->size,
    };

    return ioctl(container, VFIO_IOMMU_MAP_DMA, &map) ? errno : 0;
}

#define MAP_FLAGS (IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE | \
                   IOMMU_IOAS_MAP_WRITEABLE)

static int map_memory(const Range *range)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = MAP_FLAGS,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory + range->start,
        .length = range->size,
        .iova = IOVA + range->start,
    };

    return iommufd_error(IOMMU_IOAS_MAP, &map);
}

static int map_file(const Range *range)
{
    struct iommu_ioas_map_file map = {
        .size = sizeof(map),
        .flags = MAP_FLAGS,
        .ioas_id = ioas,
        .fd = file,
        .start = range->start,
        .length = range->size,
        .iova = IOVA + range->start,
    };

    return iommufd_error(IOMMU_IOAS_MAP_FILE, &map);
}

static void *map_range(void *opaque)
{
    Range *range = opaque;

    range->error = container >= 0 ? map_legacy(range) :
                   by_file ? map_file(range) : map_memory(range);
    return NULL;
}

/* Each of the threads makes one call. The error is the first one's. */
static int map_all(int threads)
{
    pthread_t others[THREADS_MAX];
    Range ranges[THREADS_MAX] = {};
    int error = 0;

    for (int i = threads - 1; i >= 0; i--) {
        ranges[i].size = size / threads;
        ranges[i].start = i * ranges[i].size;
        if (i && pthread_create(&others[i], NULL, map_range, &ranges[i])) {
            errx(1, "no thread");
        }
    }
    map_range(&ranges[0]);
    for (int i = 0; i < threads; i++) {
        if (i) {
            pthread_join(others[i], NULL);
        }
        error = error ?: ranges[i].error;
    }
    return error;
}

static void unmap_all(void)
{
    struct vfio_iommu_type1_dma_unmap legacy = {
        .argsz = sizeof(legacy),
        .iova = IOVA,
        .size = size,
    };
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = ioas,
        .iova = IOVA,
        .length = size,
    };

    errno = container < 0 ? iommufd_error(IOMMU_IOAS_UNMAP, &unmap) :
            ioctl(container, VFIO_IOMMU_UNMAP_DMA, &legacy) ? errno : 0;
    must(errno ? -1 : 0, "unmap");
}

/* What is measured */

static void measure_map(const char *what, int threads)
{
    double since = now(), end;

    errno = map_all(threads);
    end = now();
    if (errno == ENOTTY && by_file) {
        exit(0);
    }
    must(errno ? -1 : 0, what);
    printf("%s %.6f\n", what, end - since);
}

static void measure_touch(void)
{
    double since = now();

    for (size_t i = 0; i < size; i += PAGE) {
        memory[i] = 1;
    }
    printf("touch %.6f\n", now() - since);
}

static void measure(int threads)
{
    double since;

    measure_map("cold", threads);
    unmap_all();
    measure_touch();
    for (int i = 0; i < WARM_ROUNDS; i++) {
        measure_map("warm", threads);
        since = now();
        unmap_all();
        printf("unmap %.6f\n", now() - since);
    }
}

int main(int argc, char **argv)
{
    int threads = 1;

    if (argc != 4) {
        errx(2, "usage: map legacy|map-N|file-N PAGES MIB");
    }
    size = (size_t)atol(argv[3]) << 20;
    by_file = sscanf(argv[1], "file-%d", &threads) == 1;
    if (strcmp(argv[1], "legacy") == 0) {
        open_group();
    } else if (by_file || sscanf(argv[1], "map-%d", &threads) == 1) {
        open_ioas();
    } else {
        errx(2, "there is no %s", argv[1]);
    }
    if (threads < 1 || threads > THREADS_MAX || size % ((size_t)threads * LARGE_PAGE)) {
        errx(2, "%d threads cannot divide %s MiB", threads, argv[3]);
    }
    make_memory(argv[2]);
    measure(threads);
    return 0;
}
