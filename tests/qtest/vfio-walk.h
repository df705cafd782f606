/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A random walk of two machines, one with its device by the group and one by
 * iommufd
 *
 * Both take the same steps beside each other.  After each step, a device
 * reaches what its machine says that it should, page by page, and both devices
 * reach the same; query-iommufd tells of as much.  If memory is mapped in the
 * background, most steps are taken while it still is, and not looked at.
 *
 *   VFIO_TEST_SEED     selects a walk by number; by default each walk is a new
 *                      one, and its number is shown
 *   VFIO_TEST_STEPS    the number of steps
 */
#ifndef TESTS_VFIO_WALK_H
#define TESTS_VFIO_WALK_H

#include "vfio-scene.h"

/* One of the two machines */
typedef struct VFIOWalker {
    VFIOScene scene;
    VFIOScene other;    /* another device that should reach the same, if any */
    GRand *rand;        /* what a step draws from */
    void *state;        /* of this kind of walk */
} VFIOWalker;

/* A kind of step */
typedef struct VFIOWalkStep {
    unsigned weight;    /* how often it is drawn, of the sum of all weights */

    /**
     * take: draw what to do, do it, and return what came of it; to be freed
     *
     * Both machines draw the same numbers, and must return the same: what one
     * refuses the other must refuse as well.
     */
    char *(*take)(VFIOWalker *walker);
} VFIOWalkStep;

typedef struct VFIOWalk {
    const char *options;            /* for QEMU */
    bool has_other;                 /* there is another device, "other" */
    bool later;                     /* iommufd maps in the background */
    const VFIOWalkStep *steps;      /* the last one has no take() */
    unsigned default_steps;

    void (*start)(VFIOWalker *walker);
    void (*stop)(VFIOWalker *walker);

    /* What the device should reach: VFIORegions, for vfio_scene_wrong() */
    GArray *(*regions)(VFIOWalker *walker);
} VFIOWalk;

/* The test fails at the first difference, and shows the steps before it. */
void vfio_walk(const VFIOWalk *walk);

/* The other device as for -device; to be freed */
char *vfio_walk_other_device(const char *name);
#define VFIO_WALK_OTHER_SLOT 8

/* A number from 0 to @end - 1 */
unsigned vfio_walk_draw(VFIOWalker *walker, unsigned end);

#endif /* TESTS_VFIO_WALK_H */
