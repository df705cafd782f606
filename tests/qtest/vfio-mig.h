/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with passed-through devices that moves from one QEMU to another
 *
 * Both run in the rig at the same time, each with devices of its own: what one
 * edu or mtty has becomes that of another.  The guest's memory is a file on
 * each side, which the test maps as well: at the end every page of both is
 * compared.
 *
 * Which QEMU is on which side is in the environment:
 *
 *   VFIO_TEST_FROM, VFIO_TEST_TO    ours (the default), or newer: Debian's
 *
 * The newer one has a processor, which has nothing to do but to wait.
 *
 * How they use the devices is the rig's mode; with "fd", both the iommufd and
 * the devices are given by descriptor.
 */
#ifndef TESTS_VFIO_MIG_H
#define TESTS_VFIO_MIG_H

#include "vfio-rig.h"

/* A guest's memory, in bytes; it has no hole, and an edu reaches all of it. */
#define VFIO_MIG_MEMORY     (32 * MiB)

/* Memory from here on is the test's own. */
#define VFIO_MIG_FREE       (1 * MiB)

/* The i-th device is "dev<i>". */
#define VFIO_MIG_SLOT(i)    (4 + (i))
#define VFIO_MIG_MOST       3

typedef struct VFIOMigDevice {
    const char *sysfs;      /* its folder there; NULL after the last one */
    const char *properties; /* "NAME=VALUE,..." besides, or NULL */
} VFIOMigDevice;

typedef struct VFIOMigSide {
    VFIOMachine *machine;
    char *folder;           /* a temporary one for its files */
    uint8_t *memory;        /* the guest's, from address 0 on */
    uint64_t size;
    bool huge;              /* it has huge pages */
} VFIOMigSide;

/* What a side is to be */
typedef struct VFIOMigOptions {
    const char *variable;   /* "VFIO_TEST_FROM" or "VFIO_TEST_TO" */
    bool incoming;          /* it waits for a guest */
    bool huge;              /* its memory has huge pages */
    uint64_t memory;        /* bytes, if it is not VFIO_MIG_MEMORY */
    bool boots;             /* its processor runs; else it only waits */
    const char *more;       /* further options for QEMU, or NULL */
} VFIOMigOptions;

/* Whether a side with this variable is a QEMU of this project's */
bool vfio_mig_is_ours(const char *variable);

/* Both sides are: what only ours can do is tried with them. */
bool vfio_mig_all_ours(void);

/* The folder of a device of the rig's in sysfs; to be freed */
char *vfio_mig_sysfs(const char *name);

/**
 * vfio_mig_start: start a side
 *
 * Each device can migrate: its properties need not say so.  One that waits has
 * no processor running when the guest has come, until vfio_mig_go_on().
 */
VFIOMigSide *vfio_mig_start(const VFIOMigDevice *devices,
                            const VFIOMigOptions *options);
void vfio_mig_stop(VFIOMigSide *side);

/* End a side that waited for a guest that did not come. */
void vfio_mig_abandon(VFIOMigSide *side);

/* Fill the memory of a guest that does not run yet with random bytes. */
void vfio_mig_fill(VFIOMigSide *side);

/* migrate-set-parameters: of one side, or of both */
void vfio_mig_set(VFIOMigSide *side, const char *parameter, int64_t value);

/* migrate-set-capabilities */
void vfio_mig_set_capability(VFIOMigSide *side, const char *capability, bool on);

/* Begin to move the guest. */
void vfio_mig_begin(VFIOMigSide *from, VFIOMigSide *to);

/*
 * Both halves of it: @to waits at a socket, whose path is returned, to be freed;
 * and @from sends to one, or the reason is returned why it refuses, to be freed.
 */
char *vfio_mig_listen(VFIOMigSide *to);
char *vfio_mig_begin_to(VFIOMigSide *from, const char *path);

/* The same, but returns why @from refuses, to be freed, or NULL */
char *vfio_mig_begin_error(VFIOMigSide *from, VFIOMigSide *to);

/* The same through a file: a stopped guest goes there, and comes back. */
void vfio_mig_begin_saving(VFIOMigSide *from, const char *path);
void vfio_mig_save(VFIOMigSide *from, const char *path);
void vfio_mig_load(VFIOMigSide *to, const char *path);

/* What query-migrate returns, to be unreferenced; "" if it has no status yet */
QDict *vfio_mig_query(VFIOMigSide *side);
char *vfio_mig_status(VFIOMigSide *side);

/* A member of what it says of memory, such as "dirty-sync-count" */
int64_t vfio_mig_ram(VFIOMigSide *side, const char *member);

/* Wait until it is; the test fails if it ends in another way. */
void vfio_mig_wait(VFIOMigSide *side, const char *status);

/**
 * vfio_mig_wait_end: wait until a move has ended in any way
 *
 * Returns whether the guest has moved.  If not, @reason becomes why, which is
 * "cancelled" if it was; it is NULL otherwise, and to be freed.
 */
bool vfio_mig_wait_end(VFIOMigSide *from, char **reason);

/* Cancel it before the guest has moved, and wait for its end. */
void vfio_mig_cancel(VFIOMigSide *from);

/* The guest came, and all of it is there; it does not run yet. */
void vfio_mig_wait_moved(VFIOMigSide *from, VFIOMigSide *to);

/* The guest goes on. */
void vfio_mig_go_on(VFIOMigSide *side);

/* How many pages differ; they are named in the test's log. */
uint64_t vfio_mig_count_wrong_pages(VFIOMigSide *from, VFIOMigSide *to);
void vfio_mig_check_memory(VFIOMigSide *from, VFIOMigSide *to);

/* How many bytes of devices' state were moved, as query-migrate says */
int64_t vfio_mig_device_bytes(VFIOMigSide *from);

/**
 * vfio_mig_events: the states that devices have come to since the last call, by
 * the events, in order: a list of "dev0 pre-copy" and the like
 *
 * To be freed with g_strfreev().  Devices need migration-events=on.
 */
char **vfio_mig_events(VFIOMigSide *side);

/**
 * vfio_mig_time_of_event: when the last event @name came, in seconds
 *
 * With a @status, the last that has it.  The test fails if there was none; all
 * others that came so far are gone then, also for vfio_mig_events().
 */
double vfio_mig_time_of_event(VFIOMigSide *side, const char *name,
                              const char *status);

#endif /* TESTS_VFIO_MIG_H */
