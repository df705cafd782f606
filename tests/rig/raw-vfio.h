/*
 * vfio and iommufd by their ioctls, and the edu device, for tests of the rig
 *
 * Whatever the checks stand on ends the program when it fails.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#ifndef RIG_RAW_VFIO_H
#define RIG_RAW_VFIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <linux/iommufd.h>
#include <linux/vfio.h>

#define PAGE            4096
#define LARGE_PAGE      (2 << 20)

#define EDU_LIVENESS    0x04    /* reads as the inverse of what was written */
#define EDU_FACTORIAL   0x08
#define EDU_STATUS      0x20
#define EDU_IRQ_STATUS  0x24
#define EDU_IRQ_RAISE   0x60
#define EDU_DMA_SRC     0x80
#define EDU_DMA_DST     0x88
#define EDU_DMA_COUNT   0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_BUFFER      0x40000

#define EDU_RUN         0x1
#define EDU_TO_MEMORY   0x2

/* The most that edu moves at a time; one more ends the machine */
#define EDU_DMA_MAX     4095

/* A device, open and bound to the program's iommufd */
typedef struct Device {
    const char *address;
    int fd;
    __u32 id;
    uint64_t bar;           /* offsets in fd */
    uint64_t config;
} Device;

/* TAP: a check, and the plan after the last one, with the program's status */
void check(bool kept, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int finish(void);

int must(int ret, const char *what);

/* The address of the device that the rig calls @name */
const char *address_of(const char *name);

/* Give it to @driver. */
void bind_driver(const char *name, const char *driver);

/* The number in @file of the device's folder in sysfs */
void set_number(const char *name, const char *file, uint64_t value);

Device device_open(const char *name);
void device_close(Device *device);

/* To an IOAS or a page table */
void device_attach(Device *device, __u32 pt_id);

/* The error of VFIO_DEVICE_RESET; 0 for none */
int device_reset_error(Device *device);

/* The error of an ioctl of the iommufd; 0 for none */
int iommufd_error(unsigned long request, void *arg);

__u32 ioas_alloc(void);
void ioas_map(__u32 ioas, void *memory, uint64_t iova, size_t size);

/* Have all of its page tables consist of small pages. */
void ioas_use_small_pages(__u32 ioas);

/* Memory in large pages; the program ends if there is none. */
void *large_pages(size_t size);

/* The device answers, and may write to memory. */
void edu_enable(Device *device);

/* The error of an access; 0 for none */
int edu_read_error(Device *device, uint64_t reg, uint32_t *value);
int edu_write_error(Device *device, uint64_t reg, uint32_t value);

uint32_t edu_read(Device *device, uint64_t reg);
void edu_write(Device *device, uint64_t reg, uint32_t value);

/* Move @size bytes between @iova and the device's buffer; and wait for the end. */
void edu_dma_start(Device *device, bool to_memory, uint32_t iova, uint32_t size);
void edu_dma_wait(Device *device);
void edu_dma(Device *device, bool to_memory, uint32_t iova, uint32_t size);

#endif /* RIG_RAW_VFIO_H */
