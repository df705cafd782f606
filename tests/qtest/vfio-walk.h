/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A random walk of two machines, one with its device by the group and one by
 * iommufd
 *
 * Both take the same steps beside each other.  After each one, what a device
 * reaches is what its machine says that it should, page by page; and the two
 * reach the same.
 *
 *   VFIO_TEST_SEED     the walk that a number stands for; by default another
 *                      one each time, whose number is shown
 *   VFIO_TEST_STEPS    how many
 */
#ifndef TESTS_VFIO_WALK_H
#define TESTS_VFIO_WALK_H

#include "vfio-scene.h"

/* One of the two machines */
typedef struct VFIOWalker {
    VFIOScene scene;
    GRand *rand;        /* what a step draws from */
    void *state;        /* the walk's own */
} VFIOWalker;

/* A kind of step */
typedef struct VFIOWalkStep {
    unsigned weight;    /* how often it is drawn, of the sum of all */

    /**
     * take: draw what to do, do it, and say what came of it; to be freed
     *
     * Both machines draw the same numbers, and must say the same: what one
     * refuses the other must refuse as well.
     */
    char *(*take)(VFIOWalker *walker);
} VFIOWalkStep;

typedef struct VFIOWalk {
    const char *options;            /* for QEMU */
    const VFIOWalkStep *steps;      /* the last one has no take() */
    unsigned default_steps;

    void (*start)(VFIOWalker *walker);
    void (*stop)(VFIOWalker *walker);

    /* What the device should reach: VFIORegions, for vfio_scene_wrong() */
    GArray *(*regions)(VFIOWalker *walker);
} VFIOWalk;

/* The test fails at the first difference, and tells the way there. */
void vfio_walk(const VFIOWalk *walk);

/* A number from 0 to @end - 1 */
unsigned vfio_walk_draw(VFIOWalker *walker, unsigned end);

#endif /* TESTS_VFIO_WALK_H */
