/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Drives an edu device from within a guest, for as long as the guest lives.
 *
 * It has the device copy between random places of memory of its own, and knows what
 * each byte must be. After each round it looks at all of that memory and tells, in
 * lines for the guest's console:
 *
 *     guest: edu ROUND COPIES
 *     guest: wrong WHAT
 *
 * "drive-edu first" ends after one copy within a little memory.
 *
 * Nothing that it does depends on the machine that the device is in: it goes on when
 * the guest is moved, and must not notice.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <glob.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PAGE        4096UL
#define PAGES       4096UL
#define COPIES      8       /* in a round */

/* docs/specs/edu.txt of QEMU; a transfer up to the end of the buffer is none. */
#define BUFFER      0x40000
#define MOST        4095
#define LIVENESS    (0x04 / 4)
#define DMA_SRC     (0x80 / 4)
#define DMA_DST     (0x88 / 4)
#define DMA_COUNT   (0x90 / 4)
#define DMA_CMD     (0x98 / 4)
#define RUN         1
#define TO_MEMORY   2

/* A copy takes a tenth of a second, and a move some seconds. */
#define PATIENCE    120

static size_t pages = PAGES;
static volatile uint32_t *registers;
static uint8_t *memory;             /* what the device reads and writes */
static uint8_t *should;             /* what it must be */
static uint64_t physical[PAGES];

static void fail(const char *what)
{
    printf("guest: wrong %s\n", what);
    fflush(stdout);
    exit(1);
}

static char *find_device(void)
{
    glob_t found;
    char *folder = NULL;

    glob("/sys/bus/pci/devices/*/device", 0, NULL, &found);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        FILE *file = fopen(found.gl_pathv[i], "r");
        unsigned id = 0;

        if (file && fscanf(file, "%x", &id) == 1 && id == 0x11e8) {
            folder = strdup(found.gl_pathv[i]);
            *strrchr(folder, '/') = '\0';
        }
        fclose(file);
    }
    return folder ?: (fail("no edu"), NULL);
}

static int open_file(const char *folder, const char *name, int flags)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, flags);
    if (fd < 0) {
        fail(path);
    }
    return fd;
}

/* Give it its registers, and let it reach memory. */
static void enable(const char *folder)
{
    int config = open_file(folder, "config", O_RDWR);
    int bar = open_file(folder, "resource0", O_RDWR);
    uint16_t command = 0x6;

    if (pwrite(config, &command, 2, 4) != 2) {
        fail("config");
    }
    registers = mmap(NULL, 0x100, PROT_READ | PROT_WRITE, MAP_SHARED, bar, 0);
    if (registers == MAP_FAILED) {
        fail("registers");
    }
}

static void make_memory(void)
{
    int map = open_file("/proc/self", "pagemap", O_RDONLY);

    memory = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    should = malloc(pages * PAGE);
    if (memory == MAP_FAILED || !should || mlock(memory, pages * PAGE)) {
        fail("memory");
    }
    for (size_t i = 0; i < pages * PAGE; i++) {
        memory[i] = should[i] = random();
    }
    for (size_t i = 0; i < pages; i++) {
        uint64_t entry;

        if (pread(map, &entry, 8, ((uintptr_t)memory / PAGE + i) * 8) != 8) {
            fail("pagemap");
        }
        physical[i] = (entry & ((1ULL << 55) - 1)) * PAGE;
        if (!physical[i] || physical[i] >> 28) {
            fail("address");
        }
    }
}

static void transfer(uint32_t src, uint32_t dst, uint32_t count, uint32_t how)
{
    time_t begin = time(NULL);

    registers[DMA_SRC] = src;
    registers[DMA_DST] = dst;
    registers[DMA_COUNT] = count;
    registers[DMA_CMD] = RUN | how;
    while (registers[DMA_CMD] & RUN) {
        if (time(NULL) > begin + PATIENCE) {
            fail("transfer");
        }
        usleep(1000);
    }
}

/* A piece of one page goes to another. */
static void copy(void)
{
    uint32_t size = 1 + random() % MOST;
    uint32_t from = random() % (PAGE - size + 1), to = random() % (PAGE - size + 1);
    size_t src = random() % pages, dst = random() % pages;

    transfer(physical[src] + from, BUFFER, size, 0);
    transfer(BUFFER, physical[dst] + to, size, TO_MEMORY);
    memmove(should + dst * PAGE + to, should + src * PAGE + from, size);
}

static void check(void)
{
    uint32_t value = random();

    registers[LIVENESS] = value;
    if (registers[LIVENESS] != ~value) {
        fail("register");
    }
    for (size_t i = 0; i < pages; i++) {
        if (memcmp(memory + i * PAGE, should + i * PAGE, PAGE)) {
            char what[64];

            snprintf(what, sizeof(what), "page %zu at 0x%llx", i,
                     (unsigned long long)physical[i]);
            fail(what);
        }
    }
}

int main(int argc, char **argv)
{
    bool is_first = argc > 1 && !strcmp(argv[1], "first");

    if (is_first) {
        pages = 16;
    }
    srandom(time(NULL));
    enable(find_device());
    make_memory();
    if (is_first) {
        copy();
        check();
        printf("guest: edu first\n");
        return 0;
    }
    for (unsigned round = 1; ; round++) {
        for (int i = 0; i < COPIES; i++) {
            copy();
        }
        check();
        printf("guest: edu %u %u\n", round, round * COPIES);
        fflush(stdout);
    }
}
