/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a guest with an IOMMU, whose memory is mapped in the background
 *
 * It is Linux under KVM, and has two edus behind an IOMMU of its own, so in two
 * address spaces.  Programs in it drive them (tests/rig/guest/drive-edu.c), and look
 * at each byte.  All that is to be mapped in the background is held as long as the
 * test wants it to be, but for what the guest takes away meanwhile.
 */
#include "qemu/osdep.h"

#include "qemu/atomic.h"
#include "vfio-fault.h"
#include "vfio-guest.h"
#include "vfio-held.h"
#include "vfio-query.h"

#define INTEL   "-machine q35,kernel-irqchip=split " \
                "-device intel-iommu,caching-mode=on,intremap=on "
#define VIRTIO  "-machine q35 -device virtio-iommu-pci,addr=3 "

/* Where Linux's own iommufd finds no interrupt remapping */
#define UNSAFE  " iommufd.allow_unsafe_interrupts=1"

#define GROWS   "-m 256M,maxmem=1G " \
                "-object memory-backend-ram,id=mem0,size=256M " \
                "-device virtio-mem-pci,id=virtiomem0,memdev=mem0 "
#define ONLINE  " memhp_default_state=online_movable"
#define GROWTH  (128 * MiB)

typedef struct Case {
    const char *name;
    const char *options;
    const char *append;     /* for the guest's kernel, with its task */
    const char *edus[2];
    bool switches;  /* the guest switches its IOMMU on */
    bool slow;      /* only with -m slow, as others of its kind are */
} Case;

typedef struct Guest {
    const Case *c;
    VFIOMachine *machine;
    char *console;
    GThread *thread;
    bool stop;
} Guest;

/* What QEMU waits for with the big lock held must end, or it does not even answer. */
static void *let_joined_go(void *opaque)
{
    Guest *g = opaque;

    while (!qatomic_read(&g->stop)) {
        vfio_fault_allow_joined();
        g_usleep(1000);
    }
    return NULL;
}

static int slot(int i)
{
    return 4 + i;
}

static char *device_option(const char *name, int i)
{
    return g_strdup_printf("-device %s,addr=%d,map-in-background=on",
                           vfio_rig_device(name), slot(i));
}

static void start(Guest *g, const Case *c)
{
    g_autofree char *first = device_option(c->edus[0], 0);
    g_autofree char *second = device_option(c->edus[1], 1);

    *g = (Guest) {
        .c = c,
        .console = vfio_rig_log_new(),
    };
    vfio_fault_hold_maps();
    g->thread = g_thread_new("joined", let_joined_go, g);
    g->machine = vfio_machine_start(VFIO_GUEST_OPTIONS " %s %s %s "
                                    "-append 'console=ttyS0 quiet panic=-1 %s' "
                                    "-serial file:%s", c->options, first,
                                    second, c->append, g->console);
}

static void stop(Guest *g)
{
    vfio_machine_stop(g->machine);
    qatomic_set(&g->stop, true);
    g_thread_join(g->thread);
    vfio_rig_log_free(g->console);
}

static bool says(Guest *g, const char *text)
{
    g_autofree char *console = NULL;

    g_assert_true(g_file_get_contents(g->console, &console, NULL, NULL));
    if (strstr(console, "guest: wrong")) {
        g_error("the guest said: %s", console);
    }
    return strstr(console, text);
}

static void wait_says(Guest *g, const char *text)
{
    g_assert_true(vfio_rig_wait_for(120, says(g, text)));
}

/* The @i-th edu has copied, and all that it copied is right. */
static void wait_driven(Guest *g, const char *how, int i)
{
    g_autofree char *text = g_strdup_printf("guest: edu %s 0000:00:%02d.0",
                                            how, slot(i));

    wait_says(g, text);
}

/* What could not be mapped before the guest took it away */
static uint64_t cancelled(VFIOMachine *m)
{
    return vfio_machine_trace_sum(m, "vfio_background_cancel", "size") -
           vfio_machine_trace_sum(m, "vfio_background_cancel", "mapped");
}

/* Both spaces have as much, and the first one's comes before the other's. */
static void let_first_go(Guest *g)
{
    uint64_t half = vfio_query_background(g->machine) / 2;

    while (vfio_query_background(g->machine) > half) {
        vfio_fault_allow_maps(vfio_fault_held_maps());
        g_usleep(10 * 1000);
    }
}

/* Each device waits for the memory of its own space, and no other. */
static void check_waits(Guest *g, int i)
{
    g_assert_true(vfio_rig_wait_for(
        120, says(g, "guest: ready") && vfio_held_waits(g->machine) > i));
    g_usleep(VFIO_HELD_US);
    vfio_held_check(g->machine, g->c->edus[i]);
}

static void check_all_is_mapped(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);

    g_assert_cmphex(vfio_query_background(m), ==, 0);
    g_assert_cmpint(vfio_query_count_spaces(info), ==, 2);
    g_assert_cmphex(vfio_query_mapped(info), >=,
                    2 * (VFIO_MACHINE_MEMORY - MiB));
    qobject_unref(info);
}

static void check_works(Guest *g, const char *how)
{
    check_waits(g, 0);
    let_first_go(g);
    wait_driven(g, how, 0);

    check_waits(g, 1);
    vfio_fault_release_maps();
    wait_driven(g, how, 1);
    check_all_is_mapped(g->machine);
}

static void test_some(const void *data)
{
    Guest g;

    start(&g, data);
    wait_says(&g, "guest: ready");
    if (g.c->switches) {
        g_assert_cmphex(cancelled(g.machine), >=, VFIO_MACHINE_MEMORY);
    }
    check_works(&g, "some");
    stop(&g);
}

/* Memory comes that does not wait, while all other does. */
static void test_grows(const void *data)
{
    uint64_t before;
    Guest g;

    start(&g, data);
    wait_says(&g, "guest: ready");
    before = vfio_query_background(g.machine);
    g_assert_cmphex(before, >, 0);
    qtest_qmp_assert_success(g.machine->qts,
        "{ 'execute': 'qom-set', 'arguments': { 'path': "
        "'/machine/peripheral/virtiomem0', 'property': 'requested-size', "
        "'value': %" PRId64 " } }", (int64_t)GROWTH);
    wait_says(&g, "guest: grown");
    g_assert_cmphex(vfio_query_background(g.machine), ==, before);
    check_works(&g, "high");
    stop(&g);
}

static const Case some[] = {
    { "intel/off", INTEL, "task=edus intel_iommu=off",
      { "EDU0", "EDU1" } },
    { "intel/passthrough", INTEL,
      "task=edus intel_iommu=on iommu.passthrough=1",
      { "EDU0", "EDU1" }, .switches = true, .slow = true },
    { "intel/switch", INTEL,
      "task=domains intel_iommu=on iommu.strict=1 iommu.passthrough=0",
      { "EDU0", "EDU1" }, .switches = true },
    { "virtio/passthrough", VIRTIO, "task=edus iommu.passthrough=1",
      { "EDU0", "EDU1" }, .slow = true },
    { "virtio/switch", VIRTIO,
      "task=domains iommu.strict=1 iommu.passthrough=0" UNSAFE,
      { "EDU0", "EDU1" }, .switches = true, .slow = true },
};

static const Case grows[] = {
    { "intel/off-and-grow", INTEL GROWS,
      "task=grow intel_iommu=off" ONLINE, { "APART0", "APART1" },
      .slow = true },
    { "intel/passthrough-and-grow", INTEL GROWS,
      "task=grow intel_iommu=on iommu.passthrough=1" ONLINE,
      { "APART0", "APART1" }, .slow = true },
    { "virtio/passthrough-and-grow", VIRTIO GROWS,
      "task=grow iommu.passthrough=1" ONLINE, { "APART0", "APART1" } },
};

static void add(const Case *cases, int count, void (*fn)(const void *))
{
    for (int i = 0; i < count; i++) {
        if (!cases[i].slow || g_test_slow()) {
            vfio_rig_add_data(cases[i].name, VFIO_RIG_IOMMUFD_ONLY, fn,
                              &cases[i]);
        }
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "guest-background");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }
    add(some, ARRAY_SIZE(some), test_some);
    add(grows, ARRAY_SIZE(grows), test_grows);
    return g_test_run();
}
