/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: query-iommufd and info iommufd tell the truth
 *
 * Where the kernel can be asked for the same it is: for the IOMMU's page table,
 * for what is pinned and for the IOMMU's registers.  What it does not tell
 * follows from the calls that QEMU traces.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "qapi/error.h"
#include "qapi/qmp/qjson.h"
#include "qapi/qmp/qlist.h"
#include "qemu/bitops.h"
#include "qemu/sockets.h"
#include "sysemu/iommufd.h"
#include "vfio-acpi.h"
#include "vfio-fault.h"
#include "vfio-memory.h"
#include "vfio-mtty.h"
#include "vfio-query.h"
#include "vfio-viommu.h"
#include "vfio-vtd.h"

#define MDEV "3d1d2b1c-6f0a-4f3e-9d1c-0b6f3d5a7e21"
#define MDEV_SYSFS "/sys/bus/mdev/devices/" MDEV

#define EDU_SLOT(i)     (4 + (i))
#define VIOMMU_SLOT     3

#define DIMM_SLOT       0

/* Large enough for its time to be measured, and a bit more */
#define DIMM_SIZE       (IOMMUFD_PARALLEL_MIN + 2 * MiB)

/* Little memory, which takes little time to map; there is room for a DIMM. */
#define MEMORY          (64 * MiB)
#define WITH_ROOM       "-m 64M,slots=2,maxmem=1G"

#define DOMAIN          1

/* No map here takes so long. */
#define MINUTE_NS       (60 * 1000 * 1000 * 1000ULL)

static char *edu_option(int i)
{
    g_autofree char *name = g_strdup_printf("EDU%d", i);

    return g_strdup_printf("%s,id=edu%d,addr=%d", vfio_rig_device(name), i,
                           EDU_SLOT(i));
}

static VFIOMachine *start_with_edu(const char *options)
{
    g_autofree char *device = edu_option(0);

    return vfio_machine_start("%s -device %s", options, device);
}

static void add_edu(VFIOMachine *m, int i)
{
    g_autofree char *device = edu_option(i);

    g_assert_null(vfio_machine_device_add(m, device));
}

/* What is told */

static uint64_t page_table_bytes(const char *name)
{
    g_autoptr(GArray) pages = vfio_mapped_pages(name);
    uint64_t sum = 0;

    for (int i = 0; i < pages->len; i++) {
        sum += g_array_index(pages, VFIOMappedPage, i).size;
    }
    return sum;
}

/* One device, EDU0, in one address space */
static void check_told(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    g_autofree char *wrong = vfio_query_wrong(m, page_table_bytes("EDU0"));

    g_assert_cmpstr(wrong, ==, NULL);
    vfio_query_check_trace(m, info);
    qobject_unref(info);
}

static uint64_t told(VFIOMachine *m, const char *kind, const char *name)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    uint64_t value = vfio_query_number(qdict_get_qdict(info, kind), name);

    qobject_unref(info);
    return value;
}

/* The device @id of a space */
static QDict *find_device(QDict *space, const char *id)
{
    g_autofree char *path = g_strdup_printf("/machine/peripheral/%s", id);
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(space, "devices"), entry) {
        QDict *device = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(device, "qom-path"), path)) {
            return device;
        }
    }
    g_error("no %s is told of", path);
}

/* One device */

/* The number @name of the last line of @event */
static uint64_t last_traced(VFIOMachine *m, const char *event,
                            const char *name)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);
    const char *last = NULL;

    for (char **line = lines; *line; line++) {
        if (vfio_trace_is(*line, event)) {
            last = *line;
        }
    }
    g_assert_nonnull(last);
    return vfio_trace_value(last, name);
}

/* Of EDU0's IOMMU, as the kernel shows it in sysfs */
static uint64_t iommu_register(const char *name)
{
    g_autofree char *file = g_strdup_printf("iommu/intel-iommu/%s", name);
    g_autofree char *path = vfio_rig_sysfs("EDU0", file);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_ascii_strtoull(text, NULL, 16);
}

static void check_iommu(QDict *iommu)
{
    const char *type = vfio_rig_iommu()->type;
    uint64_t ecap;

    g_assert_cmpstr(qdict_get_str(iommu, "type"), ==, type);
    if (!g_str_equal(type, "intel-vtd")) {
        g_assert_false(qdict_haskey(iommu, "cap"));
        g_assert_false(qdict_get_bool(iommu, "dirty-tracking"));
        return;
    }

    ecap = iommu_register("ecap");
    g_assert_cmphex(vfio_query_number(iommu, "cap"), ==,
                    iommu_register("cap"));
    g_assert_cmphex(vfio_query_number(iommu, "ecap"), ==, ecap);
    /* VT-d: second-stage access and dirty bits, of scalable mode only */
    g_assert_cmpint(qdict_get_bool(iommu, "dirty-tracking"), ==,
                    extract64(ecap, 45, 1) && extract64(ecap, 43, 1));
}

/* All but where interrupts go, and what the rig's IOMMU does not map */
static void check_ranges(QList *ranges)
{
    const VFIORigIommu *host = vfio_rig_iommu();
    const uint64_t expected[][2] = {
        { 0, 0xfedfffff },
        { 0xfef00000, host->far - 1 },
        { host->behind_far, UINT64_MAX },
    };
    int count = host->behind_far ? 3 : 2;
    QListEntry *entry;
    int i = 0;

    QLIST_FOREACH_ENTRY(ranges, entry) {
        QDict *range = qobject_to(QDict, qlist_entry_obj(entry));

        g_assert_cmpint(i, <, count);
        g_assert_cmphex(vfio_query_number(range, "first"), ==, expected[i][0]);
        g_assert_cmphex(vfio_query_number(range, "last"), ==, expected[i][1]);
        i++;
    }
    g_assert_cmpint(i, ==, count);
}

static void test_device_and_its_address_space(void)
{
    VFIOMachine *m = start_with_edu("");
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    QDict *space = vfio_query_space(info);
    QDict *device = find_device(space, "edu0");

    g_assert_false(qdict_get_bool(info, "fd-given"));
    g_assert_cmpstr(qdict_get_str(info, "memlock-accounting"), ==, "user");
    g_assert_cmpuint(vfio_query_number(info, "threads"), ==,
                     g_get_num_processors());
    g_assert_cmpuint(vfio_query_number(info, "max-guest-maps"), ==,
                     65535 + VFIO_MACHINE_MEMORY / (4 * KiB));

    g_assert_cmpstr(qdict_get_str(space, "name"), ==, "memory");
    g_assert_cmpuint(vfio_query_number(space, "ioas-id"), ==,
                     last_traced(m, "iommufd_backend_alloc_ioas", "ioas"));
    g_assert_cmpuint(vfio_query_number(space, "guest-maps"), ==, 0);
    g_assert_cmpuint(vfio_query_number(space, "missing-bytes"), ==, 0);
    g_assert_true(qlist_empty(qdict_get_qlist(space, "missing")));
    g_assert_cmpuint(vfio_query_number(space, "iova-alignment"), ==, 4096);
    check_ranges(qdict_get_qlist(space, "iova-ranges"));

    g_assert_cmpstr(qdict_get_str(device, "host"), ==,
                    vfio_rig_address("EDU0"));
    g_assert_cmpuint(vfio_query_number(device, "devid"), ==,
                     last_traced(m, "vfio_cdev_bind", "devid"));
    g_assert_true(qdict_get_bool(device, "pins"));
    g_assert_cmpuint(vfio_query_number(device, "page-table"), ==,
                     last_traced(m, "vfio_cdev_attach", "pt"));
    check_iommu(qdict_get_qdict(device, "iommu"));

    qobject_unref(info);
    check_told(m);
    vfio_machine_stop(m);
}

/* BARs */

static void put_bar(VFIOMachine *m, uint64_t address)
{
    vfio_memory_command(m, EDU_SLOT(0), 0);
    vfio_memory_bar64(m, EDU_SLOT(0), PCI_BASE_ADDRESS_0, address);
    vfio_memory_command(m, EDU_SLOT(0), PCI_COMMAND_MEMORY);
}

static void check_peers(VFIOMachine *m, const char *expected)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);

    g_assert_cmpstr(qdict_get_str(vfio_query_space(info), "peer-to-peer"), ==,
                    expected);
    vfio_query_check_trace(m, info);
    qobject_unref(info);
}

/* Linux 6.12 maps no BAR. */
static void test_bars_that_peers_reach(void)
{
    VFIOMachine *m = vfio_machine_start("-m 64M -device %s,addr=%d",
                                        vfio_rig_device("NVME0"), EDU_SLOT(0));
    uint64_t far = vfio_rig_iommu()->far;

    check_peers(m, "untried");
    put_bar(m, far ?: 1ULL << 39);
    check_peers(m, far ? "out-of-reach" : "none");
    put_bar(m, 0xe0000000);
    check_peers(m, "none");
    vfio_machine_stop(m);
}

/* Mediated devices */

static void test_mediated_device_pins_nothing(void)
{
    VFIOMachine *m;
    QDict *info, *device;

    vfio_mtty_create(MDEV);
    m = vfio_machine_start("-m 64M -device vfio-pci,sysfsdev=" MDEV_SYSFS
                           ",id=mdev,addr=%d,iommufd=" VFIO_RIG_IOMMUFD,
                           EDU_SLOT(1));
    info = vfio_query(m, VFIO_RIG_IOMMUFD);
    device = find_device(vfio_query_space(info), "mdev");
    g_assert_cmpstr(qdict_get_str(device, "host"), ==, MDEV);
    g_assert_false(qdict_get_bool(device, "pins"));
    g_assert_false(qdict_haskey(device, "page-table"));
    g_assert_false(qdict_haskey(device, "iommu"));
    g_assert_cmphex(vfio_query_mapped(info), >=, MEMORY);
    g_assert_cmphex(vfio_machine_pinned(m), ==, 0);
    vfio_query_check_trace(m, info);
    qobject_unref(info);

    add_edu(m, 0);
    info = vfio_query(m, VFIO_RIG_IOMMUFD);
    g_assert_true(qdict_get_bool(find_device(vfio_query_space(info), "edu0"),
                                 "pins"));
    qobject_unref(info);
    check_told(m);
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

/* Several */

/* Behind an IOMMU that lets all pass, each device has its own address space. */
static void test_each_address_space(void)
{
    g_autofree char *device = edu_option(1);
    g_autofree char *options =
        g_strdup_printf("-m 64M -device virtio-iommu-pci,addr=%d -device %s",
                        VIOMMU_SLOT, device);
    VFIOMachine *m = start_with_edu(options);
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    unsigned found = 0;

    g_assert_cmpint(vfio_query_count_spaces(info), ==, 2);
    for (int i = 0; i < 2; i++) {
        QDict *space = vfio_query_nth_space(info, i);
        QList *devices = qdict_get_qlist(space, "devices");
        QDict *first = qobject_to(QDict, qlist_peek(devices));
        int n = g_str_has_suffix(qdict_get_str(first, "qom-path"), "edu1");
        g_autofree char *name = g_strdup_printf("EDU%d", n);

        g_assert_cmpint(qlist_size(devices), ==, 1);
        g_assert_cmpstr(qdict_get_str(first, "host"), ==,
                        vfio_rig_address(name));
        g_assert_cmphex(vfio_query_number(space, "mapped-bytes"), >=, MEMORY);
        g_assert_cmphex(vfio_query_number(space, "mapped-bytes"), ==,
                        page_table_bytes(name));
        found |= 1 << n;
    }
    g_assert_cmphex(found, ==, 3);
    vfio_query_check_trace(m, info);
    qobject_unref(info);
    vfio_machine_stop(m);
}

/* One that QEMU opens, one that is given, one with properties */
static void test_each_object(void)
{
    int fd = vfio_rig_open("/dev/iommu", O_RDWR);
    g_autofree char *options =
        g_strdup_printf("-m 64M -object iommufd,id=given,fd=%d "
                        "-object iommufd,id=set,memlock-accounting=process,"
                        "map-threads=3,max-guest-maps=5 "
                        "-device vfio-pci,host=%s,id=edu1,addr=%d,"
                        "iommufd=given", fd, vfio_rig_address("EDU1"),
                        EDU_SLOT(1));
    VFIOMachine *m = start_with_edu(options);
    QDict *first = vfio_query(m, VFIO_RIG_IOMMUFD);
    QDict *given = vfio_query(m, "given");
    QDict *set = vfio_query(m, "set");
    uint64_t both;

    close(fd);
    g_assert_false(qdict_get_bool(first, "fd-given"));
    find_device(vfio_query_space(first), "edu0");
    g_assert_cmphex(vfio_query_mapped(first), ==, page_table_bytes("EDU0"));

    g_assert_true(qdict_get_bool(given, "fd-given"));
    find_device(vfio_query_space(given), "edu1");
    g_assert_cmphex(vfio_query_mapped(given), ==, page_table_bytes("EDU1"));
    both = vfio_query_mapped(first) + vfio_query_mapped(given);
    g_assert_cmphex(vfio_machine_pinned(m), <=, both);
    g_assert_cmphex(vfio_machine_pinned(m), >=, both - 2 * VFIO_SAME_TWICE);

    /* Nobody uses it. */
    g_assert_cmpstr(qdict_get_str(set, "memlock-accounting"), ==, "process");
    g_assert_false(qdict_haskey(set, "threads"));
    g_assert_cmpuint(vfio_query_number(set, "max-guest-maps"), ==, 5);
    g_assert_cmpint(vfio_query_count_spaces(set), ==, 0);
    g_assert_cmpuint(vfio_query_number(qdict_get_qdict(set, "map"), "calls"),
                     ==, 0);

    qobject_unref(first);
    qobject_unref(given);
    qobject_unref(set);
    vfio_machine_stop(m);
}

/* Devices and memory that come and go */

static void plug_dimm(VFIOMachine *m)
{
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
}

static void check_unused(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);

    g_assert_cmpint(vfio_query_count_spaces(info), ==, 0);
    g_assert_false(qdict_haskey(info, "threads"));
    g_assert_false(qdict_haskey(info, "memlock-accounting"));
    qobject_unref(info);
}

static void check_large(VFIOMachine *m, const char *kind, uint64_t bytes)
{
    g_assert_cmphex(told(m, kind, "large-bytes"), ==, bytes);
    g_assert_cmpint(told(m, kind, "large-time") > 0, ==, bytes > 0);
    g_assert_cmpuint(told(m, kind, "large-time"), <, MINUTE_NS);
}

static void test_what_comes_and_goes(void)
{
    VFIOMachine *m = vfio_machine_start(WITH_ROOM);
    g_autofree char *node = vfio_rig_cdev_node("EDU0");

    check_unused(m);
    add_edu(m, 0);
    check_told(m);
    check_large(m, "map", 0);

    plug_dimm(m);
    check_told(m);
    check_large(m, "map", DIMM_SIZE);
    check_large(m, "unmap", 0);

    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    vfio_memory_eject(m, DIMM_SLOT);
    check_told(m);
    check_large(m, "map", DIMM_SIZE);
    check_large(m, "unmap", DIMM_SIZE);

    vfio_machine_reset(m);
    check_told(m);

    vfio_machine_device_del(m, "edu0", EDU_SLOT(0));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    check_unused(m);
    check_large(m, "map", DIMM_SIZE);
    g_assert_cmphex(vfio_machine_pinned(m), ==, 0);

    add_edu(m, 0);
    check_told(m);
    vfio_machine_stop(m);
}

/* Calls that fail */

static void check_same(QDict *a, QDict *b, const char *name)
{
    g_assert_true(qobject_is_equal(qdict_get(a, name), qdict_get(b, name)));
}

/* What is missing is told as the event has told it. */
static void check_missing(VFIOMachine *m, QDict *event)
{
    static const char *const names[] = {
        "iova", "size", "last", "memory", "qom-path", "reason",
    };
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    QDict *space = vfio_query_space(info);
    QList *list = qdict_get_qlist(space, "missing");
    QDict *missing = qobject_to(QDict, qlist_peek(list));

    g_assert_cmpint(qlist_size(list), ==, 1);
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        check_same(missing, event, names[i]);
    }
    g_assert_cmphex(vfio_query_number(space, "missing-bytes"), ==, DIMM_SIZE);
    qobject_unref(info);
}

static void check_nothing_missing(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    QDict *space = vfio_query_space(info);

    g_assert_true(qlist_empty(qdict_get_qlist(space, "missing")));
    g_assert_cmphex(vfio_query_number(space, "missing-bytes"), ==, 0);
    qobject_unref(info);
}

/* One of several parts fails, and the others are undone. */
static void test_memory_that_is_missing(void)
{
    VFIOMachine *m = start_with_edu(WITH_ROOM);
    g_autofree char *shown = NULL;
    QDict *event;

    vfio_fault_arm(3, ENOMEM);
    plug_dimm(m);
    g_assert_cmpuint(vfio_fault_disarm(), >, 3);
    event = vfio_machine_map_error(m);
    vfio_machine_check_run_state(m, "io-error");
    check_missing(m, event);
    check_told(m);
    g_assert_cmpuint(told(m, "map", "failures"), ==, 1);
    check_large(m, "map", 0);

    shown = vfio_machine_monitor(m, "info iommufd");
    g_test_message("%s", shown);
    g_assert_nonnull(strstr(shown, "66 MiB of mem0 at 0x100000000, "
                            "/machine/peripheral/dimm0"));
    g_assert_nonnull(strstr(shown, qdict_get_str(event, "reason")));

    vfio_machine_cont(m);
    check_nothing_missing(m);
    check_told(m);
    check_large(m, "map", DIMM_SIZE);
    qobject_unref(event);
    vfio_machine_stop(m);
}

/*
 * The parts that were mapped before one failed cannot be unmapped either.  They
 * are still there, and give way when the memory is mapped again.
 */
static void test_parts_that_stay(void)
{
    VFIOMachine *m = start_with_edu(WITH_ROOM);
    uint64_t before = vfio_machine_pinned(m);
    g_autofree char *wrong = NULL;

    vfio_fault_arm_row(3, 100, ENOMEM);
    plug_dimm(m);
    vfio_fault_disarm();
    qobject_unref(vfio_machine_map_error(m));
    g_assert_cmphex(vfio_machine_pinned(m), >, before);
    wrong = vfio_query_wrong(m, page_table_bytes("EDU0"));
    g_assert_cmpstr(wrong, ==, NULL);

    vfio_machine_cont(m);
    check_told(m);
    vfio_machine_stop(m);
}

/* Memory that could not be unmapped is pinned, and is still told of. */
static void test_memory_that_stays(void)
{
    VFIOMachine *m = start_with_edu(WITH_ROOM);
    uint64_t before;

    plug_dimm(m);
    before = vfio_machine_pinned(m);
    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    vfio_fault_arm(1, EIO);
    vfio_memory_eject(m, DIMM_SLOT);
    vfio_fault_disarm();
    g_assert_cmphex(vfio_machine_pinned(m), ==, before);
    check_told(m);
    g_assert_cmpuint(told(m, "unmap", "failures"), ==, 1);
    vfio_machine_stop(m);
}

/* A guest's IOMMU */

static VIOMMU *start_viommu(VFIOMachine **m)
{
    g_autofree char *options =
        g_strdup_printf("-device virtio-iommu-pci,addr=%d,boot-bypass=off",
                        VIOMMU_SLOT);
    VIOMMU *v;

    *m = start_with_edu(options);
    v = viommu_new(*m, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(v, DOMAIN, VIOMMU_ENDPOINT(EDU_SLOT(0)), 0),
                    ==, VIRTIO_IOMMU_S_OK);
    return v;
}

static void map(VIOMMU *v, uint64_t iova, uint64_t addr, uint64_t size)
{
    g_assert_cmpint(viommu_map(v, DOMAIN, iova, addr, size,
                               VIOMMU_READ | VIOMMU_WRITE), ==,
                    VIRTIO_IOMMU_S_OK);
    check_told(v->machine);
}

static void unmap(VIOMMU *v, uint64_t iova, uint64_t size)
{
    g_assert_cmpint(viommu_unmap(v, DOMAIN, iova, size), ==,
                    VIRTIO_IOMMU_S_OK);
    check_told(v->machine);
}

static uint64_t count_guest_maps(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    uint64_t count = vfio_query_number(vfio_query_space(info), "guest-maps");

    qobject_unref(info);
    return count;
}

/* A person sees them beside what they may be. */
static void check_guest_maps_shown(VFIOMachine *m, int count)
{
    g_autofree char *text = vfio_machine_monitor(m, "info iommufd");
    g_autofree char *wanted =
        g_strdup_printf("for %d of the guest's IOMMU (at most %" PRIu64 ")",
                        count, 65535 + VFIO_MACHINE_MEMORY / (4 * KiB));

    g_test_message("%s", text);
    g_assert_nonnull(strstr(text, wanted));
}

/*
 * 128 MiB at a border of 1 GiB are two maps of the guest's, and more of the
 * kernel's, as they are large.
 */
static void test_maps_of_guest(void)
{
    VFIOMachine *m;
    VIOMMU *v = start_viommu(&m);

    g_assert_cmpuint(count_guest_maps(m), ==, 0);
    map(v, 0, 32 * MiB, VIOMMU_PAGE);
    map(v, 2 * VIOMMU_PAGE, 32 * MiB, VIOMMU_PAGE);
    g_assert_cmpuint(count_guest_maps(m), ==, 2);
    map(v, GiB - 64 * MiB, 64 * MiB, 128 * MiB);
    g_assert_cmpuint(count_guest_maps(m), ==, 4);
    unmap(v, 0, VIOMMU_PAGE);
    g_assert_cmpuint(count_guest_maps(m), ==, 3);
    unmap(v, 8 * MiB, VIOMMU_PAGE);     /* nothing is there */
    g_assert_cmpuint(told(m, "unmap", "failures"), ==, 0);
    check_guest_maps_shown(m, 3);

    /* A map that fails leaves nothing, and the next one is all right. */
    vfio_fault_arm(1, ENOMEM);
    map(v, 16 * MiB, 32 * MiB, VIOMMU_PAGE);
    vfio_fault_disarm();
    g_assert_cmpuint(told(m, "map", "failures"), ==, 1);
    g_assert_cmpuint(count_guest_maps(m), ==, 3);
    map(v, 20 * MiB, 32 * MiB, VIOMMU_PAGE);
    g_assert_cmpuint(count_guest_maps(m), ==, 4);

    unmap(v, 0, 4 * GiB);
    g_assert_cmpuint(count_guest_maps(m), ==, 0);
    viommu_free(v);
    vfio_machine_stop(m);
}

/*
 * An intel-iommu that is reset unmaps all that it spans by one call, which is
 * not large, as there is little.
 */
static void test_reset_of_guests_iommu(void)
{
    VFIOMachine *m = start_with_edu("-machine q35 -m 64M "
                                    "-device intel-iommu,caching-mode=on");
    uint64_t pages[VTD_PAGES], large;

    check_told(m);
    vtd_start(m, EDU_SLOT(0));
    check_told(m);
    for (int i = 0; i < VTD_PAGES; i++) {
        pages[i] = 32 * MiB + i * VTD_PAGE;
    }
    vtd_set_small(m, pages);
    vtd_flush(m);
    check_told(m);
    g_assert_cmpuint(count_guest_maps(m), ==, VTD_PAGES);
    large = told(m, "unmap", "large-bytes");
    vfio_machine_reset(m);
    check_told(m);
    g_assert_cmphex(told(m, "unmap", "large-bytes"), ==, large);
    g_assert_cmpuint(count_guest_maps(m), ==, 0);
    vfio_machine_stop(m);
}

/* One call maps a page of the guest's IOMMU, and one unmaps it. */
static void test_page_takes_one_call(void)
{
    VFIOMachine *m;
    VIOMMU *v = start_viommu(&m);

    vfio_fault_arm(0, 0);
    viommu_map_batch(v, DOMAIN, MiB, 32 * MiB);
    g_assert_cmpuint(vfio_fault_disarm(), ==, VIOMMU_BATCH);
    vfio_fault_arm(0, 0);
    viommu_unmap_batch(v, DOMAIN, MiB);
    g_assert_cmpuint(vfio_fault_disarm(), ==, VIOMMU_BATCH);
    check_told(m);
    viommu_free(v);
    vfio_machine_stop(m);
}

/* How far a long map is */

typedef struct Client {
    int socket;
    GString *text;      /* read, and not handed out yet */
} Client;

/* The next line, to be freed */
static char *read_line(Client *client)
{
    char buffer[1024];
    char *end, *line;

    while (!(end = strchr(client->text->str, '\n'))) {
        ssize_t length = read(client->socket, buffer, sizeof(buffer));

        g_assert_cmpint(length, >, 0);
        g_string_append_len(client->text, buffer, length);
    }
    line = g_strndup(client->text->str, end - client->text->str);
    g_string_erase(client->text, 0, end + 1 - client->text->str);
    return line;
}

/* The answer to @command, to be unreferenced; events are passed over. */
static QDict *ask(Client *client, const char *command)
{
    QDict *answer = NULL;

    g_assert_cmpint(write(client->socket, command, strlen(command)), ==,
                    strlen(command));
    while (!answer) {
        g_autofree char *line = read_line(client);
        QDict *dict = qobject_to(QDict, qobject_from_json(line, &error_abort));

        if (qdict_haskey(dict, "return")) {
            answer = dict;
        } else {
            g_assert_true(qdict_haskey(dict, "event"));
            qobject_unref(dict);
        }
    }
    return answer;
}

/* A second monitor, which can be asked while the first one waits */
static Client *connect_client(const char *path)
{
    Client *client = g_new0(Client, 1);

    client->socket = unix_connect(path, &error_abort);
    client->text = g_string_new(NULL);
    g_free(read_line(client));      /* the greeting */
    qobject_unref(ask(client, "{ 'execute': 'qmp_capabilities',"
                      " 'arguments': { 'enable': [ 'oob' ] } }\n"));
    return client;
}

static void disconnect_client(Client *client)
{
    close(client->socket);
    g_string_free(client->text, true);
    g_free(client);
}

/* Bytes of the map that are done, -1 if there is none */
static int64_t progress(Client *client)
{
    QDict *answer = ask(client,
                        "{ 'exec-oob': 'query-iommufd-progress' }\n");
    QList *list = qdict_get_qlist(answer, "return");
    QDict *map = qobject_to(QDict, qlist_peek(list));
    int64_t done = -1;

    if (map) {
        g_assert_cmpint(qlist_size(list), ==, 1);
        g_assert_cmpstr(qdict_get_str(map, "id"), ==, VFIO_RIG_IOMMUFD);
        g_assert_cmpstr(qdict_get_str(map, "operation"), ==, "map");
        g_assert_cmphex(vfio_query_number(map, "size"), ==,
                        VFIO_MACHINE_MEMORY - MiB);
        g_assert_cmphex(vfio_query_number(map, "iova"), ==, MiB);
        done = vfio_query_number(map, "done");
        g_assert_cmphex(done, <=, VFIO_MACHINE_MEMORY - MiB);
    }
    qobject_unref(answer);
    return done;
}

/* Returns how often it was seen to be further than before. */
static int watch(Client *client)
{
    int64_t done, before = -1;
    int advances = 0;

    g_assert_true(vfio_rig_wait(progress(client) >= 0));
    while ((done = progress(client)) >= 0) {
        g_assert_cmpint(done, >=, before);
        advances += done > before;
        before = done;
        g_usleep(1000);
    }
    return advances;
}

/* A machine with a second monitor; @options may be empty */
static VFIOMachine *start_with_client(const char *options, Client **client)
{
    g_autofree char *dir = g_dir_make_tmp("vfio-query-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "oob", NULL);
    VFIOMachine *m = vfio_machine_start("-chardev socket,id=oob,path=%s,"
                                        "server=on,wait=off "
                                        "-mon oob,mode=control %s", path,
                                        options);

    *client = connect_client(path);
    unlink(path);
    rmdir(dir);
    return m;
}

static void check_watched(VFIOMachine *m, Client *client)
{
    g_assert_cmpint(watch(client), >, 3);
    g_assert_null(vfio_reply_error(qtest_qmp_receive(m->qts)));
    check_told(m);
    disconnect_client(client);
    vfio_machine_stop(m);
}

static void test_long_map_can_be_watched(void)
{
    Client *client;
    VFIOMachine *m = start_with_client("", &client);

    g_assert_cmpint(progress(client), ==, -1);
    qtest_qmp_send(m->qts, "{ 'execute': 'device_add', 'arguments': {"
                   " 'driver': 'vfio-pci', 'host': %s, 'id': 'edu0',"
                   " 'addr': '4', 'iommufd': '" VFIO_RIG_IOMMUFD "' } }",
                   vfio_rig_address("EDU0"));
    check_watched(m, client);
}

/* The devices of the command line come when the client says so. */
static void test_start_can_be_watched(void)
{
    g_autofree char *device = edu_option(0);
    g_autofree char *options = g_strdup_printf("--preconfig -device %s",
                                               device);
    Client *client;
    VFIOMachine *m = start_with_client(options, &client);

    g_assert_cmpint(progress(client), ==, -1);
    qtest_qmp_send(m->qts, "{ 'execute': 'x-exit-preconfig' }");
    check_watched(m, client);
}

/* For a person */

static void check_shows(const char *text, const char *fmt, ...)
{
    g_autofree char *wanted = NULL;
    va_list ap;

    va_start(ap, fmt);
    wanted = g_strdup_vprintf(fmt, ap);
    va_end(ap);
    if (!strstr(text, wanted)) {
        g_error("'%s' is not in: %s", wanted, text);
    }
}

static void test_person_can_read_it(void)
{
    VFIOMachine *m = vfio_machine_start(WITH_ROOM);
    g_autofree char *before = vfio_machine_monitor(m, "info iommufd");
    g_autofree char *after = NULL;
    QDict *info;

    check_shows(before, "%s:", VFIO_RIG_IOMMUFD);
    check_shows(before, "not open");

    add_edu(m, 0);
    after = vfio_machine_monitor(m, "info iommufd");
    g_test_message("%s", after);
    info = vfio_query(m, VFIO_RIG_IOMMUFD);
    check_shows(after, "opened by QEMU");
    check_shows(after, "address space 'memory' (IOAS %d)",
                (int)vfio_query_number(vfio_query_space(info), "ioas-id"));
    check_shows(after, "in %d maps",
                (int)vfio_query_number(vfio_query_space(info), "maps"));
    check_shows(after, "0xfef00000 to 0x%" PRIx64, vfio_rig_iommu()->far - 1);
    check_shows(after, "%s, /machine/peripheral/edu0",
                vfio_rig_address("EDU0"));
    check_shows(after, "IOMMU %s", vfio_rig_iommu()->type);
    qobject_unref(info);
    vfio_machine_stop(m);
}

/* Migration */

/* Whether EDU0 has a log; it is on the driver that can migrate it. */
static void set_log(const char *value)
{
    g_autofree char *path = vfio_rig_sysfs("EDU0", "migration/log");

    vfio_rig_write(path, value);
}

/* @tracking and @blocker may be NULL: then nothing is told of it. */
static void check_migration(const char *properties, const char *tracking,
                            const char *blocker, const char *shown)
{
    VFIOMachine *m = vfio_machine_start("-m 64M -device %s,id=edu0,addr=%d%s",
                                        vfio_rig_device("EDU0"), EDU_SLOT(0),
                                        properties);
    g_autofree char *text = vfio_machine_monitor(m, "info iommufd");
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    QDict *device = find_device(vfio_query_space(info), "edu0");
    const char *why = qdict_get_try_str(device, "migration-blocker");

    g_assert_cmpstr(qdict_get_try_str(device, "dirty-tracking"), ==, tracking);
    if (blocker) {
        g_assert_nonnull(why);
        check_shows(why, "%s", blocker);
        check_shows(text, "blocks migration: %s", why);
    } else {
        g_assert_cmpstr(why, ==, NULL);
        check_shows(text, "can be migrated, %s", shown);
    }
    qobject_unref(info);
    vfio_machine_stop(m);
}

/* The rig's IOMMU tells of no writes here. */
static void test_what_can_be_migrated(void)
{
    check_migration("", NULL, "driver vfio-pci has no migration", NULL);

    vfio_rig_bind("EDU0", "vfio-pci-edu");
    set_log("1");
    check_migration("", "device", NULL, "it tells of its writes itself");
    check_migration(",enable-migration=off", NULL, "enable-migration=off",
                    NULL);
    set_log("0");
    check_migration("", "none", "neither the device nor the host's IOMMU",
                    NULL);
    check_migration(",enable-migration=on", "none", NULL,
                    "nothing tells of its writes");
    vfio_rig_bind("EDU0", "vfio-pci");
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "query");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }

    vfio_rig_add("device-and-its-address-space", VFIO_RIG_IOMMUFD_ONLY,
                 test_device_and_its_address_space);
    vfio_rig_add("bars-that-peers-reach", VFIO_RIG_IOMMUFD_ONLY,
                 test_bars_that_peers_reach);
    vfio_rig_add("mediated-device-pins-nothing", VFIO_RIG_IOMMUFD_ONLY,
                 test_mediated_device_pins_nothing);
    vfio_rig_add("each-address-space", VFIO_RIG_IOMMUFD_ONLY,
                 test_each_address_space);
    vfio_rig_add("each-object", VFIO_RIG_IOMMUFD_ONLY, test_each_object);
    vfio_rig_add("what-comes-and-goes", VFIO_RIG_IOMMUFD_ONLY,
                 test_what_comes_and_goes);
    vfio_rig_add("memory-that-is-missing", VFIO_RIG_IOMMUFD_ONLY,
                 test_memory_that_is_missing);
    vfio_rig_add("parts-that-stay", VFIO_RIG_IOMMUFD_ONLY,
                 test_parts_that_stay);
    vfio_rig_add("memory-that-stays", VFIO_RIG_IOMMUFD_ONLY,
                 test_memory_that_stays);
    vfio_rig_add("maps-of-guest", VFIO_RIG_IOMMUFD_ONLY, test_maps_of_guest);
    vfio_rig_add("reset-of-guests-iommu", VFIO_RIG_IOMMUFD_ONLY,
                 test_reset_of_guests_iommu);
    vfio_rig_add("page-takes-one-call", VFIO_RIG_IOMMUFD_ONLY,
                 test_page_takes_one_call);
    vfio_rig_add("long-map-can-be-watched", VFIO_RIG_IOMMUFD_ONLY,
                 test_long_map_can_be_watched);
    vfio_rig_add("start-can-be-watched", VFIO_RIG_IOMMUFD_ONLY,
                 test_start_can_be_watched);
    vfio_rig_add("person-can-read-it", VFIO_RIG_IOMMUFD_ONLY,
                 test_person_can_read_it);
    vfio_rig_add("what-can-be-migrated", VFIO_RIG_IOMMUFD_ONLY,
                 test_what_can_be_migrated);

    return g_test_run();
}
