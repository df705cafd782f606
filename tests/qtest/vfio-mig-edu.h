/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An edu of a guest that moves: it writes to the guest's memory all the while
 *
 * The rig's kernel has a driver by which an edu can migrate; edu.h in
 * tests/rig/vfio-pci-edu says which settings a device has.
 */
#ifndef TESTS_VFIO_MIG_EDU_H
#define TESTS_VFIO_MIG_EDU_H

#include "vfio-edu.h"
#include "vfio-mig.h"

/* What tells of its writes */
typedef enum VFIOMigTracking {
    VFIO_MIG_LOG,       /* by the driver */
    VFIO_MIG_IOMMU,     /* by the IOMMU; the driver has no log */
    VFIO_MIG_NOTHING,   /* by neither; tracking is off until the guest stops */
    VFIO_MIG_MIXED,     /* by the driver of the first device, else the IOMMU */
} VFIOMigTracking;

typedef struct VFIOMigEdu {
    VFIOMigSide *side;
    VFIOEdu *edu;
    uint32_t part, size_of_part;    /* the memory that it writes to */
    uint8_t buffer[EDU_DMA_MAX];    /* what is in its own */
    uint32_t liveness;              /* what is in that register */
    uint32_t offset, iova, size;    /* of the last write to memory */
} VFIOMigEdu;

/* How the devices are */
typedef struct VFIOMigEduKind {
    VFIOMigTracking tracking;
    bool pre_copy;
    bool p2p;
} VFIOMigEduKind;

/* Give a device of the rig, a guest's i-th, to the driver that migrates it. */
void vfio_mig_edu_bind(const char *name, const VFIOMigEduKind *kind, int i);

/* Give it back to vfio-pci. */
void vfio_mig_edu_unbind(const char *name);

/* Change a setting of it. */
void vfio_mig_edu_set(const char *name, const char *setting, uint64_t value);

/* The properties that it needs */
const char *vfio_mig_edu_properties(const VFIOMigEduKind *kind);

/**
 * vfio_mig_edu_hold: let no guest with such a device stop for its move
 *
 * How large its state is cannot be known, and so it could be larger than what
 * any link carries in time.
 */
void vfio_mig_edu_hold(const char *name);
void vfio_mig_edu_release(const char *name);

/* The i-th device of @side; its buffer has random bytes. */
VFIOMigEdu *vfio_mig_edu_new(VFIOMigSide *side, int i);
void vfio_mig_edu_free(VFIOMigEdu *e);

/* Begin to write a part of its buffer to a random place in memory. */
void vfio_mig_edu_write(VFIOMigEdu *e);

/* The write that was begun comes to its end, and is there. */
void vfio_mig_edu_wrote(VFIOMigEdu *e);

/* Write to so many pages, from the first one on and to none of them twice. */
void vfio_mig_edu_write_pages(VFIOMigEdu *e, int count);

/* What was written last is in the memory of @side. */
void vfio_mig_edu_check_written(VFIOMigEdu *e, VFIOMigSide *side);

/* It works: writes, reads, registers, interrupts. */
void vfio_mig_edu_check(VFIOMigEdu *e);

/**
 * vfio_mig_edu_moved: it is @to's now, and as it was
 *
 * The guest runs.  Its registers, its buffer and its interrupt came with it.
 */
void vfio_mig_edu_moved(VFIOMigEdu *e, VFIOMigSide *to);

/* It was reset where it is: set it up as its driver would. */
void vfio_mig_edu_set_up(VFIOMigEdu *e);

/* Whether it was: its registers are not as they were left. */
bool vfio_mig_edu_was_reset(VFIOMigEdu *e);

#endif /* TESTS_VFIO_MIG_EDU_H */
