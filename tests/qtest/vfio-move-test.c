/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a guest moves with its devices, and nothing of it is lost
 *
 * Two QEMUs run at the same time; see vfio-mig.h for which ones.  An mtty's
 * bytes that wait to be read come with it.  An edu writes to random places
 * while the guest moves, up to a write that has begun and not ended when the
 * guest stops.  Then every page of the guest is what it was.
 */
#include "qemu/osdep.h"

#include "vfio-mig-guest.h"
#include "vfio-mtty.h"

#define FROM "VFIO_TEST_FROM"
#define TO "VFIO_TEST_TO"

/* Without devices: what goes wrong here is not theirs. */
static void test_machine(void)
{
    const VFIOMigDevice none[] = { { } };
    VFIOMigSide *from = vfio_mig_start(none, &(VFIOMigOptions) {
        .variable = FROM,
    });
    VFIOMigSide *to = vfio_mig_start(none, &(VFIOMigOptions) {
        .variable = TO,
        .incoming = true,
    });

    vfio_mig_fill(from);
    vfio_mig_begin(from, to);
    vfio_mig_wait_moved(from, to);
    vfio_mig_check_memory(from, to);
    vfio_mig_go_on(to);
    vfio_mig_stop(from);
    vfio_mig_stop(to);
}

/* mtty */

#define MTTYS 2

static const char *const mttys_from[MTTYS] = {
    "5e0f2a7c-8f1d-4c0e-9a44-0d6c2b1e7a01",
    "5e0f2a7c-8f1d-4c0e-9a44-0d6c2b1e7a02",
};
static const char *const mttys_to[MTTYS] = {
    "5e0f2a7c-8f1d-4c0e-9a44-0d6c2b1e7b01",
    "5e0f2a7c-8f1d-4c0e-9a44-0d6c2b1e7b02",
};

static const char *const texts[MTTYS][VFIO_MTTY_PORTS] = {
    { "0123456789abcde", "q" },
    { "", "ends the other" },
};

/* The first @count of them; to be freed, and so are the folders. */
static VFIOMigDevice *mtty_devices(const char *const *uuids, int count)
{
    VFIOMigDevice *devices = g_new0(VFIOMigDevice, count + 1);

    for (int i = 0; i < count; i++) {
        devices[i].sysfs = vfio_mtty_sysfs(uuids[i]);
        devices[i].properties = "migration-events=on";
    }
    return devices;
}

static void free_devices(VFIOMigDevice *devices)
{
    for (int i = 0; devices[i].sysfs; i++) {
        g_free((char *)devices[i].sysfs);
    }
    g_free(devices);
}

static VFIOMigSide *start_mttys(const char *variable, bool incoming,
                                const char *const *uuids, int count)
{
    VFIOMigDevice *devices = mtty_devices(uuids, count);
    VFIOMigSide *side = vfio_mig_start(devices, &(VFIOMigOptions) {
        .variable = variable,
        .incoming = incoming,
    });

    free_devices(devices);
    return side;
}

static void send_all(VFIOMtty **mttys, int count)
{
    for (int i = 0; i < count; i++) {
        for (int port = 0; port < VFIO_MTTY_PORTS; port++) {
            vfio_mtty_send(mttys[i], port, texts[i][port]);
        }
    }
}

static void check_all_received(VFIOMtty **mttys, int count, VFIOMigSide *to)
{
    for (int i = 0; i < count; i++) {
        vfio_mtty_moved(mttys[i], to->machine);
        for (int port = 0; port < VFIO_MTTY_PORTS; port++) {
            vfio_mtty_check_received(mttys[i], port, texts[i][port]);
        }
        vfio_mtty_check(mttys[i]);
    }
}

/* Returns the side that the guest is on then, and ends the other. */
static VFIOMigSide *move_mttys(VFIOMtty **mttys, int count, VFIOMigSide *from,
                               VFIOMigSide *to)
{
    send_all(mttys, count);
    vfio_mig_begin(from, to);
    vfio_mig_wait_moved(from, to);
    vfio_mig_check_memory(from, to);
    g_assert_cmpint(vfio_mig_device_bytes(from), >, 0);
    vfio_mig_go_on(to);
    vfio_mig_stop(from);
    check_all_received(mttys, count, to);
    return to;
}

static void check_mttys(int count, bool back)
{
    VFIOMtty *mttys[MTTYS];
    VFIOMigSide *side;

    for (int i = 0; i < count; i++) {
        vfio_mtty_create(mttys_from[i]);
        vfio_mtty_create(mttys_to[i]);
    }
    side = start_mttys(FROM, false, mttys_from, count);
    vfio_mig_fill(side);
    for (int i = 0; i < count; i++) {
        mttys[i] = vfio_mtty_new(side->machine, VFIO_MIG_SLOT(i));
    }
    side = move_mttys(mttys, count, side,
                      start_mttys(TO, true, mttys_to, count));
    if (back) {
        side = move_mttys(mttys, count, side,
                          start_mttys(FROM, true, mttys_from, count));
    }
    vfio_mig_stop(side);
    for (int i = 0; i < count; i++) {
        vfio_mtty_free(mttys[i]);
        vfio_mtty_remove(mttys_from[i]);
        vfio_mtty_remove(mttys_to[i]);
    }
}

static void test_mtty(void)
{
    check_mttys(1, false);
}

static void test_two_mttys_and_back(void)
{
    check_mttys(2, true);
}

/* edu */

typedef struct Case {
    const char *name;
    VFIOMigGuestKind kind;
    int moves;              /* back and forth */
    bool ours;              /* newer QEMUs lose writes there */
} Case;

/* What only this rig, this mode or these QEMUs can do */
static bool can(const Case *c)
{
    VFIOMigTracking tracking = c->kind.edu.tracking;
    bool by_iommu = tracking == VFIO_MIG_IOMMU || tracking == VFIO_MIG_MIXED;

    if (by_iommu && !vfio_rig_number("VFIO_TEST_TRACKS", 0)) {
        return false;
    }
    return !c->ours || vfio_mig_all_ours();
}

static void test_edu(const void *data)
{
    const Case *c = data;
    VFIOMigGuest *g = vfio_mig_guest_new(&c->kind);

    for (int i = 0; i < MAX(c->moves, 1); i++) {
        vfio_mig_guest_move(g);
    }
    vfio_mig_guest_free(g);
}

/* Saved to a file, as libvirt's managed save does it */
static void test_saved(const void *data)
{
    const Case *c = data;
    VFIOMigGuest *g = vfio_mig_guest_new(&c->kind);

    vfio_mig_guest_save_and_load(g);
    vfio_mig_guest_move(g);
    vfio_mig_guest_save_and_load(g);
    vfio_mig_guest_free(g);
}

/*
 * What is compared tells of a page that was lost: a library takes each
 * thousandth bit away that the kernel sets.  One of so many pages is among
 * them, and it is not written to again.
 */
#define DROPPED_OF      "1000"
#define LOSSY_PAGES     1100

static void test_lost_bits_are_seen(const void *data)
{
    const Case *c = data;
    VFIOMigGuest *g;

    g_setenv("LD_PRELOAD", "/rig/tests/libdrop-bits.so", true);
    g_setenv("DROP_BITS", DROPPED_OF, true);
    g = vfio_mig_guest_new(&c->kind);
    g_unsetenv("LD_PRELOAD");

    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    vfio_mig_guest_write_on(g);
    vfio_mig_edu_write_pages(g->edus[0], LOSSY_PAGES);
    vfio_mig_guest_release(g);
    vfio_mig_wait_moved(g->here, g->there);
    g_assert_cmpuint(vfio_mig_count_wrong_pages(g->here, g->there), >, 0);
    vfio_mig_guest_free(g);
}

static const Case cases[] = {
    { "edu/log/all", { { VFIO_MIG_LOG, true, true }, 1 } },
    { "edu/log/no-pre-copy", { { VFIO_MIG_LOG, false, true }, 1 } },
    { "edu/log/no-p2p", { { VFIO_MIG_LOG, true, false }, 1 } },
    { "edu/log/stop-copy-only", { { VFIO_MIG_LOG, false, false }, 1 } },
    { "edu/log/huge", { { VFIO_MIG_LOG, true, true }, 1, .huge = true } },
    { "edu/log/two-and-back", { { VFIO_MIG_LOG, true, true }, 2 }, .moves = 2 },

    { "edu/iommu/all", { { VFIO_MIG_IOMMU, true, true }, 1 } },
    { "edu/iommu/no-pre-copy", { { VFIO_MIG_IOMMU, false, true }, 1 } },
    { "edu/iommu/no-p2p", { { VFIO_MIG_IOMMU, true, false }, 1 } },
    { "edu/iommu/stop-copy-only", { { VFIO_MIG_IOMMU, false, false }, 1 } },
    { "edu/iommu/huge", { { VFIO_MIG_IOMMU, true, true }, 1, .huge = true } },
    { "edu/iommu/two-and-back", { { VFIO_MIG_IOMMU, true, true }, 2 }, .moves = 2 },

    { "edu/mixed/all", { { VFIO_MIG_MIXED, true, true }, 2 }, .ours = true },
    { "edu/mixed/huge", { { VFIO_MIG_MIXED, true, true }, 2, .huge = true },
      .ours = true },

    { "edu/nothing/all", { { VFIO_MIG_NOTHING, true, true }, 1 } },
    { "edu/nothing/no-pre-copy", { { VFIO_MIG_NOTHING, false, true }, 1 } },
    { "edu/nothing/stop-copy-only", { { VFIO_MIG_NOTHING, false, false }, 1 } },
    { "edu/nothing/two-and-back", { { VFIO_MIG_NOTHING, true, true }, 2 },
      .moves = 2 },
};

static const Case saved[] = {
    { "saved/all", { { VFIO_MIG_LOG, true, true }, 2 } },
    { "saved/stop-copy-only", { { VFIO_MIG_LOG, false, false }, 1 } },
};

static const Case lossy[] = {
    { "lost-bits-are-seen/log", { { VFIO_MIG_LOG, true, true }, 1 } },
    { "lost-bits-are-seen/iommu", { { VFIO_MIG_IOMMU, true, true }, 1 } },
};

static void add(const Case *list, int count, void (*test)(const void *))
{
    for (int i = 0; i < count; i++) {
        if (can(&list[i])) {
            vfio_rig_add_data(list[i].name, VFIO_RIG_BOTH, test, &list[i]);
        }
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "move");

    vfio_rig_add("machine", VFIO_RIG_BOTH, test_machine);
    vfio_rig_add("mtty/one", VFIO_RIG_BOTH, test_mtty);
    vfio_rig_add("mtty/two-and-back", VFIO_RIG_BOTH, test_two_mttys_and_back);
    add(cases, ARRAY_SIZE(cases), test_edu);
    add(saved, ARRAY_SIZE(saved), test_saved);
    add(lossy, ARRAY_SIZE(lossy), test_lost_bits_are_seen);
    return g_test_run();
}
