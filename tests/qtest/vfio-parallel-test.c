/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: large ranges that several threads map and unmap, map-threads=
 *
 * The traces show what the kernel is asked for.  What is really pinned the
 * kernel counts for a process without CAP_IPC_LOCK, like the QEMUs here.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>

#include "qemu/host-utils.h"
#include "qapi/qmp/qdict.h"
#include "sysemu/iommufd.h"
#include "vfio-acpi.h"
#include "vfio-edu.h"
#include "vfio-viommu.h"

#define VIOMMU_SLOT 3
#define SLOT 4

/* A multiple of 1 GiB where memory can be plugged */
#define DIMM_BORDER (5 * GiB)

/* QEMUs */

static VFIOMachine *start(const char *properties, const char *options)
{
    return vfio_machine_start("-object iommufd,id=threads%s %s", properties,
                              options);
}

static char *device(void)
{
    return g_strdup_printf("vfio-pci,host=%s,iommufd=threads,id=dev0,addr=%d",
                           vfio_rig_address("EDU0"), SLOT);
}

static char *add_device(VFIOMachine *m)
{
    g_autofree char *option = device();

    return vfio_machine_device_add(m, option);
}

static VFIOMachine *start_with_device(const char *properties,
                                      const char *options)
{
    VFIOMachine *m = start(properties, options);

    g_assert_null(add_device(m));
    return m;
}

static void check_copy(VFIOMachine *m, uint32_t dst)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    vfio_edu_check_copy(edu, 0x101000, dst, EDU_DMA_MAX);
    vfio_edu_free(edu);
}

static void limit_memlock(pid_t pid, uint64_t bytes)
{
    struct rlimit limit = { bytes, RLIM_INFINITY };

    g_assert_cmpint(prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL), ==, 0);
}

/* KiB that are pinned */
static uint64_t pinned(VFIOMachine *m)
{
    return vfio_machine_status(m, "VmPin");
}

static int count_threads(VFIOMachine *m)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/task", m->pid);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    int count = 0;

    g_assert_nonnull(dir);
    while (g_dir_read_name(dir)) {
        count++;
    }
    return count;
}

/* The traces */

#define MAP "iommufd_backend_map_dma"
#define COPY "iommufd_backend_copy_dma"
#define UNMAP "iommufd_backend_unmap_dma"
#define PARALLEL "iommufd_backend_parallel"

/* One ioctl, or one whole range */
typedef struct Request {
    uint64_t iova;
    uint64_t size;
    int ret;
} Request;

static Request parse_request(const char *line)
{
    return (Request) {
        .iova = vfio_trace_value(line, "iova"),
        .size = vfio_trace_value(line, "size"),
        .ret = atoi(strrchr(line, '(') + 1),
    };
}

static bool same_range(const Request *a, const Request *b)
{
    return a->iova == b->iova && a->size == b->size;
}

/* The requests of one kind, from line @from on; to be freed */
static GArray *requests(char **lines, int from, const char *event)
{
    GArray *found = g_array_new(false, false, sizeof(Request));

    for (char **line = lines + from; *line; line++) {
        if (vfio_trace_is(*line, event)) {
            Request request = parse_request(*line);

            g_array_append_val(found, request);
        }
    }
    return found;
}

static Request *request(GArray *array, int i)
{
    return &g_array_index(array, Request, i);
}

/* The number of lines so far; later lines have higher numbers */
static int trace_length(VFIOMachine *m)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);

    return g_strv_length(lines) - 1;    /* the last has no end, and is empty */
}

static const char *find_parallel(char **lines, int from)
{
    for (char **line = lines + from; *line; line++) {
        if (vfio_trace_is(*line, PARALLEL)) {
            return *line;
        }
    }
    return NULL;
}

/* The requests within @whole fill it, in pieces as they should be. */
static int check_pieces(GArray *array, const Request *whole, uint64_t chunk)
{
    uint64_t end = whole->iova;
    int pieces = 0;

    for (int i = 0; i < array->len; i++) {
        Request *piece = request(array, i);

        if (piece->iova < whole->iova ||
            piece->iova >= whole->iova + whole->size) {
            continue;
        }
        pieces++;
        g_assert_cmpint(piece->ret, ==, 0);
        g_assert_cmphex(piece->iova, ==, end);
        g_assert_cmpuint(piece->size, >, 0);
        end = piece->iova + piece->size;
        if (!same_range(piece, whole)) {
            g_assert_cmphex(piece->iova / GiB, ==, (end - 1) / GiB);
        }
        g_assert_true(end % chunk == 0 || end == whole->iova + whole->size);
    }
    g_assert_cmphex(end, ==, whole->iova + whole->size);
    return pieces;
}

static void check_parallel(char **lines, int from, const char *event,
                           int threads)
{
    const char *line = find_parallel(lines, from);
    g_autoptr(GArray) pieces = requests(lines, from, event);
    Request whole = {};
    uint64_t chunk;

    g_assert_nonnull(line);
    whole.iova = vfio_trace_value(line, "iova");
    whole.size = vfio_trace_value(line, "size");
    chunk = vfio_trace_value(line, "chunk");
    g_assert_cmpuint(vfio_trace_value(line, "threads"), ==, threads);
    g_assert_cmpuint(chunk, >=, qemu_real_host_page_size());
    g_assert_true(is_power_of_2(chunk));
    g_assert_cmpint(check_pieces(pieces, &whole, chunk), ==,
                    vfio_trace_value(line, "count"));
}

/* Maps */

/* Copies across the borders between some of the chunks */
static void check_dma_across(VFIOMachine *m, uint64_t chunk)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    for (uint32_t border = 2 * chunk; border < VFIO_MACHINE_MEMORY;
         border += 5 * chunk) {
        vfio_edu_check_copy(edu, border - chunk - 0x800, border - 0x123,
                            EDU_DMA_MAX);
    }
    vfio_edu_free(edu);
}

static void test_large_map_is_cut(void)
{
    VFIOMachine *m = start_with_device(",map-threads=2", "");
    g_auto(GStrv) lines = vfio_machine_trace(m);

    check_parallel(lines, 0, MAP, 2);
    check_dma_across(m, vfio_trace_value(find_parallel(lines, 0), "chunk"));
    vfio_machine_stop(m);
}

/* More threads than there are processors or chunks */
static void test_many_threads(void)
{
    VFIOMachine *m = start_with_device(",map-threads=64", "");
    g_auto(GStrv) lines = vfio_machine_trace(m);
    const char *line = find_parallel(lines, 0);

    g_assert_nonnull(line);
    check_parallel(lines, 0, MAP, vfio_trace_value(line, "count"));
    check_dma_across(m, vfio_trace_value(line, "chunk"));
    vfio_machine_stop(m);
}

static void check_plain_maps(const char *properties)
{
    VFIOMachine *m = start_with_device(properties, "");
    g_auto(GStrv) lines = vfio_machine_trace(m);

    g_assert_null(find_parallel(lines, 0));
    g_assert_cmpint(vfio_trace_count(lines, MAP), >, 0);
    g_assert_cmpint(vfio_trace_count(lines, MAP), ==,
                    vfio_trace_count(lines, "vfio_listener_region_add_ram"));
    check_copy(m, 0x4000000);
    vfio_machine_stop(m);
}

static void test_one_thread_maps_plainly(void)
{
    check_plain_maps(",map-threads=1");
}

static void test_as_many_as_processors(void)
{
    VFIOMachine *m = start_with_device("", "");
    g_auto(GStrv) lines = vfio_machine_trace(m);

    check_parallel(lines, 0, MAP, sysconf(_SC_NPROCESSORS_ONLN));
    vfio_machine_stop(m);
}

static void test_as_many_as_allowed_processors(void)
{
    cpu_set_t all, one;

    g_assert_cmpint(sched_getaffinity(0, sizeof(all), &all), ==, 0);
    CPU_ZERO(&one);
    CPU_SET(1, &one);
    g_assert_cmpint(sched_setaffinity(0, sizeof(one), &one), ==, 0);
    check_plain_maps("");
    g_assert_cmpint(sched_setaffinity(0, sizeof(all), &all), ==, 0);
}

/*
 * libvirt's default one: clone() only with the flags of a thread.  ASan looks for
 * leaks from a process of its own, which QEMU may not start there.
 */
static void test_in_sandbox(void)
{
    g_autofree char *asan = g_strdup(g_getenv("ASAN_OPTIONS"));
    g_autofree char *no_leaks = g_strdup_printf("%s:detect_leaks=0", asan);
    g_auto(GStrv) lines = NULL;
    VFIOMachine *m;

    if (asan) {
        g_setenv("ASAN_OPTIONS", no_leaks, true);
    }
    m = start_with_device(",map-threads=2",
                          "-sandbox on,obsolete=deny,elevateprivileges=deny,"
                          "spawn=deny,resourcecontrol=deny");
    if (asan) {
        g_setenv("ASAN_OPTIONS", asan, true);
    }

    lines = vfio_machine_trace(m);
    check_parallel(lines, 0, MAP, 2);
    check_dma_across(m, vfio_trace_value(find_parallel(lines, 0), "chunk"));
    vfio_machine_stop(m);
}

static void test_refused_numbers(void)
{
    static const char *const numbers[] = { "0", "65", "-1", "4294967298" };

    for (int i = 0; i < ARRAY_SIZE(numbers); i++) {
        g_autofree char *options =
            g_strdup_printf("-machine none -object iommufd,id=x,map-threads=%s",
                            numbers[i]);
        g_autofree char *err = NULL;
        int status = vfio_rig_run_qemu(options, NULL, &err);

        vfio_rig_check_refusal(status, err);
        g_assert_nonnull(strstr(err, "map-threads"));
    }
}

static void test_stays_while_in_use(void)
{
    VFIOMachine *m = start_with_device(",map-threads=2", "");
    QDict *reply =
        qtest_qmp(m->qts, "{ 'execute': 'qom-set', 'arguments': { 'path': "
                  "'/objects/threads', 'property': 'map-threads', "
                  "'value': 1 } }");

    g_assert_true(qdict_haskey(reply, "error"));
    qobject_unref(reply);
    vfio_machine_stop(m);
}

/* Helpers */

static void test_helpers_end(void)
{
    VFIOMachine *m = start(",map-threads=8", "");
    int threads = count_threads(m);
    g_autofree char *before = vfio_machine_state(m);
    g_autofree char *after = NULL;

    g_assert_null(add_device(m));
    g_assert_true(vfio_rig_wait(count_threads(m) == threads));
    vfio_machine_device_del(m, "dev0", SLOT);
    g_assert_cmpint(pinned(m), ==, 0);
    after = vfio_machine_state(m);
    g_assert_cmpstr(after, ==, before);
    vfio_machine_stop(m);
}

/*
 * The limit is on an ordinary user's threads, and that user has no other
 * process.
 */
static VFIOMachine *start_with_limited_threads(int more, int *cdev)
{
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    int iommu = vfio_rig_open("/dev/iommu", O_RDWR);
    struct rlimit limit;
    VFIOMachine *m;

    *cdev = vfio_rig_open(node, O_RDWR);
    vfio_rig_be_ordinary();
    m = vfio_machine_start("-object iommufd,id=threads,fd=%d,map-threads=4",
                           iommu);
    vfio_rig_be_root();
    limit.rlim_cur = limit.rlim_max = count_threads(m) + more;
    g_assert_cmpint(prlimit(m->pid, RLIMIT_NPROC, &limit, NULL), ==, 0);
    close(iommu);
    return m;
}

static void check_limited_helpers(int helpers)
{
    int cdev;
    VFIOMachine *m = start_with_limited_threads(helpers, &cdev);
    g_autofree char *option =
        g_strdup_printf("vfio-pci,fd=%d,iommufd=threads,id=dev0,addr=%d", cdev,
                        SLOT);
    g_auto(GStrv) lines = NULL;

    g_assert_null(vfio_machine_device_add(m, option));
    close(cdev);
    lines = vfio_machine_trace(m);
    check_parallel(lines, 0, MAP, 1 + helpers);
    check_dma_across(m, vfio_trace_value(find_parallel(lines, 0), "chunk"));
    vfio_machine_stop(m);
}

static void test_without_helpers(void)
{
    check_limited_helpers(0);
}

static void test_fewer_helpers(void)
{
    check_limited_helpers(1);
}

/* Failures */

/* The first that failed is the one that is reported. */
static const Request *find_failed(GArray *array)
{
    for (int i = 0; i < array->len; i++) {
        if (request(array, i)->ret) {
            return request(array, i);
        }
    }
    return NULL;
}

static bool is_in(GArray *array, const Request *wanted)
{
    for (int i = 0; i < array->len; i++) {
        if (same_range(request(array, i), wanted) &&
            request(array, i)->ret == 0) {
            return true;
        }
    }
    return false;
}

/* Within the range that the trace calls parallel, all maps were undone. */
static Request check_undone(char **lines, int from)
{
    const char *line = find_parallel(lines, from);
    g_autoptr(GArray) maps = requests(lines, from, MAP);
    g_autoptr(GArray) unmaps = requests(lines, from, UNMAP);
    const Request *failed;
    uint64_t first, end;
    int mapped = 0;

    g_assert_nonnull(line);
    first = vfio_trace_value(line, "iova");
    end = first + vfio_trace_value(line, "size");
    for (int i = 0; i < maps->len; i++) {
        Request *map = request(maps, i);

        if (map->ret == 0 && map->iova >= first && map->iova < end) {
            g_assert_true(is_in(unmaps, map));
            mapped++;
        }
    }
    g_assert_cmpint(mapped, >, 0);
    failed = find_failed(maps);
    g_assert(failed);
    return *failed;
}

static void check_says_range(const char *text, const Request *failed)
{
    g_autofree char *range =
        g_strdup_printf("IOVA 0x%" PRIx64 " to 0x%" PRIx64 ":", failed->iova,
                        failed->iova + failed->size - 1);

    g_assert_nonnull(strstr(text, range));
}

static void test_failure_is_undone(void)
{
    VFIOMachine *m = start(",map-threads=2", "");
    g_autofree char *before = vfio_machine_state(m);
    g_autofree char *after = NULL;
    g_autofree char *reason = NULL;
    g_auto(GStrv) lines = NULL;
    Request failed;

    limit_memlock(m->pid, VFIO_MACHINE_MEMORY / 2);
    reason = add_device(m);
    g_assert_nonnull(reason);
    lines = vfio_machine_trace(m);
    failed = check_undone(lines, 0);
    check_says_range(reason, &failed);
    g_assert_cmpint(pinned(m), ==, 0);
    after = vfio_machine_state(m);
    g_assert_cmpstr(after, ==, before);

    limit_memlock(m->pid, RLIM_INFINITY);
    g_assert_null(add_device(m));
    check_copy(m, 0x8000000 - 0x700);
    vfio_machine_stop(m);
}

/* Memory that is plugged */

static void create_memory(VFIOMachine *m, const char *id, uint64_t size)
{
    qtest_qmp_assert_success(m->qts,
        "{ 'execute': 'object-add', 'arguments': { 'id': %s, "
        "'qom-type': 'memory-backend-ram', 'size': %" PRId64 " } }", id,
        (int64_t)size);
}

static void plug_dimm(VFIOMachine *m, uint64_t addr, uint64_t size)
{
    create_memory(m, "mem", size);
    qtest_qmp_device_add(m->qts, "pc-dimm", "dimm",
                         "{ 'memdev': 'mem', 'addr': %" PRId64 " }",
                         (int64_t)addr);
}

/* Like a guest does; the DIMM is in the first slot */
static void unplug_dimm(VFIOMachine *m)
{
    qtest_qmp_device_del_send(m->qts, "dimm");
    vfio_acpi_eject_dimm(m, 0);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'object-del', "
                             "'arguments': { 'id': 'mem' } }");
}

#define ROOM_FOR_DIMM "-m slots=1,maxmem=4G"

/* There were @pieces of @event; they cover all of the DIMM and nothing else. */
static void check_dimm(VFIOMachine *m, int from, const char *event,
                       const Request *dimm, int pieces)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);
    g_autoptr(GArray) array = requests(lines, from, event);

    g_assert_cmpint(array->len, ==, pieces);
    g_assert_cmpint(check_pieces(array, dimm, 1), ==, pieces);
}

static void check_plug_and_unplug(VFIOMachine *m, const Request *dimm,
                                  int map_pieces, int unmap_pieces)
{
    uint64_t before = pinned(m);
    int from = trace_length(m);

    plug_dimm(m, dimm->iova, dimm->size);
    check_dimm(m, from, MAP, dimm, map_pieces);
    g_assert_cmpuint(pinned(m), ==, before + dimm->size / KiB);

    from = trace_length(m);
    unplug_dimm(m);
    check_dimm(m, from, UNMAP, dimm, unmap_pieces);
    g_assert_cmpuint(pinned(m), ==, before);
}

/* Half of it is on each side; @mib is a multiple of 4, so both are aligned. */
static Request dimm_of(uint64_t mib)
{
    return (Request) { DIMM_BORDER - mib / 2 * MiB, mib * MiB };
}

/* Twice: anything left of the first would be in the way of the second. */
static void check_dimm_across_border(const char *properties, uint64_t mib,
                                     int map_pieces, int unmap_pieces,
                                     int parallel)
{
    VFIOMachine *m = start_with_device(properties, ROOM_FOR_DIMM);
    Request dimm = dimm_of(mib);
    int from = trace_length(m);
    g_auto(GStrv) lines = NULL;

    check_plug_and_unplug(m, &dimm, map_pieces, unmap_pieces);
    check_plug_and_unplug(m, &dimm, map_pieces, unmap_pieces);
    check_copy(m, 0x4000000);
    lines = vfio_machine_trace(m);
    g_assert_cmpint(vfio_trace_count(lines + from, PARALLEL), ==, parallel);
    vfio_machine_stop(m);
}

static void test_unmap_is_cut(void)
{
    check_dimm_across_border(",map-threads=2", 192, 192 / 8, 2, 4);
}

/* Whoever unmaps it may have more threads. */
static void test_one_thread_cuts_as_well(void)
{
    check_dimm_across_border(",map-threads=1", 192, 2, 1, 2);
}

/* Its areas must not cross the border either: more threads may unmap them. */
static void test_small_range_has_no_helper(void)
{
    uint64_t mib = IOMMUFD_PARALLEL_MIN / MiB - 4;

    check_dimm_across_border(",map-threads=2", mib, 2, 2, 0);
}

static void test_smallest_range_with_helper(void)
{
    uint64_t mib = IOMMUFD_PARALLEL_MIN / MiB;

    check_dimm_across_border(",map-threads=2", mib, mib / 8, 2, 4);
}

/* What other sections have stays, and a device goes on using it. */
static void test_failed_dimm_leaves_the_rest(void)
{
    VFIOMachine *m = start_with_device(",map-threads=2", ROOM_FOR_DIMM);
    Request dimm = dimm_of(192);
    int from = trace_length(m);
    uint64_t before = pinned(m);
    g_auto(GStrv) lines = NULL;
    g_autoptr(GArray) unmaps = NULL;

    limit_memlock(m->pid, VFIO_MACHINE_MEMORY + dimm.size / 2);
    plug_dimm(m, dimm.iova, dimm.size);
    vfio_machine_wait_map_error(m, "threads", dimm.iova, "RLIMIT_MEMLOCK");
    lines = vfio_machine_trace(m);
    check_undone(lines, from);
    unmaps = requests(lines, from, UNMAP);
    for (int i = 0; i < unmaps->len; i++) {
        g_assert_cmphex(request(unmaps, i)->iova, >=, dimm.iova);
    }
    g_assert_cmpuint(pinned(m), ==, before);

    check_copy(m, 0x8000000 - 0x700);

    limit_memlock(m->pid, VFIO_MACHINE_MEMORY + 2 * dimm.size);
    vfio_machine_cont(m);
    g_assert_cmpuint(pinned(m), ==, before + dimm.size / KiB);
    vfio_machine_stop(m);
}

/* The caller may be the thread of a pinned vCPU, which maps for its guest. */
static void test_caller_on_one_processor(void)
{
    VFIOMachine *m = start_with_device("", ROOM_FOR_DIMM);
    Request dimm = dimm_of(192);
    int from = trace_length(m);
    g_auto(GStrv) lines = NULL;
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(1, &one);
    g_assert_cmpint(sched_setaffinity(m->pid, sizeof(one), &one), ==, 0);
    plug_dimm(m, dimm.iova, dimm.size);
    lines = vfio_machine_trace(m);
    check_parallel(lines, from, MAP, 1);
    vfio_machine_stop(m);
}

/* The numbers of ioctls of each kind, and of ranges mapped in parallel */
static void check_counts(VFIOMachine *m, int from, int maps, int unmaps,
                         int parallel)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);

    g_assert_cmpint(vfio_trace_count(lines + from, MAP), ==, maps);
    g_assert_cmpint(vfio_trace_count(lines + from, UNMAP), ==, unmaps);
    g_assert_cmpint(vfio_trace_count(lines + from, PARALLEL), ==, parallel);
}

/* What a second address space copies */

/* Each device has one: the guest's IOMMU lets all pass. */
#define SPACES "-device virtio-iommu-pci,addr=" stringify(VIOMMU_SLOT)

static void add_another(VFIOMachine *m, int i)
{
    g_autofree char *name = g_strdup_printf("EDU%d", i);
    g_autofree char *option =
        g_strdup_printf("vfio-pci,host=%s,iommufd=threads,id=dev%d,addr=%d",
                        vfio_rig_address(name), i, SLOT + i);

    g_assert_null(vfio_machine_device_add(m, option));
}

static void check_another(VFIOMachine *m, int i)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT + i);

    vfio_edu_check_copy(edu, VFIO_MACHINE_MEMORY / 2 - 0x800, 0x123,
                        EDU_DMA_MAX);
    vfio_edu_free(edu);
}

/* Returns the number of copies since line @from. */
static int check_all_copied(VFIOMachine *m, int from, uint64_t pinned_before)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);

    g_assert_cmpint(vfio_trace_count(lines + from, MAP), ==, 0);
    g_assert_cmpuint(pinned(m), ==, pinned_before);
    return vfio_trace_count(lines + from, COPY);
}

static void test_copy_is_cut(void)
{
    VFIOMachine *m = start_with_device(",map-threads=2", SPACES);
    uint64_t before = pinned(m);
    int from = trace_length(m);
    g_auto(GStrv) lines = NULL;

    add_another(m, 1);
    g_assert_cmpint(check_all_copied(m, from, before), >, 0);
    lines = vfio_machine_trace(m);
    check_parallel(lines, from, COPY, 2);
    check_another(m, 1);
    vfio_machine_stop(m);
}

static void run_on(VFIOMachine *m, int processors)
{
    cpu_set_t some;

    CPU_ZERO(&some);
    for (int i = 0; i < processors; i++) {
        CPU_SET(i, &some);
    }
    g_assert_cmpint(sched_setaffinity(m->pid, sizeof(some), &some), ==, 0);
}

/* Only the first device has pinned firmware at both places where it is. */
static void check_still_pinned(VFIOMachine *m, uint64_t before)
{
    g_assert_cmpuint(pinned(m), <=, before);
    g_assert_cmpuint(pinned(m), >, before - MiB / KiB);
}

/* What was mapped in one piece is copied in many, and many pieces in one. */
static void test_copy_is_cut_otherwise(void)
{
    VFIOMachine *m = start_with_device("", ROOM_FOR_DIMM " " SPACES);
    int from = trace_length(m);
    uint64_t before;
    int pieces;

    run_on(m, 1);
    plug_dimm(m, DIMM_BORDER, 192 * MiB);
    before = pinned(m);
    check_counts(m, from, 1, 0, 0);

    from = trace_length(m);
    run_on(m, 2);
    add_another(m, 1);
    pieces = check_all_copied(m, from, before);

    from = trace_length(m);
    run_on(m, 1);
    add_another(m, 2);
    g_assert_cmpint(check_all_copied(m, from, before), <, pieces);

    vfio_machine_device_del(m, "dev0", SLOT);
    check_still_pinned(m, before);
    check_another(m, 1);
    vfio_machine_device_del(m, "dev1", SLOT + 1);
    check_still_pinned(m, before);
    check_another(m, 2);
    vfio_machine_stop(m);
}

/* What a guest's IOMMU maps */

#define DOMAIN 1

static void check_status(VIOMMU *v)
{
    for (int i = 0; i < VIOMMU_BATCH; i++) {
        g_assert_cmpint(viommu_status(v, i), ==, VIRTIO_IOMMU_S_OK);
    }
}

static void map_and_unmap_pages(VIOMMU *v)
{
    for (int i = 0; i < VIOMMU_BATCH; i++) {
        viommu_queue_map(v, DOMAIN, i * VIOMMU_PAGE, i * VIOMMU_PAGE,
                         VIOMMU_PAGE, VIOMMU_READ);
    }
    viommu_submit(v);
    check_status(v);
    for (int i = 0; i < VIOMMU_BATCH; i++) {
        viommu_queue_unmap(v, DOMAIN, i * VIOMMU_PAGE, VIOMMU_PAGE);
    }
    viommu_submit(v);
    check_status(v);
}

/*
 * A page is one ioctl.  A large range is mapped in parallel, and unmapped by
 * one ioctl: a guest's IOMMU also unmaps where there is nothing.
 */
static void test_guests_iommu(void)
{
    VFIOMachine *m = start(",map-threads=2", "-device virtio-iommu-pci,addr="
                           stringify(VIOMMU_SLOT) ",boot-bypass=off");
    uint64_t large = 2 * IOMMUFD_PARALLEL_MIN;
    VIOMMU *v;
    int from;

    g_assert_null(add_device(m));
    v = viommu_new(m, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(v, DOMAIN, VIOMMU_ENDPOINT(SLOT), 0), ==,
                    VIRTIO_IOMMU_S_OK);

    from = trace_length(m);
    map_and_unmap_pages(v);
    check_counts(m, from, VIOMMU_BATCH, VIOMMU_BATCH, 0);

    from = trace_length(m);
    g_assert_cmpint(viommu_map(v, DOMAIN, 0, 64 * MiB, large, VIOMMU_READ), ==,
                    VIRTIO_IOMMU_S_OK);
    check_counts(m, from, large / (8 * MiB), 0, 1);
    g_assert_cmpint(viommu_unmap(v, DOMAIN, 0, large), ==, VIRTIO_IOMMU_S_OK);
    check_counts(m, from, large / (8 * MiB), 1, 1);

    viommu_free(v);
    vfio_machine_stop(m);
}

/* A control group with a limit on processor time */

#define CGROUPS "/tmp/cgroup"
#define CGROUP CGROUPS "/limited"

static void make_cgroup(const char *quota_and_period)
{
    g_assert_cmpint(g_mkdir(CGROUPS, 0755), ==, 0);
    g_assert_cmpint(mount("cgroup2", CGROUPS, "cgroup2", 0, NULL), ==, 0);
    vfio_rig_write(CGROUPS "/cgroup.subtree_control", "+cpu");
    g_assert_cmpint(g_mkdir(CGROUP, 0755), ==, 0);
    vfio_rig_write(CGROUP "/cpu.max", quota_and_period);
}

static void remove_cgroup(void)
{
    g_assert_cmpint(g_rmdir(CGROUP), ==, 0);
    g_assert_cmpint(umount(CGROUPS), ==, 0);
    g_assert_cmpint(g_rmdir(CGROUPS), ==, 0);
}

static void put_into(const char *cgroup, VFIOMachine *m)
{
    g_autofree char *path = g_build_filename(cgroup, "cgroup.procs", NULL);
    g_autofree char *pid = g_strdup_printf("%d", m->pid);

    vfio_rig_write(path, pid);
}

/* Lines that report the map's progress; each is further than the one before */
static void check_progress(const char *path)
{
    g_autofree char *text = NULL;
    const char *line;
    int last = 0, count = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (line = text; *line; line = strchr(line, '\n') + 1) {
        int done, all, seconds, rate;

        g_assert_cmpint(sscanf(strstr(line, "iommufd"), "iommufd object "
                               "'threads': mapped %d of %d MiB after %d s, "
                               "%d MiB/s\n", &done, &all, &seconds, &rate),
                        ==, 4);
        g_assert_cmpint(done, >, last);
        g_assert_cmpint(done, <=, all);
        g_assert_cmpint(all, ==, VFIO_MACHINE_MEMORY / MiB - 1);
        g_assert_cmpint(seconds, >=, 5 * ++count);
        g_assert_cmpint(ABS(rate - done / seconds), <=, 1 + rate / 5);
        last = done;
    }
    g_assert_cmpint(count, >, 0);
}

/* The limit makes a map slow, and all threads wait together. */
static void test_with_little_time(void)
{
    g_autofree char *path = NULL;
    g_autofree char *options = NULL;
    g_auto(GStrv) lines = NULL;
    VFIOMachine *m;

    close(g_file_open_tmp("vfio-stderr-XXXXXX", &path, NULL));
    options = g_strdup_printf("2>>%s", path);
    m = start(",map-threads=2", options);
    make_cgroup("6000 100000");
    put_into(CGROUP, m);
    g_assert_null(add_device(m));
    put_into(CGROUPS, m);
    remove_cgroup();

    lines = vfio_machine_trace(m);
    check_parallel(lines, 0, MAP, 2);
    check_dma_across(m, vfio_trace_value(find_parallel(lines, 0), "chunk"));
    check_progress(path);
    vfio_machine_stop(m);
    g_unlink(path);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "parallel");
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);
    limit_memlock(0, RLIM_INFINITY);

#define ADD(name, fn) vfio_rig_add(name, VFIO_RIG_IOMMUFD_ONLY, fn)
    ADD("map/large-is-cut", test_large_map_is_cut);
    ADD("map/many-threads", test_many_threads);
    ADD("map/one-thread-maps-plainly", test_one_thread_maps_plainly);
    ADD("map/as-many-as-processors", test_as_many_as_processors);
    ADD("map/as-many-as-allowed-processors",
        test_as_many_as_allowed_processors);
    ADD("map/caller-on-one-processor", test_caller_on_one_processor);
    ADD("map/in-sandbox", test_in_sandbox);
    ADD("map/with-little-time", test_with_little_time);
    ADD("option/refused-numbers", test_refused_numbers);
    ADD("option/stays-while-in-use", test_stays_while_in_use);
    ADD("helpers/end", test_helpers_end);
    ADD("helpers/none-to-be-had", test_without_helpers);
    ADD("helpers/fewer-to-be-had", test_fewer_helpers);
    ADD("failure/is-undone", test_failure_is_undone);
    ADD("failure/leaves-the-rest", test_failed_dimm_leaves_the_rest);
    ADD("unmap/large-is-cut", test_unmap_is_cut);
    ADD("unmap/one-thread-cuts-as-well", test_one_thread_cuts_as_well);
    ADD("size/small-has-no-helper", test_small_range_has_no_helper);
    ADD("size/smallest-with-helper", test_smallest_range_with_helper);
    ADD("size/guests-iommu", test_guests_iommu);
    ADD("copy/is-cut", test_copy_is_cut);
    ADD("copy/is-cut-otherwise", test_copy_is_cut_otherwise);

    return g_test_run();
}
