/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: how fast a guest's IOMMU maps and unmaps, one page at a time
 *
 * Two machines with a virtio-iommu run beside each other, one with its device
 * by the group, one by iommufd.  They take turns with the same batch, so that
 * other work of the host affects both.  The result is the ratio of two
 * neighbours.  Both include the time for the queue.
 *
 * "kernel" makes the same calls without QEMU, to tell the kernel's part from
 * QEMU's.  "kernel-memory" makes many of them, to see what each map costs.
 *
 * In the slow mode (-m slow) the median of the ratios must not be above LIMIT;
 * the short mode only shows it.  The median is above 1: each map or unmap is
 * one ioctl in either case, and for one page the kernel's IOMMU_IOAS_MAP and
 * IOMMU_IOAS_UNMAP take longer than type1's (Linux 6.12).  LIMIT leaves room
 * for what QEMU might add.
 */
#include "qemu/osdep.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <linux/iommufd.h>

#include "hw/vfio/vfio-abi.h"
#include "vfio-viommu.h"

#define VIOMMU_SLOT     3
#define EDU_SLOT        4
#define DOMAIN          1
#define DATA            (32 * MiB)

#define PAIRS           20
#define PAIRS_SLOW      400

/* Time by iommufd divided by time by the group */
#define LIMIT           1.4

/* Maps whose memory is measured, and how much of the kernel's one may need */
#define MANY            32768
#define MAP_BYTES       512

typedef struct Side Side;

struct Side {
    void (*run_batch)(Side *side);
    double map;             /* microseconds of the last batch */
    double unmap;

    /* In QEMU */
    VFIOMachine *machine;
    VIOMMU *viommu;

    /* By the test itself */
    int fds[3];             /* what maps, and what it needs */
    uint32_t ioas_id;
    uint8_t *memory;
};

/* QEMU's maps */

static uint64_t nth_page(int i)
{
    return 64 * MiB + (uint64_t)i * VIOMMU_PAGE;
}

static void run_machine_batch(Side *side)
{
    side->map = viommu_map_batch(side->viommu, DOMAIN, nth_page(0), DATA);
    side->unmap = viommu_unmap_batch(side->viommu, DOMAIN, nth_page(0));
}

/* Traces are off: they cost more than what is measured. */
static void start(Side *side, const char *mode, const char *device)
{
    side->run_batch = run_machine_batch;
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

/* The test's own maps */

static void ioctl_or_fail(int fd, unsigned long request, void *arg)
{
    if (ioctl(fd, request, arg)) {
        g_error("ioctl 0x%lx: %s", request, g_strerror(errno));
    }
}

static void type1_map(Side *side, int i)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
        .vaddr = (uintptr_t)side->memory + i % VIOMMU_BATCH * VIOMMU_PAGE,
        .iova = nth_page(i),
        .size = VIOMMU_PAGE,
    };

    ioctl_or_fail(side->fds[0], VFIO_IOMMU_MAP_DMA, &map);
}

static void type1_unmap(Side *side, int i)
{
    struct vfio_iommu_type1_dma_unmap unmap = {
        .argsz = sizeof(unmap),
        .iova = nth_page(i),
        .size = VIOMMU_PAGE,
    };

    ioctl_or_fail(side->fds[0], VFIO_IOMMU_UNMAP_DMA, &unmap);
}

static void ioas_map(Side *side, int i)
{
    struct iommu_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
                 IOMMU_IOAS_MAP_WRITEABLE,
        .ioas_id = side->ioas_id,
        .user_va = (uintptr_t)side->memory + i % VIOMMU_BATCH * VIOMMU_PAGE,
        .length = VIOMMU_PAGE,
        .iova = nth_page(i),
    };

    ioctl_or_fail(side->fds[0], IOMMU_IOAS_MAP, &map);
}

static void ioas_unmap(Side *side, int i)
{
    struct iommu_ioas_unmap unmap = {
        .size = sizeof(unmap),
        .ioas_id = side->ioas_id,
        .iova = nth_page(i),
        .length = VIOMMU_PAGE,
    };

    ioctl_or_fail(side->fds[0], IOMMU_IOAS_UNMAP, &unmap);
}

static double time_calls(Side *side, void (*call)(Side *side, int i))
{
    int64_t start = g_get_monotonic_time();

    for (int i = 0; i < VIOMMU_BATCH; i++) {
        call(side, i);
    }
    return g_get_monotonic_time() - start;
}

static void run_type1_batch(Side *side)
{
    side->map = time_calls(side, type1_map);
    side->unmap = time_calls(side, type1_unmap);
}

static void run_ioas_batch(Side *side)
{
    side->map = time_calls(side, ioas_map);
    side->unmap = time_calls(side, ioas_unmap);
}

static void open_type1(Side *side, const char *device)
{
    g_autofree char *node = vfio_rig_group_node(device);

    side->run_batch = run_type1_batch;
    side->fds[0] = vfio_rig_open("/dev/vfio/vfio", O_RDWR);
    side->fds[1] = vfio_rig_open(node, O_RDWR);
    ioctl_or_fail(side->fds[1], VFIO_GROUP_SET_CONTAINER, &side->fds[0]);
    ioctl_or_fail(side->fds[0], VFIO_SET_IOMMU, (void *)VFIO_TYPE1v2_IOMMU);
    side->fds[2] = ioctl(side->fds[1], VFIO_GROUP_GET_DEVICE_FD,
                         vfio_rig_address(device));
    g_assert_cmpint(side->fds[2], >=, 0);
}

static void open_ioas(Side *side, const char *device)
{
    g_autofree char *node = vfio_rig_cdev_node(device);
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
    };
    struct iommu_ioas_alloc alloc = {
        .size = sizeof(alloc),
    };
    struct vfio_device_attach_iommufd_pt attach = {
        .argsz = sizeof(attach),
    };

    side->run_batch = run_ioas_batch;
    side->fds[0] = vfio_rig_open("/dev/iommu", O_RDWR);
    side->fds[1] = vfio_rig_open(node, O_RDWR);
    side->fds[2] = dup(side->fds[0]);
    bind.iommufd = side->fds[0];
    ioctl_or_fail(side->fds[1], VFIO_DEVICE_BIND_IOMMUFD, &bind);
    ioctl_or_fail(side->fds[0], IOMMU_IOAS_ALLOC, &alloc);
    side->ioas_id = attach.pt_id = alloc.out_ioas_id;
    ioctl_or_fail(side->fds[1], VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach);
}

/* Close the device before what it is in. */
static void close_side(Side *side)
{
    for (int i = ARRAY_SIZE(side->fds) - 1; i >= 0; i--) {
        close(side->fds[i]);
    }
}

/* Comparisons */

static void run_batch(Side *side)
{
    side->run_batch(side);
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

/* The value below which a part @q of the sorted values lies */
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

/* Set *@map and *@unmap to the time of @iommufd divided by that of @legacy. */
static void compare_sides(Side *legacy, Side *iommufd, double *map,
                          double *unmap)
{
    g_autoptr(GArray) maps = values_new();
    g_autoptr(GArray) unmaps = values_new();

    for (int i = 0; i < (g_test_slow() ? PAIRS_SLOW : PAIRS); i++) {
        run_batch(i % 2 ? legacy : iommufd);
        run_batch(i % 2 ? iommufd : legacy);
        add(maps, iommufd->map / legacy->map);
        add(unmaps, iommufd->unmap / legacy->unmap);
    }

    show_rate("maps by group", legacy->map);
    show_rate("unmaps by group", legacy->unmap);
    *map = show("time to map by iommufd, by group 1", maps);
    *unmap = show("time to unmap by iommufd, by group 1", unmaps);
}

static void test_rate(void)
{
    Side legacy, iommufd;
    double map, unmap;

    start(&legacy, "legacy", "EDU0");
    start(&iommufd, "iommufd", "EDU1");
    compare_sides(&legacy, &iommufd, &map, &unmap);
    if (g_test_slow()) {
        g_assert_cmpfloat(map, <=, LIMIT);
        g_assert_cmpfloat(unmap, <=, LIMIT);
    }
    stop(&iommufd);
    stop(&legacy);
}

static void test_kernel(void)
{
    size_t size = VIOMMU_BATCH * VIOMMU_PAGE;
    uint8_t *memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    Side legacy = { .memory = memory }, iommufd = { .memory = memory };
    double map, unmap;

    g_assert_true(memory != MAP_FAILED);
    open_type1(&legacy, "EDU0");
    open_ioas(&iommufd, "EDU1");
    compare_sides(&legacy, &iommufd, &map, &unmap);
    close_side(&iommufd);
    close_side(&legacy);
    munmap(memory, size);
}

/* What the kernel's objects take */

/* A line: name, active objects, objects, bytes of each */
static void add_slab(GHashTable *slabs, const char *line)
{
    unsigned active, count, size;
    char name[64];

    if (sscanf(line, "%63s %u %u %u", name, &active, &count, &size) == 4) {
        g_hash_table_insert(slabs, g_strdup(name),
                            GUINT_TO_POINTER(count * size));
    }
}

static GHashTable *read_slabs(void)
{
    GHashTable *slabs = g_hash_table_new_full(g_str_hash, g_str_equal, g_free,
                                              NULL);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents("/proc/slabinfo", &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        add_slab(slabs, *line);
    }
    return slabs;
}

/* Bytes that have come since @before; shows those that are more than noise. */
static int64_t slab_growth(GHashTable *before)
{
    g_autoptr(GHashTable) now = read_slabs();
    GHashTableIter iter;
    gpointer name, bytes;
    int64_t growth, all = 0;

    g_hash_table_iter_init(&iter, now);
    while (g_hash_table_iter_next(&iter, &name, &bytes)) {
        growth = (int64_t)GPOINTER_TO_UINT(bytes) -
                 GPOINTER_TO_UINT(g_hash_table_lookup(before, name));
        all += growth;
        if (ABS(growth) > 4 * MANY) {
            g_test_message("%s: %.1f bytes for each map", (char *)name,
                           (double)growth / MANY);
        }
    }
    return all;
}

static void check_map_memory(const char *what, Side *side,
                             void (*map)(Side *side, int i))
{
    g_autoptr(GHashTable) before = read_slabs();
    double bytes;

    for (int i = 0; i < MANY; i++) {
        map(side, i);
    }
    bytes = (double)slab_growth(before) / MANY;
    g_test_message("%s: %.0f bytes of the kernel's for each map of 4 KiB", what,
                   bytes);
    g_assert_cmpfloat(bytes, <=, MAP_BYTES);
}

static void test_kernel_memory(void)
{
    size_t size = VIOMMU_BATCH * VIOMMU_PAGE;
    Side iommufd = {
        .memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0),
    };
    Side legacy = iommufd;

    g_assert_true(iommufd.memory != MAP_FAILED);
    open_type1(&legacy, "EDU0");
    check_map_memory("by group", &legacy, type1_map);
    close_side(&legacy);

    open_ioas(&iommufd, "EDU1");
    check_map_memory("by iommufd", &iommufd, ioas_map);
    close_side(&iommufd);
    munmap(iommufd.memory, size);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "viommu-rate");
    vfio_rig_add("rate", VFIO_RIG_BOTH, test_rate);
    vfio_rig_add("kernel", VFIO_RIG_BOTH, test_kernel);
    vfio_rig_add("kernel-memory", VFIO_RIG_BOTH, test_kernel_memory);
    return g_test_run();
}
