/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a guest of its own will moves with its device
 *
 * It is Linux under KVM.  A program in it has an edu copy memory all the while,
 * and looks at each byte; see tests/rig/guest/drive-edu.c.  It must not notice
 * that it moves, back and forth.
 */
#include "qemu/osdep.h"

#include "vfio-guest.h"
#include "vfio-mig-edu.h"

#define MOVES 2

/* An edu reaches all of it. */
#define MEMORY (160 * MiB)

/* With a clock of its own KVM writes to the guest's memory as it comes. */
#define OPTIONS VFIO_GUEST_OPTIONS " -cpu host,xsave=off,kvmclock=off" \
    " -append \"console=ttyS0 quiet task=edu\" -serial file:%s"

typedef struct Case {
    const char *name;
    VFIOMigEduKind kind;
} Case;

static const struct {
    const char *variable;
    const char *edu;
} places[] = {
    { "VFIO_TEST_FROM", "EDU0" },
    { "VFIO_TEST_TO", "EDU1" },
};

static VFIOMigSide *start(int place, bool incoming, const Case *c,
                          const char *console)
{
    g_autofree char *sysfs = vfio_mig_sysfs(places[place].edu);
    g_autofree char *more = g_strdup_printf(OPTIONS, console);
    VFIOMigDevice devices[] = {
        { sysfs, vfio_mig_edu_properties(&c->kind) },
        { },
    };

    return vfio_mig_start(devices, &(VFIOMigOptions) {
        .variable = places[place].variable,
        .incoming = incoming,
        .memory = MEMORY,
        .boots = true,
        .more = more,
    });
}

static int count_rounds(const char *console)
{
    g_autofree char *text = NULL;
    const char *line;
    int count = 0;

    g_assert_true(g_file_get_contents(console, &text, NULL, NULL));
    g_assert_null(strstr(text, "guest: wrong"));
    for (line = text; (line = strstr(line, "guest: edu ")); line++) {
        count++;
    }
    return count;
}

/* ... from now on: one that was under way, and one that begins after this */
static void wait_rounds(const char *console)
{
    int before = count_rounds(console);

    g_assert_true(vfio_rig_wait_for(120, count_rounds(console) >= before + 2));
}

static VFIOMigSide *move(VFIOMigSide *from, VFIOMigSide *to)
{
    vfio_mig_begin(from, to);
    vfio_mig_wait_moved(from, to);
    vfio_mig_check_memory(from, to);
    vfio_mig_go_on(to);
    vfio_mig_stop(from);
    return to;
}

static void test_goes_on(const void *data)
{
    const Case *c = data;
    uint64_t moves = vfio_rig_number("VFIO_TEST_MOVES", MOVES);
    char *consoles[] = { vfio_rig_log_new(), vfio_rig_log_new() };
    VFIOMigSide *side;
    int place = 0;

    for (int i = 0; i < ARRAY_SIZE(places); i++) {
        vfio_mig_edu_bind(places[i].edu, &c->kind, 0);
    }
    side = start(place, false, c, consoles[place]);
    wait_rounds(consoles[place]);
    while (moves--) {
        place = !place;
        side = move(side, start(place, true, c, consoles[place]));
        wait_rounds(consoles[place]);
    }
    vfio_mig_stop(side);
    for (int i = 0; i < ARRAY_SIZE(places); i++) {
        vfio_mig_edu_unbind(places[i].edu);
        vfio_rig_log_free(consoles[i]);
    }
}

static const Case cases[] = {
    { "log", { VFIO_MIG_LOG, .pre_copy = true, .p2p = true } },
    { "iommu", { VFIO_MIG_IOMMU, .pre_copy = true, .p2p = true } },
};

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "guest-move");

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        if (cases[i].kind.tracking == VFIO_MIG_LOG ||
            vfio_rig_number("VFIO_TEST_TRACKS", 0)) {
            vfio_rig_add_data(cases[i].name, VFIO_RIG_BOTH, test_goes_on,
                              &cases[i]);
        }
    }
    return g_test_run();
}
