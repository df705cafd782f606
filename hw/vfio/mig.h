/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device that can be migrated, by version 2 of the kernel's protocol
 *
 * The driver has a state machine (include/uapi/linux/vfio.h, enum
 * vfio_device_mig_state) and, while the device is saved or loaded, a descriptor
 * for its data: a session.  QEMU's own code for version 1 (migration.c) does
 * not know any of this.
 *
 *   mig-state.c    what the kernel is asked for: the state, and what follows it
 *   mig-run.c      the VM starts and stops, the device is reset
 *   mig-session.c  what the migration has of the device, also if that goes
 *   mig-stream.c   the device's sections in the migration stream
 *   mig-policy.c   whether a device may be migrated, and why not
 *
 * The state changes with the big lock held, and so does everything else here
 * but for three callbacks of mig-stream.c, which the migration thread calls
 * without it while the guest runs: they read from the descriptor and ask how
 * much there is.
 *
 * At that time the guest may eject the device.  So the thread has a session,
 * which stays until it has come to its end: the descriptor is open, even if the
 * device has left the session's states, and the device itself is used only with
 * ->lock held.  ->state and ->error are read atomically.
 */
#ifndef HW_VFIO_MIG_H
#define HW_VFIO_MIG_H

#include "hw/vfio/vfio-abi.h"
#include "hw/vfio/vfio-common.h"

typedef struct VFIOMig VFIOMig;

typedef enum VFIOMigWay {
    VFIO_MIG_IDLE,
    VFIO_MIG_SAVING,
    VFIO_MIG_LOADING,
} VFIOMigWay;

/* It has a device all the time, and something to do during a migration. */
typedef struct VFIOMigSession {
    QemuMutex lock;
    VFIOMig *mig;           /* NULL once it has gone; see above, and ->lock */
    char *name;             /* the device's */
    char *id;               /* its sections', in the stream */
    QEMUBH *gone;           /* frees it, after the device has gone */

    VFIOMigWay way;
    int data_fd;            /* -1 before the device has given one */
    Error *error;           /* why it cannot go on, NULL if it can */
    uint8_t *buffer;        /* VFIO_MIG_BUFFER bytes, for one record's data */
    uint64_t initial_bytes; /* as last known, in PRE_COPY */
    uint64_t dirty_bytes;
    uint64_t size;          /* of all that is left, as last known */
    int64_t size_asked;     /* milliseconds: when that was */
    bool sent;              /* something, since it was asked what it has */
    uint64_t others_least;  /* what the rest of the VM had to send at least */
    unsigned insisted;      /* how often it kept the VM going since then */
    bool unknown_size_said;
} VFIOMigSession;

struct VFIOMig {
    VFIODevice *vbasedev;
    uint64_t flags;         /* VFIO_MIGRATION_STOP_COPY, _P2P, _PRE_COPY */
    uint32_t state;         /* enum vfio_device_mig_state, as last known */
    VFIOMigSession *session;    /* NULL if QEMU does not migrate it */

    bool vm_runs;           /* as the device was told last */
    VMChangeStateEntry *peers;  /* keeps devices from reaching each other */
    VMChangeStateEntry *run;    /* stops and starts them */
    Notifier wakeup;
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
 * Returns 0, a descriptor if the feature is one, or -errno: ENOTTY if the
 * driver does not have the feature.
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

/* The same of a state; and whether it is PRE_COPY or PRE_COPY_P2P */
bool vfio_mig_state_runs(uint32_t state);
bool vfio_mig_state_pre_copies(uint32_t state);

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

/* mig-session.c */

/* @id: of its sections, taken; vfio_mig_session_free() ends what is going on */
VFIOMigSession *vfio_mig_session_new(VFIOMig *mig, char *id);
void vfio_mig_session_free(VFIOMigSession *session);

/**
 * vfio_mig_session_leave: the device goes
 *
 * If something is under way, that is lost.
 */
void vfio_mig_session_leave(VFIOMigSession *session);

/* The device's state; ERROR once it has gone.  Needs no lock. */
uint32_t vfio_mig_session_state(VFIOMigSession *session);

/* vfio_feature(), and -ENODEV once the device has gone.  Needs no lock. */
int vfio_mig_session_feature(VFIOMigSession *session, uint32_t what, void *data,
                             size_t size);

/**
 * vfio_mig_begin: begin to save or load; fails if something is under way
 *
 * vfio_mig_end() also closes the descriptor, wherever the device is.
 */
bool vfio_mig_begin(VFIOMigSession *session, VFIOMigWay way, Error **errp);
void vfio_mig_end(VFIOMigSession *session);

/* The device's driver has given a descriptor, or -1. */
void vfio_mig_take_fd(VFIOMigSession *session, int fd);

/**
 * vfio_mig_lose: it cannot go on, for the reason @err
 *
 * The migration fails when it comes to the device the next time.  If there is
 * none, or it is lost already, this only reports @err.  Takes @err.
 */
void vfio_mig_lose(VFIOMigSession *session, Error *err);

/* It can go on, and has its device. */
bool vfio_mig_check(VFIOMigSession *session, Error **errp);

/* mig-run.c */

/* Let the VM's starts and stops, and the migration's end, reach the device. */
void vfio_mig_watch(VFIOMig *mig);
void vfio_mig_unwatch(VFIOMig *mig);

/**
 * vfio_mig_start: let the device run, as the guest will
 *
 * A device that does not even start is reset.
 */
bool vfio_mig_start(VFIOMig *mig, Error **errp);

/* For any device: it has been reset, by QEMU.  The driver made it run. */
void vfio_mig_was_reset(VFIODevice *vbasedev);

/* mig-stream.c */

/*
 * Have sections in the stream: sets ->session.  If the device goes while it is
 * migrated, its session stays until the migration has come to its end.
 */
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

#endif /* HW_VFIO_MIG_H */
