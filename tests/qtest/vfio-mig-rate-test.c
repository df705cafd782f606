/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what it costs to migrate a device
 *
 * Each of these is measured with all paths in turn: the character device and the
 * group, and both with a newer QEMU where the rig has one.  A line of the log for
 * each figure is what tests/bench/migration reads:
 *
 *   downtime,KIND,PATH,SECONDS  from the STOP of the guest to the end of the load,
 *                               with KIND MiB of state
 *   sync,KIND,PATH,SECONDS      in the kernel, to fetch the dirty pages of all
 *                               memory once, from page tables of KIND
 *   dma,KIND,PATH,SECONDS       a device's write to memory, without tracking (off)
 *                               and with it
 *
 * In the slow mode (-m slow) it is done with the sizes that mean something.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "vfio-mig-guest.h"

/* Any downtime will do, and any speed. */
#define DOWNTIME        1000000
#define BANDWIDTH       1000000000000

#define ROUNDS_SLOW     3
#define WRITES          20
#define WRITES_SLOW     200

typedef struct Path {
    const char *name;
    const char *mode;
    const char *qemu;
} Path;

static const Path paths[] = {
    { "iommufd", "iommufd", "ours" },
    { "legacy", "legacy", "ours" },
    { "iommufd@newer", "iommufd", "newer" },
    { "legacy@newer", "legacy", "newer" },
};

static const VFIOMigGuestKind by_log = {
    { VFIO_MIG_LOG, .pre_copy = true, .p2p = true }, 1
};
static const VFIOMigGuestKind by_iommu = {
    { VFIO_MIG_IOMMU, .pre_copy = true, .p2p = true }, 1
};

static int rounds(void)
{
    return g_test_slow() ? ROUNDS_SLOW : 1;
}

/* Only what the rig has can be used. */
static bool use(const Path *path)
{
    if (g_str_equal(path->qemu, "newer") &&
        !vfio_rig_number("VFIO_TEST_NEWER", 0)) {
        return false;
    }
    vfio_rig_use(path->mode);
    g_setenv("VFIO_TEST_FROM", path->qemu, true);
    g_setenv("VFIO_TEST_TO", path->qemu, true);
    return true;
}

static void report(const char *what, const char *kind, const Path *path,
                   double seconds)
{
    g_test_message("%s,%s,%s,%.6f", what, kind, path->name, seconds);
}

static void wait_all_sent(VFIOMigSide *from)
{
    g_assert_true(vfio_rig_wait(vfio_mig_ram(from, "dirty-sync-count") > 1));
}

/* Downtime */

/* All memory was sent before, so that next to nothing else is left. */
static void measure_downtime(const Path *path, uint64_t mib)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&by_log);
    g_autofree char *kind = g_strdup_printf("%" PRIu64, mib);
    double stopped, loaded;

    vfio_mig_edu_set(vfio_mig_guest_device(g, 0), "padding", mib * MiB);
    vfio_mig_guest_prepare(g);
    vfio_mig_set(g->here, "max-bandwidth", BANDWIDTH);
    vfio_mig_guest_begin(g);
    wait_all_sent(g->here);
    vfio_mig_guest_release(g);
    vfio_mig_wait_moved(g->here, g->there);
    g_assert_cmpint(vfio_mig_device_bytes(g->here), >=, mib * MiB);

    stopped = vfio_mig_time_of_event(g->here, "STOP", NULL);
    loaded = vfio_mig_time_of_event(g->there, "MIGRATION", "completed");
    report("downtime", kind, path, loaded - stopped);
    vfio_mig_check_memory(g->here, g->there);
    vfio_mig_guest_free(g);
}

static void test_downtime(void)
{
    static const uint64_t sizes[] = { 4, 0, 16, 64, 256 };
    int first = g_test_slow() ? 1 : 0;
    int end = g_test_slow() ? ARRAY_SIZE(sizes) : 1;

    for (int size = first; size < end; size++) {
        for (int round = 0; round < rounds(); round++) {
            for (int i = 0; i < ARRAY_SIZE(paths); i++) {
                if (use(&paths[i])) {
                    measure_downtime(&paths[i], sizes[size]);
                }
            }
        }
    }
}

/* Dirty pages, fetched from the IOMMU's page tables */

static VFIOMigSide *start_large(const char *edu, const char *variable,
                                bool incoming, bool huge)
{
    g_autofree char *sysfs = vfio_mig_sysfs(edu);
    const VFIOMigDevice devices[] = {
        { sysfs, vfio_mig_edu_properties(&by_iommu.edu) }, { }
    };

    return vfio_mig_start(devices, &(VFIOMigOptions) {
        .variable = variable,
        .incoming = incoming,
        .huge = huge,
        .memory = (g_test_slow() ? 2048 : 64) * MiB,
    });
}

/* What libdirty-time.so has written: a line of seconds for each call */
static double sum_of_lines(const char *file)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    double sum = 0;

    g_assert_true(g_file_get_contents(file, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (int i = 0; lines[i]; i++) {
        sum += g_ascii_strtod(lines[i], NULL);
    }
    return sum;
}

static void measure_sync(const Path *path, bool huge)
{
    char *file = vfio_rig_log_new();
    VFIOMigSide *from, *to;
    int64_t syncs;

    vfio_mig_edu_bind("EDU0", &by_iommu.edu, 0);
    vfio_mig_edu_bind("EDU1", &by_iommu.edu, 0);
    g_setenv("LD_PRELOAD", "/rig/tests/libdirty-time.so", true);
    g_setenv("DIRTY_TIME", file, true);
    from = start_large("EDU0", "VFIO_TEST_FROM", false, huge);
    g_unsetenv("LD_PRELOAD");
    to = start_large("EDU1", "VFIO_TEST_TO", true, false);

    vfio_mig_set(from, "downtime-limit", DOWNTIME);
    vfio_mig_set(from, "max-bandwidth", BANDWIDTH);
    vfio_mig_begin(from, to);
    vfio_mig_wait_moved(from, to);
    syncs = vfio_mig_ram(from, "dirty-sync-count");
    g_assert_cmpint(syncs, >, 0);
    g_assert_cmpfloat(sum_of_lines(file), >, 0);
    report("sync", huge ? "2 MiB" : "4 KiB", path, sum_of_lines(file) / syncs);

    vfio_mig_stop(from);
    vfio_mig_stop(to);
    vfio_mig_edu_unbind("EDU0");
    vfio_mig_edu_unbind("EDU1");
    vfio_rig_log_free(file);
}

static void test_sync(void)
{
    for (int huge = 0; huge <= 1; huge++) {
        for (int round = 0; round < rounds(); round++) {
            for (int i = 0; i < ARRAY_SIZE(paths); i++) {
                if (g_str_equal(paths[i].mode, "iommufd") && use(&paths[i])) {
                    measure_sync(&paths[i], huge);
                }
            }
        }
    }
}

/* DMA */

static double time_of_write(VFIOMigGuest *g)
{
    int count = g_test_slow() ? WRITES_SLOW : WRITES;
    int64_t begin = g_get_monotonic_time();

    vfio_mig_guest_write(g, count);
    return (g_get_monotonic_time() - begin) / 1e6 / count;
}

static void measure_dma(const Path *path, const VFIOMigGuestKind *kind)
{
    const char *name = kind == &by_log ? "log" : "iommu";
    g_autofree char *off = g_strdup_printf("%s off", name);
    VFIOMigGuest *g = vfio_mig_guest_new(kind);

    vfio_mig_guest_prepare(g);
    vfio_mig_guest_write(g, WRITES);    /* till all is warm */
    report("dma", off, path, time_of_write(g));
    vfio_mig_guest_begin(g);
    wait_all_sent(g->here);
    report("dma", name, path, time_of_write(g));
    vfio_mig_cancel(g->here);
    vfio_mig_guest_stay(g, VFIO_MIG_KEPT);
    vfio_mig_guest_free(g);
}

static void test_dma(void)
{
    for (int round = 0; round < rounds(); round++) {
        for (int i = 0; i < ARRAY_SIZE(paths); i++) {
            if (g_str_equal(paths[i].qemu, "ours") && use(&paths[i])) {
                measure_dma(&paths[i], &by_log);
            }
            if (g_str_equal(paths[i].name, "iommufd") && use(&paths[i]) &&
                vfio_rig_number("VFIO_TEST_TRACKS", 0)) {
                measure_dma(&paths[i], &by_iommu);
            }
        }
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "mig-rate");

    vfio_rig_add("downtime", VFIO_RIG_BOTH, test_downtime);
    if (vfio_rig_number("VFIO_TEST_TRACKS", 0)) {
        vfio_rig_add("sync", VFIO_RIG_BOTH, test_sync);
    }
    vfio_rig_add("dma", VFIO_RIG_BOTH, test_dma);
    return g_test_run();
}
