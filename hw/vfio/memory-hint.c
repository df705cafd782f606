/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the guest's memory could not be mapped, and what to look at
 *
 * EFAULT means that there is no page that may be pinned for long.  The kernel
 * does not say why; the backend of the memory tells what it can be.  What a
 * file may be on is from Linux, mm/gup.c, writable_file_mapping_allowed().
 */
#include "qemu/osdep.h"
#include <sys/vfs.h>
#include <linux/magic.h>

#include "exec/memory.h"
#include "exec/ramblock.h"
#include "exec/ram_addr.h"
#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "hw/pci/pci.h"
#include "memory-hint.h"
#include "qemu/rcu.h"
#include "qemu/units.h"

/* Files of these have no file system that must know of each write. */
static bool is_in_memory(int fd)
{
    struct statfs fs;

    return fstatfs(fd, &fs) ||
           fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC;
}

static bool is_shared_on_disk(RAMBlock *block)
{
    int fd = qemu_ram_get_fd(block);

    return fd >= 0 && qemu_ram_is_shared(block) && !is_in_memory(fd);
}

static bool has_huge_pages(RAMBlock *block)
{
    return qemu_ram_pagesize(block) > qemu_real_host_page_size();
}

typedef struct Cause {
    bool (*may_be)(RAMBlock *block);
    const char *text;
} Cause;

/* What a block itself shows, the surest first */
static const Cause causes[] = {
    { is_shared_on_disk,
      "its file is on neither tmpfs nor hugetlbfs, where devices may not write "
      "to it; use share=off or another place" },
    { has_huge_pages,
      "there may be no huge pages left, see HugePages_Free in /proc/meminfo" },
};

/* What can be with any memory */
#define OTHER_CAUSES \
    "a page of it may be poisoned (see the kernel's log), or its NUMA node full"

static const char *explain_block(RAMBlock *block)
{
    for (int i = 0; i < ARRAY_SIZE(causes); i++) {
        if (causes[i].may_be(block)) {
            return causes[i].text;
        }
    }
    return OTHER_CAUSES;
}

static void explain_region(const MemoryRegion *mr, Error **errp)
{
    Object *owner = memory_region_owner((MemoryRegion *)mr);
    RAMBlock *block = mr->ram_block;

    error_prepend(errp, "memory '%s' (%s, pages of %zu KiB): %s: ",
                  memory_region_name(mr),
                  owner ? object_get_typename(owner) : "the machine's",
                  qemu_ram_pagesize(block) / (size_t)KiB, explain_block(block));
}

void vfio_memory_explain_efault(void *vaddr, Error **errp)
{
    ram_addr_t offset;
    MemoryRegion *mr;

    RCU_READ_LOCK_GUARD();
    mr = memory_region_from_host(vaddr, &offset);
    if (mr) {
        explain_region(mr, errp);
    }
}

typedef struct FindRegion {
    const Cause *cause;
    const MemoryRegion *found;
} FindRegion;

static bool find_region(Int128 start, Int128 len, const MemoryRegion *mr,
                        hwaddr offset, void *opaque)
{
    FindRegion *find = opaque;

    if (mr->ram_block && !memory_region_is_ram_device((MemoryRegion *)mr) &&
        find->cause->may_be(mr->ram_block)) {
        find->found = mr;
    }
    return find->found;
}

void vfio_memory_explain_any_efault(AddressSpace *as, Error **errp)
{
    FindRegion find = { };

    RCU_READ_LOCK_GUARD();
    for (int i = 0; i < ARRAY_SIZE(causes) && !find.found; i++) {
        find.cause = &causes[i];
        flatview_for_each_range(address_space_to_flatview(as), find_region,
                                &find);
    }
    if (find.found) {
        explain_region(find.found, errp);
    } else {
        error_prepend(errp, "some of the guest's memory cannot be locked: "
                      OTHER_CAUSES ": ");
    }
}

typedef struct FindDevice {
    MemoryRegion *mr;
    DeviceState *dev;
} FindDevice;

/* An nvdimm has an alias of its memory, without the label at the end. */
static bool is_region_of(MemoryDeviceState *md, MemoryRegion *mr)
{
    MemoryRegion *own = MEMORY_DEVICE_GET_CLASS(md)->get_memory_region(md,
                                                                       NULL);

    return own && (own == mr || own->alias == mr);
}

static int find_device(Object *obj, void *opaque)
{
    FindDevice *find = opaque;

    if (object_dynamic_cast(obj, TYPE_MEMORY_DEVICE) &&
        is_region_of(MEMORY_DEVICE(obj), find->mr)) {
        find->dev = DEVICE(obj);
    }
    return !!find->dev;
}

DeviceState *vfio_memory_device(MemoryRegion *mr)
{
    FindDevice find = { .mr = mr };

    object_child_foreach_recursive(qdev_get_machine(), find_device, &find);
    return find.dev;
}

/* As ivshmem's, whose memory is not its own but a backend's */
static int find_bar(Object *obj, void *mr)
{
    PCIDevice *dev = (PCIDevice *)object_dynamic_cast(obj, TYPE_PCI_DEVICE);
    bool found = false;

    for (int i = 0; dev && i < PCI_NUM_REGIONS; i++) {
        found |= dev->io_regions[i].memory == mr;
    }
    return found;
}

bool vfio_memory_is_bar(void *vaddr)
{
    ram_addr_t offset;
    MemoryRegion *mr = memory_region_from_host(vaddr, &offset);
    Object *owner = mr ? memory_region_owner(mr) : NULL;

    return mr &&
           ((owner && object_dynamic_cast(owner, TYPE_PCI_DEVICE)) ||
            object_child_foreach_recursive(qdev_get_machine(), find_bar, mr));
}
