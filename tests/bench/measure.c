/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Starts a QEMU once, and prints how long each step took
 *
 *     measure [--plug DEVICE]... QEMU ARGUMENT...
 *     measure --boot WORD QEMU ARGUMENT...
 *     measure --touch MIB
 *
 * Lines of "NAME SECONDS":
 *   start    from exec to the first answer of its monitor; with -S, unless there is
 *            a guest to --boot
 *   plugN    device_add of the Nth DEVICE, JSON without the braces; its id
 *            must be devN and its slot 8 + N, of a PC's only bus
 *   unplugN  from the eject until QEMU has no more files of VFIO's open than
 *            before the device came; the last device comes first
 *   end      from the command to end QEMU until it is gone
 *
 * With --boot also, each from exec:
 *   bit      until the guest first sets a device's Bus Master Enable
 *   go       until it had been set and the guest went on, where memory is mapped in
 *            the background
 *   boot     until the guest's console has a line with WORD
 * The first two are from QEMU's trace, and missing if the guest never does it.
 *
 * --touch writes to that much memory and ends. Without it, the first QEMU would
 * be charged for memory that the machine has never had before.
 *
 * The monitor and a qtest server, which stands in for the guest's eject, are
 * each at one end of a socket pair; with --boot the latter is the guest's console.
 */
#include <dirent.h>
#include <err.h>
#include <signal.h>
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
#define GUEST_FD 11

#define TRACE "/tmp/measure.trace"
#define COMMAND 0x04
#define COMMAND_MASTER 0x04

/* hw/acpi/pcihp.c of a PC: which bus, and which slots to eject */
#define PCIHP_SELECT 0xae10
#define PCIHP_EJECT 0xae08

static pid_t qemu;
static FILE *qmp, *guest;     /* guest: its qtest server, or its console */

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

/* QEMU looks for a qtest server's under no other name. */
static char *const common[] = {
    "-nodefaults", "-no-user-config", "-display", "none",
    "-chardev", "socket,id=qmp,fd=10", "-mon", "chardev=qmp,mode=control",
    "-chardev", "socket,id=qtest,fd=11", NULL,
};

static char *const stopped[] = {
    "-S", "-qtest", "chardev:qtest", "-qtest-log", "/dev/null", NULL,
};

static char *const booted[] = {
    "-serial", "chardev:qtest", "-msg", "timestamp=on",
    "-D", TRACE, "-trace", "enable=vfio_pci_write_config",
    "-trace", "enable=vfio_background_w*", NULL,
};

/* Appends the @words to @argv, which ends with NULL. */
static void append(char **argv, char *const *words)
{
    int n = 0;

    while (argv[n]) {
        n++;
    }
    while (*words) {
        if (n == ARGUMENTS_MAX) {
            errx(1, "too many arguments");
        }
        argv[n++] = *words++;
    }
}

/* @words: of the command line, up to a NULL; @ours: those of this kind of start */
static void start(char *const *words, char *const *ours)
{
    char *argv[ARGUMENTS_MAX + 1] = {};
    int qmp_fds[2], guest_fds[2];

    append(argv, words);
    append(argv, common);
    append(argv, ours);

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp_fds) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, guest_fds)) {
        err(1, "socketpair");
    }

    qemu = fork();
    if (!qemu) {
        dup2(qmp_fds[1], QMP_FD);
        dup2(guest_fds[1], GUEST_FD);
        execv(argv[0], argv);
        err(127, "%s", argv[0]);
    }
    close(qmp_fds[1]);
    close(guest_fds[1]);
    qmp = fdopen(qmp_fds[0], "r+");
    guest = fdopen(guest_fds[0], "r+");
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

    fprintf(guest, "outl 0x%x 0x%x\n", port, value);
    fflush(guest);
    if (!fgets(line, sizeof(line), guest) || strncmp(line, "OK", 2)) {
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

/* A guest may have ended by itself; then nobody reads the command. */
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

static void boot(const char *word, double since)
{
    char line[4096];

    while (fgets(line, sizeof(line), guest)) {
        fputs(line, stderr);
        if (strstr(line, word)) {
            tell("boot", 0, since);
            return;
        }
    }
    errx(1, "the guest ended without \"%s\"", word);
}

/* @begin: of QEMU, by the clock of its trace */
static void look_at_trace(double begin)
{
    FILE *trace = fopen(TRACE, "r");
    bool is_set = false, is_waiting = false;
    unsigned address, value;
    char line[512];
    double when;

    while (trace && fgets(line, sizeof(line), trace)) {
        char *at = strchr(line, '@');

        when = at ? strtod(at + 1, NULL) - begin : 0;
        if (strstr(line, "vfio_background_wait")) {
            is_waiting = true;
        } else if (sscanf(strstr(line, " (") ?: "", " (%*[^,], @0x%x, 0x%x",
                          &address, &value) == 2 &&
                   address == COMMAND && (value & COMMAND_MASTER)) {
            if (!is_set) {
                printf("bit %.6f\n", when);
            } else if (is_waiting) {
                printf("go %.6f\n", when);
                is_waiting = false;
            }
            is_set = true;
        }
    }
    if (trace) {
        fclose(trace);
        unlink(TRACE);
    }
}

static void measure_boot(const char *word, char *const *words)
{
    double since = now();
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    signal(SIGPIPE, SIG_IGN);
    start(words, booted);
    ask("qmp_capabilities", "");
    await("\"return\"");
    tell("start", 0, since);
    boot(word, since);
    end();
    look_at_trace(t.tv_sec + t.tv_nsec / 1e9);
}

static void measure_plugs(int n, char **devices, char *const *words)
{
    int files[DEVICES_MAX];
    double since = now();

    start(words, stopped);
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
    int n = 0, first = 1;

    if (argc == 3 && !strcmp(argv[1], "--touch")) {
        touch((size_t)atol(argv[2]) << 20);
        return 0;
    }
    if (argc > 3 && !strcmp(argv[1], "--boot")) {
        measure_boot(argv[2], argv + 3);
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
    measure_plugs(n, devices, argv + first);
    return 0;
}
