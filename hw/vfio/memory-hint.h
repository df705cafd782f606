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

/* The DIMM, virtio-mem or other memory device that brought @mr, or NULL */
DeviceState *vfio_memory_device(MemoryRegion *mr);

#endif /* HW_VFIO_MEMORY_HINT_H */
