/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: how fast a guest's IOMMU maps and unmaps, one page at a time
 *
 * Two machines with a virtio-iommu run beside each other, one with its device
 * by the group, one by iommufd.  They take turns with the same batch, so that
 * whatever else the host does meets both; what is judged is the quotient of two
 * neighbours.  What the queue takes is in both.
 *
 * In the slow mode (-m slow) the median of the quotients must not be above
 * LIMIT; the short one shows what it finds.  It is above 1: each is one ioctl in
 * either case, and the kernel's IOMMU_IOAS_MAP and IOMMU_IOAS_UNMAP of a page
 * took 1.5 times as long in the rig as type1's (Linux 6.12).  LIMIT is for what
 * QEMU might add to that.
 */
#include "qemu/osdep.h"

#include "vfio-viommu.h"

#define VIOMMU_SLOT     3
#define EDU_SLOT        4
#define DOMAIN          1
#define DATA            (32 * MiB)

#define PAIRS           20
#define PAIRS_SLOW      400

/* Time by iommufd over time by the group */
#define LIMIT           1.4

typedef struct Side {
    VFIOMachine *machine;
    VIOMMU *viommu;
    double map;             /* microseconds of the last batch */
    double unmap;
} Side;

static void check_all_ok(VIOMMU *v)
{
    for (int i = 0; i < VIOMMU_BATCH; i++) {
        g_assert_cmpint(viommu_status(v, i), ==, VIRTIO_IOMMU_S_OK);
    }
}

static uint64_t nth_page(int i)
{
    return 64 * MiB + (uint64_t)i * VIOMMU_PAGE;
}

/* Time for a batch of maps, and for the unmaps of the same, in microseconds */
static int64_t map_batch(VIOMMU *v)
{
    int64_t time;

    for (int i = 0; i < VIOMMU_BATCH; i++) {
        viommu_queue_map(v, DOMAIN, nth_page(i), DATA + i * VIOMMU_PAGE,
                         VIOMMU_PAGE, VIOMMU_READ | VIOMMU_WRITE);
    }
    time = viommu_submit(v);
    check_all_ok(v);
    return time;
}

static int64_t unmap_batch(VIOMMU *v)
{
    int64_t time;

    for (int i = 0; i < VIOMMU_BATCH; i++) {
        viommu_queue_unmap(v, DOMAIN, nth_page(i), VIOMMU_PAGE);
    }
    time = viommu_submit(v);
    check_all_ok(v);
    return time;
}

/* Without its traces, which cost more than what is measured. */
static void start(Side *side, const char *mode, const char *device)
{
    vfio_rig_use(mode);
    side->machine = vfio_machine_start(
        "-trace enable=-vfio_* -trace enable=-iommufd_* "
        "-device virtio-iommu-pci,addr=%d,boot-bypass=off "
        "-device %s,addr=%d", VIOMMU_SLOT, vfio_rig_device(device), EDU_SLOT);
    side->viommu = viommu_new(side->machine, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(side->viommu, DOMAIN,
                                  VIOMMU_ENDPOINT(EDU_SLOT), 0), ==,
                    VIRTIO_IOMMU_S_OK);
}

static void stop(Side *side)
{
    viommu_free(side->viommu);
    vfio_machine_stop(side->machine);
}

static void run_batch(Side *side)
{
    side->map = map_batch(side->viommu);
    side->unmap = unmap_batch(side->viommu);
}

static gint compare(gconstpointer a, gconstpointer b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void add(GArray *values, double value)
{
    g_array_append_val(values, value);
}

/* Of sorted values, the one that a part @q of them lies below */
static double quantile(GArray *values, double q)
{
    return g_array_index(values, double, (guint)(q * (values->len - 1)));
}

/* Sorts, shows and returns the median. */
static double show(const char *what, GArray *values)
{
    g_array_sort(values, compare);
    g_test_message("%s: median %.3f, quartiles %.3f and %.3f", what,
                   quantile(values, 0.5), quantile(values, 0.25),
                   quantile(values, 0.75));
    return quantile(values, 0.5);
}

static GArray *values_new(void)
{
    return g_array_new(false, false, sizeof(double));
}

static void show_rate(const char *what, double microseconds)
{
    g_test_message("%s: %.0f/s in the last batch", what,
                   1e6 * VIOMMU_BATCH / microseconds);
}

static void test_rate(void)
{
    g_autoptr(GArray) maps = values_new();
    g_autoptr(GArray) unmaps = values_new();
    Side legacy, iommufd;
    double map, unmap;

    start(&legacy, "legacy", "EDU0");
    start(&iommufd, "iommufd", "EDU1");
    for (int i = 0; i < (g_test_slow() ? PAIRS_SLOW : PAIRS); i++) {
        run_batch(i % 2 ? &legacy : &iommufd);
        run_batch(i % 2 ? &iommufd : &legacy);
        add(maps, iommufd.map / legacy.map);
        add(unmaps, iommufd.unmap / legacy.unmap);
    }

    show_rate("maps by group", legacy.map);
    show_rate("unmaps by group", legacy.unmap);
    map = show("time to map by iommufd, by group 1", maps);
    unmap = show("time to unmap by iommufd, by group 1", unmaps);
    if (g_test_slow()) {
        g_assert_cmpfloat(map, <=, LIMIT);
        g_assert_cmpfloat(unmap, <=, LIMIT);
    }
    stop(&iommufd);
    stop(&legacy);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "viommu-rate");
    vfio_rig_add("rate", VFIO_RIG_BOTH, test_rate);
    return g_test_run();
}
