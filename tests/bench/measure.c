/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts a QEMU once, and prints how long each step took
 *
 *     measure [--plug DEVICE]... QEMU ARGUMENT...
 *     measure --touch MIB
 *
 * Lines of "NAME SECONDS":
 *   start    from exec to the first answer of its monitor, with -S
 *   plugN    device_add of the Nth DEVICE, JSON without the braces; its id
 *            must be devN and its slot 8 + N, of a PC's only bus
 *   unplugN  from the eject until QEMU has no more files of VFIO's open than
 *            before the device came; the last device comes first
 *   end      from the command to end QEMU until it is gone
 *
 * --touch writes to that much memory and ends. Without it, the first QEMU would
 * be charged for memory that the machine has never had before.
 *
 * The monitor and a qtest server, which stands in for the guest's eject, are
 * each at one end of a socket pair.
 */
#include <dirent.h>
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define DEVICES_MAX 4
#define ARGUMENTS_MAX 128
#define FIRST_SLOT 8

/* Numbers of the descriptors in QEMU */
#define QMP_FD 10
#define QTEST_FD 11

/* hw/acpi/pcihp.c of a PC: which bus, and which slots to eject */
#define PCIHP_SELECT 0xae10
#define PCIHP_EJECT 0xae08

static pid_t qemu;
static FILE *qmp, *qtest;

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void tell(const char *what, int n, double since)
{
    double seconds = now() - since;

    if (n) {
        printf("%s%d %.6f\n", what, n, seconds);
    } else {
        printf("%s %.6f\n", what, seconds);
    }
}

/* QEMU */

static void start(int count, char **words)
{
    char *argv[ARGUMENTS_MAX] = {};
    int qmp_fds[2], qtest_fds[2];
    char *const ours[] = {
        "-S", "-nodefaults", "-no-user-config", "-display", "none",
        "-chardev", "socket,id=qmp,fd=10", "-mon", "chardev=qmp,mode=control",
        "-chardev", "socket,id=qtest,fd=11", "-qtest", "chardev:qtest",
        "-qtest-log", "/dev/null", NULL,
    };

    if (count + sizeof(ours) / sizeof(*ours) > ARGUMENTS_MAX) {
        errx(1, "too many arguments");
    }
    memcpy(argv, words, count * sizeof(*argv));
    memcpy(argv + count, ours, sizeof(ours));

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp_fds) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qtest_fds)) {
        err(1, "socketpair");
    }

    qemu = fork();
    if (!qemu) {
        dup2(qmp_fds[1], QMP_FD);
        dup2(qtest_fds[1], QTEST_FD);
        execv(argv[0], argv);
        err(127, "%s", argv[0]);
    }
    close(qmp_fds[1]);
    close(qtest_fds[1]);
    qmp = fdopen(qmp_fds[0], "r+");
    qtest = fdopen(qtest_fds[0], "r+");
}

/* Waits for the next line of the monitor that has @word in it. */
static void await(const char *word)
{
    char line[65536];

    while (fgets(line, sizeof(line), qmp)) {
        if (strstr(line, "\"error\":")) {
            errx(1, "QEMU says: %s", line);
        }
        if (strstr(line, word)) {
            return;
        }
    }
    errx(1, "QEMU went away");
}

static void ask(const char *command, const char *arguments)
{
    fprintf(qmp, "{\"execute\": \"%s\", \"arguments\": {%s}}\n", command,
            arguments);
    fflush(qmp);
}

static void outl(unsigned port, unsigned value)
{
    char line[256];

    fprintf(qtest, "outl 0x%x 0x%x\n", port, value);
    fflush(qtest);
    if (!fgets(line, sizeof(line), qtest) || strncmp(line, "OK", 2)) {
        errx(1, "qtest failed");
    }
}

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* How many device files QEMU has open, except KVM's VFIO device (it stays) */
static int vfio_files(void)
{
    char path[512], target[256];
    struct dirent *entry;
    int count = 0;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/fd", qemu);
    dir = opendir(path);
    while (dir && (entry = readdir(dir))) {
        ssize_t size;

        snprintf(path, sizeof(path), "/proc/%d/fd/%s", qemu, entry->d_name);
        size = readlink(path, target, sizeof(target) - 1);
        if (size > 0) {
            target[size] = 0;
            count += starts_with(target, "/dev/vfio/") ||
                     starts_with(target, "/dev/iommu") ||
                     starts_with(target, "anon_inode:[vfio-device]");
        }
    }
    if (dir) {
        closedir(dir);
    }
    return count;
}

/* What is measured */

static void plug(int n, const char *device)
{
    double since = now();

    ask("device_add", device);
    await("\"return\"");
    tell("plug", n, since);
}

static void unplug(int n, int files)
{
    char arguments[64];
    double since;

    snprintf(arguments, sizeof(arguments), "\"id\": \"dev%d\"", n);
    ask("device_del", arguments);
    await("\"return\"");

    since = now();
    outl(PCIHP_SELECT, 0);
    outl(PCIHP_EJECT, 1u << (FIRST_SLOT + n));
    while (vfio_files() > files) {
        usleep(1000);
    }
    tell("unplug", n, since);
}

static void end(void)
{
    double since = now();
    int status;

    ask("quit", "");
    waitpid(qemu, &status, 0);
    tell("end", 0, since);
    if (status) {
        errx(1, "QEMU ended with status 0x%x", status);
    }
}

static void touch(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED) {
        err(1, "mmap");
    }
    memset(memory, 1, bytes);
    munmap(memory, bytes);
}

int main(int argc, char **argv)
{
    char *devices[DEVICES_MAX];
    int files[DEVICES_MAX];
    int n = 0, first = 1;
    double since;

    if (argc == 3 && !strcmp(argv[1], "--touch")) {
        touch((size_t)atol(argv[2]) << 20);
        return 0;
    }
    while (argc > first + 1 && !strcmp(argv[first], "--plug") &&
           n < DEVICES_MAX) {
        devices[n++] = argv[first + 1];
        first += 2;
    }
    if (argc <= first) {
        errx(2, "usage: measure [--plug DEVICE]... QEMU ARGUMENT...");
    }

    since = now();
    start(argc - first, argv + first);
    ask("qmp_capabilities", "");
    await("\"return\"");
    tell("start", 0, since);

    for (int i = 0; i < n; i++) {
        files[i] = vfio_files();
        plug(i + 1, devices[i]);
    }
    while (n--) {
        unplug(n + 1, files[n]);
    }
    end();
    return 0;
}
