/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: whatever call fails while a guest moves, it runs in one place
 *
 * A move is done once to see which calls a QEMU makes for it, and then over and
 * over, each time with one of them failing: ioctls, and what reads or writes a
 * device's state.  The guest moves or stays.  In either case all of its memory
 * is there, its device works, and it can move afterwards.
 */
#include "qemu/osdep.h"

#include "vfio-fault.h"
#include "vfio-mig-guest.h"

/* How often calls of one kind are tried, each time a later one */
#define TRIES 6

typedef enum Side { SIDE_FROM, SIDE_TO } Side;

typedef struct Sweep {
    const char *name;
    VFIOMigGuestKind kind;
    Side side;
} Sweep;

/* Only QEMUs that are started from now on are watched, or none of them. */
static void watch(bool on)
{
    static char *library;

    library = library ?: g_strdup(g_getenv("LD_PRELOAD"));
    if (on) {
        g_setenv("LD_PRELOAD", library, true);
    } else {
        g_unsetenv("LD_PRELOAD");
    }
}

/* A guest, and the other place; one of the two QEMUs is watched. */
static VFIOMigGuest *start(const Sweep *sweep)
{
    VFIOMigGuest *g;

    watch(sweep->side == SIDE_FROM);
    g = vfio_mig_guest_new(&sweep->kind);
    watch(sweep->side == SIDE_TO);
    vfio_mig_guest_prepare(g);
    watch(false);
    return g;
}

static bool is_same(const VFIOFaultCall *a, const VFIOFaultCall *b)
{
    return g_str_equal(a->name, b->name) && a->request == b->request;
}

typedef struct Kind {
    VFIOFaultCall call;
    int count;
} Kind;

static Kind *find_kind(GArray *kinds, const VFIOFaultCall *call)
{
    for (int i = 0; i < kinds->len; i++) {
        Kind *kind = &g_array_index(kinds, Kind, i);

        if (is_same(&kind->call, call)) {
            return kind;
        }
    }
    g_array_append_val(kinds, (Kind) { .call = *call });
    return &g_array_index(kinds, Kind, kinds->len - 1);
}

/* The kinds of calls in a move that succeeds */
static GArray *learn(const Sweep *sweep)
{
    GArray *kinds = g_array_new(false, false, sizeof(Kind));
    VFIOMigGuest *g = start(sweep);
    g_autofree char *reason = NULL;
    uint32_t count;

    vfio_fault_arm(0, 0);
    vfio_mig_begin(g->here, g->there);
    g_assert_true(vfio_mig_wait_end(g->here, &reason));
    count = vfio_fault_disarm_many();
    for (uint32_t n = 1; n <= MIN(count, VFIO_FAULT_CALLS); n++) {
        find_kind(kinds, vfio_fault_call(n))->count++;
    }
    vfio_mig_guest_arrive(g);
    vfio_mig_guest_free(g);
    g_assert_cmpuint(kinds->len, >, 0);
    return kinds;
}

static void fail(const Sweep *sweep, const VFIOFaultCall *call, int n)
{
    VFIOMigGuest *g = start(sweep);
    g_autofree char *refused = NULL;
    g_autofree char *reason = NULL;

    g_test_message("%s: call %d of %s fails", sweep->name, n,
                   vfio_fault_name(call));
    vfio_fault_arm_only(call, n, EIO);
    refused = vfio_mig_begin_error(g->here, g->there);
    if (!refused) {
        vfio_mig_wait_end(g->here, &reason);
    }
    /* Each kind was in the first move; of a later call there may be none. */
    g_assert_cmpuint(vfio_fault_disarm_many(), >=, 1);

    if (refused || reason) {
        vfio_mig_guest_stay(g, VFIO_MIG_MAY_BE_RESET);
    } else {
        vfio_mig_guest_arrive(g);
    }
    vfio_mig_guest_move(g);
    vfio_mig_guest_free(g);
}

static void test_sweep(const void *data)
{
    const Sweep *sweep = data;
    g_autoptr(GArray) kinds = learn(sweep);

    for (int i = 0; i < kinds->len; i++) {
        Kind *kind = &g_array_index(kinds, Kind, i);

        for (int n = 1; n <= MIN(kind->count, TRIES); n++) {
            fail(sweep, &kind->call, n);
        }
    }
}

#define LOG { { VFIO_MIG_LOG, .pre_copy = true, .p2p = true }, 1 }
#define IOMMU { { VFIO_MIG_IOMMU, .pre_copy = true, .p2p = true }, 1 }

static const Sweep sweeps[] = {
    { "log/from", LOG, SIDE_FROM },
    { "log/to", LOG, SIDE_TO },
    { "iommu/from", IOMMU, SIDE_FROM },
};

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "move-fault");
    if (g_getenv("VFIO_TEST_MODE")) {
        vfio_fault_init();
    }
    for (int i = 0; i < ARRAY_SIZE(sweeps); i++) {
        if (sweeps[i].kind.edu.tracking != VFIO_MIG_IOMMU ||
            vfio_rig_number("VFIO_TEST_TRACKS", 0)) {
            vfio_rig_add_data(sweeps[i].name, VFIO_RIG_BOTH, test_sweep,
                              &sweeps[i]);
        }
    }
    return g_test_run();
}
