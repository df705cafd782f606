/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest with passed-through devices that moves from one QEMU to another
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include "qapi/qmp/qdict.h"
#include "vfio-mig.h"

/* Where the rig has them */
#define NEWER "/opt/newer/qemu-system-x86_64"
#define HUGE "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

/* As small as can be */
#define FIRMWARE_SIZE (64 * KiB)

#define PAGE        4096
#define HUGE_PAGE   (2 * MiB)

/* Both know it, and all of its devices' states. */
#define MACHINE     "pc-i440fx-7.2"

/* Seconds that a move may take: the rig is emulated, and may be one of many. */
#define PATIENCE    600

/* Wrong pages that are named one by one */
#define NAMED       8

/* Which QEMU */

bool vfio_mig_is_ours(const char *variable)
{
    const char *which = g_getenv(variable) ?: "ours";

    g_assert_true(g_str_equal(which, "ours") || g_str_equal(which, "newer"));
    return g_str_equal(which, "ours");
}

bool vfio_mig_all_ours(void)
{
    return vfio_mig_is_ours("VFIO_TEST_FROM") &&
           vfio_mig_is_ours("VFIO_TEST_TO");
}

/* Descriptors, for the mode fd */

typedef struct Descriptors {
    bool wanted;
    GArray *fds;
} Descriptors;

static Descriptors descriptors_new(void)
{
    return (Descriptors) {
        .wanted = g_strcmp0(g_getenv("VFIO_TEST_MODE"), "fd") == 0,
        .fds = g_array_new(false, false, sizeof(int)),
    };
}

/* QEMU inherits it, under this number */
static int descriptors_open(Descriptors *d, const char *path)
{
    int fd = vfio_rig_open(path, O_RDWR);

    g_array_append_val(d->fds, fd);
    return fd;
}

static void descriptors_close(Descriptors *d)
{
    for (int i = 0; i < d->fds->len; i++) {
        close(g_array_index(d->fds, int, i));
    }
    g_array_unref(d->fds);
}

static char *cdev_node(const char *sysfs)
{
    g_autofree char *folder = g_build_filename(sysfs, "vfio-dev", NULL);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    g_assert_nonnull(dir);
    return g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(dir));
}

/* Options for QEMU */

char *vfio_mig_sysfs(const char *name)
{
    return g_strdup_printf("/sys/bus/pci/devices/%s", vfio_rig_address(name));
}

static void append_device(GString *options, const VFIOMigDevice *device, int i,
                          Descriptors *d)
{
    g_string_append(options, " -device vfio-pci,");
    if (d->wanted) {
        g_autofree char *node = cdev_node(device->sysfs);

        g_string_append_printf(options, "iommufd=" VFIO_RIG_IOMMUFD ",fd=%d",
                               descriptors_open(d, node));
    } else {
        g_string_append_printf(options, "sysfsdev=%s%s", device->sysfs,
                               vfio_rig_iommufd() ?
                               ",iommufd=" VFIO_RIG_IOMMUFD : "");
    }
    g_string_append_printf(options, ",id=dev%d,addr=%d,enable-migration=on%s%s",
                           i, VFIO_MIG_SLOT(i), device->properties ? "," : "",
                           device->properties ?: "");
}

static void append_devices(GString *options, const VFIOMigDevice *devices,
                           Descriptors *d)
{
    if (d->wanted) {
        g_string_append_printf(options,
                               " -object iommufd,id=" VFIO_RIG_IOMMUFD ",fd=%d",
                               descriptors_open(d, "/dev/iommu"));
    }
    for (int i = 0; devices[i].sysfs; i++) {
        g_assert_cmpint(i, <, VFIO_MIG_MOST);
        append_device(options, &devices[i], i, d);
    }
}

/* The guest's memory */

static char *file_of(VFIOMigSide *side, const char *name)
{
    return g_build_filename(side->folder, name, NULL);
}

static char *memory_file(VFIOMigSide *side)
{
    return file_of(side, side->huge ? "huge/memory" : "memory");
}

/* Let the host have more huge pages, or fewer. */
static void add_huge_pages(int64_t count)
{
    g_autofree char *text = NULL;
    g_autofree char *sum = NULL;

    g_assert_true(g_file_get_contents(HUGE, &text, NULL, NULL));
    sum = g_strdup_printf("%" PRId64, g_ascii_strtoll(text, NULL, 10) + count);
    vfio_rig_write(HUGE, sum);
}

static void mount_huge(VFIOMigSide *side)
{
    g_autofree char *folder = file_of(side, "huge");

    add_huge_pages(side->size / HUGE_PAGE);
    g_assert_cmpint(g_mkdir(folder, 0700), ==, 0);
    g_assert_cmpint(mount("none", folder, "hugetlbfs", 0, NULL), ==, 0);
}

static void unmount_huge(VFIOMigSide *side)
{
    g_autofree char *folder = file_of(side, "huge");

    g_assert_cmpint(umount(folder), ==, 0);
    g_assert_cmpint(g_rmdir(folder), ==, 0);
    add_huge_pages(-(int64_t)(side->size / HUGE_PAGE));
}

static void map_memory(VFIOMigSide *side)
{
    g_autofree char *path = memory_file(side);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, side->size), ==, 0);
    side->memory = mmap(NULL, side->size, PROT_READ | PROT_WRITE, MAP_SHARED,
                        fd, 0);
    g_assert_true(side->memory != MAP_FAILED);
    close(fd);
}

/* A processor that starts finds only the instruction that halts it. */
static void make_firmware(VFIOMigSide *side)
{
    g_autofree char *path = file_of(side, "firmware");
    g_autofree char *halts = g_malloc(FIRMWARE_SIZE);

    memset(halts, 0xf4, FIRMWARE_SIZE);
    g_assert_true(g_file_set_contents(path, halts, FIRMWARE_SIZE, NULL));
}

static void make_files(VFIOMigSide *side)
{
    side->folder = g_strdup("/dev/shm/vfio-mig-XXXXXX");
    g_assert_nonnull(g_mkdtemp(side->folder));
    make_firmware(side);
    if (side->huge) {
        mount_huge(side);
    }
    map_memory(side);
}

static void remove_files(VFIOMigSide *side)
{
    g_autofree char *memory = memory_file(side);
    g_autofree char *firmware = file_of(side, "firmware");
    g_autofree char *socket = file_of(side, "socket");

    munmap(side->memory, side->size);
    g_unlink(memory);
    if (side->huge) {
        unmount_huge(side);
    }
    g_unlink(firmware);
    g_unlink(socket);
    g_assert_cmpint(g_rmdir(side->folder), ==, 0);
    g_free(side->folder);
}

void vfio_mig_fill(VFIOMigSide *side)
{
    uint64_t *word = (uint64_t *)(side->memory + VFIO_MIG_FREE);
    uint64_t *end = (uint64_t *)(side->memory + side->size);
    uint64_t x = (uint64_t)g_test_rand_int() << 32 | 1;

    /* xorshift: random enough for pages that must not be alike */
    for (; word < end; word++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *word = x;
    }
}

/* Sides */

static VFIOMachine *start_machine(const char *variable, const char *options)
{
    g_autofree char *ours = g_strdup(g_getenv("QTEST_QEMU_BINARY"));
    VFIOMachine *m;

    if (!vfio_mig_is_ours(variable)) {
        g_setenv("QTEST_QEMU_BINARY", NEWER, true);
    }
    m = vfio_machine_start("%s", options);
    g_setenv("QTEST_QEMU_BINARY", ours, true);
    return m;
}

static char *machine_options(VFIOMigSide *side, const VFIOMigOptions *options)
{
    g_autofree char *memory = memory_file(side);
    g_autofree char *firmware = options->boots ? g_strdup("") :
        g_strdup_printf(" -bios %s/firmware", side->folder);

    return g_strdup_printf("-machine " MACHINE ",memory-backend=pc.ram "
                           "-m size=%" PRIu64 "B -object memory-backend-file,"
                           "id=pc.ram,size=%" PRIu64 ",mem-path=%s,share=on"
                           "%s%s", side->size, side->size, memory, firmware,
                           options->incoming ? " -incoming defer -S" : "");
}

void vfio_mig_set_capability(VFIOMigSide *side, const char *capability, bool on)
{
    qtest_qmp_assert_success(side->machine->qts,
                             "{ 'execute': 'migrate-set-capabilities',"
                             " 'arguments': { 'capabilities': ["
                             " { 'capability': %s, 'state': %i } ] } }",
                             capability, on);
}

VFIOMigSide *vfio_mig_start(const VFIOMigDevice *devices,
                            const VFIOMigOptions *options)
{
    VFIOMigSide *side = g_new0(VFIOMigSide, 1);
    g_autoptr(GString) text = NULL;
    g_autofree char *machine = NULL;
    Descriptors d = descriptors_new();

    side->size = options->memory ?: VFIO_MIG_MEMORY;
    side->huge = options->huge;
    make_files(side);
    machine = machine_options(side, options);
    text = g_string_new(machine);
    append_devices(text, devices, &d);
    g_string_append_printf(text, " %s", options->more ?: "");

    side->machine = start_machine(options->variable, text->str);
    descriptors_close(&d);
    vfio_mig_set_capability(side, "events", true);
    return side;
}

void vfio_mig_stop(VFIOMigSide *side)
{
    vfio_machine_stop(side->machine);
    remove_files(side);
    g_free(side);
}

void vfio_mig_abandon(VFIOMigSide *side)
{
    vfio_machine_abandon(side->machine);
    vfio_mig_stop(side);
}

/* Migration */

void vfio_mig_set(VFIOMigSide *side, const char *parameter, int64_t value)
{
    QDict *arguments = qdict_new();

    qdict_put_int(arguments, parameter, value);
    qtest_qmp_assert_success(side->machine->qts,
                             "{ 'execute': 'migrate-set-parameters',"
                             " 'arguments': %p }", arguments);
}

char **vfio_mig_events(VFIOMigSide *side)
{
    g_autoptr(GPtrArray) events = g_ptr_array_new();
    QDict *event;

    qobject_unref(vfio_mig_query(side));    /* reads what came before it */
    while ((event = qtest_qmp_event_ref(side->machine->qts,
                                        "VFIO_MIGRATION"))) {
        QDict *data = qdict_get_qdict(event, "data");
        char *text = g_strdup_printf("%s %s", qdict_get_str(data, "device-id"),
                                     qdict_get_str(data, "device-state"));

        g_test_message("%s", text);
        g_ptr_array_add(events, text);
        qobject_unref(event);
    }
    g_ptr_array_add(events, NULL);
    return (char **)g_ptr_array_free(g_steal_pointer(&events), false);
}

double vfio_mig_time_of_event(VFIOMigSide *side, const char *name,
                              const char *status)
{
    double seconds = 0;
    QDict *event;

    qobject_unref(vfio_mig_query(side));    /* reads what came before it */
    while ((event = qtest_qmp_event_ref(side->machine->qts, name))) {
        QDict *data = qdict_get_qdict(event, "data");
        QDict *time = qdict_get_qdict(event, "timestamp");

        if (!status || g_str_equal(qdict_get_str(data, "status"), status)) {
            seconds = qdict_get_int(time, "seconds") +
                      qdict_get_int(time, "microseconds") / 1e6;
        }
        qobject_unref(event);
    }
    g_assert_cmpfloat(seconds, >, 0);
    return seconds;
}

char *vfio_mig_listen(VFIOMigSide *to)
{
    char *path = g_build_filename(to->folder, "socket", NULL);
    g_autofree char *argument = g_strdup_printf("uri=unix:%s", path);

    g_assert_null(vfio_machine_qmp_error(to->machine, "migrate-incoming",
                                         argument));
    return path;
}

char *vfio_mig_begin_to(VFIOMigSide *from, const char *path)
{
    g_autofree char *argument = g_strdup_printf("uri=unix:%s", path);

    g_strfreev(vfio_mig_events(from));
    vfio_mig_set_capability(from, "return-path", true);
    return vfio_machine_qmp_error(from->machine, "migrate", argument);
}

char *vfio_mig_begin_error(VFIOMigSide *from, VFIOMigSide *to)
{
    g_autofree char *path = vfio_mig_listen(to);

    return vfio_mig_begin_to(from, path);
}

void vfio_mig_begin(VFIOMigSide *from, VFIOMigSide *to)
{
    g_assert_null(vfio_mig_begin_error(from, to));
}

/* Nothing answers: 7.2 waits for the answer all the same, and ends with its end. */
void vfio_mig_begin_saving(VFIOMigSide *from, const char *path)
{
    g_autofree char *argument = g_strdup_printf("uri=exec:cat >%s", path);

    vfio_mig_set_capability(from, "return-path", false);
    g_assert_null(vfio_machine_qmp_error(from->machine, "migrate", argument));
}

void vfio_mig_save(VFIOMigSide *from, const char *path)
{
    vfio_mig_begin_saving(from, path);
    vfio_mig_wait(from, "completed");
}

void vfio_mig_load(VFIOMigSide *to, const char *path)
{
    g_autofree char *argument = g_strdup_printf("uri=exec:cat %s", path);

    g_assert_null(vfio_machine_qmp_error(to->machine, "migrate-incoming",
                                         argument));
    vfio_mig_wait(to, "completed");
}

QDict *vfio_mig_query(VFIOMigSide *side)
{
    QDict *reply = qtest_qmp(side->machine->qts,
                             "{ 'execute': 'query-migrate' }");
    QDict *info = qdict_get_qdict(reply, "return");

    g_assert_nonnull(info);
    qobject_ref(info);
    qobject_unref(reply);
    return info;
}

char *vfio_mig_status(VFIOMigSide *side)
{
    QDict *info = vfio_mig_query(side);
    char *status = g_strdup(qdict_get_try_str(info, "status") ?: "");

    qobject_unref(info);
    return status;
}

int64_t vfio_mig_ram(VFIOMigSide *side, const char *member)
{
    QDict *info = vfio_mig_query(side);
    QDict *ram = qdict_get_qdict(info, "ram");
    int64_t value = ram ? qdict_get_int(ram, member) : 0;

    qobject_unref(info);
    return value;
}

static bool has_ended(const char *status)
{
    return g_str_equal(status, "completed") || g_str_equal(status, "failed") ||
           g_str_equal(status, "cancelled");
}

/* The status says that it is over a moment before the run state does. */
static const char *status_in(VFIOMigSide *side, QDict *info)
{
    const char *status = qdict_get_try_str(info, "status") ?: "";

    return has_ended(status) &&
           vfio_machine_has_run_state(side->machine, "finish-migrate")
           ? "" : status;
}

/* Whether it is; why it ended in another way is in the test's log. */
static bool has_status(VFIOMigSide *side, const char *wanted)
{
    QDict *info = vfio_mig_query(side);
    const char *status = status_in(side, info);
    bool is = g_str_equal(status, wanted);

    if (!is && has_ended(status)) {
        g_error("the move should become %s, and has %s: %s", wanted, status,
                qdict_get_try_str(info, "error-desc") ?: "no reason is given");
    }
    qobject_unref(info);
    return is;
}

void vfio_mig_wait(VFIOMigSide *side, const char *status)
{
    g_assert_true(vfio_rig_wait_for(PATIENCE, has_status(side, status)));
}

/* Whether it has ended; @reason becomes NULL if the guest has moved. */
static bool has_ended_for(VFIOMigSide *from, char **reason)
{
    QDict *info = vfio_mig_query(from);
    const char *status = status_in(from, info);
    const char *description = qdict_get_try_str(info, "error-desc");
    bool ended = has_ended(status);

    *reason = ended && !g_str_equal(status, "completed")
              ? g_strdup(description ?: status) : NULL;
    qobject_unref(info);
    return ended;
}

bool vfio_mig_wait_end(VFIOMigSide *from, char **reason)
{
    g_assert_true(vfio_rig_wait_for(PATIENCE, has_ended_for(from, reason)));
    g_test_message("the guest %s%s", *reason ? "stays: " : "has moved",
                   *reason ?: "");
    return !*reason;
}

/* 7.2 shuts the socket first, so it may find that as a failure. */
void vfio_mig_cancel(VFIOMigSide *from)
{
    g_autofree char *reason = NULL;

    qtest_qmp_assert_success(from->machine->qts,
                             "{ 'execute': 'migrate_cancel' }");
    g_assert_false(vfio_mig_wait_end(from, &reason));
}

void vfio_mig_wait_moved(VFIOMigSide *from, VFIOMigSide *to)
{
    vfio_mig_wait(from, "completed");
    vfio_mig_wait(to, "completed");
    vfio_machine_check_run_state(from->machine, "postmigrate");
    vfio_machine_check_run_state(to->machine, "paused");
}

void vfio_mig_go_on(VFIOMigSide *side)
{
    vfio_machine_cont(side->machine);
}

/* What came */

static void describe_page(VFIOMigSide *from, VFIOMigSide *to, uint64_t at)
{
    uint64_t end = at + PAGE;

    while (from->memory[at] == to->memory[at]) {
        at++;
    }
    while (from->memory[end - 1] == to->memory[end - 1]) {
        end--;
    }
    g_test_message("from 0x%" PRIx64 " to 0x%" PRIx64 ": 0x%02x became 0x%02x",
                   at, end - 1, from->memory[at], to->memory[at]);
}

uint64_t vfio_mig_count_wrong_pages(VFIOMigSide *from, VFIOMigSide *to)
{
    uint64_t wrong = 0;

    g_assert_cmpuint(from->size, ==, to->size);
    for (uint64_t at = 0; at < from->size; at += PAGE) {
        if (memcmp(from->memory + at, to->memory + at, PAGE) == 0) {
            continue;
        }
        if (wrong++ < NAMED) {
            describe_page(from, to, at);
        }
    }
    return wrong;
}

void vfio_mig_check_memory(VFIOMigSide *from, VFIOMigSide *to)
{
    g_assert_cmpuint(vfio_mig_count_wrong_pages(from, to), ==, 0);
}

int64_t vfio_mig_device_bytes(VFIOMigSide *from)
{
    QDict *info = vfio_mig_query(from);
    QDict *vfio = qdict_get_qdict(info, "vfio");
    int64_t bytes = vfio ? qdict_get_int(vfio, "transferred") : 0;

    qobject_unref(info);
    return bytes;
}
