/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: memory that is mapped in the background, map-in-background=
 *
 * A library that is preloaded into QEMU keeps its threads in their calls, so
 * that each test sees what it wants to see while memory is being mapped.  Most
 * tests act as the guest and have no processor that could be held: who sets Bus
 * Master Enable there waits.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qemu/atomic.h"
#include "sysemu/iommufd-abi.h"
#include "vfio-acpi.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-guest.h"
#include "vfio-held.h"
#include "vfio-memory.h"
#include "vfio-mig-guest.h"
#include "vfio-query.h"
#include "vfio-scene.h"
#include "vfio-vtd.h"

#define SLOT(i)         (4 + (i))

/* What is mapped later: all memory above the first MiB */
#define LATER           (VFIO_MACHINE_MEMORY - MiB)

/* QEMU's threads map so much by one call. */
#define PART            (16 * MiB)

/* Each heap of a thread begins at a multiple of this: glibc, HEAP_MAX_SIZE. */
#define HEAP_MAX        (64 * MiB)

#define DIMM_SLOT       0
#define DIMM_SIZE       (128 * MiB)
#define SMALL_SIZE      (32 * MiB)      /* it is mapped at once */
#define WITH_ROOM       "-m 256M,slots=2,maxmem=1G "

#define TRICKLE_LOOKS_US (10 * 1000)

static char *device_option(int i, const char *properties)
{
    g_autofree char *name = g_strdup_printf("EDU%d", i);

    return g_strdup_printf("%s,id=edu%d,addr=%d%s", vfio_rig_device(name), i,
                           SLOT(i), properties);
}

static char *later_option(int i)
{
    return device_option(i, ",map-in-background=on");
}

static VFIOMachine *start(const char *options)
{
    g_autofree char *device = later_option(0);

    return vfio_machine_start("%s-device %s", options, device);
}

static VFIOMachine *start_held(const char *options)
{
    VFIOMachine *m;

    vfio_fault_hold_maps();
    m = start(options);
    vfio_fault_wait_held();
    return m;
}

/* What happens while the test itself waits for QEMU */

typedef struct Meanwhile {
    GThread *thread;
    int64_t begun;
    bool allows;        /* the calls that are held, and no other */
    int error;          /* if set, of the next call of QEMU's */
    bool bus_master;    /* EDU0 had it before */
    uint32_t held;      /* calls, before they were allowed */
} Meanwhile;

static void *do_meanwhile(void *opaque)
{
    Meanwhile *meanwhile = opaque;

    if (meanwhile->allows) {
        vfio_fault_wait_joining();
    }
    g_usleep(VFIO_HELD_US);
    meanwhile->bus_master = vfio_rig_command("EDU0") & PCI_COMMAND_MASTER;
    meanwhile->held = vfio_fault_held_maps();
    if (meanwhile->error) {
        vfio_fault_arm(1, meanwhile->error);
    }
    if (meanwhile->allows) {
        vfio_fault_allow_maps(vfio_fault_held_maps());
    } else {
        vfio_fault_release_maps();
    }
    return NULL;
}

static void begin_meanwhile(Meanwhile *meanwhile)
{
    meanwhile->begun = g_get_monotonic_time();
    meanwhile->thread = g_thread_new("meanwhile", do_meanwhile, meanwhile);
}

/* QEMU has kept the test waiting. */
static void end_meanwhile(Meanwhile *meanwhile)
{
    int64_t waited = g_get_monotonic_time() - meanwhile->begun;

    g_thread_join(meanwhile->thread);
    g_test_message("waited for %d ms", (int)(waited / 1000));
    g_assert_cmpint(waited, >=, VFIO_HELD_US);
    g_assert_false(meanwhile->bus_master);
}

/* What is seen */

static int count_traced(VFIOMachine *m, const char *event)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, event);
}

/* The number @name in the last line of @event */
static uint64_t last_traced(VFIOMachine *m, const char *event,
                            const char *name)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    const char *last = NULL;

    for (char **line = trace; *line; line++) {
        last = vfio_trace_is(*line, event) ? *line : last;
    }
    g_assert_nonnull(last);
    return vfio_trace_value(last, name);
}

/* The IOMMU maps what the guest has, page by page, and QEMU says the same. */
static void check_all_is_mapped(VFIOMachine *m)
{
    VFIOScene scene = {
        .device = "EDU0",
        .machine = m,
    };
    g_autofree char *wrong = vfio_scene_wrong(&scene,
                                              vfio_machine_regions(m, NULL));
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);

    g_assert_cmpstr(wrong, ==, NULL);
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    vfio_query_check_trace(m, info);
    qobject_unref(info);
    g_array_unref(scene.pages);
    g_array_unref(scene.regions);
}

static void check_dma(VFIOEdu *edu)
{
    vfio_edu_check_copy(edu, MiB, 2 * MiB, EDU_DMA_MAX);
    vfio_edu_check_copy(edu, 0x1000, VFIO_MACHINE_MEMORY / 2, 1000);
    vfio_edu_check_copy(edu, 3 * MiB, VFIO_MACHINE_MEMORY - 4000, 4000);
}

static void stop(VFIOMachine *m, VFIOEdu *edu)
{
    vfio_edu_free(edu);
    vfio_machine_stop(m);
}

/* The device works, and has its memory, after all that went before. */
static void check_works(VFIOMachine *m)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT(0));

    check_dma(edu);
    check_all_is_mapped(m);
    stop(m, edu);
}

/* Bytes that the largest heap of a thread has had, from /proc/PID/maps */
static uint64_t largest_heap(VFIOMachine *m)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/maps", m->pid);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    uint64_t first, end, largest = 0;
    char rights[5];

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", 0);
    for (char **line = lines; *line; line++) {
        if (sscanf(*line, "%" SCNx64 "-%" SCNx64 " %4s", &first, &end,
                   rights) == 3 &&
            g_str_equal(rights, "rw-p") && QEMU_IS_ALIGNED(first, HEAP_MAX) &&
            end - first < HEAP_MAX) {
            largest = MAX(largest, end - first);
        }
    }
    return largest;
}

/* Starting, and what waits */

static void check_progress(VFIOMachine *m, uint64_t done)
{
    QDict *reply = qtest_qmp(m->qts,
                             "{ 'execute': 'query-iommufd-progress' }");
    QList *list = qdict_get_qlist(reply, "return");
    QDict *map = qobject_to(QDict, qlist_peek(list));

    g_assert_cmpint(qlist_size(list), ==, 1);
    g_assert_cmphex(vfio_query_number(map, "iova"), ==, MiB);
    g_assert_cmphex(vfio_query_number(map, "size"), ==, LATER);
    g_assert_cmphex(vfio_query_number(map, "done"), ==, done);
    qobject_unref(reply);
}

/* Five calls are made, and the threads wait in the next ones: 79 or 80 MiB */
static bool has_done_five(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts,
                             "{ 'execute': 'query-iommufd-progress' }");
    QDict *map = qobject_to(QDict, qlist_peek(qdict_get_qlist(reply,
                                                              "return")));
    uint64_t done = vfio_query_number(map, "done");

    qobject_unref(reply);
    return done > 4 * PART;
}

static void test_start_does_not_wait(void)
{
    VFIOMachine *m = start_held("");
    g_autofree char *shown = vfio_machine_monitor(m, "info iommufd");

    vfio_machine_check_run_state(m, "running");
    g_assert_cmphex(vfio_query_background(m), ==, LATER);
    g_assert_nonnull(strstr(shown, "background:   255 MiB"));
    check_progress(m, 0);
    g_assert_cmpuint(vfio_machine_pinned(m), <, 2 * MiB);

    vfio_fault_allow_maps(5);
    g_assert_true(vfio_rig_wait(has_done_five(m)));
    g_assert_cmphex(vfio_query_background(m), ==, LATER);

    vfio_fault_release_maps();
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    check_all_is_mapped(m);
    g_assert_cmpint(count_traced(m, "vfio_background_settle"), ==, 1);
    check_works(m);
}

/* With nothing that gets in its way */
static void test_memory_is_mapped(void)
{
    VFIOMachine *m = start("");

    check_works(m);
}

/* What a processor needs while it changes the memory map is there before. */
static void test_heap_is_large(void)
{
    VFIOMachine *m = start_held("");

    g_assert_true(vfio_rig_wait(largest_heap(m) >= 8 * MiB));
    vfio_fault_release_maps();
    check_works(m);
}

static void test_monitor_answers(void)
{
    VFIOMachine *m = start_held("");
    int64_t longest = 0;

    for (int i = 0; i < 50; i++) {
        int64_t before = g_get_monotonic_time();

        vfio_machine_check_run_state(m, "running");
        longest = MAX(longest, g_get_monotonic_time() - before);
    }
    g_test_message("the longest answer took %d us", (int)longest);
    vfio_fault_release_maps();
    check_works(m);
}

/* If it takes long, the log says how far it is. */
static void test_progress_is_told(void)
{
    char *log = vfio_rig_log_new();
    g_autofree char *options = g_strdup_printf("2>>%s ", log);
    VFIOMachine *m = start_held(options);

    g_assert_true(vfio_rig_wait(vfio_guest_says(log, "mapped 0 of 255 MiB")));
    vfio_fault_release_maps();
    check_works(m);
    vfio_rig_log_free(log);
}

/*
 * It gets the bit when all memory is mapped, and not before.  While that is
 * waited for, nothing is left to the guest.
 */
static void test_bus_master_waits(void)
{
    VFIOMachine *m = start_held("");
    Meanwhile meanwhile = {};
    VFIOEdu *edu;

    begin_meanwhile(&meanwhile);
    edu = vfio_edu_new(m, SLOT(0));
    end_meanwhile(&meanwhile);
    g_assert_cmpuint(meanwhile.held, ==, MAX(g_get_num_processors(), 2));
    g_assert_true(vfio_rig_command("EDU0") & PCI_COMMAND_MASTER);
    check_dma(edu);
    check_all_is_mapped(m);
    stop(m, edu);
}

/* Memory and I/O decoding do not wait, and nothing does if Bus Master is on. */
static void test_nothing_else_waits(void)
{
    VFIOMachine *m = start_held(WITH_ROOM);
    Meanwhile meanwhile = {};
    VFIOEdu *edu;

    vfio_memory_command(m, SLOT(0), PCI_COMMAND_MEMORY);
    vfio_machine_reset(m);
    vfio_memory_command(m, SLOT(0), PCI_COMMAND_MEMORY);
    g_assert_cmphex(vfio_query_background(m), ==, LATER);

    begin_meanwhile(&meanwhile);
    edu = vfio_edu_new(m, SLOT(0));
    end_meanwhile(&meanwhile);

    /* From now on memory is mapped when it comes. */
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    check_all_is_mapped(m);

    /* A reset clears the bit, and memory can wait again. */
    vfio_machine_reset(m);
    vfio_fault_hold_maps();
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT + 1,
                                   "memory-backend-ram", DIMM_SIZE));
    g_assert_cmphex(vfio_query_background(m), ==, DIMM_SIZE);
    vfio_fault_release_maps();
    vfio_edu_enable(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    check_all_is_mapped(m);
    stop(m, edu);
}

/* What comes in the midst */

/* What is being mapped becomes a part of something larger. */
static void test_memory_map_grows(void)
{
    VFIOMachine *m = start_held("");

    vfio_memory_config_byte(m, 0, I440FX_PAM0, PAM0_RAM);
    g_assert_cmpint(count_traced(m, "vfio_background_cancel"), ==, 0);
    g_assert_cmpint(count_traced(m, "vfio_background_add"), ==, 1);
    g_assert_cmphex(vfio_query_background(m), ==, LATER);
    vfio_fault_release_maps();
    check_works(m);
}

/* A part of what is being mapped becomes something else. */
static void test_memory_map_changes(void)
{
    g_autofree char *device = later_option(0);
    VFIOMachine *m = vfio_machine_start(" ");
    Meanwhile meanwhile = { .allows = true };

    vfio_memory_config_byte(m, 0, I440FX_PAM0, PAM0_RAM);
    vfio_fault_hold_maps();
    g_assert_null(vfio_machine_device_add(m, device));
    vfio_fault_wait_held();
    g_assert_cmphex(vfio_query_background(m), ==,
                    VFIO_MACHINE_MEMORY - PAM0_BASE);

    begin_meanwhile(&meanwhile);
    vfio_memory_config_byte(m, 0, I440FX_PAM0, 0);
    end_meanwhile(&meanwhile);

    /* Only the calls that were being made were waited for. */
    g_assert_cmpint(count_traced(m, "vfio_background_cancel"), ==, 1);
    g_assert_cmphex(last_traced(m, "vfio_background_cancel", "mapped"), <=,
                    g_get_num_processors() * PART);
    g_assert_cmphex(last_traced(m, "vfio_background_add", "iova"), ==, MiB);
    g_assert_cmphex(vfio_query_background(m), ==, LATER);
    vfio_fault_release_maps();
    check_works(m);
}

static void test_dimm_leaves(void)
{
    VFIOMachine *m = start(WITH_ROOM);
    Meanwhile meanwhile = { .allows = true };

    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    vfio_fault_hold_maps();
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    g_assert_cmphex(vfio_query_background(m), ==, DIMM_SIZE);
    vfio_fault_wait_held();
    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    begin_meanwhile(&meanwhile);
    vfio_memory_eject(m, DIMM_SLOT);
    end_meanwhile(&meanwhile);
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    vfio_fault_release_maps();
    check_works(m);
}

static void test_guests_iommu_is_switched_on(void)
{
    static const char data[] = "by way of two IOMMUs";
    VFIOMachine *m = start_held("-machine q35 "
                                "-device intel-iommu,caching-mode=on ");
    Meanwhile meanwhile = { .allows = true };
    char result[sizeof(data)];
    VFIOEdu *edu;

    begin_meanwhile(&meanwhile);
    vtd_start(m, SLOT(0));
    end_meanwhile(&meanwhile);
    g_assert_cmphex(vfio_query_background(m), ==, 0);

    /* Nothing is left that this could wait for. */
    edu = vfio_edu_new(m, SLOT(0));
    vtd_set_large(m, 32 * MiB);
    vtd_flush(m);
    qtest_memwrite(m->qts, 32 * MiB, data, sizeof(data));
    vfio_edu_dma(edu, EDU_DMA_FROM_MEMORY, VTD_IOVA, sizeof(data));
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, VTD_IOVA + 4096, sizeof(data));
    qtest_memread(m->qts, 32 * MiB + 4096, result, sizeof(result));
    g_assert_cmpmem(result, sizeof(result), data, sizeof(data));
    vfio_fault_release_maps();
    stop(m, edu);
}

/* Behind a guest's IOMMU that lets everything pass, each has a space of its own. */

#define WITH_SPACES     "-device virtio-iommu-pci,addr=3 "

static void add_second(VFIOMachine *m)
{
    g_autofree char *second = later_option(1);

    g_assert_null(vfio_machine_device_add(m, second));
}

/* The two from @first on reach all memory, and it is pinned once. */
static void check_spaces_work(VFIOMachine *m, int first, uint64_t memory)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);

    g_assert_cmpint(vfio_query_count_spaces(info), ==, 2);
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    g_assert_cmphex(vfio_query_mapped(info), >=, 2 * (memory - MiB));
    qobject_unref(info);
    for (int i = first; i < first + 2; i++) {
        VFIOEdu *edu = vfio_edu_new(m, SLOT(i));

        check_dma(edu);
        vfio_edu_free(edu);
    }
    g_assert_cmpuint(vfio_machine_pinned(m), >=, memory - MiB);
    g_assert_cmpuint(vfio_machine_pinned(m), <, memory + memory / 2);
}

/* The other address space copies what is pinned for the first one, later. */
static void test_second_address_space(void)
{
    VFIOMachine *m = start_held(WITH_SPACES WITH_ROOM);

    add_second(m);
    g_assert_cmphex(vfio_query_background(m), ==, 2 * LATER);
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    g_assert_cmphex(vfio_query_background(m), ==, 2 * (LATER + DIMM_SIZE));

    vfio_fault_release_maps();
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    check_spaces_work(m, 0, VFIO_MACHINE_MEMORY + DIMM_SIZE);
    vfio_machine_stop(m);
}

/* It waits for what it copies, and does not map it by itself. */
static void test_second_space_is_first(void)
{
    VFIOMachine *m = start_held(WITH_SPACES);
    Meanwhile meanwhile = {};
    VFIOEdu *edu;

    add_second(m);
    begin_meanwhile(&meanwhile);
    edu = vfio_edu_new(m, SLOT(1));
    end_meanwhile(&meanwhile);
    check_dma(edu);
    vfio_edu_free(edu);
    check_spaces_work(m, 0, VFIO_MACHINE_MEMORY);
    vfio_machine_stop(m);
}

/* The first one's device can do DMA, and only the second one's memory waits. */
static void test_second_space_alone_waits(void)
{
    VFIOMachine *m = start(WITH_SPACES WITH_ROOM);
    VFIOEdu *edu = vfio_edu_new(m, SLOT(0));

    vfio_fault_hold_maps();
    add_second(m);
    vfio_fault_wait_held();
    g_assert_cmphex(vfio_query_background(m), ==, LATER);
    check_dma(edu);
    vfio_edu_free(edu);

    /* Other memory does not wait for that. */
    vfio_fault_hold_helpers();
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT + 1,
                                   "memory-backend-ram", SMALL_SIZE));
    g_assert_cmphex(vfio_query_background(m), ==, LATER);
    g_assert_cmpuint(vfio_fault_held_maps(), >, 0);

    /* The first one maps this at once, by a call that would be held. */
    vfio_fault_release_maps();
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    check_spaces_work(m, 0, VFIO_MACHINE_MEMORY + DIMM_SIZE + SMALL_SIZE);
    vfio_machine_stop(m);
}

/* What it needs at once is mapped for the first one before, and copied. */
static void test_second_space_cannot_wait(void)
{
    VFIOMachine *m = start_held(WITH_SPACES);
    g_autofree char *second = device_option(1, "");
    Meanwhile meanwhile = {};

    begin_meanwhile(&meanwhile);
    g_assert_null(vfio_machine_device_add(m, second));
    end_meanwhile(&meanwhile);
    check_spaces_work(m, 0, VFIO_MACHINE_MEMORY);
    vfio_machine_stop(m);
}

/* The second one has just begun to copy what is mapped for the first one. */
static VFIOMachine *start_copy_held(void)
{
    VFIOMachine *m = start(WITH_SPACES);

    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    vfio_fault_hold_maps();
    add_second(m);
    vfio_fault_wait_held();
    return m;
}

static const VFIOFaultCall copy_call = {
    .name = "ioctl",
    .request = IOMMU_IOAS_COPY,
};

/* It is mapped, although there is something to copy. */
static void test_copy_fails(void)
{
    VFIOMachine *m = start_copy_held();
    VFIOEdu *edu;

    vfio_fault_arm_only_row(&copy_call, 1, UINT32_MAX, EINVAL);
    vfio_fault_release_maps();
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    vfio_fault_disarm();
    edu = vfio_edu_new(m, SLOT(1));
    check_dma(edu);
    g_assert_cmpuint(vfio_machine_pinned(m), >=, 2 * LATER);
    stop(m, edu);
}

/* To map it would take even more memory. */
static void test_copy_lacks_memory(void)
{
    VFIOMachine *m = start_copy_held();

    vfio_fault_arm_only(&copy_call, 1, ENOMEM);
    vfio_fault_release_maps();
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, MiB,
                                "Cannot allocate memory");
    vfio_fault_disarm();
    vfio_machine_cont(m);
    check_spaces_work(m, 0, VFIO_MACHINE_MEMORY);
    vfio_machine_stop(m);
}

/* What cannot be copied any more is mapped anew. */
static void test_first_space_goes(void)
{
    VFIOMachine *m = start_copy_held();
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    VFIOEdu *edu;

    vfio_machine_device_del(m, "edu0", SLOT(0));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    g_assert_cmphex(vfio_query_background(m), ==, LATER);

    vfio_fault_release_maps();
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    edu = vfio_edu_new(m, SLOT(1));
    check_dma(edu);
    g_assert_cmpuint(vfio_machine_pinned(m), >=, LATER);
    stop(m, edu);
}

/* ... and then copied from there. */
static void test_first_of_three_spaces_goes(void)
{
    VFIOMachine *m = start_copy_held();
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    g_autofree char *third =
        g_strdup_printf("%s,id=edu2,addr=%d,map-in-background=on",
                        vfio_rig_device("APART0"), SLOT(2));

    g_assert_null(vfio_machine_device_add(m, third));
    vfio_machine_device_del(m, "edu0", SLOT(0));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    g_assert_cmphex(vfio_query_background(m), ==, 2 * LATER);

    vfio_fault_release_maps();
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    check_spaces_work(m, 1, VFIO_MACHINE_MEMORY);
    vfio_machine_stop(m);
}

/* What was to be copied from there is mapped, too. */
static void test_first_space_never_comes(void)
{
    VFIOMachine *m = start_held(WITH_SPACES);
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    Meanwhile meanwhile = { .allows = true };
    VFIOEdu *edu;

    add_second(m);
    begin_meanwhile(&meanwhile);
    vfio_machine_device_del(m, "edu0", SLOT(0));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    end_meanwhile(&meanwhile);
    g_assert_cmphex(vfio_query_background(m), ==, LATER);

    vfio_fault_release_maps();
    edu = vfio_edu_new(m, SLOT(1));
    check_dma(edu);
    stop(m, edu);
}

/*
 * Firmware takes memory away, or gives some, in all address spaces at a time, when
 * one has been mapped and others wait to copy it.
 */
static void check_change(int others, bool grows)
{
    VFIOMachine *m = vfio_machine_start(WITH_SPACES);
    g_autofree char *first = later_option(0);
    GThread *thread;
    Meanwhile meanwhile = {};

    vfio_memory_config_byte(m, 0, I440FX_PAM0, grows ? 0 : PAM0_RAM);
    g_assert_null(vfio_machine_device_add(m, first));
    vfio_edu_free(vfio_edu_new(m, SLOT(0)));
    vfio_fault_hold_maps();
    for (int i = 1; i <= others; i++) {
        g_autofree char *other = later_option(i);

        g_assert_null(vfio_machine_device_add(m, other));
    }
    vfio_fault_wait_held();

    thread = g_thread_new("meanwhile", do_meanwhile, &meanwhile);
    vfio_memory_config_byte(m, 0, I440FX_PAM0, grows ? PAM0_RAM : 0);
    g_thread_join(thread);
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    vfio_machine_check_run_state(m, "running");
    for (int i = 0; i <= others; i++) {
        VFIOEdu *edu = vfio_edu_new(m, SLOT(i));

        check_dma(edu);
        vfio_edu_free(edu);
    }
    g_assert_cmpuint(vfio_machine_pinned(m), <,
                     VFIO_MACHINE_MEMORY + VFIO_MACHINE_MEMORY / 2);
    vfio_machine_stop(m);
}

static void test_memory_leaves_spaces(void)
{
    check_change(1, false);
}

static void test_memory_leaves_three_spaces(void)
{
    check_change(2, false);
}

static void test_memory_comes_to_spaces(void)
{
    check_change(2, true);
}

static void test_second_device_joins(void)
{
    VFIOMachine *m = start_held("");
    g_autofree char *second = later_option(1);
    Meanwhile meanwhile = {};
    VFIOEdu *edu;

    g_assert_null(vfio_machine_device_add(m, second));
    g_assert_cmphex(vfio_query_background(m), ==, LATER);

    begin_meanwhile(&meanwhile);
    edu = vfio_edu_new(m, SLOT(1));
    end_meanwhile(&meanwhile);
    check_dma(edu);
    vfio_edu_free(edu);
    check_works(m);
}

/* Nobody knows when it does DMA. */
static void test_device_joins_that_is_not_watched(void)
{
    VFIOMachine *m = start_held("");
    g_autofree char *second = device_option(1, "");
    Meanwhile meanwhile = {};

    begin_meanwhile(&meanwhile);
    g_assert_null(vfio_machine_device_add(m, second));
    end_meanwhile(&meanwhile);
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    check_works(m);
}

static void test_unplug(void)
{
    VFIOMachine *m = start_held("");
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    g_autofree char *device = later_option(0);
    Meanwhile meanwhile = { .allows = true };

    begin_meanwhile(&meanwhile);
    vfio_machine_device_del(m, "edu0", SLOT(0));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    end_meanwhile(&meanwhile);
    g_assert_cmpuint(vfio_machine_pinned(m), ==, 0);
    g_assert_cmpuint(vfio_fault_held_maps(), ==, 0);

    vfio_fault_release_maps();
    g_assert_null(vfio_machine_device_add(m, device));
    check_works(m);
}

/* The calls that are being made end, and no other is made. */
static void test_quit(void)
{
    VFIOMachine *m = start_held("");

    qtest_qmp_send(m->qts, "{ 'execute': 'quit' }");
    vfio_fault_wait_joining();
    g_usleep(VFIO_HELD_US);
    g_assert_true(qtest_probe_child(m->qts));
    vfio_fault_allow_maps(vfio_fault_held_maps());
    g_assert_true(vfio_rig_wait(!qtest_probe_child(m->qts)));
    vfio_fault_release_maps();
    vfio_machine_stop(m);
}

/* Guests that move */

#define VGA_SLOT    6
#define VGA_ADDR    0xd0000000

static VFIOMigGuest *new_moving_guest(VFIOMigGuestKind *kind,
                                      const char *more)
{
    *kind = (VFIOMigGuestKind) {
        .edu = {
            .tracking = vfio_rig_number("VFIO_TEST_TRACKS", 0) ? VFIO_MIG_IOMMU
                                                               : VFIO_MIG_LOG,
            .pre_copy = true,
            .p2p = true,
        },
        .count = 1,
        .later = true,
        .more = more,
    };
    return vfio_mig_guest_new(kind);
}

/* A device that comes with Bus Master on runs when all memory is mapped. */
static void test_guest_comes(void)
{
    VFIOMigGuestKind kind;
    VFIOMigGuest *g = new_moving_guest(&kind, NULL);

    vfio_fault_hold_maps();
    vfio_mig_guest_prepare(g);
    vfio_fault_wait_held();
    vfio_mig_guest_begin(g);
    vfio_mig_guest_write_on(g);
    vfio_mig_guest_write_last(g);
    vfio_mig_guest_release(g);
    g_assert_true(vfio_rig_wait(vfio_held_waits(g->there->machine)));
    g_usleep(VFIO_HELD_US);
    g_assert_false(vfio_rig_command(vfio_mig_guest_device_there(g, 0)) &
                   PCI_COMMAND_MASTER);
    vfio_fault_release_maps();
    vfio_mig_guest_arrive(g);
    vfio_mig_guest_free(g);
}

/*
 * Memory comes in the background while the guest goes to another QEMU.  What the
 * device writes then is told.
 */
static void test_guest_goes(void)
{
    VFIOMigGuestKind kind;
    VFIOMigGuest *g = new_moving_guest(&kind, "-device VGA,vgamem_mb=64,addr=6");
    VFIOMachine *m = g->here->machine;

    vfio_memory_bar(m, VGA_SLOT, PCI_BASE_ADDRESS_0, VGA_ADDR);
    vfio_mig_guest_prepare(g);
    g_assert_true(vfio_rig_wait(!vfio_query_background(g->there->machine)));
    vfio_edu_enable(g->edus[0]->edu, PCI_COMMAND_MEMORY);
    vfio_fault_hold_maps();
    vfio_memory_command(m, VGA_SLOT, PCI_COMMAND_MEMORY);
    vfio_fault_wait_held();

    vfio_mig_guest_begin(g);
    g_assert_true(vfio_rig_wait_for(
        120, vfio_mig_ram(g->here, "dirty-sync-count") > 2));
    g_assert_cmphex(vfio_query_background(m), >, 0);
    vfio_fault_release_maps();
    vfio_edu_enable(g->edus[0]->edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    vfio_mig_guest_write_on(g);
    vfio_mig_guest_write_last(g);
    vfio_mig_guest_release(g);
    vfio_mig_guest_arrive(g);
    vfio_mig_guest_free(g);
}

/* Failures */

static void test_failure_stops_machine(void)
{
    VFIOMachine *m = start_held("");

    vfio_fault_arm(1, ENOMEM);
    vfio_fault_release_maps();
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, MiB,
                                "Cannot allocate memory");
    vfio_fault_disarm();
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    g_assert_cmpuint(vfio_machine_pinned(m), <, 2 * MiB);

    vfio_machine_cont(m);
    check_works(m);
}

/* What was mapped before, and is a part of something larger now, stays. */
static void test_failure_leaves_rest(void)
{
    VFIOMachine *m = start("");
    VFIOEdu *edu = vfio_edu_new(m, SLOT(0));

    vfio_fault_arm(3, ENOMEM);  /* ROM leaves there, and what is left comes */
    vfio_memory_config_byte(m, 0, I440FX_PAM0, PAM0_RAM);
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, PAM0_BASE,
                                "Cannot allocate memory");
    vfio_fault_disarm();
    check_dma(edu);

    vfio_machine_cont(m);
    check_dma(edu);
    vfio_edu_check_copy(edu, PAM0_BASE, 2 * MiB, EDU_DMA_MAX);
    check_all_is_mapped(m);
    stop(m, edu);
}

/* ... while somebody waits for it */
static void test_failure_ends_wait(void)
{
    VFIOMachine *m = start_held("");
    Meanwhile meanwhile = { .error = ENOMEM };
    VFIOEdu *edu;

    begin_meanwhile(&meanwhile);
    edu = vfio_edu_new(m, SLOT(0));
    end_meanwhile(&meanwhile);
    vfio_fault_disarm();
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, MiB,
                                "Cannot allocate memory");
    vfio_machine_cont(m);
    check_dma(edu);
    check_all_is_mapped(m);
    stop(m, edu);
}

static uint64_t missing_bytes(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    uint64_t bytes = 0;

    for (int i = 0; i < vfio_query_count_spaces(info); i++) {
        bytes += vfio_query_number(vfio_query_nth_space(info, i),
                                   "missing-bytes");
    }
    qobject_unref(info);
    return bytes;
}

/*
 * cont maps what has failed, and for that what another address space waits for.
 * If that fails, too, cont says so, and the next one maps it.
 */
static void check_failure_of_cont(const char *options, uint64_t memory)
{
    g_autofree char *all = g_strconcat(WITH_SPACES, options, NULL);
    VFIOMachine *m = start_held(all);
    Meanwhile meanwhile = { .error = ENOMEM };
    GThread *thread;

    add_second(m);
    vfio_fault_arm(1, ENOMEM);
    vfio_fault_allow_maps(vfio_fault_held_maps());
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, MiB,
                                "Cannot allocate memory");
    vfio_fault_disarm();
    vfio_fault_wait_held();

    thread = g_thread_new("meanwhile", do_meanwhile, &meanwhile);
    g_free(vfio_machine_qmp_error(m, "cont", ""));
    g_thread_join(thread);
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    vfio_fault_disarm();
    g_free(vfio_machine_qmp_error(m, "cont", ""));
    g_assert_cmphex(missing_bytes(m), ==, 0);
    vfio_machine_check_run_state(m, "running");
    check_spaces_work(m, 0, memory);
    vfio_machine_stop(m);
}

static void test_cont_fails_for_other_space(void)
{
    check_failure_of_cont("", VFIO_MACHINE_MEMORY);
}

static void test_cont_fails_for_other_section(void)
{
    check_failure_of_cont(WITH_ROOM
                          "-object memory-backend-ram,id=mem0,size=128M "
                          "-device pc-dimm,id=dimm0,memdev=mem0 ",
                          VFIO_MACHINE_MEMORY + DIMM_SIZE);
}

/* What the host's IOMMU does not reach is found out before. */
static void test_out_of_reach_is_refused(void)
{
    static const VFIOFaultRange half = { .last = VFIO_MACHINE_MEMORY / 2 - 1 };
    VFIOMachine *m = start_held("");
    g_autofree char *second = later_option(1);
    g_autofree char *error = NULL;

    vfio_fault_ranges(&half, 1);
    error = vfio_machine_device_add(m, second);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "does not reach it"));
    vfio_fault_ranges(NULL, 0);
    g_assert_cmphex(vfio_query_background(m), ==, LATER);
    vfio_fault_release_maps();
    check_works(m);
}

/* A guest with processors */

typedef struct Trickle {
    GThread *thread;
    bool stop;
} Trickle;

/*
 * Firmware moves memory before it finds the device, so the calls that are held
 * then have to end, or QEMU does not even answer.  They do, one after the other
 * and ever more slowly, so that some are left after that: a dozen in the first
 * minute.
 */
static void *let_maps_trickle(void *opaque)
{
    Trickle *trickle = opaque;
    double wait = VFIO_HELD_US;
    int64_t next = 0;

    while (!qatomic_read(&trickle->stop)) {
        if (vfio_fault_held_maps() && g_get_monotonic_time() >= next) {
            vfio_fault_allow_maps(1);
            next = g_get_monotonic_time() + wait;
            wait *= 1.5;
        }
        g_usleep(TRICKLE_LOOKS_US);
    }
    return NULL;
}

static void begin_trickle(Trickle *trickle)
{
    trickle->stop = false;
    trickle->thread = g_thread_new("trickle", let_maps_trickle, trickle);
}

/*
 * Then the guest has come to where it waits, once more than @waits, and its
 * processors have had the time to see that.
 */
static void end_trickle(Trickle *trickle, VFIOMachine *m, int waits)
{
    g_assert_true(vfio_rig_wait_for(120, vfio_held_waits(m) > waits));
    qatomic_set(&trickle->stop, true);
    g_thread_join(trickle->thread);
    g_usleep(VFIO_HELD_US);
}

/* Not all that is left are the calls that are held. */
static void check_rest_is_held(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts,
                             "{ 'execute': 'query-iommufd-progress' }");
    QDict *map = qobject_to(QDict, qlist_peek(qdict_get_qlist(reply,
                                                              "return")));

    g_assert_nonnull(map);
    g_assert_cmphex(vfio_query_number(map, "done") +
                    vfio_fault_held_maps() * PART, <,
                    vfio_query_number(map, "size"));
    qobject_unref(reply);
}

/* Its devices are those in @before, the disk that it waits for, and @after. */
static VFIOMachine *start_guest_held_with(const char *console,
                                          const char *before,
                                          const char *after)
{
    Trickle trickle;
    VFIOMachine *m;

    vfio_fault_hold_maps();
    begin_trickle(&trickle);
    m = vfio_machine_start(VFIO_GUEST_OPTIONS
                           " -smp 2 %s "
                           "-device %s,id=nvme0,map-in-background=on %s "
                           "-append 'console=ttyS0 quiet panic=-1 task=alive' "
                           "-serial file:%s", before, vfio_rig_device("NVME0"),
                           after, console);
    end_trickle(&trickle, m, 0);
    return m;
}

static VFIOMachine *start_guest_held(const char *console)
{
    VFIOMachine *m = start_guest_held_with(console, "", "");

    check_rest_is_held(m);
    return m;
}

static void stop_guest(VFIOMachine *m, char *console)
{
    vfio_machine_stop(m);
    vfio_rig_log_free(console);
}

static void test_processors_are_held(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest_held(console);

    vfio_machine_check_run_state(m, "running");
    vfio_held_check(m, "NVME0");
    /* No processor is left to the guest now, and there is work for all. */
    g_assert_true(vfio_rig_wait(vfio_fault_held_maps() ==
                                MAX(g_get_num_processors(), 2)));
    vfio_fault_release_maps();
    vfio_guest_wait_alive(console);
    g_assert_cmphex(vfio_query_background(m), ==, 0);
    stop_guest(m, console);
}

/* They wait for what another address space has to have before. */
static void test_processors_wait_for_spaces(void)
{
    char *console = vfio_rig_log_new();
    g_autofree char *first = later_option(0);
    g_autofree char *last = later_option(1);
    g_autofree char *before = g_strdup_printf(WITH_SPACES "-device %s", first);
    g_autofree char *after = g_strdup_printf("-device %s", last);
    VFIOMachine *m = start_guest_held_with(console, before, after);

    vfio_held_check(m, "NVME0");
    vfio_fault_release_maps();
    vfio_guest_wait_alive(console);
    stop_guest(m, console);
}

/* Whoever stops the VM meanwhile finds it stopped. */
static void test_held_processors_stop(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest_held(console);

    qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    vfio_held_check(m, "NVME0");
    vfio_fault_release_maps();
    g_assert_true(vfio_rig_wait(!vfio_query_background(m)));
    vfio_machine_check_run_state(m, "paused");
    vfio_machine_cont(m);
    vfio_guest_wait_alive(console);
    stop_guest(m, console);
}

/* Nobody waits after a reset, but the guest that starts anew will. */
static void test_held_processors_are_reset(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest_held(console);
    int waits = vfio_held_waits(m);
    Trickle trickle;

    begin_trickle(&trickle);
    vfio_machine_reset(m);
    end_trickle(&trickle, m, waits);
    vfio_held_check(m, "NVME0");
    vfio_fault_release_maps();
    vfio_guest_wait_alive(console);
    stop_guest(m, console);
}

/* They run when the VM does, and not just because nothing is left to map. */
static void test_failure_while_held(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest_held(console);

    vfio_fault_arm(1, ENOMEM);
    vfio_fault_release_maps();
    qobject_unref(vfio_machine_map_error(m));
    qtest_qmp_eventwait(m->qts, "STOP");
    vfio_fault_disarm();
    vfio_machine_check_run_state(m, "io-error");
    g_assert_false(vfio_rig_command("NVME0") & PCI_COMMAND_MASTER);
    vfio_machine_cont(m);
    vfio_guest_wait_alive(console);
    stop_guest(m, console);
}

/* Options */

static void test_off_by_default(void)
{
    g_autofree char *device = device_option(0, "");
    VFIOMachine *m = vfio_machine_start("-device %s", device);

    g_assert_cmpint(count_traced(m, "vfio_background_add"), ==, 0);
    check_works(m);
}

static int count_added(const char *object, const char *properties)
{
    VFIOMachine *m =
        vfio_machine_start("-object iommufd,id=own%s -device vfio-pci,host=%s,"
                           "iommufd=own%s", object, vfio_rig_address("EDU0"),
                           properties);
    int count = count_traced(m, "vfio_background_add");

    vfio_machine_stop(m);
    return count > 0;
}

static void test_object_says_for_all(void)
{
    g_assert_false(count_added("", ""));
    g_assert_false(count_added(",map-in-background=off", ""));
    g_assert_true(count_added(",map-in-background=on", ""));
    g_assert_false(count_added(",map-in-background=on",
                               ",map-in-background=off"));
    g_assert_true(count_added("", ",map-in-background=on"));
}

/* So many threads map as are asked for: none fewer because a guest runs. */
static void test_threads_are_asked_for(void)
{
    VFIOMachine *m;

    vfio_fault_hold_maps();
    m = vfio_machine_start("-object iommufd,id=own,map-threads=3 "
                           "-device vfio-pci,host=%s,iommufd=own,"
                           "map-in-background=on", vfio_rig_address("EDU0"));
    g_assert_true(vfio_rig_wait(vfio_fault_held_maps() == 3));
    vfio_fault_release_maps();
    vfio_machine_stop(m);
}

static void test_group_is_refused(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *device =
        g_strdup_printf("vfio-pci,host=%s,map-in-background=on",
                        vfio_rig_address("EDU0"));
    g_autofree char *error = vfio_machine_device_add(m, device);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "map-in-background=on"));
    vfio_machine_stop(m);
}

static const struct {
    const char *name;
    void (*fn)(void);
} tests[] = {
    { "memory-is-mapped", test_memory_is_mapped },
    { "start-does-not-wait", test_start_does_not_wait },
    { "heap-is-large", test_heap_is_large },
    { "monitor-answers", test_monitor_answers },
    { "progress-is-told", test_progress_is_told },
    { "bus-master-waits", test_bus_master_waits },
    { "nothing-else-waits", test_nothing_else_waits },
    { "memory-map-grows", test_memory_map_grows },
    { "memory-map-changes", test_memory_map_changes },
    { "dimm-leaves", test_dimm_leaves },
    { "guests-iommu-is-switched-on", test_guests_iommu_is_switched_on },
    { "second-address-space", test_second_address_space },
    { "second-space-is-first", test_second_space_is_first },
    { "second-space-alone-waits", test_second_space_alone_waits },
    { "second-space-cannot-wait", test_second_space_cannot_wait },
    { "copy-fails", test_copy_fails },
    { "copy-lacks-memory", test_copy_lacks_memory },
    { "first-space-goes", test_first_space_goes },
    { "first-of-three-spaces-goes", test_first_of_three_spaces_goes },
    { "first-space-never-comes", test_first_space_never_comes },
    { "memory-leaves-spaces", test_memory_leaves_spaces },
    { "memory-leaves-three-spaces", test_memory_leaves_three_spaces },
    { "memory-comes-to-spaces", test_memory_comes_to_spaces },
    { "second-device-joins", test_second_device_joins },
    { "device-joins-that-is-not-watched",
      test_device_joins_that_is_not_watched },
    { "unplug", test_unplug },
    { "quit", test_quit },
    { "guest-comes", test_guest_comes },
    { "guest-goes", test_guest_goes },
    { "failure-stops-machine", test_failure_stops_machine },
    { "failure-leaves-rest", test_failure_leaves_rest },
    { "failure-ends-wait", test_failure_ends_wait },
    { "cont-fails-for-other-space", test_cont_fails_for_other_space },
    { "cont-fails-for-other-section", test_cont_fails_for_other_section },
    { "out-of-reach-is-refused", test_out_of_reach_is_refused },
    { "processors-are-held", test_processors_are_held },
    { "processors-wait-for-spaces", test_processors_wait_for_spaces },
    { "held-processors-stop", test_held_processors_stop },
    { "held-processors-are-reset", test_held_processors_are_reset },
    { "failure-while-held", test_failure_while_held },
    { "off-by-default", test_off_by_default },
    { "object-says-for-all", test_object_says_for_all },
    { "threads-are-asked-for", test_threads_are_asked_for },
    { "group-is-refused", test_group_is_refused },
};

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "background");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }
    for (int i = 0; i < ARRAY_SIZE(tests); i++) {
        vfio_rig_add(tests[i].name, VFIO_RIG_IOMMUFD_ONLY, tests[i].fn);
    }
    return g_test_run();
}
