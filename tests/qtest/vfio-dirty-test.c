/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: which memory devices write to is known, or all of it counts
 *
 * That all of a guest's memory moves while its devices write to it, whatever
 * tells of their writes, is tried elsewhere (vfio-move-test.c).  Here something
 * is in the way: a call fails, memory goes, a device goes, the guest does not
 * run.  And a device that needs no page table of its own gets none.
 */
#include "qemu/osdep.h"
#include <linux/iommufd.h>

#include "hw/vfio/vfio-abi.h"
#include "standard-headers/linux/virtio_mem.h"
#include "vfio-fault.h"
#include "vfio-memory.h"
#include "vfio-mig-guest.h"

#define PAGE 4096

static const VFIOMigGuestKind by_log = {
    .edu = { .tracking = VFIO_MIG_LOG, .pre_copy = true, .p2p = true },
    .count = 1,
};

static const VFIOMigGuestKind by_iommu = {
    .edu = { .tracking = VFIO_MIG_IOMMU, .pre_copy = true, .p2p = true },
    .count = 1,
};

static const VFIOMigGuestKind two_by_iommu = {
    .edu = { .tracking = VFIO_MIG_IOMMU, .pre_copy = true, .p2p = true },
    .count = 2,
};

static const VFIOMigGuestKind mixed = {
    .edu = { .tracking = VFIO_MIG_MIXED, .pre_copy = true, .p2p = true },
    .count = 2,
};

/* All memory may count as written to, and the rig may be slow. */
static void allow_long_downtime(VFIOMigSide *side)
{
    vfio_mig_set(side, "downtime-limit", 1000 * 1000);
}

static int count(VFIOMachine *m, const char *event)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, event);
}

/* How many lines of @event have @value, a number, as @name */
static int count_with(VFIOMachine *m, const char *event, const char *name,
                      uint64_t value)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int n = 0;

    for (char **line = trace; *line; line++) {
        n += vfio_trace_is(*line, event) &&
             vfio_trace_value(*line, name) == value;
    }
    return n;
}

/* Page tables */

static void check_works(VFIOMachine *m, int i)
{
    VFIOEdu *edu = vfio_edu_new(m, VFIO_MIG_SLOT(i));

    vfio_edu_check_copy(edu, 2 * MiB, 3 * MiB, 1000);
    vfio_edu_free(edu);
}

/* The number in the last line of @event */
static uint64_t last_value(VFIOMachine *m, const char *event, const char *name)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    uint64_t value = 0;
    bool found = false;

    for (char **line = trace; *line; line++) {
        if (vfio_trace_is(*line, event)) {
            value = vfio_trace_value(*line, name);
            found = true;
        }
    }
    g_assert_true(found);
    return value;
}

/* It was destroyed after as many detaches, and before the IOAS. */
static void check_goes_in_between(VFIOMachine *m, uint64_t table,
                                  uint64_t ioas, int devices)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int detached = 0, step = 0;

    for (char **line = trace; *line; line++) {
        detached += vfio_trace_is(*line, "vfio_cdev_detach");
        if (!vfio_trace_is(*line, "iommufd_backend_destroy_id")) {
            continue;
        }
        g_assert_cmpint(detached, ==, devices);
        g_assert_cmpuint(vfio_trace_value(*line, "id"), ==,
                         step ? ioas : table);
        step++;
    }
    g_assert_cmpint(step, ==, 2);
}

static void test_table_is_shared(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&two_by_iommu);
    VFIOMachine *m = g->here->machine;
    g_autofree char *shown = vfio_machine_monitor(m, "info iommufd");
    uint64_t ioas = last_value(m, "iommufd_backend_alloc_ioas", "ioas");
    uint64_t table = last_value(m, "iommufd_backend_alloc_hwpt", "hwpt");

    g_assert_cmpint(count(m, "iommufd_backend_alloc_hwpt"), ==, 1);
    g_assert_cmpint(count_with(m, "vfio_cdev_attach", "pt", table), ==, 2);
    g_assert_cmpint(count(m, "vfio_cdev_attach"), ==, 2);
    g_assert_nonnull(strstr(shown, "can be migrated, the IOMMU tells of its "
                            "writes"));

    vfio_machine_device_del(m, "dev0", VFIO_MIG_SLOT(0));
    g_assert_true(vfio_rig_wait(count(m, "vfio_cdev_detach") == 1));
    vfio_mig_edu_check(g->edus[1]);
    vfio_machine_device_del(m, "dev1", VFIO_MIG_SLOT(1));
    g_assert_true(vfio_rig_wait(count(m, "iommufd_backend_destroy_id") == 2));
    check_goes_in_between(m, table, ioas, 2);
    vfio_mig_guest_free(g);
}

/* A device with a log needs no page table, unless its log is not wanted. */
static void test_log_is_enough(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&by_log);

    g_assert_cmpint(count(g->here->machine, "iommufd_backend_alloc_hwpt"), ==,
                    0);
    vfio_mig_guest_free(g);
}

static void test_log_can_be_refused(void)
{
    g_autofree char *sysfs = vfio_mig_sysfs("EDU0");
    VFIOMigDevice devices[] = {
        { sysfs, "x-device-dirty-page-tracking=off" }, { }
    };
    VFIOMigOptions options = { .variable = "VFIO_TEST_FROM" };
    VFIOMigSide *side;

    vfio_mig_edu_bind("EDU0", &by_log.edu, 0);
    side = vfio_mig_start(devices, &options);
    g_assert_cmpint(count(side->machine, "iommufd_backend_alloc_hwpt"), ==, 1);
    check_works(side->machine, 0);
    vfio_mig_stop(side);
    vfio_mig_edu_unbind("EDU0");
}

/*
 * A device that cannot be migrated, or is not to be, is attached as ever.
 * @can: its driver could, and has no log
 */
static void check_plain(bool can, const char *properties, const char *machine)
{
    VFIOMachine *m;

    if (can) {
        vfio_mig_edu_bind("EDU0", &by_iommu.edu, 0);
    }
    m = vfio_machine_start("-machine %s -device %s,addr=%d%s", machine,
                           vfio_rig_device("EDU0"), VFIO_MIG_SLOT(0),
                           properties);
    g_assert_cmpint(count(m, "iommufd_backend_alloc_hwpt"), ==, 0);
    g_assert_cmpint(count(m, "vfio_cdev_attach"), ==, 1);
    vfio_machine_stop(m);
    vfio_mig_edu_unbind("EDU0");
}

static void test_others_are_attached_as_ever(void)
{
    check_plain(false, "", "pc");
    check_plain(true, ",enable-migration=off", "pc");
    check_plain(true, "", "q35 -device intel-iommu,caching-mode=on");
}

/*
 * Devices of one IOMMU group have one page table, whichever of them can
 * migrate: the first one's.
 */
static void check_group(const char *first, const char *second, bool records)
{
    g_autofree char *one = g_strdup(vfio_rig_device(first));
    g_autofree char *other = g_strdup(vfio_rig_device(second));
    VFIOMachine *m = vfio_machine_start("-device %s,addr=%d,id=dev0 "
                                        "-device %s,addr=%d,id=dev1", one,
                                        VFIO_MIG_SLOT(0), other,
                                        VFIO_MIG_SLOT(1));
    uint64_t table = last_value(m, "iommufd_backend_alloc_hwpt", "hwpt");

    g_assert_true((last_value(m, "vfio_cdev_attach", "pt") == table) ==
                  records);
    check_works(m, 0);
    check_works(m, 1);
    vfio_machine_stop(m);
}

static void test_group_has_one_table(void)
{
    vfio_mig_edu_bind("MULTI0", &by_iommu.edu, 0);
    check_group("MULTI0", "MULTI1", true);
    check_group("MULTI1", "MULTI0", false);
    vfio_mig_edu_unbind("MULTI0");
}

/*
 * The second one comes to the table of the first, though it has a log.  The
 * table is asked nevertheless what the first has written to.
 */
static void test_table_is_asked_beside_log(void)
{
    g_autofree char *told = vfio_mig_sysfs("MULTI0");
    g_autofree char *logs = vfio_mig_sysfs("MULTI1");
    VFIOMigDevice devices[] = { { told }, { logs }, { } };
    VFIOMigOptions options = { .variable = "VFIO_TEST_FROM" };
    VFIOMigSide *side;

    vfio_mig_edu_bind("MULTI0", &by_iommu.edu, 0);
    vfio_mig_edu_bind("MULTI1", &by_log.edu, 1);
    side = vfio_mig_start(devices, &options);
    allow_long_downtime(side);
    vfio_mig_save(side, "/dev/null");
    g_assert_cmpint(count(side->machine, "vfio_dirty_log_report"), >, 0);
    g_assert_cmpint(count(side->machine, "iommufd_backend_get_dirty_bitmap"),
                    >, 0);
    vfio_mig_stop(side);
    vfio_mig_edu_unbind("MULTI0");
    vfio_mig_edu_unbind("MULTI1");
}

/* What failed is in the log, and the device works. */
static void test_table_that_cannot_be_had(void)
{
    const VFIOFaultCall calls[] = {
        { "ioctl", IOMMU_HWPT_ALLOC },
        { "ioctl", VFIO_DEVICE_ATTACH_IOMMUFD_PT },
    };
    g_autofree char *sysfs = vfio_mig_sysfs("EDU0");
    VFIOMigDevice devices[] = { { sysfs }, { } };
    VFIOMigOptions options = { .variable = "VFIO_TEST_FROM" };

    vfio_mig_edu_bind("EDU0", &by_iommu.edu, 0);
    for (int i = 0; i < ARRAY_SIZE(calls); i++) {
        char *log = vfio_rig_log_new();
        g_autofree char *more = g_strdup_printf("2>>%s", log);
        g_autofree char *text = NULL;
        VFIOMigSide *side;

        options.more = more;
        vfio_fault_arm_only(&calls[i], 1, ENOMEM);
        side = vfio_mig_start(devices, &options);
        vfio_fault_disarm();
        text = vfio_rig_log_take(log);
        g_assert_nonnull(strstr(text, "nothing tells which memory it writes"));
        g_assert_nonnull(strstr(text, "Cannot allocate memory"));

        check_works(side->machine, 0);
        vfio_mig_stop(side);
        vfio_rig_log_free(log);
    }
    vfio_mig_edu_unbind("EDU0");
}

/* Recording begins with a migration and ends with it. */
static void test_ends_with_migration(void)
{
    VFIOMigGuest *g = vfio_mig_guest_new(&by_iommu);
    VFIOMachine *m = g->here->machine;

    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    vfio_mig_guest_write_on(g);
    g_assert_cmpint(count(m, "iommufd_backend_set_dirty_tracking"), ==, 1);
    vfio_mig_cancel(g->here);
    g_assert_true(vfio_rig_wait(
        count(m, "iommufd_backend_set_dirty_tracking") == 2));
    g_assert_cmpuint(last_value(m, "iommufd_backend_set_dirty_tracking", "on"),
                     ==, 0);
    vfio_mig_guest_stay(g, VFIO_MIG_KEPT);
    vfio_mig_guest_free(g);
}

/* Calls that fail */

typedef struct Failure {
    const char *name;
    const VFIOMigGuestKind *kind;
    VFIOFaultCall call;
    bool tells;     /* called for each part of memory, and often */
} Failure;

#define LOG_BEGINS  { "ioctl feature 6 set", VFIO_DEVICE_FEATURE }
#define LOG_TELLS   { "ioctl feature 8 get", VFIO_DEVICE_FEATURE }

static const Failure failures[] = {
    { "iommu-begins", &by_iommu, { "ioctl", IOMMU_HWPT_SET_DIRTY_TRACKING } },
    { "iommu-tells", &by_iommu, { "ioctl", IOMMU_HWPT_GET_DIRTY_BITMAP },
      true },
    { "log-begins", &by_log, LOG_BEGINS },
    { "log-tells", &by_log, LOG_TELLS, true },
    { "mixed-iommu-tells", &mixed, { "ioctl", IOMMU_HWPT_GET_DIRTY_BITMAP },
      true },
    { "mixed-log-tells", &mixed, LOG_TELLS, true },
};

/*
 * ... until the @first call has failed, and memory was sent again.  All memory may
 * be sent each time, so this takes a while.
 */
static void write_while_it_moves(VFIOMigGuest *g, uint32_t first)
{
    do {
        vfio_mig_guest_write(g, 1);
    } while (vfio_fault_count() < first ||
             vfio_mig_ram(g->here, "dirty-sync-count") < 4);
}

static void move_with_failure(const Failure *failure, uint32_t first,
                              uint32_t last)
{
    VFIOMigGuest *g = vfio_mig_guest_new(failure->kind);

    allow_long_downtime(g->here);
    vfio_mig_guest_prepare(g);
    vfio_fault_arm_only_row(&failure->call, first, last, EIO);
    vfio_mig_guest_begin(g);
    write_while_it_moves(g, first);
    vfio_mig_guest_write_last(g);
    vfio_mig_guest_release(g);
    vfio_mig_guest_arrive(g);
    g_assert_cmpuint(vfio_fault_disarm_many(), >=, first);
    vfio_mig_guest_free(g);
}

/* Then nobody knows what was written to, and all is sent again. */
static void test_failure_costs_no_page(const void *data)
{
    const Failure *failure = data;

    move_with_failure(failure, 1, UINT32_MAX);
}

/* One of the calls for one of the sections, some time on the way */
static void test_single_failure_costs_no_page(const void *data)
{
    const Failure *failure = data;

    move_with_failure(failure, 8, 8);
    move_with_failure(failure, 23, 23);
}

/* Memory that goes */

/*
 * The chipset takes what is at 0xc8000, and the 16 KiB after that, for RAM or
 * for PCI, as firmware asks.  Device and guest reach them while they are RAM.
 */
#define PAM_REGISTER    0x5b
#define PAM_RAM         0x33
#define PAM_PCI         0x00
#define PAM_ADDRESS     0xc8000
#define PAM_SIZE        (16 * KiB)

static void switch_to(VFIOMachine *m, uint8_t what)
{
    vfio_memory_config_byte(m, 0, PAM_REGISTER, what);
}

/*
 * All of the memory was sent once, and so much of it was written to since that
 * it takes long to send that; meanwhile nobody asks what devices have written
 * to.
 */
static void keep_busy(VFIOMigGuest *g)
{
    vfio_mig_set(g->here, "max-bandwidth", 2 * MiB);
    qtest_memset(g->here->machine->qts, VFIO_MIG_MEMORY / 2, 0x5a,
                 VFIO_MIG_MEMORY / 2);
    g_assert_true(vfio_rig_wait(
        vfio_mig_ram(g->here, "remaining") > VFIO_MIG_MEMORY / 4));
    vfio_mig_set(g->here, "max-bandwidth", 4096);
}

static void be_quick(VFIOMigGuest *g)
{
    vfio_mig_set(g->here, "max-bandwidth", 1 * GiB);
}

/* Bytes of which QEMU did not ask whether devices have written to them */
static uint64_t count_marked(VFIOMachine *m)
{
    return vfio_machine_trace_sum(m, "vfio_dirty_mark", "size");
}

/*
 * What the device wrote there is not seen until it is RAM again.  Memory around
 * it becomes a part of other sections, and is not unmapped.
 */
static void test_memory_goes(const void *data)
{
    const VFIOMigGuestKind *kind = data;
    VFIOMigGuest *g = vfio_mig_guest_new(kind);
    VFIOMachine *m = g->here->machine;
    VFIOEdu *edu = g->edus[0]->edu;
    int64_t fetched;
    uint64_t marked;

    switch_to(m, PAM_RAM);
    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    vfio_mig_guest_write_on(g);
    keep_busy(g);

    fetched = vfio_mig_ram(g->here, "dirty-sync-count");
    marked = count_marked(m);
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, PAM_ADDRESS, EDU_DMA_MAX);
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, PAM_ADDRESS + PAM_SIZE - PAGE,
                 EDU_DMA_MAX);
    switch_to(m, PAM_PCI);
    switch_to(m, PAM_RAM);
    if (vfio_rig_iommufd()) {
        g_assert_cmphex(count_marked(m) - marked, <, MiB);
    }
    g_assert_cmpint(vfio_mig_ram(g->here, "dirty-sync-count"), ==, fetched);
    g_assert_cmpmem(g->here->memory + PAM_ADDRESS, EDU_DMA_MAX,
                    g->edus[0]->buffer, EDU_DMA_MAX);

    vfio_mig_guest_write_last(g);
    be_quick(g);
    vfio_mig_guest_release(g);
    vfio_mig_guest_arrive(g);
    vfio_mig_guest_free(g);
}

/* A guest that does not run */

static void stop_guest(VFIOMigGuest *g)
{
    qtest_qmp_assert_success(g->here->machine->qts, "{ 'execute': 'stop' }");
    vfio_machine_check_run_state(g->here->machine, "paused");
}

/*
 * Its devices stand: what they may have written to need not be sent for ever.
 * That is so if nothing tells of their writes: by the group, if there is no
 * log, or if the page table cannot be had.
 */
static void start_untold(VFIOMigGuest **g)
{
    const VFIOFaultCall call = { "ioctl", IOMMU_HWPT_ALLOC };

    vfio_fault_arm_only(&call, 1, ENOMEM);
    *g = vfio_mig_guest_new(&by_iommu);
    vfio_fault_disarm();
}

static void finish_paused(VFIOMigGuest *g)
{
    vfio_mig_guest_release(g);
    vfio_mig_wait(g->here, "completed");
    vfio_mig_wait(g->there, "completed");
    vfio_mig_check_memory(g->here, g->there);
}

static void test_paused_guest_moves(void)
{
    VFIOMigGuest *g;

    start_untold(&g);
    vfio_mig_guest_write(g, 5);
    stop_guest(g);
    vfio_mig_guest_prepare(g);
    vfio_mig_begin(g->here, g->there);
    finish_paused(g);
    vfio_mig_guest_free(g);
}

static void test_guest_is_paused_on_the_way(void)
{
    VFIOMigGuest *g;

    start_untold(&g);
    vfio_mig_guest_prepare(g);
    vfio_mig_guest_begin(g);
    write_while_it_moves(g, 0);
    stop_guest(g);
    finish_paused(g);
    vfio_mig_guest_free(g);
}

/*
 * Nor if what tells of them cannot be asked any more.  All of the memory would
 * not fit into the downtime.
 */
static void test_paused_guest_moves_without_record(const void *data)
{
    const Failure *failure = data;
    VFIOMigGuest *g = vfio_mig_guest_new(failure->kind);

    vfio_mig_guest_write(g, 5);
    stop_guest(g);
    vfio_mig_set(g->here, "max-bandwidth", VFIO_MIG_MEMORY / 2);
    vfio_mig_guest_prepare(g);
    vfio_fault_arm_only_row(&failure->call, 1, UINT32_MAX, EIO);
    vfio_mig_begin(g->here, g->there);
    finish_paused(g);
    g_assert_cmpuint(vfio_fault_disarm_many(), >=, 1);
    vfio_mig_guest_free(g);
}

/* Memory of which only parts are there */

#define VMEM_SLOT   9
#define VMEM_MIB    64
#define VMEM_SIZE   (VMEM_MIB * MiB)
#define VMEM_OPTIONS \
    "-m slots=1,maxmem=1G -object memory-backend-ram,id=vmem0," \
    "size=" stringify(VMEM_MIB) "M -device virtio-mem-pci," \
    "id=vmem,memdev=vmem0,addr=" stringify(VMEM_SLOT)

/* Each range that the page table was asked about */
static bool was_asked(VFIOMachine *m, uint64_t iova, uint64_t size)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    for (char **line = trace; *line; line++) {
        if (vfio_trace_is(*line, "iommufd_backend_get_dirty_bitmap") &&
            vfio_trace_value(*line, "iova") == iova &&
            vfio_trace_value(*line, "size") == size) {
            return true;
        }
    }
    return false;
}

static int count_asked(VFIOMachine *m, uint64_t iova, uint64_t size)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int n = 0;

    for (char **line = trace; *line; line++) {
        if (vfio_trace_is(*line, "iommufd_backend_get_dirty_bitmap")) {
            uint64_t at = vfio_trace_value(*line, "iova");

            n += at >= iova && at < iova + size;
        }
    }
    return n;
}

static void check_plugged_parts(VFIOMigSide *from, VFIOMigSide *to)
{
    VFIOMachine *m = from->machine;
    VFIOVirtioMem *mem = vfio_virtio_mem_new(m, VMEM_SLOT);
    uint64_t block = mem->block_size;

    vfio_virtio_mem_offer(mem, "vmem", VMEM_SIZE);
    g_assert_cmpint(vfio_virtio_mem_plug(mem, 0, 2), ==, VIRTIO_MEM_RESP_ACK);
    g_assert_cmpint(vfio_virtio_mem_plug(mem, 3, 1), ==, VIRTIO_MEM_RESP_ACK);

    vfio_mig_begin(from, to);
    vfio_mig_wait(from, "completed");
    g_assert_true(was_asked(m, mem->addr, 2 * block));
    g_assert_true(was_asked(m, mem->addr + 3 * block, block));
    g_assert_cmpint(count_asked(m, mem->addr, VMEM_SIZE), ==,
                    2 * count_asked(m, mem->addr, 1));
    vfio_virtio_mem_free(mem);
}

static void test_virtio_mem(void)
{
    g_autofree char *from_sysfs = vfio_mig_sysfs("EDU0");
    g_autofree char *to_sysfs = vfio_mig_sysfs("EDU1");
    VFIOMigDevice from_devices[] = { { from_sysfs }, { } };
    VFIOMigDevice to_devices[] = { { to_sysfs }, { } };
    VFIOMigOptions options = { .more = VMEM_OPTIONS };
    VFIOMigSide *from, *to;

    vfio_mig_edu_bind("EDU0", &by_iommu.edu, 0);
    vfio_mig_edu_bind("EDU1", &by_iommu.edu, 0);
    options.variable = "VFIO_TEST_FROM";
    from = vfio_mig_start(from_devices, &options);
    options.variable = "VFIO_TEST_TO";
    options.incoming = true;
    to = vfio_mig_start(to_devices, &options);
    check_plugged_parts(from, to);
    vfio_mig_stop(from);
    vfio_mig_stop(to);
    vfio_mig_edu_unbind("EDU0");
    vfio_mig_edu_unbind("EDU1");
}

/*
 * Memory that the guest is offered comes once the migration is over, and is
 * part of the next one; a DIMM is refused.
 */
static void check_growth(VFIOMigSide *from)
{
    VFIOMachine *m = from->machine;
    VFIOVirtioMem *mem = vfio_virtio_mem_new(m, VMEM_SLOT);
    g_autofree char *refused = NULL;

    vfio_virtio_mem_offer(mem, "vmem", mem->block_size);
    g_assert_cmpint(vfio_virtio_mem_plug(mem, 0, 1), ==, VIRTIO_MEM_RESP_ACK);

    vfio_mig_edu_hold("EDU0");
    vfio_mig_begin_saving(from, "/dev/null");
    vfio_mig_wait(from, "active");
    vfio_virtio_mem_offer(mem, "vmem", VMEM_SIZE);
    g_assert_cmpint(vfio_virtio_mem_plug(mem, 1, 1), ==, VIRTIO_MEM_RESP_BUSY);
    g_assert_cmpint(vfio_virtio_mem_unplug(mem, 0, 1), ==,
                    VIRTIO_MEM_RESP_BUSY);
    refused = vfio_memory_plug(m, "pc-dimm", 0, "memory-backend-ram", 64 * MiB);
    g_assert_nonnull(refused);
    g_assert_nonnull(strstr(refused, "not allowed while migrating"));

    vfio_mig_cancel(from);
    vfio_mig_edu_release("EDU0");
    allow_long_downtime(from);
    g_assert_cmpint(vfio_virtio_mem_plug(mem, 1, 1), ==, VIRTIO_MEM_RESP_ACK);
    vfio_mig_save(from, "/dev/null");
    g_assert_true(was_asked(m, mem->addr, 2 * mem->block_size));
    vfio_virtio_mem_free(mem);
}

static void test_memory_grows(void)
{
    g_autofree char *sysfs = vfio_mig_sysfs("EDU0");
    VFIOMigDevice devices[] = { { sysfs }, { } };
    VFIOMigOptions options = {
        .variable = "VFIO_TEST_FROM",
        .more = VMEM_OPTIONS,
    };
    VFIOMigSide *side;

    vfio_mig_edu_bind("EDU0", &by_iommu.edu, 0);
    side = vfio_mig_start(devices, &options);
    check_growth(side);
    vfio_mig_stop(side);
    vfio_mig_edu_unbind("EDU0");
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "dirty");
    if (g_getenv("VFIO_TEST_MODE")) {
        vfio_fault_init();
    }

    vfio_rig_add("table/is-shared-and-goes", VFIO_RIG_IOMMUFD_ONLY,
                 test_table_is_shared);
    vfio_rig_add("table/not-with-a-log", VFIO_RIG_IOMMUFD_ONLY,
                 test_log_is_enough);
    vfio_rig_add("table/with-a-log-that-is-not-wanted", VFIO_RIG_IOMMUFD_ONLY,
                 test_log_can_be_refused);
    vfio_rig_add("table/not-for-who-does-not-migrate", VFIO_RIG_IOMMUFD_ONLY,
                 test_others_are_attached_as_ever);
    vfio_rig_add("table/is-one-for-a-group", VFIO_RIG_IOMMUFD_ONLY,
                 test_group_has_one_table);
    vfio_rig_add("table/is-asked-beside-a-log", VFIO_RIG_IOMMUFD_ONLY,
                 test_table_is_asked_beside_log);
    vfio_rig_add("table/that-cannot-be-had", VFIO_RIG_IOMMUFD_ONLY,
                 test_table_that_cannot_be_had);
    vfio_rig_add("table/records-while-it-migrates", VFIO_RIG_IOMMUFD_ONLY,
                 test_ends_with_migration);

    for (int i = 0; i < ARRAY_SIZE(failures); i++) {
        const Failure *f = &failures[i];
        g_autofree char *all = g_strdup_printf("failure/%s/always", f->name);
        g_autofree char *one = g_strdup_printf("failure/%s/once", f->name);

        vfio_rig_add_data(all, VFIO_RIG_IOMMUFD_ONLY,
                          test_failure_costs_no_page, f);
        if (f->tells) {
            vfio_rig_add_data(one, VFIO_RIG_IOMMUFD_ONLY,
                              test_single_failure_costs_no_page, f);
        }
    }

    vfio_rig_add_data("memory-goes/log", VFIO_RIG_BOTH, test_memory_goes,
                      &by_log);
    vfio_rig_add_data("memory-goes/iommu", VFIO_RIG_IOMMUFD_ONLY,
                      test_memory_goes, &by_iommu);
    vfio_rig_add("paused/before", VFIO_RIG_BOTH, test_paused_guest_moves);
    vfio_rig_add("paused/on-the-way", VFIO_RIG_BOTH,
                 test_guest_is_paused_on_the_way);
    for (int i = 0; i < ARRAY_SIZE(failures); i++) {
        g_autofree char *name = g_strdup_printf("paused/%s-not",
                                                failures[i].name);

        if (failures[i].tells) {
            vfio_rig_add_data(name, VFIO_RIG_IOMMUFD_ONLY,
                              test_paused_guest_moves_without_record,
                              &failures[i]);
        }
    }
    vfio_rig_add("virtio-mem", VFIO_RIG_IOMMUFD_ONLY, test_virtio_mem);
    vfio_rig_add("memory-grows", VFIO_RIG_IOMMUFD_ONLY, test_memory_grows);
    return g_test_run();
}
