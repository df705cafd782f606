/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with edus that moves between two places, as often as one wants
 */
#include "qemu/osdep.h"

#include "vfio-mig-guest.h"

/* How often its devices write after all of the memory was sent, at least */
#define WRITES      40

/* How many ms a write takes; and the last, which the move waits for */
#define SOON        1
#define LATE        300

/* A processor's writes, to memory that no device writes to */
#define GUEST_WRITES_BEGIN  (VFIO_MIG_FREE + 0x10000)
#define GUEST_WRITES_END    (2 * VFIO_MIG_FREE)

/*
 * The longest downtime, in milliseconds.  A guest that is held sends little, and
 * for that the link is taken for a slow one, on which even a small state takes
 * long: once it is released, any time will do.
 */
#define DOWNTIME_HELD       300
#define DOWNTIME_RELEASED   1000000

/* Less memory is not mapped in the background. */
#define LARGE       (128 * MiB)

static const struct {
    const char *variable;
    const char *edus[VFIO_MIG_EDUS];
} places[] = {
    { "VFIO_TEST_FROM", { "EDU0", "APART0" } },
    { "VFIO_TEST_TO", { "EDU1", "APART1" } },
};

static char *properties(const VFIOMigGuestKind *kind)
{
    return g_strdup_printf("%s%s", vfio_mig_edu_properties(&kind->edu),
                           kind->later ? ",map-in-background=on" : "");
}

static VFIOMigSide *start(const VFIOMigGuestKind *kind, int place,
                          bool incoming)
{
    VFIOMigDevice devices[VFIO_MIG_EDUS + 1] = { };
    g_autofree char *each = properties(kind);
    VFIOMigOptions options = {
        .variable = places[place].variable,
        .incoming = incoming,
        .huge = kind->huge && !incoming,
        .memory = kind->later ? LARGE : 0,
        .more = kind->more,
    };
    VFIOMigSide *side;

    for (int i = 0; i < kind->count; i++) {
        devices[i].sysfs = vfio_mig_sysfs(places[place].edus[i]);
        devices[i].properties = each;
    }
    side = vfio_mig_start(devices, &options);
    for (int i = 0; i < kind->count; i++) {
        g_free((char *)devices[i].sysfs);
    }
    return side;
}

VFIOMigGuest *vfio_mig_guest_new(const VFIOMigGuestKind *kind)
{
    VFIOMigGuest *g = g_new0(VFIOMigGuest, 1);

    g->kind = kind;
    for (int place = 0; place < ARRAY_SIZE(places); place++) {
        for (int i = 0; i < kind->count; i++) {
            vfio_mig_edu_bind(places[place].edus[i], &kind->edu, i);
        }
    }
    g->here = start(kind, g->place, false);
    vfio_mig_fill(g->here);
    for (int i = 0; i < kind->count; i++) {
        g->edus[i] = vfio_mig_edu_new(g->here, i);
    }
    return g;
}

void vfio_mig_guest_free(VFIOMigGuest *g)
{
    vfio_mig_stop(g->here);
    if (g->there) {
        vfio_mig_stop(g->there);
    }
    for (int i = 0; i < g->kind->count; i++) {
        vfio_mig_edu_free(g->edus[i]);
        for (int place = 0; place < ARRAY_SIZE(places); place++) {
            vfio_mig_edu_unbind(places[place].edus[i]);
        }
    }
    g_free(g);
}

const char *vfio_mig_guest_device(VFIOMigGuest *g, int i)
{
    return places[g->place].edus[i];
}

const char *vfio_mig_guest_device_there(VFIOMigGuest *g, int i)
{
    return places[!g->place].edus[i];
}

void vfio_mig_guest_prepare(VFIOMigGuest *g)
{
    g_assert_null(g->there);
    g->there = start(g->kind, !g->place, true);
}

static void write_as_processor(VFIOMigGuest *g)
{
    uint64_t addr = g_test_rand_int_range(GUEST_WRITES_BEGIN,
                                          GUEST_WRITES_END - 8) & ~7;

    qtest_writeq(g->here->machine->qts, addr, g_test_rand_int());
}

/* Begin a write of each device. */
static void begin_writes(VFIOMigGuest *g, int milliseconds)
{
    for (int i = 0; i < g->kind->count; i++) {
        vfio_mig_edu_set(vfio_mig_guest_device(g, i), "transfer_ms",
                         milliseconds);
        vfio_mig_edu_write(g->edus[i]);
    }
}

void vfio_mig_guest_write(VFIOMigGuest *g, int times)
{
    while (times--) {
        begin_writes(g, SOON);
        write_as_processor(g);
        for (int i = 0; i < g->kind->count; i++) {
            vfio_mig_edu_wrote(g->edus[i]);
        }
    }
}

void vfio_mig_guest_begin(VFIOMigGuest *g)
{
    vfio_mig_set(g->here, "downtime-limit", DOWNTIME_HELD);
    vfio_mig_edu_hold(vfio_mig_guest_device(g, 0));
    vfio_mig_begin(g->here, g->there);
    vfio_mig_wait(g->here, "active");
}

void vfio_mig_guest_write_on(VFIOMigGuest *g)
{
    int64_t fetched;

    do {
        vfio_mig_guest_write(g, 1);
        fetched = vfio_mig_ram(g->here, "dirty-sync-count");
    } while (fetched < 2);
    do {
        vfio_mig_guest_write(g, WRITES);
    } while (vfio_mig_ram(g->here, "dirty-sync-count") == fetched);
}

void vfio_mig_guest_write_last(VFIOMigGuest *g)
{
    begin_writes(g, LATE);
}

void vfio_mig_guest_release(VFIOMigGuest *g)
{
    vfio_mig_set(g->here, "downtime-limit", DOWNTIME_RELEASED);
    vfio_mig_edu_release(vfio_mig_guest_device(g, 0));
}

/* No device may stand while another one could write to it. */
void vfio_mig_guest_check_order(VFIOMigGuest *g, VFIOMigSide *side,
                                const char *after)
{
    g_auto(GStrv) events = vfio_mig_events(side);
    int p2p = 0, others = 0;

    for (char **event = events; *event; event++) {
        if (g_str_has_suffix(*event, "-p2p")) {
            g_assert_cmpint(others, ==, 0);
            p2p++;
        } else if (p2p && strstr(*event, after)) {
            others++;
        }
    }
    g_assert_cmpint(p2p, ==, g->kind->edu.p2p ? g->kind->count : 0);
    g_assert_cmpint(others, >=, g->kind->edu.p2p ? g->kind->count : 0);
}

/* It runs on @side now. */
static void go_on(VFIOMigGuest *g, VFIOMigSide *side)
{
    vfio_mig_go_on(side);
    g->here = side;
    for (int i = 0; i < g->kind->count; i++) {
        vfio_mig_edu_moved(g->edus[i], side);
    }
}

void vfio_mig_guest_arrive(VFIOMigGuest *g)
{
    VFIOMigSide *was = g->here;

    vfio_mig_wait_moved(was, g->there);
    vfio_mig_check_memory(was, g->there);
    g_assert_cmpint(vfio_mig_device_bytes(was), >, 0);
    for (int i = 0; i < g->kind->count; i++) {
        vfio_mig_edu_check_written(g->edus[i], g->there);
    }
    vfio_mig_guest_check_order(g, was, " stop");
    go_on(g, g->there);
    vfio_mig_guest_check_order(g, g->there, " running");
    g->there = NULL;
    g->place = !g->place;
    vfio_mig_stop(was);
}

void vfio_mig_guest_save_and_load(VFIOMigGuest *g)
{
    char *file = vfio_rig_log_new();
    g_autofree uint8_t *memory = NULL;
    VFIOMigSide *side;

    vfio_mig_guest_write(g, 1);
    vfio_mig_guest_write_last(g);
    qtest_qmp_assert_success(g->here->machine->qts, "{ 'execute': 'stop' }");
    vfio_mig_save(g->here, file);
    memory = g_memdup2(g->here->memory, g->here->size);
    vfio_mig_stop(g->here);

    side = start(g->kind, g->place, true);
    vfio_mig_load(side, file);
    g_assert_cmpmem(side->memory, side->size, memory, side->size);
    go_on(g, side);
    vfio_rig_log_free(file);
}

void vfio_mig_guest_move(VFIOMigGuest *g)
{
    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    vfio_mig_guest_write_on(g);
    vfio_mig_guest_write_last(g);
    vfio_mig_guest_release(g);
    vfio_mig_guest_arrive(g);
}

void vfio_mig_guest_stay(VFIOMigGuest *g, VFIOMigReset reset)
{
    vfio_mig_guest_release(g);
    vfio_machine_check_run_state(g->here->machine, "running");
    for (int i = 0; i < g->kind->count; i++) {
        bool was = vfio_mig_edu_was_reset(g->edus[i]);

        g_assert_true(was == (reset == VFIO_MIG_RESET) ||
                      reset == VFIO_MIG_MAY_BE_RESET);
        if (was) {
            vfio_mig_edu_set_up(g->edus[i]);
        }
        vfio_mig_edu_check(g->edus[i]);
    }
    vfio_mig_abandon(g->there);
    g->there = NULL;
}

char *vfio_mig_guest_end(VFIOMigGuest *g, VFIOMigReset reset)
{
    char *reason;

    vfio_mig_guest_release(g);
    if (vfio_mig_wait_end(g->here, &reason)) {
        vfio_mig_guest_arrive(g);
    } else {
        vfio_mig_guest_stay(g, reset);
    }
    return reason;
}
