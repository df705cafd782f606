/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user or a guest does with passed-through devices, as acts of which any
 * part may fail
 *
 * The caller decides how an act is made to fail.  An act can be done over and
 * over on its stage, a running QEMU: prepare, do, check, undo.  Whether it
 * fails or not, the stage is after undo() as it was before prepare().
 */
#ifndef TESTS_VFIO_ACT_H
#define TESTS_VFIO_ACT_H

#include "vfio-edu.h"
#include "vfio-viommu.h"

/* Where the first DIMM is placed */
#define VFIO_ACT_DIMM (4 * GiB)

typedef struct VFIOAct VFIOAct;

typedef struct VFIOStage {
    const VFIOAct *act;
    VFIOMachine *machine;
    char *errors;           /* the file that QEMU's standard error goes to */
    size_t errors_read;
    VFIOEdu *staying[2];    /* devices that are there throughout, or NULL */
    VIOMMU *viommu;         /* NULL if there is none */
    uint64_t free_mmio;     /* for the device that comes and goes */
    bool maps_held;         /* what waits in the background is not waited for */
} VFIOStage;

struct VFIOAct {
    const char *name;
    const char *options;    /* for QEMU */
    const char *staying[2]; /* devices of the rig */
    const char *object;     /* of the one that comes and goes, NULL: the rig's */
    bool viommu;            /* devices that stay are behind a virtio-iommu */
    bool later;             /* only where memory is mapped in the background */

    /* All may be NULL; without "act", the act is the start of QEMU. */
    void (*prepare)(VFIOStage *s);

    /* Returns NULL, or why QEMU refused; to be freed. */
    char *(*act)(VFIOStage *s);

    /* Checks what must hold if QEMU refused the act. */
    void (*check_refused)(VFIOStage *s);

    /* Checks what must hold if it did not, even if a part of the act failed. */
    void (*check)(VFIOStage *s);
    void (*undo)(VFIOStage *s);
};

/* The last one has no name. */
extern const VFIOAct vfio_acts[];

/* Options of the stage's QEMU, which may refuse to start; to be freed */
char *vfio_act_options(const VFIOAct *act);

/* Start QEMU, then let the guest find the devices that stay. */
VFIOStage *vfio_stage_new(const VFIOAct *act);

/* Both, one after the other */
VFIOStage *vfio_stage_start(const VFIOAct *act);
void vfio_stage_boot(VFIOStage *s);

/* End QEMU, and return what it has written since; to be freed. */
char *vfio_stage_end(VFIOStage *s);

/* What QEMU has written since the last call of this; to be freed */
char *vfio_stage_said(VFIOStage *s);

/**
 * vfio_stage_state: what must be unchanged after an act was undone or refused,
 * as text: devices, objects and descriptors, and the memory that is locked.  To
 * be freed.
 */
char *vfio_stage_state(VFIOStage *s);

/* Whether QEMU has stopped the VM, since devices miss memory */
bool vfio_stage_is_stopped(VFIOStage *s);

/* An event has said so of memory at @iova; the VM goes on with all of it. */
void vfio_stage_go_on(VFIOStage *s, uint64_t iova);

/* Check that the devices that stay can do DMA. */
void vfio_stage_check_staying(VFIOStage *s);

/* Plug the device that comes and goes.  Returns what an act returns. */
char *vfio_stage_plug(VFIOStage *s);

#endif /* TESTS_VFIO_ACT_H */
