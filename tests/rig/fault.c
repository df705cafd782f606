/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes one of the calls fail that a program makes for passed-through devices.
 *
 * When preloaded (LD_PRELOAD), it counts the program's calls on /dev/iommu, on
 * VFIO's character devices, on KVM's VFIO device and on the devices' files in
 * sysfs, on the files that a device's state goes through, and the eventfds and
 * small threads that it creates for them. The file that VFIO_FAULT_FILE names
 * says which call fails. Either that call fails with an errno and is not made.
 * Or it is made, and the kernel fails in it, at a step that it is told through
 * /proc/thread-self/fail-nth. All other calls reach the kernel.
 *
 * It can let large maps wait, until the test has seen what it wants to see, and
 * binds, until others are made as well. A map that waited is counted when it is made.
 *
 * It can also answer as a kernel does that is newer than the one it runs on, or
 * that runs on another machine.
 *
 * A close is always made: on Linux the descriptor is gone even if close returns
 * an error.
 */
#define _GNU_SOURCE
#undef _FILE_OFFSET_BITS    /* open and open64 are two names here */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/kvm.h>
#include <linux/vfio.h>

#include "../qtest/vfio-fault-shared.h"

#define SITE __builtin_return_address(0)
#define NEXT(function) ((__typeof__(&(function)))dlsym(RTLD_NEXT, #function))

/* QEMU's own threads have larger stacks than those that help to map. */
#define SMALL_STACK (1024 * 1024)

/* VFIO_DEVICE_BIND_IOMMUFD of Linux 6.17; the build's headers are older. */
#define BIND_IOMMUFD    _IO(VFIO_TYPE, VFIO_BASE + 18)
#define BIND_FLAG_TOKEN 1

typedef struct BindWithToken {
    uint32_t argsz;
    uint32_t flags;
    int32_t iommufd;
    uint32_t out_devid;
    uint64_t token_uuid_ptr;
} BindWithToken;

/* IOMMU_IOAS_IOVA_RANGES of Linux 6.6 */
#define IOVA_RANGES     _IO(VFIO_TYPE, 0x84)

typedef struct IOVARanges {
    uint32_t size;
    uint32_t ioas_id;
    uint32_t num_iovas;
    uint32_t reserved;
    uint64_t allowed_iovas;
    uint64_t out_iova_alignment;
} IOVARanges;

/* IOMMU_IOAS_MAP of Linux 6.6 */
#define IOAS_MAP        _IO(VFIO_TYPE, 0x85)

typedef struct IOASMap {
    uint32_t size;
    uint32_t flags;
    uint32_t ioas_id;
    uint32_t reserved;
    uint64_t user_va;
    uint64_t length;
    uint64_t iova;
} IOASMap;

/* IOMMU_IOAS_COPY of Linux 6.6 */
#define IOAS_COPY       _IO(VFIO_TYPE, 0x83)

typedef struct IOASCopy {
    uint32_t size;
    uint32_t flags;
    uint32_t dst_ioas_id;
    uint32_t src_ioas_id;
    uint64_t length;
    uint64_t dst_iova;
    uint64_t src_iova;
} IOASCopy;

#define LARGE_MAP       (8 * 1024 * 1024)

static VFIOFaultShared *shared;

/* This thread's next call, if it is counted */
static __thread VFIOFaultCall *current;

/* ... and, if the kernel shall fail in it, the file that takes the step */
static __thread bool chosen;
static __thread int fail_nth;

/* Uses system calls, since the C library's functions are wrapped here. */
static void __attribute__((constructor)) find_shared(void)
{
    const char *path = getenv(VFIO_FAULT_FILE);
    long fd = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC)
                   : -1;
    void *p;

    if (fd >= 0) {
        p = (void *)syscall(SYS_mmap, NULL, sizeof(*shared),
                            PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        shared = p == MAP_FAILED ? NULL : p;
        syscall(SYS_close, fd);
    }
}

/* An offset, which is the same in each run, wherever the object is loaded */
static uint64_t site_offset(void *site)
{
    Dl_info info;

    return dladdr(site, &info) ? (char *)site - (char *)info.dli_fbase : 0;
}

/*
 * Counts a call that @function makes on @object. Returns the errno that it must
 * fail with, or 0 if it is to be made.
 */
static int fault(const char *function, const char *object,
                 unsigned long request, void *site)
{
    char name[VFIO_FAULT_NAME];
    uint32_t n;

    if (!shared || !__atomic_load_n(&shared->watching, __ATOMIC_SEQ_CST)) {
        return 0;
    }
    __atomic_store_n(&shared->begun, 1, __ATOMIC_SEQ_CST);
    snprintf(name, sizeof(name), "%s%s%s", function, *object ? " " : "",
             object);
    if (*shared->only && (strcmp(shared->only, name) ||
                          shared->only_request != (uint32_t)request)) {
        return 0;
    }

    n = __atomic_fetch_add(&shared->count, 1, __ATOMIC_SEQ_CST);
    if (n < VFIO_FAULT_CALLS) {
        VFIOFaultCall *call = &shared->calls[n];

        strcpy(call->name, name);
        call->request = request;
        call->site = site_offset(site);
        call->result = 0;
        current = call;
    }
    chosen = n + 1 == shared->fail_at && shared->step;
    if (n + 1 >= shared->fail_at && n + 1 <= shared->fail_last &&
        shared->error) {
        current = NULL;
        return shared->error;
    }
    return 0;
}

/* The file is opened before it is armed: opening it has steps of its own. */
static void begin_step(void)
{
    char text[16];

    fail_nth = syscall(SYS_openat, AT_FDCWD, "/proc/thread-self/fail-nth",
                       O_RDWR | O_CLOEXEC);
    syscall(SYS_pwrite64, fail_nth, text,
            snprintf(text, sizeof(text), "%u", shared->step), 0);
}

/* If the kernel came to the step, it has counted down to 0. */
static void end_step(void)
{
    char left[16] = "";

    syscall(SYS_pread64, fail_nth, left, sizeof(left) - 1, 0);
    shared->reached = strcmp(left, "0\n") == 0;
    syscall(SYS_pwrite64, fail_nth, "0", 1, 0);
    syscall(SYS_close, fail_nth);
}

static int begin(void)
{
    int saved_errno = errno;

    if (chosen) {
        begin_step();
    }
    errno = 0;
    return saved_errno;
}

static void end(int saved_errno)
{
    int error = errno;

    if (chosen) {
        chosen = false;
        end_step();
    }
    if (current) {
        current->result = error;
        current = NULL;
    }
    errno = error ?: saved_errno;
}

#define MAKE(call)                  \
    ({                              \
        int errno_ = begin();       \
        __auto_type ret_ = (call);  \
        end(errno_);                \
        ret_;                       \
    })

static bool starts_with(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* The name of @path in a record, which is a part of it; NULL if not ours */
static const char *path_object(const char *path)
{
    if (strcmp(path, "/dev/iommu") == 0) {
        return "/dev/iommu";
    }
    if (starts_with(path, "/dev/vfio/devices/")) {
        return "/dev/vfio/devices";
    }
    if (starts_with(path, "/sys/bus/pci/devices/") ||
        starts_with(path, "/sys/bus/mdev/devices/") ||
        starts_with(path, "/sys/devices/pci")) {
        const char *base = strrchr(path, '/') + 1;

        return strchr(base, ':') ? "device" : base;
    }
    /* as the kernel's drivers call them: "anon_inode:mtty_mig" */
    if (starts_with(path, "anon_inode:") && strstr(path, "mig")) {
        return "state";
    }
    return NULL;
}

/* fault() for a call on a path or a descriptor, if it is one of ours */
static int path_fault(const char *function, const char *path, void *site)
{
    const char *object = path_object(path);

    return object ? fault(function, object, 0, site) : 0;
}

static int fd_fault(const char *function, int fd, void *site)
{
    char link[32], path[256];
    ssize_t n;

    if (!shared || !shared->watching) {
        return 0;
    }
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    n = syscall(SYS_readlink, link, path, sizeof(path) - 1);
    path[n > 0 ? n : 0] = '\0';
    return path_fault(function, path, site);
}

#define FAIL_IF(error, result)      \
    do {                            \
        int error_ = (error);       \
        if (error_) {               \
            errno = error_;         \
            return result;          \
        }                           \
    } while (0)

/* Files */

int open64(const char *path, int flags, ...)
{
    va_list ap;
    mode_t mode;

    va_start(ap, flags);
    mode = va_arg(ap, mode_t);
    va_end(ap);
    FAIL_IF(path_fault("open", path, SITE), -1);
    return MAKE(syscall(SYS_openat, AT_FDCWD, path, flags, mode));
}

int open(const char *path, int flags, ...) __attribute__((alias("open64")));

int close(int fd)
{
    int error = fd_fault("close", fd, SITE);
    int ret = MAKE(syscall(SYS_close, fd));

    FAIL_IF(error, -1);
    return ret;
}

ssize_t read(int fd, void *data, size_t size)
{
    FAIL_IF(fd_fault("read", fd, SITE), -1);
    return MAKE(syscall(SYS_read, fd, data, size));
}

ssize_t write(int fd, const void *data, size_t size)
{
    FAIL_IF(fd_fault("write", fd, SITE), -1);
    return MAKE(syscall(SYS_write, fd, data, size));
}

int fstat64(int fd, struct stat64 *st)
{
    FAIL_IF(fd_fault("fstat", fd, SITE), -1);
    return MAKE(NEXT(fstat64)(fd, st));
}

int stat64(const char *path, struct stat64 *st)
{
    FAIL_IF(path_fault("stat", path, SITE), -1);
    return MAKE(NEXT(stat64)(path, st));
}

/* On x86-64 struct stat and struct stat64 are the same. */
int fstat(int fd, struct stat *st)
{
    FAIL_IF(fd_fault("fstat", fd, SITE), -1);
    return MAKE(NEXT(fstat)(fd, st));
}

int stat(const char *path, struct stat *st)
{
    FAIL_IF(path_fault("stat", path, SITE), -1);
    return MAKE(NEXT(stat)(path, st));
}

ssize_t readlink(const char *path, char *target, size_t size)
{
    FAIL_IF(path_fault("readlink", path, SITE), -1);
    return MAKE(syscall(SYS_readlink, path, target, size));
}

char *realpath(const char *path, char *resolved)
{
    FAIL_IF(path_fault("realpath", path, SITE), NULL);
    return MAKE(NEXT(realpath)(path, resolved));
}

DIR *opendir(const char *path)
{
    FAIL_IF(path_fault("opendir", path, SITE), NULL);
    return MAKE(NEXT(opendir)(path));
}

void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off64_t off)
{
    FAIL_IF(fd < 0 ? 0 : fd_fault("mmap", fd, SITE), MAP_FAILED);
    return (void *)MAKE(syscall(SYS_mmap, addr, size, prot, flags, fd, off));
}

void *mmap(void *addr, size_t size, int prot, int flags, int fd, off_t off)
    __attribute__((alias("mmap64")));

/* Ioctls; those of iommufd have the same type as VFIO's */

static bool is_for_devices(unsigned long request, const void *arg)
{
    const struct kvm_create_device *create = arg;
    const struct kvm_device_attr *attr = arg;

    switch ((uint32_t)request) {  /* QEMU passes an int for some */
    case KVM_CREATE_DEVICE:
        return create->type == KVM_DEV_TYPE_VFIO;
    case KVM_SET_DEVICE_ATTR:
        return attr->group == KVM_DEV_VFIO_GROUP &&
               (attr->attr == KVM_DEV_VFIO_GROUP_ADD ||
                attr->attr == KVM_DEV_VFIO_GROUP_DEL);
    default:
        return _IOC_TYPE(request) == VFIO_TYPE;
    }
}

/*
 * Linux 7.2, drivers/vfio/device_cdev.c, vfio_df_check_token(), and
 * drivers/vfio/pci/vfio_pci_core.c, vfio_pci_validate_vf_token().  The real
 * kernel is given what it does know.
 */
static int check_token(BindWithToken *bind)
{
    bool given = bind->flags & BIND_FLAG_TOKEN;
    bool wanted = shared->tokens == VFIO_FAULT_TOKENS_WANTED;
    const void *token = (const void *)(uintptr_t)bind->token_uuid_ptr;

    bind->flags &= ~BIND_FLAG_TOKEN;
    if (token && shared->tokens == VFIO_FAULT_TOKENS_UNREADABLE) {
        return -E2BIG;
    }
    if (given && !token) {
        return -EFAULT;
    }
    if (wanted && (!given || memcmp(token, shared->token, 16))) {
        return -EACCES;
    }
    return given && !wanted ? -EINVAL : 0;
}

/* -errno if a newer kernel would refuse this call */
static int newer_kernel(unsigned long request, void *arg)
{
    return shared && shared->tokens && request == BIND_IOMMUFD ?
           check_token(arg) : 0;
}

/* The kernel says as well how many there are, if it is not given room for all. */
static int answer_ranges(IOVARanges *query)
{
    bool fits = query->num_iovas >= shared->num_ranges;

    query->num_iovas = shared->num_ranges;
    query->out_iova_alignment = 4096;
    FAIL_IF(fits ? 0 : EMSGSIZE, -1);
    memcpy((void *)(uintptr_t)query->allowed_iovas, shared->ranges,
           shared->num_ranges * sizeof(shared->ranges[0]));
    return 0;
}

static bool is_allowed(void)
{
    uint32_t allowed = __atomic_load_n(&shared->allowed, __ATOMIC_SEQ_CST);

    return allowed && __atomic_compare_exchange_n(&shared->allowed, &allowed,
                                                  allowed - 1, false,
                                                  __ATOMIC_SEQ_CST,
                                                  __ATOMIC_SEQ_CST);
}

static bool is_held(void)
{
    switch (__atomic_load_n(&shared->holds, __ATOMIC_SEQ_CST)) {
    case VFIO_FAULT_HOLDS_NONE:
        return false;
    case VFIO_FAULT_HOLDS_HELPERS:
        return syscall(SYS_gettid) != getpid();
    default:
        return true;
    }
}

/* Bytes that a call is to map; 0 if it is none of those that map memory */
static uint64_t mapped_length(unsigned long request, const void *arg)
{
    switch (request) {
    case IOAS_MAP:
        return ((const IOASMap *)arg)->length;
    case IOAS_COPY:
        return ((const IOASCopy *)arg)->length;
    default:
        return 0;
    }
}

static void wait_if_large(uint64_t length)
{
    if (length < LARGE_MAP) {
        return;
    }
    __atomic_fetch_add(&shared->waiting, 1, __ATOMIC_SEQ_CST);
    while (is_held() && !is_allowed()) {
        usleep(1000);
    }
    __atomic_fetch_sub(&shared->waiting, 1, __ATOMIC_SEQ_CST);
}

/* Binds wait until as many have begun as shall meet, for ten seconds at most. */
static void meet_binds(void)
{
    int left = 10 * 1000;

    __atomic_fetch_add(&shared->met, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&shared->met, __ATOMIC_SEQ_CST) < shared->meet) {
        if (!left--) {
            shared->missed = 1;
            return;
        }
        usleep(1000);
    }
}

static int make_ioctl(int fd, unsigned long request, void *arg)
{
    return shared && shared->num_ranges && request == IOVA_RANGES
           ? answer_ranges(arg) : syscall(SYS_ioctl, fd, request, arg);
}

/* One request is for many things: "feature 2 set" */
static const char *ioctl_object(unsigned long request, const void *arg,
                                char *text, size_t size)
{
    const struct vfio_device_feature *feature = arg;

    if ((uint32_t)request != VFIO_DEVICE_FEATURE) {
        return "";
    }
    snprintf(text, size, "feature %u%s%s%s",
             feature->flags & VFIO_DEVICE_FEATURE_MASK,
             feature->flags & VFIO_DEVICE_FEATURE_GET ? " get" : "",
             feature->flags & VFIO_DEVICE_FEATURE_SET ? " set" : "",
             feature->flags & VFIO_DEVICE_FEATURE_PROBE ? " probe" : "");
    return text;
}

int ioctl(int fd, unsigned long request, ...)
{
    char object[VFIO_FAULT_NAME];
    void *arg;
    va_list ap;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);

    if (shared) {
        wait_if_large(mapped_length(request, arg));
    }
    FAIL_IF(is_for_devices(request, arg)
            ? fault("ioctl", ioctl_object(request, arg, object, sizeof(object)),
                    request, SITE) : 0, -1);
    FAIL_IF(-newer_kernel(request, arg), -1);
    if (shared && request == BIND_IOMMUFD && shared->meet) {
        meet_binds();
    }
    return MAKE(make_ioctl(fd, request, arg));
}

/* Other things a device needs. QEMU's own eventfds come before the device. */

int eventfd(unsigned count, int flags)
{
    bool begun = shared && __atomic_load_n(&shared->begun, __ATOMIC_SEQ_CST);

    FAIL_IF(begun ? fault("eventfd", "", 0, SITE) : 0, -1);
    return MAKE(syscall(SYS_eventfd2, count, flags));
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr,
                   void *(*start)(void *), void *opaque)
{
    size_t stack = SMALL_STACK;
    int error = 0;

    if (attr) {
        pthread_attr_getstacksize(attr, &stack);
    }
    if (stack < SMALL_STACK) {
        error = fault("pthread_create", "", 0, SITE);
    }
    return error ?: MAKE(NEXT(pthread_create)(thread, attr, start, opaque));
}

/* Whoever waits for helpers has told them to take no more. */
int pthread_join(pthread_t thread, void **result)
{
    uint32_t holds = VFIO_FAULT_HOLDS_HELPERS;
    int ret;

    if (!shared) {
        return NEXT(pthread_join)(thread, result);
    }
    __atomic_compare_exchange_n(&shared->holds, &holds, VFIO_FAULT_HOLDS_NONE,
                                false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&shared->joining, 1, __ATOMIC_SEQ_CST);
    ret = NEXT(pthread_join)(thread, result);
    __atomic_fetch_sub(&shared->joining, 1, __ATOMIC_SEQ_CST);
    return ret;
}
