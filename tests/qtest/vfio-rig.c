/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO tests in the rig: what the rig offers, and a QEMU that uses it
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>
#include <sys/prctl.h>
#include <sys/utsname.h>

#include "hw/pci/pci_regs.h"
#include "libqos/pci-pc.h"
#include "qapi/error.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qnum.h"
#include "qemu/bswap.h"
#include "qemu/cutils.h"
#include "qemu/sockets.h"
#include "vfio-rig.h"

/* Seconds after which a QEMU is ended that should have refused to start */
#define REFUSAL_TIMEOUT 60

#define ORDINARY_USER 1000

static const char *rig_program;
static const char *rig_used;    /* set by vfio_rig_use() */

static const char *rig_mode(void)
{
    const char *mode = g_getenv("VFIO_TEST_MODE");

    g_assert(!mode || g_str_equal(mode, "legacy") ||
             g_str_equal(mode, "iommufd") || g_str_equal(mode, "both") ||
             g_str_equal(mode, "fd"));
    return mode;
}

void vfio_rig_use(const char *mode)
{
    g_assert_cmpstr(rig_mode(), ==, "both");
    rig_used = mode;
}

bool vfio_rig_iommufd(void)
{
    return g_strcmp0(rig_used ?: rig_mode(), "iommufd") == 0;
}

bool vfio_rig_later(void)
{
    return g_getenv("VFIO_TEST_BACKGROUND") != NULL;
}

bool vfio_rig_kernel_is(const char *kernel)
{
    return g_str_equal(g_getenv("VFIO_TEST_KERNEL") ?: "plain", kernel);
}

bool vfio_rig_linux_since(int major, int minor)
{
    struct utsname name;
    int has_major, has_minor;

    g_assert_cmpint(uname(&name), ==, 0);
    g_assert_cmpint(sscanf(name.release, "%d.%d", &has_major, &has_minor), ==,
                    2);
    return has_major > major || (has_major == major && has_minor >= minor);
}

bool vfio_rig_reaches_bars(void)
{
    return !vfio_rig_iommufd() || vfio_rig_linux_since(6, 19);
}

const VFIORigIommu *vfio_rig_iommu(void)
{
    /* AMD's leaves out what HyperTransport has at the end of the first TiB. */
    static const VFIORigIommu iommus[] = {
        { "intel", "intel-vtd", 1ULL << 39, 0, false },
        { "amd", "unnamed", 0xfd00000000, 1ULL << 40, true },
        { "virtio", "unnamed", 0, 0, true },
    };
    const char *name = g_getenv("VFIO_TEST_IOMMU") ?: "intel";

    for (int i = 0; i < ARRAY_SIZE(iommus); i++) {
        if (g_str_equal(name, iommus[i].name)) {
            return &iommus[i];
        }
    }
    g_assert_not_reached();
}

uint64_t vfio_rig_number(const char *name, uint64_t otherwise)
{
    const char *text = g_getenv(name);

    return text ? g_ascii_strtoull(text, NULL, 0) : otherwise;
}

static void skip_outside_rig(void)
{
    g_test_skip("VFIO_TEST_MODE is not set: this needs the rig's devices");
}

void vfio_rig_init(int *argc, char ***argv, const char *program)
{
    g_test_init(argc, argv, NULL);
    rig_program = program;

    if (!rig_mode()) {
        g_autofree char *path = g_strdup_printf("/vfio/%s", program);

        qtest_add_func(path, skip_outside_rig);
    }
}

/* The path of a test, NULL if it is not for the rig's mode */
static char *rig_path(const char *name, VFIORigModes modes)
{
    if (!rig_mode() ||
        modes == (vfio_rig_iommufd() ? VFIO_RIG_LEGACY_ONLY
                                     : VFIO_RIG_IOMMUFD_ONLY)) {
        return NULL;
    }
    return g_strdup_printf("/vfio/%s/%s/%s", rig_program, rig_mode(), name);
}

void vfio_rig_add(const char *name, VFIORigModes modes, void (*fn)(void))
{
    g_autofree char *path = rig_path(name, modes);

    if (path) {
        qtest_add_func(path, fn);
    }
}

void vfio_rig_add_data(const char *name, VFIORigModes modes,
                       void (*fn)(const void *data), const void *data)
{
    g_autofree char *path = rig_path(name, modes);

    if (path) {
        qtest_add_data_func(path, data, fn);
    }
}

/* Devices of the rig */

/*
 * To a virtio-iommu, what is behind a conventional bridge is not there, and has
 * no group.  There, two functions of a slot stand for PAIR0 and PAIR1, which
 * share one as well.
 */
static const char *stand_in(const char *name)
{
    static const char *const functions[] = { "MULTI0", "MULTI1" };
    bool has_group = !g_str_equal(vfio_rig_iommu()->name, "virtio");

    return g_str_has_prefix(name, "PAIR") && !has_group
           ? functions[name[4] - '0'] : name;
}

const char *vfio_rig_address(const char *name)
{
    g_autofree char *variable = g_strdup_printf("VFIO_TEST_%s", stand_in(name));
    const char *address = g_getenv(variable);

    if (!address) {
        g_error("%s is not set", variable);
    }
    return address;
}

static const char *iommufd_options(void)
{
    return !vfio_rig_iommufd() ? "" :
           vfio_rig_later()
           ? ",iommufd=" VFIO_RIG_IOMMUFD ",map-in-background=on"
           : ",iommufd=" VFIO_RIG_IOMMUFD;
}

const char *vfio_rig_device(const char *name)
{
    g_autofree char *device =
        g_strdup_printf("vfio-pci,host=%s%s", vfio_rig_address(name),
                        iommufd_options());

    return g_intern_string(device);
}

char *vfio_rig_sysfs(const char *name, const char *file)
{
    return g_strdup_printf("/sys/bus/pci/devices/%s/%s",
                           vfio_rig_address(name), file);
}

uint16_t vfio_rig_command(const char *name)
{
    g_autofree char *path = vfio_rig_sysfs(name, "config");
    int fd = open(path, O_RDONLY);
    uint16_t command;

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(pread(fd, &command, 2, PCI_COMMAND), ==, 2);
    close(fd);
    return le16_to_cpu(command);
}

char *vfio_rig_group_node(const char *name)
{
    g_autofree char *link = vfio_rig_sysfs(name, "iommu_group");
    g_autofree char *group = g_file_read_link(link, NULL);
    g_autofree char *number = NULL;

    g_assert_nonnull(group);
    number = g_path_get_basename(group);
    return g_strdup_printf("/dev/vfio/%s", number);
}

char *vfio_rig_cdev_node(const char *name)
{
    g_autofree char *folder = vfio_rig_sysfs(name, "vfio-dev");
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);

    g_assert_nonnull(dir);
    return g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(dir));
}

/* Nodes and files */

char *vfio_rig_monitor_node(void)
{
    g_autoptr(GDir) dir = g_dir_open("/sys/class/virtio-ports", 0, NULL);
    const char *port;

    while (dir && (port = g_dir_read_name(dir))) {
        g_autofree char *file =
            g_strdup_printf("/sys/class/virtio-ports/%s/name", port);
        g_autofree char *name = NULL;

        if (g_file_get_contents(file, &name, NULL, NULL) &&
            g_str_equal(g_strstrip(name), "monitor")) {
            return g_strdup_printf("/dev/%s", port);
        }
    }
    g_assert_not_reached();
}

int vfio_rig_open(const char *path, int flags)
{
    int fd = open(path, flags);

    if (fd < 0) {
        g_error("%s: %s", path, g_strerror(errno));
    }
    return fd;
}

void vfio_rig_write(const char *path, const char *text)
{
    int fd = vfio_rig_open(path, O_WRONLY | O_CLOEXEC);

    if (write(fd, text, strlen(text)) != strlen(text)) {
        g_error("writing '%s' to %s: %s", text, path, g_strerror(errno));
    }
    close(fd);
}

void vfio_rig_unbind(const char *name)
{
    g_autofree char *file = vfio_rig_sysfs(name, "driver/unbind");

    if (g_file_test(file, G_FILE_TEST_EXISTS)) {
        vfio_rig_write(file, vfio_rig_address(name));
    }
}

void vfio_rig_bind(const char *name, const char *driver)
{
    g_autofree char *override = vfio_rig_sysfs(name, "driver_override");

    vfio_rig_unbind(name);
    vfio_rig_write(override, driver);
    vfio_rig_write("/sys/bus/pci/drivers_probe", vfio_rig_address(name));
}

/* The disk that nvme found on the device, NULL if there is none (yet) */
static char *nvme_disk(const char *name)
{
    g_autofree char *folder = vfio_rig_sysfs(name, "nvme");
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *entry = dir ? g_dir_read_name(dir) : NULL;
    g_autofree char *disk = g_strdup_printf("/dev/%sn1", entry ?: "absent");

    return g_file_test(disk, G_FILE_TEST_EXISTS) ? g_steal_pointer(&disk)
                                                 : NULL;
}

void vfio_rig_check_nvme_reads(const char *name)
{
    g_autofree char *disk = NULL;
    char data[512];
    int fd;

    g_assert_true(vfio_rig_wait((disk = nvme_disk(name)) != NULL));
    fd = vfio_rig_open(disk, O_RDONLY);
    g_assert_cmpint(read(fd, data, sizeof(data)), ==, sizeof(data));
    close(fd);
}

static char *hidden(const char *path)
{
    return g_strconcat(path, ".hidden", NULL);
}

void vfio_rig_hide(const char *path)
{
    g_autofree char *away = hidden(path);

    g_assert_cmpint(g_rename(path, away), ==, 0);
}

void vfio_rig_show(const char *path)
{
    g_autofree char *away = hidden(path);

    g_assert_cmpint(g_rename(away, path), ==, 0);
}

/* What QEMU writes */

char *vfio_rig_log_new(void)
{
    char *path = NULL;
    int fd = g_file_open_tmp("vfio-log-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    close(fd);
    return path;
}

void vfio_rig_log_free(char *path)
{
    g_unlink(path);
    g_free(path);
}

/* Only who appends goes on writing at the beginning. */
char *vfio_rig_log_take(const char *path)
{
    char *text;
    gsize size;

    g_assert_true(g_file_get_contents(path, &text, &size, NULL));
    g_assert_cmpint(strlen(text), ==, size);
    g_test_message("QEMU said: %s", text);
    g_assert_cmpint(truncate(path, 0), ==, 0);
    return text;
}

int vfio_rig_count_lines(const char *text)
{
    int count = 0;

    for (; *text; text++) {
        count += *text == '\n';
    }
    return count;
}

/* Users */

/*
 * The saved user ID stays root's, for the way back; programs that are started
 * do not keep it.
 */
void vfio_rig_be_ordinary(void)
{
    g_assert_cmpint(setresuid(ORDINARY_USER, ORDINARY_USER, 0), ==, 0);
}

void vfio_rig_be_root(void)
{
    g_assert_cmpint(setresuid(0, 0, 0), ==, 0);
}

/* QEMUs that are meant to end */

/*
 * Called in the process that is to become QEMU.  What ends it after a while
 * ends with it, and holds none of its descriptors: timeout(1) of busybox holds
 * a device's for up to a second after QEMU has ended, and nobody can bind it.
 */
static void limit_time(gpointer unused)
{
    pid_t qemu = getpid();

    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close_range(0, ~0U, 0);
        if (getppid() == qemu) {
            sleep(REFUSAL_TIMEOUT);
            kill(qemu, SIGKILL);
        }
        _exit(0);
    }
}

int vfio_rig_run_qemu(const char *options, char **out, char **err)
{
    g_autofree char *command =
        g_strdup_printf("%s -accel qtest -display none %s",
                        g_getenv("QTEST_QEMU_BINARY"), options);
    g_auto(GStrv) argv = NULL;
    g_autoptr(GError) error = NULL;
    GSpawnFlags flags = G_SPAWN_SEARCH_PATH | G_SPAWN_LEAVE_DESCRIPTORS_OPEN;
    int status;

    g_test_message("running %s", command);
    g_shell_parse_argv(command, NULL, &argv, &error);
    g_assert_no_error(error);
    g_spawn_sync(NULL, argv, NULL, flags, limit_time, NULL, out, err, &status,
                 &error);
    g_assert_no_error(error);

    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/*
 * A message begins with the program's name; the lines after it need not.  How
 * far a map is, which is said where a machine is slow, is information.
 */
static int count_messages(const char *text)
{
    g_autofree char *program =
        g_path_get_basename(g_getenv("QTEST_QEMU_BINARY"));
    g_autofree char *prefix = g_strdup_printf("%s: ", program);
    g_autofree char *information = g_strdup_printf("%s: info: ", program);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int count = 0;

    for (char **line = lines; *line; line++) {
        count += g_str_has_prefix(*line, prefix) &&
                 !g_str_has_prefix(*line, information);
    }
    return count;
}

void vfio_rig_check_refusal(int status, const char *err)
{
    g_test_message("status %d, it wrote: %s", status, err);
    g_assert_cmpint(status, ==, 1);
    g_assert_cmpint(count_messages(err), ==, 1);
}

/* A QEMU under test */

static pid_t read_pid(const char *dir)
{
    g_autofree char *path = g_build_filename(dir, "pid", NULL);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return atoi(text);
}

VFIOMachine *vfio_machine_start(const char *fmt, ...)
{
    VFIOMachine *m = g_new0(VFIOMachine, 1);
    g_autofree char *options = NULL;
    va_list ap;

    va_start(ap, fmt);
    options = g_strdup_vprintf(fmt, ap);
    va_end(ap);

    m->dir = g_dir_make_tmp("vfio-XXXXXX", NULL);
    g_assert_nonnull(m->dir);
    m->qts = qtest_initf("-machine pc -m size=%" PRIu64 "B -nodefaults "
                         "-pidfile %s/pid -D %s/trace "
                         "-trace 'enable=vfio_*' -trace 'enable=iommufd_*' "
                         "-chardev socket,id=hmp,path=%s/hmp,server=on,"
                         "wait=off "
                         "-mon hmp,mode=readline %s %s",
                         VFIO_MACHINE_MEMORY, m->dir, m->dir, m->dir,
                         vfio_rig_iommufd() ?
                         "-object iommufd,id=" VFIO_RIG_IOMMUFD : "",
                         options);
    m->pid = read_pid(m->dir);
    m->monitor = -1;
    m->pci = qpci_new_pc(m->qts, NULL);
    return m;
}

static char *monitor_path(VFIOMachine *m)
{
    return g_build_filename(m->dir, "hmp", NULL);
}

/* What the monitor writes until it prompts for a command */
static char *monitor_read(VFIOMachine *m)
{
    GString *text = g_string_new(NULL);
    char buffer[4096];

    while (!g_str_has_suffix(text->str, "(qemu) ")) {
        ssize_t length = read(m->monitor, buffer, sizeof(buffer));

        g_assert_cmpint(length, >, 0);
        g_string_append_len(text, buffer, length);
    }
    return g_string_free(text, false);
}

char *vfio_machine_monitor(VFIOMachine *m, const char *command)
{
    g_autofree char *line = g_strdup_printf("%s\n", command);

    if (m->monitor < 0) {
        g_autofree char *path = monitor_path(m);

        m->monitor = unix_connect(path, &error_abort);
        g_free(monitor_read(m));
    }
    g_assert_cmpint(write(m->monitor, line, strlen(line)), ==, strlen(line));
    return monitor_read(m);
}

void vfio_machine_stop(VFIOMachine *m)
{
    g_autofree char *trace = g_build_filename(m->dir, "trace", NULL);
    g_autofree char *monitor = monitor_path(m);

    if (m->monitor >= 0) {
        close(m->monitor);
    }
    qpci_free_pc(m->pci);
    qtest_quit(m->qts);
    g_unlink(trace);
    g_unlink(monitor);
    g_rmdir(m->dir);
    g_free(m->dir);
    g_free(m);
}

void vfio_machine_abandon(VFIOMachine *m)
{
    siginfo_t end;

    g_assert_cmpint(kill(m->pid, SIGTERM), ==, 0);
    g_assert_cmpint(waitid(P_PID, m->pid, &end, WEXITED | WNOWAIT), ==, 0);
    if (end.si_code == CLD_EXITED && end.si_status == EXIT_FAILURE) {
        qtest_set_expected_status(m->qts, EXIT_FAILURE);
    }
}

/* "key=value,..." in the form that QMP needs */
static QDict *parse_arguments(const char *text)
{
    g_auto(GStrv) pairs = g_strsplit(text, ",", -1);
    QDict *arguments = qdict_new();

    for (char **pair = pairs; *pair; pair++) {
        g_auto(GStrv) words = g_strsplit(*pair, "=", 2);

        g_assert_nonnull(words[1]);
        qdict_put_str(arguments, words[0], words[1]);
    }
    return arguments;
}

char *vfio_reply_error(QDict *reply)
{
    QDict *error = qdict_get_qdict(reply, "error");
    char *text = NULL;

    if (error) {
        text = g_strdup(qdict_get_str(error, "desc"));
        g_test_message("refused: %.500s", text);
    } else {
        g_assert_true(qdict_haskey(reply, "return"));
    }
    qobject_unref(reply);
    return text;
}

char *vfio_machine_qmp_error(VFIOMachine *m, const char *command,
                             const char *arguments)
{
    g_test_message("%s %s", command, arguments);
    return vfio_reply_error(qtest_qmp(m->qts, "{ 'execute': %s,"
                                      " 'arguments': %p }", command,
                                      parse_arguments(arguments)));
}

char *vfio_machine_device_add(VFIOMachine *m, const char *device)
{
    g_autofree char *arguments = g_strdup_printf("driver=%s", device);

    return vfio_machine_qmp_error(m, "device_add", arguments);
}

void vfio_machine_device_del(VFIOMachine *m, const char *id, int slot)
{
    qpci_unplug_acpi_device_test(m->qts, id, slot);
}

void vfio_machine_reset(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(m->qts, "RESET");
}

/*
 * What a process has open, one entry for each descriptor, sorted.  Files on the
 * process itself are left out: QEMU keeps none open, but a thread of TSan reads
 * /proc/PID/maps at any moment.
 */
static GPtrArray *descriptors_of(pid_t pid)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", pid);
    g_autofree char *itself = g_strdup_printf("/proc/%d/", pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    GPtrArray *targets = g_ptr_array_new_with_free_func(g_free);
    const char *name;

    g_assert_nonnull(dir);
    while ((name = g_dir_read_name(dir))) {
        g_autofree char *path = g_build_filename(folder, name, NULL);
        char *target = g_file_read_link(path, NULL);

        if (target && !g_str_has_prefix(target, itself)) {
            g_ptr_array_add(targets, target);
        } else {
            g_free(target);
        }
    }
    g_ptr_array_sort(targets, (GCompareFunc)qemu_pstrcmp0);
    return targets;
}

static char *run_state(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-status' }");
    char *state = g_strdup(qdict_get_str(qdict_get_qdict(reply, "return"),
                                         "status"));

    qobject_unref(reply);
    return state;
}

bool vfio_machine_has_run_state(VFIOMachine *m, const char *state)
{
    g_autofree char *now = run_state(m);

    return g_str_equal(now, state);
}

void vfio_machine_check_run_state(VFIOMachine *m, const char *state)
{
    g_autofree char *now = run_state(m);

    g_assert_cmpstr(now, ==, state);
}

uint64_t vfio_map_error_number(QDict *data, const char *name)
{
    return qnum_get_uint(qobject_to(QNum, qdict_get(data, name)));
}

QDict *vfio_machine_map_error(VFIOMachine *m)
{
    QDict *event = qtest_qmp_eventwait_ref(m->qts, "IOMMUFD_MAP_ERROR");
    QDict *data = qobject_ref(qdict_get_qdict(event, "data"));

    g_assert_cmphex(vfio_map_error_number(data, "size"), ==,
                    vfio_map_error_number(data, "last") -
                    vfio_map_error_number(data, "iova") + 1);
    g_assert_cmpstr(qdict_get_str(data, "memory"), !=, "");
    qobject_unref(event);
    return data;
}

void vfio_machine_wait_map_error(VFIOMachine *m, const char *object,
                                 uint64_t iova, const char *reason)
{
    QDict *data = vfio_machine_map_error(m);

    g_assert_cmpstr(qdict_get_str(data, "id"), ==, object);
    g_assert_cmphex(vfio_map_error_number(data, "iova"), ==, iova);
    g_assert_nonnull(strstr(qdict_get_str(data, "reason"), reason));
    qobject_unref(data);
    qtest_qmp_eventwait(m->qts, "STOP");
    vfio_machine_check_run_state(m, "io-error");
}

void vfio_machine_cont(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
    vfio_machine_check_run_state(m, "running");
}

int vfio_rig_holds(pid_t pid, const char *path)
{
    g_autoptr(GPtrArray) targets = descriptors_of(pid);
    int count = 0;

    for (int i = 0; i < targets->len; i++) {
        count += g_strcmp0(g_ptr_array_index(targets, i), path) == 0;
    }
    return count;
}

int vfio_machine_holds(VFIOMachine *m, const char *path)
{
    return vfio_rig_holds(m->pid, path);
}

char *vfio_machine_number(VFIOMachine *m, const char *path)
{
    g_autofree char *folder = g_strdup_printf("/proc/%d/fd", m->pid);
    g_autoptr(GDir) dir = g_dir_open(folder, 0, NULL);
    const char *number;

    g_assert_nonnull(dir);
    while ((number = g_dir_read_name(dir))) {
        g_autofree char *link = g_build_filename(folder, number, NULL);
        g_autofree char *target = g_file_read_link(link, NULL);

        if (g_strcmp0(target, path) == 0) {
            return g_strdup(number);
        }
    }
    return NULL;
}

static void append_children(GString *text, VFIOMachine *m, const char *path)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'qom-list',"
                             " 'arguments': { 'path': %s } }", path);
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *child = qobject_to(QDict, qlist_entry_obj(entry));

        g_string_append_printf(text, "%s/%s\n", path,
                               qdict_get_str(child, "name"));
    }
    qobject_unref(reply);
}

char *vfio_machine_state(VFIOMachine *m)
{
    g_autoptr(GPtrArray) targets = descriptors_of(m->pid);
    GString *text = g_string_new(NULL);

    append_children(text, m, "/machine/peripheral");
    append_children(text, m, "/objects");
    for (int i = 0; i < targets->len; i++) {
        g_string_append_printf(text, "%s\n",
                               (char *)g_ptr_array_index(targets, i));
    }
    return g_string_free(text, false);
}

uint64_t vfio_machine_status(VFIOMachine *m, const char *name)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", m->pid);
    g_autofree char *key = g_strdup_printf("\n%s:", name);
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, key);
    g_assert_nonnull(line);
    return g_ascii_strtoull(line + strlen(key), NULL, 10);
}

char **vfio_machine_trace(VFIOMachine *m)
{
    g_autofree char *path = g_build_filename(m->dir, "trace", NULL);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return g_strsplit(text, "\n", -1);
}

/* By the traces, since a question of QEMU's would be one of the kernel, too. */
static bool is_mapped(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "vfio_background_add") ==
           vfio_trace_count(trace, "vfio_background_settle") +
           vfio_trace_count(trace, "vfio_background_cancel");
}

void vfio_machine_wait_mapped(VFIOMachine *m)
{
    g_assert_true(vfio_rig_wait(is_mapped(m)));
    /* ... and QEMU has come from there to its main loop. */
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'query-status' }");
}

bool vfio_trace_is(const char *line, const char *event)
{
    return g_str_has_prefix(line, event) && line[strlen(event)] == ' ';
}

int vfio_trace_count(char **lines, const char *event)
{
    int count = 0;

    for (char **line = lines; *line; line++) {
        count += vfio_trace_is(*line, event);
    }
    return count;
}

uint64_t vfio_trace_value(const char *line, const char *name)
{
    g_autofree char *key = g_strdup_printf(" %s=", name);
    const char *found = strstr(line, key);

    if (!found) {
        g_error("no %s in the trace's line: %s", name, line);
    }
    return g_ascii_strtoull(found + strlen(key), NULL, 0);
}

uint64_t vfio_machine_trace_sum(VFIOMachine *m, const char *event,
                                const char *name)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    uint64_t sum = 0;

    for (char **line = trace; *line; line++) {
        if (vfio_trace_is(*line, event)) {
            sum += vfio_trace_value(*line, name);
        }
    }
    return sum;
}
