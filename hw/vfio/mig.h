/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device that can be migrated, by version 2 of the kernel's protocol
 *
 * The driver has a state machine (include/uapi/linux/vfio.h, enum
 * vfio_device_mig_state) and, while the device is saved or loaded, a descriptor
 * for its data: a session.  QEMU's own code for version 1 (migration.c) does
 * not know any of this.
 *
 *   mig-state.c   what the kernel is asked for: the state, and what follows it
 *   mig-run.c     the VM starts and stops, the device is reset
 *   mig-stream.c  the device's sections in the migration stream
 *   mig-policy.c  whether a device may be migrated, and why not
 *
 * The state changes with the big lock held, and so does everything else here
 * but for two callbacks of mig-stream.c, which the migration thread calls
 * without it while the guest runs: they read from ->data_fd and ask how much
 * there is.  For that reason the descriptor stays open to the end of the
 * session, even if the device has left it; and ->state and ->error are read
 * atomically.
 */
#ifndef HW_VFIO_MIG_H
#define HW_VFIO_MIG_H

#include "hw/vfio/vfio-abi.h"
#include "hw/vfio/vfio-common.h"

typedef enum VFIOMigSession {
    VFIO_MIG_IDLE,
    VFIO_MIG_SAVING,
    VFIO_MIG_LOADING,
} VFIOMigSession;

typedef struct VFIOMig VFIOMig;

struct VFIOMig {
    VFIODevice *vbasedev;
    uint64_t flags;         /* VFIO_MIGRATION_STOP_COPY, _P2P, _PRE_COPY */
    uint32_t state;         /* enum vfio_device_mig_state, as last known */
    int data_fd;            /* -1 outside of a session */
    bool ran;               /* since writes are recorded: see dirty.h */

    VFIOMigSession session;
    Error *error;           /* why the session cannot go on, NULL if it can */
    uint8_t *buffer;        /* VFIO_MIG_BUFFER bytes, for one record's data */
    uint64_t initial_bytes; /* as last known, in PRE_COPY */
    uint64_t dirty_bytes;
    uint64_t others_least;  /* what the rest of the VM had to send at least */
    unsigned insisted;      /* how often it kept the VM going since then */
    bool unknown_size_said;

    bool registered;        /* with QEMU's migration */
    VMChangeStateEntry *peers;  /* keeps devices from reaching each other */
    VMChangeStateEntry *run;    /* stops and starts them */
    Notifier notifier;
};

#define VFIO_MIG_BUFFER (1 * MiB)

/* mig-state.c */

/**
 * vfio_feature: VFIO_DEVICE_FEATURE
 *
 * @what: number of the feature, and VFIO_DEVICE_FEATURE_GET, _SET or _PROBE
 * @data: its payload of @size bytes, changed on success; NULL if it has none
 *
 * Returns 0 or -errno: ENOTTY if the driver does not have the feature.
 */
int vfio_feature(VFIODevice *vbasedev, uint32_t what, void *data, size_t size);

/**
 * vfio_mig_query: find out whether the driver can migrate the device
 *
 * Sets ->mig; leaves it NULL if the driver cannot, if the user does not want it
 * (enable-migration=off), and if it is not asked for: by the group that takes
 * enable-migration=on.  Then ->mig_errno is what the kernel said, 0 if it was
 * not asked.
 *
 * Fails if the driver cannot and the user wants it (enable-migration=on).
 *
 * The device's descriptor is usable; it is not attached yet, or by its group.
 */
bool vfio_mig_query(VFIODevice *vbasedev, Error **errp);

/* Undo vfio_mig_query(); does nothing if ->mig is NULL. */
void vfio_mig_forget(VFIODevice *vbasedev);

/* In a state in which it may write to memory; ->mig is not NULL. */
bool vfio_mig_is_running(VFIODevice *vbasedev);

/* In PRE_COPY or PRE_COPY_P2P */
bool vfio_mig_is_pre_copying(VFIOMig *mig);

const char *vfio_mig_state_name(uint32_t state);

/**
 * vfio_mig_set_state: take the device to @state
 *
 * Does nothing if it is there already.  If the kernel refuses, the device is
 * wherever it stopped on the way.  If that is the state ERROR, the device is
 * reset, and *errp says so.
 */
bool vfio_mig_set_state(VFIOMig *mig, uint32_t state, Error **errp);

/**
 * vfio_mig_reset: reset a device that does not work any more; it runs then
 *
 * @errp has the reason already; what became of the device is added.
 */
void vfio_mig_reset(VFIOMig *mig, Error **errp);

/* Find out which state the device is in, after something else changed it. */
void vfio_mig_ask_state(VFIOMig *mig);

/**
 * vfio_mig_lose: the session cannot go on, for the reason @err
 *
 * The migration fails when it comes to the device the next time.  If there is
 * no session, or it is lost already, this only reports @err.  Takes @err.
 */
void vfio_mig_lose(VFIOMig *mig, Error *err);

/**
 * vfio_mig_begin: begin a session; fails if there is one
 *
 * vfio_mig_end() also closes the descriptor, wherever the device is.
 */
bool vfio_mig_begin(VFIOMig *mig, VFIOMigSession session, Error **errp);
void vfio_mig_end(VFIOMig *mig);

/* The session can go on. */
bool vfio_mig_check(VFIOMig *mig, Error **errp);

/* mig-run.c */

/* Let the VM's starts and stops, and the migration's end, reach the device. */
void vfio_mig_watch(VFIOMig *mig);
void vfio_mig_unwatch(VFIOMig *mig);

/* The guest runs, or would if nothing but its own wish to sleep kept it. */
bool vfio_mig_guest_runs(void);

/**
 * vfio_mig_start: let the device run, as the guest will
 *
 * A device that does not even start is reset.
 */
bool vfio_mig_start(VFIOMig *mig, Error **errp);

/* For any device: it has been reset, by QEMU.  The driver made it run. */
void vfio_mig_was_reset(VFIODevice *vbasedev);

/* mig-stream.c */

void vfio_mig_register_stream(VFIOMig *mig);
void vfio_mig_unregister_stream(VFIOMig *mig);

/* How much data of devices have been sent since the last migration began */
int64_t vfio_mig_bytes_sent(void);
void vfio_mig_forget_bytes_sent(void);

/* mig-policy.c */

/**
 * vfio_mig_serves: whether what follows, and not 7.2's own code for version 1
 * of the protocol, decides on the device's migration
 *
 * For version 1 it must have come by its group, with x-enable-migration=on.
 */
bool vfio_mig_serves(VFIODevice *vbasedev);

/**
 * vfio_mig_probe: let QEMU migrate the device, or keep it from migrating
 *
 * Returns 0, or -errno if neither can be done; then *errp is set.
 */
int vfio_mig_probe(VFIODevice *vbasedev, Error **errp);

/* Undo vfio_mig_probe(), but for the device's ->migration_blocker. */
void vfio_mig_unprobe(VFIODevice *vbasedev);

/* Its driver has no migration; adds why, from ->mig_errno, to *errp. */
void vfio_mig_explain_driver(VFIODevice *vbasedev, Error **errp);

/* This migration is of a kind that devices can be saved in. */
bool vfio_mig_check_kind(VFIODevice *vbasedev, Error **errp);

#endif /* HW_VFIO_MIG_H */
