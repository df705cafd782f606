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
 * "drive-edu HOW ADDRESS" drives the edu at that address for one round, and tells
 * "guest: edu HOW ADDRESS".  HOW is
 *
 *     some        by physical addresses, which nothing must translate
 *     high        the same, within memory above 4 GiB only
 *     translated  by vfio and iommufd, and so by the guest's own IOMMU
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
#include "../raw-vfio.h"

#define PAGES       4096UL
#define COPIES      8       /* in a round */

/* Each of these is a map of the guest's IOMMU, and so one of the host's. */
#define TRANSLATED_PAGES    256UL
#define IOVA                0x100000

#define HIGH        (1ULL << 32)
#define LOW         (1ULL << 28)    /* what any edu reaches */

/* A copy takes a tenth of a second, and a move some seconds. */
#define PATIENCE    120

static size_t pages = PAGES;
static volatile uint32_t *registers;    /* NULL: by vfio */
static Device device;
static bool is_high;
static uint8_t *memory;             /* what the device reads and writes */
static uint8_t *should;             /* what it must be */
static uint64_t addresses[PAGES];   /* ... and where the device finds it */

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

static uint32_t read_register(uint32_t reg)
{
    return registers ? registers[reg / 4] : edu_read(&device, reg);
}

static void write_register(uint32_t reg, uint64_t value)
{
    if (!registers) {
        edu_write(&device, reg, value);
    } else if (value < HIGH) {
        registers[reg / 4] = value;
    } else {
        *(volatile uint64_t *)(registers + reg / 4) = value;
    }
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
        addresses[i] = (entry & ((1ULL << 55) - 1)) * PAGE;
        if (is_high ? addresses[i] < HIGH
                    : !addresses[i] || addresses[i] >= LOW) {
            fail("address");
        }
    }
}

/* The device has an address space of its own, with nothing but this memory. */
static void translate(const char *address)
{
    __u32 ioas;

    setenv("VFIO_TEST_EDU", address, true);
    bind_driver("edu", "vfio-pci");
    device = device_open("edu");
    ioas = ioas_alloc();
    device_attach(&device, ioas);
    ioas_map(ioas, memory, IOVA, pages * PAGE);
    for (size_t i = 0; i < pages; i++) {
        addresses[i] = IOVA + i * PAGE;
    }
    edu_enable(&device);
}

static void transfer(uint64_t src, uint64_t dst, uint32_t count, uint32_t how)
{
    time_t begin = time(NULL);

    write_register(EDU_DMA_SRC, src);
    write_register(EDU_DMA_DST, dst);
    write_register(EDU_DMA_COUNT, count);
    write_register(EDU_DMA_COMMAND, EDU_RUN | how);
    while (read_register(EDU_DMA_COMMAND) & EDU_RUN) {
        if (time(NULL) > begin + PATIENCE) {
            fail("transfer");
        }
        usleep(1000);
    }
}

/* A piece of one page goes to another. */
static void copy(void)
{
    uint32_t size = 1 + random() % EDU_DMA_MAX;
    uint32_t from = random() % (PAGE - size + 1), to = random() % (PAGE - size + 1);
    size_t src = random() % pages, dst = random() % pages;

    transfer(addresses[src] + from, EDU_BUFFER, size, 0);
    transfer(EDU_BUFFER, addresses[dst] + to, size, EDU_TO_MEMORY);
    memmove(should + dst * PAGE + to, should + src * PAGE + from, size);
}

static void check_memory(void)
{
    uint32_t value = random();

    write_register(EDU_LIVENESS, value);
    if (read_register(EDU_LIVENESS) != ~value) {
        fail("register");
    }
    for (size_t i = 0; i < pages; i++) {
        if (memcmp(memory + i * PAGE, should + i * PAGE, PAGE)) {
            char what[64];

            snprintf(what, sizeof(what), "page %zu at 0x%llx", i,
                     (unsigned long long)addresses[i]);
            fail(what);
        }
    }
}

static void do_round(void)
{
    for (int i = 0; i < COPIES; i++) {
        copy();
    }
    check_memory();
}

static int drive_once(const char *how, const char *address)
{
    char folder[256];

    is_high = !strcmp(how, "high");
    if (!strcmp(how, "translated")) {
        pages = TRANSLATED_PAGES;
        make_memory();
        translate(address);
    } else {
        snprintf(folder, sizeof(folder), "/sys/bus/pci/devices/%s", address);
        make_memory();
        enable(folder);
    }
    do_round();
    printf("guest: edu %s %s\n", how, address);
    return 0;
}

int main(int argc, char **argv)
{
    bool is_first = argc == 2 && !strcmp(argv[1], "first");

    srandom(time(NULL));
    if (argc > 2) {
        return drive_once(argv[1], argv[2]);
    }
    if (is_first) {
        pages = 16;
    }
    enable(find_device());
    make_memory();
    if (is_first) {
        copy();
        check_memory();
        printf("guest: edu first\n");
        return 0;
    }
    for (unsigned round = 1; ; round++) {
        do_round();
        printf("guest: edu %u %u\n", round, round * COPIES);
        fflush(stdout);
    }
}
