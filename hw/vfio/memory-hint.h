/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the guest's memory could not be mapped, and what to look at
 */
#ifndef HW_VFIO_MEMORY_HINT_H
#define HW_VFIO_MEMORY_HINT_H

#include "exec/memory.h"
#include "hw/qdev-core.h"
#include "qapi/error.h"

/* EFAULT came from mapping memory at @vaddr; adds the cause to *@errp. */
void vfio_memory_explain_efault(void *vaddr, Error **errp);

/* EFAULT came from locking all of @as; adds what looks like the cause. */
void vfio_memory_explain_any_efault(AddressSpace *as, Error **errp);

/* The DIMM, virtio-mem or other memory device that brought @mr, or NULL */
DeviceState *vfio_memory_device(MemoryRegion *mr);

/* The memory at @vaddr is what a BAR of an emulated device shows. */
bool vfio_memory_is_bar(void *vaddr);

#endif /* HW_VFIO_MEMORY_HINT_H */
