/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which of the guest's memory the kernel could not pin, and what to look at
 */
#ifndef HW_VFIO_MEMORY_HINT_H
#define HW_VFIO_MEMORY_HINT_H

#include "qapi/error.h"

/* EFAULT came from mapping memory at @vaddr; adds the cause to *@errp. */
void vfio_memory_explain_efault(void *vaddr, Error **errp);

#endif /* HW_VFIO_MEMORY_HINT_H */
