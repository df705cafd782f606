/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What QEMU itself does for each page that a guest's IOMMU maps and unmaps
 *
 * The functions are those of QEMU's build; the kernel's part is left out.  The
 * script "page" counts the instructions.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>

#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "maps.h"
#include "sysemu/iommufd.h"

#define PAGES       10000
#define PAGE        4096
#define MAX_MAPS    65535

MachineState *current_machine;

static IOMMUFDBackend backend = { .fd = -1, .threads = 2 };
static uint8_t memory[PAGE];

/* In the place of what QEMU and the C library have */

int ioctl(int fd, unsigned long request, ...)
{
    return 0;
}

uint64_t get_plugged_memory_size(void)
{
    return 0;
}

const char *iommufd_backend_id(IOMMUFDBackend *be)
{
    return "iommufd0";
}

/* As in hw/vfio/iommufd.c */

static __attribute__((noinline)) void map_page(VFIOMaps *maps, hwaddr iova)
{
    uint64_t mapped;
    Range failed;
    int ret;

    g_assert(!vfio_maps_are_full(maps, MAX_MAPS));
    ret = iommufd_backend_map_dma(&backend, 1, iova, PAGE, memory, false, 0,
                                  &failed, &mapped);
    g_assert(ret > 0 && mapped == PAGE);
    vfio_maps_add(maps, iova, PAGE, ret, true);
}

static __attribute__((noinline)) void unmap_page(VFIOMaps *maps, hwaddr iova)
{
    uint64_t unmapped;
    Range range;
    int ret;

    range_set_bounds(&range, iova, iova + PAGE - 1);
    vfio_maps_round(maps, &range);
    ret = iommufd_backend_unmap_dma(&backend, 1, range_lob(&range),
                                    range_size(&range), true, &unmapped);
    g_assert(ret == 0 && unmapped == PAGE);
    vfio_maps_remove(maps, &range);
}

int main(void)
{
    VFIOMaps maps;

    vfio_maps_init(&maps);
    for (int i = 0; i < PAGES; i++) {
        map_page(&maps, (hwaddr)i * 2 * PAGE);
    }
    for (int i = 0; i < PAGES; i++) {
        unmap_page(&maps, (hwaddr)i * 2 * PAGE);
    }
    vfio_maps_destroy(&maps);
    return 0;
}
