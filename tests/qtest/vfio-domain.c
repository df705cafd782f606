/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest in the rig as libvirt 12 starts it
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <linux/capability.h>
#include <linux/iommufd.h>

#include "libqmp.h"
#include "vfio-domain.h"

/* Stands for the user libvirt-qemu */
#define USER 1000

/* What libvirt grants a domain beside the guest's own memory */
#define MEMLOCK_EXTRA GiB

/* Seconds after which a guest, or QEMU, counts as hung */
#define PATIENCE 120

static char *file_of(VFIODomain *d, const char *name)
{
    return g_build_filename(d->dir, name, NULL);
}

/* The definition */

void vfio_domain_argument(VFIODomain *d, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    g_ptr_array_add(d->arguments, g_strdup_vprintf(fmt, ap));
    va_end(ap);
}

int vfio_domain_give(VFIODomain *d, int fd)
{
    g_array_append_val(d->given, fd);
    return fd;
}

static void add_words(VFIODomain *d, const char *words)
{
    g_auto(GStrv) list = g_strsplit(words, " ", -1);

    for (char **word = list; *word; word++) {
        vfio_domain_argument(d, "%s", *word);
    }
}

/* xsave is off; tests/rig/inside/guest.sh says why. */
static void add_machine(VFIODomain *d)
{
    add_words(d, "-name guest=rig,debug-threads=on -S"
              " -machine pc-q35-7.2,usb=off,dump-guest-core=off,"
              "memory-backend=pc.ram,acpi=on"
              " -accel kvm -cpu host,migratable=on,xsave=off");
    vfio_domain_argument(d, "-m");
    vfio_domain_argument(d, "size=%" PRIu64 "k", VFIO_DOMAIN_MEMORY / KiB);
    vfio_domain_argument(d, "-object");
    vfio_domain_argument(d, "{\"qom-type\":\"memory-backend-ram\","
                         "\"id\":\"pc.ram\",\"size\":%" PRIu64 "}",
                         VFIO_DOMAIN_MEMORY);
    add_words(d, "-overcommit mem-lock=off"
              " -smp 1,sockets=1,cores=1,threads=1"
              " -uuid 7e1f9cb4-5b61-4b3a-8f0c-6e1d6c0f3a11 -display none"
              " -no-user-config -nodefaults");
}

static int listen_for_monitor(VFIODomain *d)
{
    g_autofree char *path = file_of(d, "monitor");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof(address)), ==,
                    0);
    g_assert_cmpint(listen(fd, 1), ==, 0);
    return fd;
}

static void connect_monitor(VFIODomain *d)
{
    g_autofree char *path = file_of(d, "monitor");
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    g_strlcpy(address.sun_path, path, sizeof(address.sun_path));
    d->monitor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(d->monitor, (struct sockaddr *)&address,
                            sizeof(address)), ==, 0);
}

static void add_monitor(VFIODomain *d)
{
    int fd = vfio_domain_give(d, listen_for_monitor(d));

    add_words(d, "-chardev");
    vfio_domain_argument(d, "socket,id=charmonitor,fd=%d,server=on,wait=off",
                         fd);
    add_words(d, "-mon chardev=charmonitor,id=monitor,mode=control"
              " -rtc base=utc -no-shutdown -boot strict=on");
}

static void add_kernel(VFIODomain *d, const char *task)
{
    add_words(d, "-kernel /rig/bzImage -initrd /rig/guest.cpio -append");
    vfio_domain_argument(d, "console=ttyS0 quiet panic=-1 8250.nr_uarts=1"
                         " task=%s", task);
}

static void add_ports(VFIODomain *d)
{
    for (int i = 1; i <= 2; i++) {
        vfio_domain_argument(d, "-device");
        vfio_domain_argument(d, "{\"driver\":\"pcie-root-port\",\"port\":%d,"
                             "\"chassis\":%d,\"id\":\"pci.%d\","
                             "\"bus\":\"pcie.0\",\"addr\":\"0x%d\"}",
                             15 + i, i, i, 1 + i);
    }
}

static void add_console(VFIODomain *d)
{
    g_autofree char *path = file_of(d, "console");
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    vfio_domain_argument(d, "-add-fd");
    vfio_domain_argument(d, "set=0,fd=%d,opaque=serial0-source",
                         vfio_domain_give(d, fd));
    add_words(d, "-chardev"
              " file,id=charserial0,path=/dev/fdset/0,append=on -device");
    vfio_domain_argument(d, "{\"driver\":\"isa-serial\","
                         "\"chardev\":\"charserial0\",\"id\":\"serial0\","
                         "\"index\":0}");
}

VFIODomain *vfio_domain_new(const char *task)
{
    VFIODomain *d = g_new0(VFIODomain, 1);

    d->dir = g_dir_make_tmp("domain-XXXXXX", NULL);
    g_assert_nonnull(d->dir);
    d->arguments = g_ptr_array_new_with_free_func(g_free);
    d->given = g_array_new(false, false, sizeof(int));
    d->events = g_queue_new();

    vfio_domain_argument(d, "%s", g_getenv("QTEST_QEMU_BINARY"));
    add_machine(d);
    add_monitor(d);
    if (task) {
        add_kernel(d, task);
    }
    add_ports(d);
    add_console(d);
    add_words(d, "-sandbox on,obsolete=deny,elevateprivileges=deny,"
              "spawn=deny,resourcecontrol=deny -msg timestamp=on");
    return d;
}

/* The monitor */

/* Nothing more comes.  Show what QEMU and its guest said. */
static G_NORETURN void give_up(VFIODomain *d, const char *what)
{
    static const char *const names[] = { "console", "errors" };

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        g_autofree char *path = file_of(d, names[i]);
        g_autofree char *text = NULL;

        g_file_get_contents(path, &text, NULL, NULL);
        fprintf(stderr, "%s:\n%s\n", names[i], text ?: "(none)");
    }
    g_error("%s", what);
}

static QDict *receive(VFIODomain *d)
{
    struct pollfd monitor = { .fd = d->monitor, .events = POLLIN };
    char byte;

    if (poll(&monitor, 1, PATIENCE * 1000) != 1) {
        give_up(d, "QEMU says nothing");
    }
    if (recv(d->monitor, &byte, 1, MSG_PEEK) != 1) {
        give_up(d, "QEMU is gone");
    }
    return qmp_fd_receive(d->monitor);
}

/* The process, before it becomes QEMU */

static void must(bool succeeded, const char *what)
{
    if (!succeeded) {
        dprintf(STDERR_FILENO, "%s: %s\n", what, g_strerror(errno));
        _exit(127);
    }
}

/* Make @name in the /dev that is built at @dir, the same as in our /dev. */
static void make_node(const char *dir, const char *name)
{
    g_autofree char *from = g_build_filename("/dev", name, NULL);
    g_autofree char *to = g_build_filename(dir, name, NULL);
    struct stat st;

    must(stat(from, &st) == 0, from);
    must(mknod(to, S_IFCHR | 0600, st.st_rdev) == 0, to);
    must(chown(to, USER, USER) == 0, to);
}

/* The nodes that libvirt puts into the /dev of every domain */
static void enter_namespace(const char *dir)
{
    static const char *const nodes[] = {
        "null", "full", "zero", "random", "urandom", "ptmx", "kvm",
    };

    must(unshare(CLONE_NEWNS) == 0, "unshare");
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private /");
    must(mount("dev", dir, "tmpfs", 0, "mode=755") == 0, dir);
    for (int i = 0; i < ARRAY_SIZE(nodes); i++) {
        make_node(dir, nodes[i]);
    }
    must(mount(dir, "/dev", NULL, MS_MOVE, NULL) == 0, "/dev");
}

static void become_user(void)
{
    struct rlimit limit = {
        .rlim_cur = VFIO_DOMAIN_MEMORY + MEMLOCK_EXTRA,
        .rlim_max = VFIO_DOMAIN_MEMORY + MEMLOCK_EXTRA,
    };

    must(setrlimit(RLIMIT_MEMLOCK, &limit) == 0, "RLIMIT_MEMLOCK");
    for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++) {
        must(prctl(PR_CAPBSET_DROP, cap) == 0, "PR_CAPBSET_DROP");
    }
    must(setgroups(0, NULL) == 0, "setgroups");
    must(setresgid(USER, USER, USER) == 0, "setresgid");
    must(setresuid(USER, USER, USER) == 0, "setresuid");
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "PR_SET_NO_NEW_PRIVS");
}

static void become_qemu(VFIODomain *d)
{
    static char *const environment[] = { (char *)"LC_ALL=C", NULL };
    g_autofree char *errors = file_of(d, "errors");
    g_autofree char *dev = file_of(d, "dev");
    int fd = open(errors, O_WRONLY | O_CREAT | O_APPEND, 0600);

    must(fd >= 0 && dup2(fd, STDERR_FILENO) >= 0, errors);
    must(setsid() >= 0, "setsid");
    for (int i = 0; i < d->given->len; i++) {
        must(fcntl(g_array_index(d->given, int, i), F_SETFD, 0) == 0, "fcntl");
    }
    must(mkdir(dev, 0700) == 0, dev);
    enter_namespace(dev);
    become_user();
    execve(d->arguments->pdata[0], (char **)d->arguments->pdata, environment);
    must(false, d->arguments->pdata[0]);
}

void vfio_domain_start(VFIODomain *d)
{
    QDict *greeting;

    g_ptr_array_add(d->arguments, NULL);
    d->pid = fork();
    g_assert_cmpint(d->pid, >=, 0);
    if (d->pid == 0) {
        become_qemu(d);
    }

    connect_monitor(d);
    for (int i = 0; i < d->given->len; i++) {
        close(g_array_index(d->given, int, i));
    }
    greeting = receive(d);
    g_assert_true(qdict_haskey(greeting, "QMP"));
    qobject_unref(greeting);
    g_assert_null(vfio_reply_error(vfio_domain_qmp(d, -1, "{ 'execute':"
                                                   " 'qmp_capabilities' }")));
}

/* What a good QEMU says too: of its end, and of what takes long */
static bool is_expected(const char *line)
{
    return strstr(line, "terminating on signal 15") ||
           strstr(line, "(peer-to-peer DMA)") ||
           strstr(line, ": info: iommufd object");
}

static void check_errors(VFIODomain *d)
{
    g_autofree char *path = file_of(d, "errors");
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (!is_expected(*line)) {
            g_assert_cmpstr(*line, ==, "");
        }
    }
}

void vfio_domain_stop(VFIODomain *d)
{
    static const char *const files[] = {
        "monitor", "console", "errors", "dev", "",
    };
    QDict *event;
    int status;

    g_assert_cmpint(kill(d->pid, SIGTERM), ==, 0);
    g_assert_cmpint(waitpid(d->pid, &status, 0), ==, d->pid);
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, 0);
    check_errors(d);

    close(d->monitor);
    while ((event = g_queue_pop_head(d->events))) {
        qobject_unref(event);
    }
    g_queue_free(d->events);
    for (int i = 0; i < ARRAY_SIZE(files); i++) {
        g_autofree char *path = file_of(d, files[i]);

        g_remove(path);
    }
    g_ptr_array_free(d->arguments, true);
    g_array_free(d->given, true);
    g_free(d->dir);
    g_free(d);
}

/* Descriptors */

int vfio_domain_open_iommu(void)
{
    struct iommu_option option = {
        .size = sizeof(option),
        .option_id = IOMMU_OPTION_RLIMIT_MODE,
        .op = IOMMU_OPTION_OP_SET,
        .val64 = 1,
    };
    int fd = vfio_rig_open("/dev/iommu", O_RDWR | O_CLOEXEC);

    g_assert_cmpint(ioctl(fd, IOMMU_OPTION, &option), ==, 0);
    return fd;
}

int vfio_domain_open_device(const char *name)
{
    g_autofree char *node = vfio_rig_cdev_node(name);

    return vfio_rig_open(node, O_RDWR | O_CLOEXEC);
}


QDict *vfio_domain_qmp(VFIODomain *d, int fd, const char *fmt, ...)
{
    QDict *reply;
    va_list ap;

    va_start(ap, fmt);
    qmp_fd_vsend_fds(d->monitor, &fd, fd >= 0 ? 1 : 0, fmt, ap);
    va_end(ap);
    if (fd >= 0) {
        close(fd);
    }

    while (qdict_haskey(reply = receive(d), "event")) {
        g_queue_push_tail(d->events, reply);
    }
    return reply;
}

static bool is_event(QDict *event, const char *name, const char *id)
{
    QDict *data = qdict_get_qdict(event, "data");

    return g_str_equal(qdict_get_str(event, "event"), name) && data &&
           g_strcmp0(qdict_get_try_str(data, "device"), id) == 0;
}

void vfio_domain_wait_event(VFIODomain *d, const char *name, const char *id)
{
    QDict *event;
    bool found;

    do {
        event = g_queue_pop_head(d->events) ?: receive(d);
        found = is_event(event, name, id);
        qobject_unref(event);
    } while (!found);
}

/* The process and its guest */

/* The rest of the complete line that begins with @key, NULL if there is none */
static char *find_line(const char *path, const char *key, const char *end)
{
    g_autofree char *text = NULL;
    const char *value, *stop;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return NULL;
    }
    value = strstr(text, key);
    if (!value) {
        return NULL;
    }
    value += strlen(key);
    stop = strstr(value, end);
    return stop ? g_strndup(value, stop - value) : NULL;
}

char *vfio_domain_wait_told(VFIODomain *d, const char *key)
{
    g_autofree char *path = file_of(d, "console");
    g_autofree char *start = g_strdup_printf("guest: %s", key);
    char *value = NULL;

    vfio_rig_wait_for(PATIENCE,
                      (value = find_line(path, start, "\r\n")) != NULL);
    if (!value) {
        give_up(d, start);
    }
    return g_strstrip(value);
}

char *vfio_domain_status(VFIODomain *d, const char *key)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", d->pid);
    g_autofree char *start = g_strdup_printf("\n%s:", key);
    char *value = find_line(path, start, "\n");

    g_assert_nonnull(value);
    return g_strstrip(value);
}
