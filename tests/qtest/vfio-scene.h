/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest whose memory changes while a passed-through device uses it
 *
 * After each step, three things must hold.  The IOMMU maps what QEMU says that
 * the guest has.  Each page is the one that QEMU has there.  And both are the
 * same as in another run of the same steps.
 */
#ifndef TESTS_VFIO_SCENE_H
#define TESTS_VFIO_SCENE_H

#include "vfio-memory.h"

/* The slot and the id ("edu0") of the device, an edu of the rig */
#define VFIO_SCENE_SLOT 4

/* The memory backend of a virtio-mem device, if a scene has one */
#define VFIO_SCENE_VMEM "vmem"

typedef struct VFIOScene {
    const char *device;     /* which of the rig */
    VFIOMachine *machine;   /* with 64 MiB */
    VFIOVirtioMem *vmem;    /* NULL while no driver runs */
    GArray *pages;          /* VFIOMappedPages after the last step */
    GArray *regions;        /* VFIORegions that it should reach then */
    GString *record;        /* what was mapped after each step */
} VFIOScene;

/**
 * vfio_scene_device: the device as for -device; to be freed
 *
 * Its BAR is not mapped into QEMU, since type1 would map it for the device
 * itself.
 */
char *vfio_scene_device(const char *name);

/* A machine with the device; QEMU's messages go to the file @errors */
VFIOMachine *vfio_scene_machine(const char *device, const char *options,
                                const char *errors);

/* Start such a machine, and look at it. */
void vfio_scene_start(VFIOScene *s, const char *device, const char *options,
                      const char *errors);

/* Returns the record, to be freed. */
char *vfio_scene_stop(VFIOScene *s);

/**
 * vfio_scene_wrong: look at what the IOMMU maps
 *
 * @regions: what the device should reach: VFIORegions, which @s takes over.
 * Returns NULL, or what is wrong, to be freed.
 */
char *vfio_scene_wrong(VFIOScene *s, GArray *regions);

/**
 * vfio_look: call this after each step, and say what the step was
 *
 * Returns whether the IOMMU maps something else than before.  The test fails
 * if that is not what the guest has.
 */
bool vfio_look(VFIOScene *s, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/* The same, after a step that must, or must not, change what is mapped */
void vfio_changed(VFIOScene *s, const char *fmt, ...) G_GNUC_PRINTF(2, 3);
void vfio_unchanged(VFIOScene *s, const char *fmt, ...) G_GNUC_PRINTF(2, 3);

/**
 * vfio_check_dma: check that the edu in @slot reads what the guest reads, at
 * the edges of all memory within its 28 bits
 *
 * Random bytes are written there first, where that is possible.
 */
void vfio_check_dma(VFIOScene *s, int slot);

#endif /* TESTS_VFIO_SCENE_H */
