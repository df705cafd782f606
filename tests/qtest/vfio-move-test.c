/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a guest moves with its devices, and nothing of it is lost
 *
 * Two QEMUs run at the same time; see vfio-mig.h for which ones.  An mtty's
 * bytes that wait to be read come with it, and every page of the guest is what
 * it was.
 */
#include "qemu/osdep.h"

#include "vfio-mig.h"
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

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "move");

    vfio_rig_add("machine", VFIO_RIG_BOTH, test_machine);
    vfio_rig_add("mtty/one", VFIO_RIG_BOTH, test_mtty);
    vfio_rig_add("mtty/two-and-back", VFIO_RIG_BOTH, test_two_mttys_and_back);
    return g_test_run();
}
