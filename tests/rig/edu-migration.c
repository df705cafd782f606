/*
 * The driver vfio-pci-edu: it does what a driver of vfio's that can migrate its device
 * has to, and what its settings say. TAP.
 *
 * edu0 is migrated to edu1.
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>
#include "raw-vfio.h"
#include "hw/vfio/vfio-abi.h"

#define IOVA        (64 << 20)
#define PAGES       128
#define STREAM_MAX  (4 << 20)

#define ERROR           VFIO_DEVICE_STATE_ERROR
#define STOP            VFIO_DEVICE_STATE_STOP
#define RUNNING         VFIO_DEVICE_STATE_RUNNING
#define STOP_COPY       VFIO_DEVICE_STATE_STOP_COPY
#define RESUMING        VFIO_DEVICE_STATE_RESUMING
#define RUNNING_P2P     VFIO_DEVICE_STATE_RUNNING_P2P
#define PRE_COPY        VFIO_DEVICE_STATE_PRE_COPY
#define PRE_COPY_P2P    VFIO_DEVICE_STATE_PRE_COPY_P2P
#define NUM_STATES      (VFIO_DEVICE_STATE_PRE_COPY_P2P + 1)

static const char *const state_names[NUM_STATES] = {
    "ERROR", "STOP", "RUNNING", "STOP_COPY", "RESUMING", "RUNNING_P2P",
    "PRE_COPY", "PRE_COPY_P2P",
};

static Device source, target;
static uint8_t *memory;
static uint8_t stream[STREAM_MAX];

/* A setting of both devices */
static void set(const char *name, uint64_t value)
{
    char file[64];

    snprintf(file, sizeof(file), "migration/%s", name);
    set_number("edu0", file, value);
    set_number("edu1", file, value);
}

/* The error of VFIO_DEVICE_FEATURE; 0 for none. @data is written and read. */
static int feature_error(Device *device, __u32 flags, void *data, size_t size)
{
    char buffer[256];
    struct vfio_device_feature *feature = (void *)buffer;
    int error;

    *feature = (struct vfio_device_feature) {
        .argsz = sizeof(*feature) + size,
        .flags = flags,
    };
    memcpy(feature->data, data, size);
    error = ioctl(device->fd, VFIO_DEVICE_FEATURE, feature) ? errno : 0;
    memcpy(data, feature->data, size);
    return error;
}

/* ... of a step to @state; @fd, if not NULL, is what it opened or -1. */
static int state_error(Device *device, int state, int *fd)
{
    struct vfio_device_feature_mig_state mig = { .device_state = state };
    int error;

    error = feature_error(device, VFIO_DEVICE_FEATURE_SET |
                          VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &mig, sizeof(mig));
    if (fd) {
        *fd = mig.data_fd;
    } else if (mig.data_fd >= 0) {
        close(mig.data_fd);
    }
    return error;
}

static int state_of(Device *device)
{
    struct vfio_device_feature_mig_state mig = { };

    errno = feature_error(device, VFIO_DEVICE_FEATURE_GET |
                          VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &mig, sizeof(mig));
    must(errno ? -1 : 0, "the state");
    return mig.device_state;
}

/* What the step opens; -1 for nothing */
static int go_to(Device *device, int state)
{
    int fd;

    errno = state_error(device, state, &fd);
    must(errno ? -1 : 0, state_names[state]);
    return fd;
}

static uint64_t flags_of(Device *device)
{
    struct vfio_device_feature_migration migration = { };

    errno = feature_error(device, VFIO_DEVICE_FEATURE_GET |
                          VFIO_DEVICE_FEATURE_MIGRATION, &migration,
                          sizeof(migration));
    must(errno ? -1 : 0, "VFIO_DEVICE_FEATURE_MIGRATION");
    return migration.flags;
}

/* Both devices, with one address space, where IOVA is the program's memory */
static void open_devices(void)
{
    static __u32 ioas;

    source = device_open("edu0");
    target = device_open("edu1");
    if (!ioas) {
        ioas = ioas_alloc();
        ioas_map(ioas, memory, IOVA, PAGES * PAGE);
    }
    device_attach(&source, ioas);
    device_attach(&target, ioas);
    edu_enable(&source);
    edu_enable(&target);
}

static void close_devices(void)
{
    device_close(&source);
    device_close(&target);
}

/* As they were opened */
static void reset_devices(void)
{
    must(-device_reset_error(&source), "a reset");
    must(-device_reset_error(&target), "a reset");
    edu_enable(&source);
    edu_enable(&target);
}

/*
 * Read up to @most bytes to @at in the stream: how many there were, and the error
 * that ended them
 */
static size_t read_stream(int fd, size_t at, size_t most, int *error)
{
    size_t size = 0;
    ssize_t n = 1;

    while (size < most && n > 0) {
        n = read(fd, stream + at + size, most - size);
        size += n > 0 ? n : 0;
    }
    *error = n < 0 ? errno : 0;
    return size;
}

static int write_stream_error(int fd, size_t size)
{
    for (size_t done = 0; done < size; ) {
        ssize_t n = write(fd, stream + done, size - done);

        if (n < 0) {
            return errno;
        }
        done += n;
    }
    return 0;
}

/* States */

static bool has_state(uint64_t flags, int state)
{
    switch (state) {
    case RUNNING_P2P:
        return flags & VFIO_MIGRATION_P2P;
    case PRE_COPY:
        return flags & VFIO_MIGRATION_PRE_COPY;
    case PRE_COPY_P2P:
        return (flags & VFIO_MIGRATION_P2P) && (flags & VFIO_MIGRATION_PRE_COPY);
    default:
        return state != ERROR;
    }
}

static int expected_error(uint64_t flags, int from, int to)
{
    bool stays = from == to;

    if (!has_state(flags, to)) {
        return EINVAL;
    }
    /* nothing has been written that could be loaded */
    if (from == RESUMING && !stays) {
        return EINVAL;
    }
    return from == STOP_COPY && (to == PRE_COPY || to == PRE_COPY_P2P) ? EINVAL : 0;
}

static bool step_is_right(uint64_t flags, int from, int to)
{
    int expected = expected_error(flags, from, to);
    bool right;

    /* out of RESUMING there is no other way */
    if (state_error(&source, RUNNING, NULL)) {
        must(-device_reset_error(&source), "a reset");
    }
    close(go_to(&source, from));
    right = state_error(&source, to, NULL) == expected &&
            state_of(&source) == (expected ? from : to);
    if (!right) {
        printf("# %s to %s\n", state_names[from], state_names[to]);
    }
    return right;
}

static void check_states(bool p2p, bool pre_copy)
{
    uint64_t flags = VFIO_MIGRATION_STOP_COPY | (p2p ? VFIO_MIGRATION_P2P : 0) |
                     (pre_copy ? VFIO_MIGRATION_PRE_COPY : 0);
    bool right = true;

    set("p2p", p2p);
    set("pre_copy", pre_copy);
    open_devices();
    check(flags_of(&source) == flags, "it can what the settings say: 0x%x",
          (unsigned)flags);
    for (int from = 0; from < NUM_STATES; from++) {
        for (int to = 0; has_state(flags, from) && to < NUM_STATES; to++) {
            right &= step_is_right(flags, from, to);
        }
    }
    check(right, "each state is reached from each, or refused");
    close_devices();
}

/* What is migrated */

static void set_registers(void)
{
    reset_devices();
    memset(memory, 0, PAGES * PAGE);
    for (int i = 0; i < EDU_DMA_MAX; i++) {
        memory[i] = i * 3 + i / 256;
    }
    edu_dma(&source, false, IOVA, EDU_DMA_MAX);
    edu_write(&source, EDU_LIVENESS, 0x12345678);
    edu_write(&source, EDU_FACTORIAL, 10);
    edu_write(&source, EDU_IRQ_RAISE, 0x40);
    edu_write(&source, EDU_DMA_SRC, 0x123);
    edu_write(&source, EDU_DMA_DST, 0x456);
    edu_write(&source, EDU_DMA_COUNT, 0x78);
}

static bool target_has_registers(void)
{
    bool has = edu_read(&target, EDU_LIVENESS) == (uint32_t)~0x12345678 &&
               edu_read(&target, EDU_FACTORIAL) == 3628800 &&
               edu_read(&target, EDU_IRQ_STATUS) == 0x40 &&
               edu_read(&target, EDU_DMA_SRC) == 0x123 &&
               edu_read(&target, EDU_DMA_DST) == 0x456 &&
               edu_read(&target, EDU_DMA_COUNT) == 0x78;

    edu_dma(&target, true, IOVA + PAGE, EDU_DMA_MAX);
    return has && !memcmp(memory, memory + PAGE, EDU_DMA_MAX);
}

/* Save the source, whose stream is then in the buffer; its size */
static size_t save(bool pre_copy)
{
    size_t size, first = 0;
    int fd, error;

    fd = go_to(&source, pre_copy ? PRE_COPY : STOP_COPY);
    if (pre_copy) {
        first = read_stream(fd, 0, 10, &error);
        check(first == 10 && !error, "PRE_COPY has data");
        go_to(&source, STOP_COPY);
    }
    size = first + read_stream(fd, first, STREAM_MAX - first, &error);
    check(!error, "STOP_COPY ends without an error");
    close(fd);
    go_to(&source, STOP);
    return size;
}

static void load(size_t size)
{
    int fd = go_to(&target, RESUMING);

    check(write_stream_error(fd, size) == 0, "RESUMING takes the data");
    close(fd);
    check(state_error(&target, RUNNING, NULL) == 0, "... which are loaded");
}

static void check_migration(const char *how, bool pre_copy)
{
    set_registers();
    load(save(pre_copy));
    check(target_has_registers(), "the registers and the buffer are there: %s", how);
}

static void check_data_size(void)
{
    struct vfio_device_feature_mig_data_size size = { };
    size_t saved;

    reset_devices();
    check(feature_error(&source, VFIO_DEVICE_FEATURE_GET |
                        VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size,
                        sizeof(size)) == 0, "it tells its size");
    saved = save(false);
    check(size.stop_copy_length == saved, "... which it has then");
}

static void check_migrations(void)
{
    check_migration("at once", false);
    check_migration("with PRE_COPY", true);
    check_data_size();
    set("padding", 1000001);
    check_migration("with padding", false);
    check_data_size();
    set("padding", 0);
    set("max_bytes", 7);
    check_migration("a few bytes at a time", true);
    set("max_bytes", 0);
}

/* What must not be loaded */

static void check_refused(const char *what, size_t size)
{
    int fd, error;

    reset_devices();
    fd = go_to(&target, RESUMING);
    error = write_stream_error(fd, size);
    check((error == EINVAL || state_error(&target, STOP, NULL) == EINVAL) &&
          state_of(&target) == RESUMING, "%s are refused in RESUMING", what);
    close(fd);
}

static void check_bad_data(void)
{
    size_t size;

    set_registers();
    size = save(false);
    check_refused("no data", 0);
    check_refused("data that are too short", size - 1);
    stream[size] = 0;
    check_refused("data that are too long", size + 1);
    stream[size - 1] ^= 1;
    check_refused("damaged data", size);
    stream[size - 1] ^= 1;
    stream[20] ^= 1;
    check_refused("data of something else", size);

    set("padding", 100);
    set_registers();
    size = save(false);
    stream[60] ^= 1;
    check_refused("damaged padding", size);
    set("padding", 0);

    set("corrupt", 1);
    set_registers();
    size = save(false);
    check_refused("data that were saved damaged", size);
    set("corrupt", 0);
}

/* Transfers, and states that have none */

static void check_transfers(void)
{
    reset_devices();
    memset(memory, 0, PAGES * PAGE);
    memset(memory, 0x5a, PAGE);
    edu_dma(&source, false, IOVA, 64);
    edu_dma_start(&source, true, IOVA + PAGE, 64);
    go_to(&source, RUNNING_P2P);
    check(!memcmp(memory, memory + PAGE, 64), "RUNNING_P2P waits for a transfer");

    edu_dma_start(&source, true, IOVA + 2 * PAGE, 64);
    usleep(200000);
    check(!memory[2 * PAGE] && (edu_read(&source, EDU_DMA_COMMAND) & EDU_RUN),
          "a transfer does not run in RUNNING_P2P");
    go_to(&source, RUNNING);
    edu_dma_wait(&source);
    check(!memcmp(memory, memory + 2 * PAGE, 64), "... but after it");

    go_to(&source, RUNNING_P2P);
    edu_dma_start(&source, true, IOVA + 3 * PAGE, 64);
    load(save(false));
    edu_dma_wait(&target);
    check(!memcmp(memory, memory + 3 * PAGE, 64), "... on the other side as well");
}

static void check_registers_are_closed(int state)
{
    uint32_t value;

    reset_devices();
    close(go_to(&source, state));
    check(edu_read_error(&source, EDU_LIVENESS, &value) == EIO &&
          edu_write_error(&source, EDU_LIVENESS, 0) == EIO &&
          edu_write_error(&source, EDU_DMA_COMMAND, 0) == EIO,
          "registers are not there in %s", state_names[state]);
}

/* PRE_COPY's bytes */

static int precopy_error(int fd, uint64_t *initial, uint64_t *dirty)
{
    struct vfio_precopy_info info = { .argsz = sizeof(info) };
    int error = ioctl(fd, VFIO_MIG_GET_PRECOPY_INFO, &info) ? errno : 0;

    *initial = info.initial_bytes;
    *dirty = info.dirty_bytes;
    return error;
}

static void check_precopy(void)
{
    uint64_t initial = 0, dirty, before;
    int fd, error;

    reset_devices();
    fd = go_to(&source, PRE_COPY);
    check(!precopy_error(fd, &before, &dirty) && before > 1000 && !dirty,
          "PRE_COPY tells of what there is at first");
    check(read_stream(fd, 0, 11, &error) == 11 &&
          !precopy_error(fd, &initial, &dirty) && initial == before - 11 && !dirty,
          "... which gets less as it is read");
    check(read_stream(fd, 0, STREAM_MAX, &error) == initial && error == ENOMSG,
          "at the end there is ENOMSG");
    edu_dma(&source, true, IOVA, 16);
    check(!precopy_error(fd, &initial, &dirty) && !initial && dirty >= 100,
          "a transfer makes more data");
    check(read_stream(fd, 0, STREAM_MAX, &error) == dirty && error == ENOMSG,
          "... that can be read");
    set("zero_at_end", 1);
    check(read_stream(fd, 0, STREAM_MAX, &error) == 0 && error == 0,
          "if set, there is 0 at the end");
    set("zero_at_end", 0);
    go_to(&source, STOP_COPY);
    check(precopy_error(fd, &initial, &dirty) == EINVAL,
          "outside of PRE_COPY it does not tell");
    close(fd);
}

/* The log */

static int log_start_error(uint64_t iova, uint64_t size)
{
    struct vfio_device_feature_dma_logging_range range = {
        .iova = iova,
        .length = size,
    };
    struct vfio_device_feature_dma_logging_control control = {
        .page_size = PAGE,
        .num_ranges = 1,
        .ranges = (uintptr_t)&range,
    };

    return feature_error(&source, VFIO_DEVICE_FEATURE_SET |
                         VFIO_DEVICE_FEATURE_DMA_LOGGING_START, &control,
                         sizeof(control));
}

static int log_stop_error(void)
{
    return feature_error(&source, VFIO_DEVICE_FEATURE_SET |
                         VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP, stream, 0);
}

/* The pages that were written of the 64 from IOVA on */
static int log_report_error(uint64_t *pages)
{
    struct vfio_device_feature_dma_logging_report report = {
        .iova = IOVA,
        .length = 64 * PAGE,
        .page_size = PAGE,
        .bitmap = (uintptr_t)pages,
    };

    *pages = 0;
    return feature_error(&source, VFIO_DEVICE_FEATURE_GET |
                         VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT, &report,
                         sizeof(report));
}

static bool log_has(uint64_t expected)
{
    uint64_t pages;
    int error = log_report_error(&pages);

    if (error || pages != expected) {
        printf("# error %d, pages 0x%llx\n", error, (unsigned long long)pages);
    }
    return !error && pages == expected;
}

static void check_log(void)
{
    uint64_t pages, early;

    reset_devices();
    check(log_report_error(&pages) == EINVAL, "what is not logged is not reported");
    edu_dma(&source, true, IOVA + 3 * PAGE, 16);
    check(log_start_error(IOVA, 32 * PAGE) == 0, "a log begins");
    check(log_start_error(IOVA, 32 * PAGE) == EINVAL, "... and not twice");
    check(log_has(0), "nothing is in it that was written before");

    memory[5 * PAGE] = 0xff;
    edu_dma_start(&source, true, IOVA + 5 * PAGE, 16);
    check(!log_report_error(&early) && (!early || !memory[5 * PAGE]),
          "... nor what is not written yet");
    edu_dma_wait(&source);
    edu_dma(&source, true, IOVA + 10 * PAGE - 1, 2);
    check(log_has((1 << 5 | 1 << 9 | 1 << 10) & ~early), "what was written is in it");
    check(log_has(0), "... once");
    edu_dma(&source, true, IOVA + 5 * PAGE, 1);
    check(log_has(1 << 5), "... and again when it is written again");
    edu_dma(&source, false, IOVA + 6 * PAGE, 16);
    check(log_has(0), "what was read is not in it");
    edu_dma(&source, true, IOVA + 32 * PAGE - 1, 2);
    check(log_has(1u << 31), "what is outside of its ranges is not in it");

    edu_dma_start(&source, true, IOVA + 8 * PAGE, 16);
    go_to(&source, STOP);
    check(log_has(1 << 8), "what was written on the way to STOP is in it");
    check(log_stop_error() == 0 && log_report_error(&pages) == EINVAL, "it ends");
}

/* What is set to fail */

static void check_failing_step(int from, int to, bool to_error)
{
    reset_devices();
    close(go_to(&source, from));
    set("fail_to_error", to_error);
    set("fail_times", 1);
    set("fail_state", to);
    check(state_error(&source, to, NULL) == EIO &&
          state_of(&source) == (to_error ? ERROR : from),
          "the step from %s to %s fails, and leaves the device in %s",
          state_names[from], state_names[to], state_names[to_error ? ERROR : from]);
    set("fail_state", 0);
    if (to_error) {
        check(state_error(&source, RUNNING, NULL) == EINVAL &&
              device_reset_error(&source) == 0 && state_of(&source) == RUNNING,
              "... which only a reset ends");
    } else {
        check(state_error(&source, to, NULL) == 0, "... once");
    }
}

static void check_failing_steps(void)
{
    static const int steps[][2] = {
        { RUNNING, RUNNING_P2P }, { RUNNING, PRE_COPY },
        { RUNNING_P2P, RUNNING }, { RUNNING_P2P, STOP },
        { PRE_COPY, PRE_COPY_P2P }, { PRE_COPY, RUNNING },
        { PRE_COPY_P2P, STOP_COPY }, { PRE_COPY_P2P, RUNNING_P2P },
        { STOP, STOP_COPY }, { STOP, RESUMING }, { STOP, RUNNING_P2P },
        { STOP_COPY, STOP },
    };

    for (size_t i = 0; i < sizeof(steps) / sizeof(*steps); i++) {
        check_failing_step(steps[i][0], steps[i][1], false);
        check_failing_step(steps[i][0], steps[i][1], true);
    }
}

static void check_failing_stream(void)
{
    size_t size;
    int fd, error;

    set_registers();
    size = save(false);
    reset_devices();
    set("fail_after", 1000);
    set("fail_read", ENOSPC);
    fd = go_to(&source, STOP_COPY);
    check(read_stream(fd, 0, STREAM_MAX, &error) == 1000 && error == ENOSPC,
          "read() fails when it is set to");
    close(fd);
    set("fail_read", 0);

    set("fail_write", EFBIG);
    fd = go_to(&target, RESUMING);
    check(write_stream_error(fd, 1000) == 0 && write_stream_error(fd, size) == EFBIG,
          "write() fails when it is set to");
    close(fd);
    set("fail_write", 0);
    set("fail_after", 0);
}

static void check_failing_calls(void)
{
    struct vfio_device_feature_mig_data_size size = { };
    struct vfio_device_feature_mig_state mig = { };
    uint64_t pages, initial, dirty;
    int fd;

    reset_devices();
    set("fail_log_start", ENOSPC);
    check(log_start_error(IOVA, 32 * PAGE) == ENOSPC, "the log does not begin");
    set("fail_log_start", 0);
    log_start_error(IOVA, 32 * PAGE);
    edu_dma(&source, true, IOVA + 5 * PAGE, 1);
    set("fail_log_report", ENOSPC);
    check(log_report_error(&pages) == ENOSPC, "it does not report");
    set("fail_log_report", 0);
    set("fail_log_stop", ENOSPC);
    check(log_stop_error() == ENOSPC && log_has(1 << 5), "it does not end");
    set("fail_log_stop", 0);
    log_stop_error();

    set("fail_data_size", ENOSPC);
    check(feature_error(&source, VFIO_DEVICE_FEATURE_GET |
                        VFIO_DEVICE_FEATURE_MIG_DATA_SIZE, &size,
                        sizeof(size)) == ENOSPC, "the size is not told");
    set("fail_data_size", 0);
    set("fail_get_state", ENOSPC);
    check(feature_error(&source, VFIO_DEVICE_FEATURE_GET |
                        VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE, &mig,
                        sizeof(mig)) == ENOSPC, "the state is not told");
    set("fail_get_state", 0);

    fd = go_to(&source, PRE_COPY);
    set("fail_precopy_info", ENOSPC);
    check(precopy_error(fd, &initial, &dirty) == ENOSPC, "PRE_COPY's bytes are not told");
    set("fail_precopy_info", 0);
    close(fd);

    set("fail_reset", ENOSPC);
    check(device_reset_error(&source) == ENOSPC && state_of(&source) == PRE_COPY,
          "the device is not reset");
    set("fail_reset", 0);
}

/* Resets */

static void check_reset(int state)
{
    uint64_t initial, dirty;
    char byte = 0;
    int fd;

    set_registers();
    fd = go_to(&source, state);
    check(device_reset_error(&source) == 0 && state_of(&source) == RUNNING,
          "a reset in %s leads to RUNNING", state_names[state]);
    edu_enable(&source);
    check(edu_read(&source, EDU_LIVENESS) == 0 &&
          edu_read(&source, EDU_FACTORIAL) == 0 &&
          edu_read(&source, EDU_IRQ_STATUS) == 0 &&
          edu_read(&source, EDU_DMA_COUNT) == 0 &&
          edu_read(&source, EDU_BUFFER + 100) == 0, "... and clears the registers");
    if (fd >= 0) {
        check((state == RESUMING ? write(fd, &byte, 1) : read(fd, &byte, 1)) < 0 &&
              errno == ENODEV, "... and ends the session");
        check(state == RESUMING || precopy_error(fd, &initial, &dirty) == EINVAL,
              "... which tells nothing more");
        close(fd);
    }
}

/* The file may be closed last. */
static void check_late_file(void)
{
    uint64_t initial, dirty;
    char byte;
    int fd = go_to(&source, PRE_COPY);

    close_devices();
    check(read(fd, &byte, 1) < 0 && errno == ENODEV &&
          precopy_error(fd, &initial, &dirty) != 0,
          "a file that is left when the device is closed has nothing");
    close(fd);
}

static void check_without_log(void)
{
    set("log", 0);
    open_devices();
    check(log_start_error(IOVA, PAGE) == ENOTTY && log_stop_error() == ENOTTY,
          "without a log there is none");
    close_devices();
    set("log", 1);
}

int main(void)
{
    bind_driver("edu0", "vfio-pci-edu");
    bind_driver("edu1", "vfio-pci-edu");
    memory = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(memory == MAP_FAILED ? -1 : 0, "memory");

    for (int i = 0; i < 4; i++) {
        check_states(i & 1, i & 2);
    }
    open_devices();
    check_migrations();
    check_bad_data();
    check_transfers();
    check_registers_are_closed(STOP);
    check_registers_are_closed(STOP_COPY);
    check_registers_are_closed(RESUMING);
    check_precopy();
    check_log();
    check_failing_steps();
    check_failing_stream();
    check_failing_calls();
    for (int state = STOP; state < NUM_STATES; state++) {
        check_reset(state);
    }
    reset_devices();
    check_late_file();
    check_without_log();
    return finish();
}
