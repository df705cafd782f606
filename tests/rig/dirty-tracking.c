/*
 * Asks iommufd whether the IOMMU tracks what the rig's NVME0 writes. TAP.
 *
 *     dirty-tracking yes|no
 *
 * yes  it says that it does, and makes page tables that do
 * no   it says that it does not, and makes none
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <linux/iommufd.h>
#include "hw/vfio/vfio-abi.h"

static int iommufd;
static int failed;

static void check(bool kept, const char *promise)
{
    static int count;

    printf("%sok %d - %s\n", kept ? "" : "not ", ++count, promise);
    failed += !kept;
}

/* must: what the checks stand on */
static int must(int ret, const char *what)
{
    if (ret < 0) {
        printf("Bail out! %s: %s\n", what, strerror(errno));
        exit(EXIT_FAILURE);
    }
    return ret;
}

/* device_open: the character device of the PCI device at @address */
static int device_open(const char *address)
{
    char path[512];
    glob_t found;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/vfio-dev/vfio*",
             address);
    must(glob(path, 0, NULL, &found) ? -1 : 0, path);
    snprintf(path, sizeof(path), "/dev/vfio/devices/%s",
             strrchr(found.gl_pathv[0], '/') + 1);
    globfree(&found);
    return must(open(path, O_RDWR), path);
}

static __u32 device_bind(const char *address)
{
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .iommufd = iommufd,
    };

    must(ioctl(device_open(address), VFIO_DEVICE_BIND_IOMMUFD, &bind), "bind");
    return bind.out_devid;
}

static __u32 ioas_alloc(void)
{
    struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

    must(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
    return alloc.out_ioas_id;
}

static bool tells_of_tracking(__u32 device)
{
    struct iommu_hw_info info = { .size = sizeof(info), .dev_id = device };

    must(ioctl(iommufd, IOMMU_GET_HW_INFO, &info), "IOMMU_GET_HW_INFO");
    return info.out_capabilities & IOMMU_HW_CAP_DIRTY_TRACKING;
}

/* page_table: a new one's ID; 0 if there is none, with errno set */
static __u32 page_table(__u32 device, __u32 ioas, __u32 flags)
{
    struct iommu_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = flags,
        .dev_id = device,
        .pt_id = ioas,
    };

    return ioctl(iommufd, IOMMU_HWPT_ALLOC, &alloc) ? 0 : alloc.out_hwpt_id;
}

/* tracking_error: of the ioctl that begins to track; 0 for none */
static int tracking_error(__u32 page_table)
{
    struct iommu_hwpt_set_dirty_tracking set = {
        .size = sizeof(set),
        .flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
        .hwpt_id = page_table,
    };

    return ioctl(iommufd, IOMMU_HWPT_SET_DIRTY_TRACKING, &set) ? errno : 0;
}

/* bitmap_error: of the ioctl that reads what was written; 0 for none */
static int bitmap_error(__u32 page_table)
{
    __u64 bits = 0;
    struct iommu_hwpt_get_dirty_bitmap get = {
        .size = sizeof(get),
        .hwpt_id = page_table,
        .length = 4096,
        .page_size = 4096,
        .data = (uintptr_t)&bits,
    };

    return ioctl(iommufd, IOMMU_HWPT_GET_DIRTY_BITMAP, &get) ? errno : 0;
}

static void check_tracks(__u32 device, __u32 ioas)
{
    __u32 table;

    table = page_table(device, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    check(tells_of_tracking(device), "the IOMMU tells that it tracks writes");
    check(table, "a page table that tracks can be had");
    check(tracking_error(table) == 0, "it begins to track");
    check(bitmap_error(table) == 0, "it tells what was written");
}

static void check_refuses(__u32 device, __u32 ioas)
{
    __u32 table;

    check(!tells_of_tracking(device),
          "the IOMMU does not tell that it tracks writes");
    table = page_table(device, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    check(!table && errno == EOPNOTSUPP,
          "a page table that tracks is refused as not supported");
    table = page_table(device, ioas, 0);
    check(table, "one that does not track can be had");
    check(tracking_error(table) == EOPNOTSUPP, "it does not begin to track");
    check(bitmap_error(table) == EINVAL || bitmap_error(table) == EOPNOTSUPP,
          "it does not tell what was written");
}

int main(int argc, char **argv)
{
    bool tracks = argc == 2 && strcmp(argv[1], "yes") == 0;
    __u32 device;

    iommufd = must(open("/dev/iommu", O_RDWR), "/dev/iommu");
    device = device_bind(getenv("VFIO_TEST_NVME0"));

    printf("TAP version 13\n1..%d\n", tracks ? 4 : 5);
    (tracks ? check_tracks : check_refuses)(device, ioas_alloc());
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
