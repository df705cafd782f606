/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with edus that moves between two places, as often as one wants
 *
 * A place has a QEMU, that of VFIO_TEST_FROM or of VFIO_TEST_TO, and edus of
 * its own.  The guest begins at the first.
 */
#ifndef TESTS_VFIO_MIG_GUEST_H
#define TESTS_VFIO_MIG_GUEST_H

#include "vfio-mig-edu.h"

/* The most devices of a guest */
#define VFIO_MIG_EDUS   2

typedef struct VFIOMigGuestKind {
    VFIOMigEduKind edu;
    int count;              /* of devices */
    bool huge;              /* it begins with huge pages */
    bool later;             /* its memory is mapped in the background */
    const char *more;       /* further options for QEMU, or NULL */
} VFIOMigGuestKind;

typedef struct VFIOMigGuest {
    const VFIOMigGuestKind *kind;
    VFIOMigSide *here;
    VFIOMigSide *there;     /* the other place, while a QEMU waits there */
    int place;              /* where it is: 0 or 1 */
    VFIOMigEdu *edus[VFIO_MIG_EDUS];
} VFIOMigGuest;

/* A running guest; its memory is random. */
VFIOMigGuest *vfio_mig_guest_new(const VFIOMigGuestKind *kind);

/* End it, and give all devices back to vfio-pci. */
void vfio_mig_guest_free(VFIOMigGuest *g);

/* Which device of the rig is the guest's i-th, here or there */
const char *vfio_mig_guest_device(VFIOMigGuest *g, int i);
const char *vfio_mig_guest_device_there(VFIOMigGuest *g, int i);

/* Have a QEMU wait for it at the other place. */
void vfio_mig_guest_prepare(VFIOMigGuest *g);

/* All of its devices write at the same time, and so does a processor. */
void vfio_mig_guest_write(VFIOMigGuest *g, int times);

/**
 * vfio_mig_guest_begin: begin to move it, but let it not stop yet
 *
 * Until vfio_mig_guest_release() its devices may be used.
 */
void vfio_mig_guest_begin(VFIOMigGuest *g);

/**
 * vfio_mig_guest_write_on: write while it moves
 *
 * Afterwards all of the memory was sent once, and the bits of what was written
 * since were fetched several times, with writes in between.
 */
void vfio_mig_guest_write_on(VFIOMigGuest *g);

/* Begin a last write of each device, for the guest to stop while it runs. */
void vfio_mig_guest_write_last(VFIOMigGuest *g);

/**
 * vfio_mig_guest_check_order: what its devices on @side have come to since that
 * was looked at last: all of them to a P2P state, and only then to @after
 */
void vfio_mig_guest_check_order(VFIOMigGuest *g, VFIOMigSide *side,
                                const char *after);

/* It may stop. */
void vfio_mig_guest_release(VFIOMigGuest *g);

/* It has come: compare all pages, let it go on, and end the other QEMU. */
void vfio_mig_guest_arrive(VFIOMigGuest *g);

/* All of this */
void vfio_mig_guest_move(VFIOMigGuest *g);

/* Stop it, save it to a file, and let another QEMU go on with it here. */
void vfio_mig_guest_save_and_load(VFIOMigGuest *g);

/* What may have happened to the devices of a guest that stays */
typedef enum VFIOMigReset {
    VFIO_MIG_KEPT,          /* nothing */
    VFIO_MIG_RESET,         /* they were reset */
    VFIO_MIG_MAY_BE_RESET,
} VFIOMigReset;

/**
 * vfio_mig_guest_stay: it did not move: it runs, and its devices work
 *
 * The QEMU that waited for it ends.
 */
void vfio_mig_guest_stay(VFIOMigGuest *g, VFIOMigReset reset);

/**
 * vfio_mig_guest_end: let it stop, and see whether it has arrived, or stays
 *
 * Returns NULL if it moved, else why it did not, to be freed.
 */
char *vfio_mig_guest_end(VFIOMigGuest *g, VFIOMigReset reset);

#endif /* TESTS_VFIO_MIG_GUEST_H */
