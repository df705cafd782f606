/*
 * vfio and iommufd by their ioctls, and the edu device, for tests of the rig
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "raw-vfio.h"
#include "hw/vfio/vfio-abi.h"

#define PCI_COMMAND         0x04
#define PCI_COMMAND_MEMORY  0x2
#define PCI_COMMAND_MASTER  0x4

static int iommufd = -1;
static int count;
static int failed;

void check(bool kept, const char *fmt, ...)
{
    va_list args;

    printf("%sok %d - ", kept ? "" : "not ", ++count);
    va_start(args, fmt);
    vprintf(fmt, args);
    va_end(args);
    printf("\n");
    fflush(stdout);
    failed += !kept;
}

int finish(void)
{
    printf("1..%d\n", count);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

int must(int ret, const char *what)
{
    if (ret < 0) {
        printf("Bail out! %s: %s\n", what, strerror(errno));
        exit(EXIT_FAILURE);
    }
    return ret;
}

const char *address_of(const char *name)
{
    char variable[64] = "VFIO_TEST_";
    const char *address;

    for (size_t i = strlen(variable); *name && i < sizeof(variable) - 1; i++) {
        variable[i] = toupper(*name++);
    }
    address = getenv(variable);
    must(address ? 0 : -1, variable);
    return address;
}

static void write_file(const char *path, const char *text)
{
    int fd = must(open(path, O_WRONLY), path);

    must(write(fd, text, strlen(text)), path);
    close(fd);
}

static void write_sysfs(const char *address, const char *file, const char *text)
{
    char path[512];

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, file);
    write_file(path, text);
}

void bind_driver(const char *name, const char *driver)
{
    const char *address = address_of(name);
    char path[512], link[512];
    ssize_t length;

    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
    length = readlink(path, link, sizeof(link) - 1);
    if (length > 0) {
        link[length] = '\0';
        if (!strcmp(strrchr(link, '/') + 1, driver)) {
            return;
        }
        write_sysfs(address, "driver/unbind", address);
    }
    write_sysfs(address, "driver_override", driver);
    write_file("/sys/bus/pci/drivers_probe", address);
    snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/%s", driver, address);
    must(access(path, F_OK), path);
}

void set_number(const char *name, const char *file, uint64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    write_sysfs(address_of(name), file, text);
}

static int character_device_open(const char *address)
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

static uint64_t region(int fd, int index)
{
    struct vfio_region_info info = { .argsz = sizeof(info), .index = index };

    must(ioctl(fd, VFIO_DEVICE_GET_REGION_INFO, &info),
         "VFIO_DEVICE_GET_REGION_INFO");
    return info.offset;
}

Device device_open(const char *name)
{
    Device device = { .address = address_of(name) };
    struct vfio_device_bind_iommufd bind = { .argsz = sizeof(bind) };

    if (iommufd < 0) {
        iommufd = must(open("/dev/iommu", O_RDWR), "/dev/iommu");
    }
    device.fd = character_device_open(device.address);
    bind.iommufd = iommufd;
    must(ioctl(device.fd, VFIO_DEVICE_BIND_IOMMUFD, &bind),
         "VFIO_DEVICE_BIND_IOMMUFD");
    device.id = bind.out_devid;
    device.bar = region(device.fd, VFIO_PCI_BAR0_REGION_INDEX);
    device.config = region(device.fd, VFIO_PCI_CONFIG_REGION_INDEX);
    return device;
}

void device_close(Device *device)
{
    close(device->fd);
}

void device_attach(Device *device, __u32 pt_id)
{
    struct vfio_device_attach_iommufd_pt attach = {
        .argsz = sizeof(attach),
        .pt_id = pt_id,
    };

    must(ioctl(device->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach),
         "VFIO_DEVICE_ATTACH_IOMMUFD_PT");
}

int device_reset_error(Device *device)
{
    return ioctl(device->fd, VFIO_DEVICE_RESET) ? errno : 0;
}

__u32 ioas_alloc(void)
{
    struct iommu_ioas_alloc alloc = { .size = sizeof(alloc) };

    must(ioctl(iommufd, IOMMU_IOAS_ALLOC, &alloc), "IOMMU_IOAS_ALLOC");
    return alloc.out_ioas_id;
}

void ioas_map(__u32 ioas, void *memory, uint64_t iova, size_t size)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = ioas,
        .user_va = (uintptr_t)memory,
        .length = size,
        .iova = iova,
    };

    must(ioctl(iommufd, IOMMU_IOAS_MAP, &map), "IOMMU_IOAS_MAP");
}

void ioas_use_small_pages(__u32 ioas)
{
    struct iommu_option option = {
        .size = sizeof(option),
        .option_id = IOMMU_OPTION_HUGE_PAGES,
        .op = IOMMU_OPTION_OP_SET,
        .object_id = ioas,
        .val64 = 0,
    };

    must(ioctl(iommufd, IOMMU_OPTION, &option), "IOMMU_OPTION_HUGE_PAGES");
}

int iommufd_error(unsigned long request, void *arg)
{
    return ioctl(iommufd, request, arg) ? errno : 0;
}

void *large_pages(size_t size)
{
    char number[32];
    void *memory;

    snprintf(number, sizeof(number), "%zu", size / LARGE_PAGE);
    write_file("/proc/sys/vm/nr_hugepages", number);
    memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
    must(memory == MAP_FAILED ? -1 : 0, "large pages");
    return memory;
}

void edu_enable(Device *device)
{
    uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;

    must(pwrite(device->fd, &command, sizeof(command),
                device->config + PCI_COMMAND), "the command register");
}

int edu_read_error(Device *device, uint64_t reg, uint32_t *value)
{
    return pread(device->fd, value, sizeof(*value), device->bar + reg) ==
           sizeof(*value) ? 0 : errno;
}

int edu_write_error(Device *device, uint64_t reg, uint32_t value)
{
    return pwrite(device->fd, &value, sizeof(value), device->bar + reg) ==
           sizeof(value) ? 0 : errno;
}

uint32_t edu_read(Device *device, uint64_t reg)
{
    uint32_t value;

    errno = edu_read_error(device, reg, &value);
    must(errno ? -1 : 0, "a register");
    return value;
}

void edu_write(Device *device, uint64_t reg, uint32_t value)
{
    errno = edu_write_error(device, reg, value);
    must(errno ? -1 : 0, "a register");
}

void edu_dma_start(Device *device, bool to_memory, uint32_t iova, uint32_t size)
{
    edu_write(device, EDU_DMA_SRC, to_memory ? EDU_BUFFER : iova);
    edu_write(device, EDU_DMA_DST, to_memory ? iova : EDU_BUFFER);
    edu_write(device, EDU_DMA_COUNT, size);
    edu_write(device, EDU_DMA_COMMAND, EDU_RUN | (to_memory ? EDU_TO_MEMORY : 0));
}

void edu_dma_wait(Device *device)
{
    for (int ms = 0; edu_read(device, EDU_DMA_COMMAND) & EDU_RUN; ms++) {
        if (ms == 30000) {
            errno = ETIMEDOUT;
            must(-1, "a transfer");
        }
        usleep(1000);
    }
}

void edu_dma(Device *device, bool to_memory, uint32_t iova, uint32_t size)
{
    edu_dma_start(device, to_memory, iova, size);
    edu_dma_wait(device);
}
