/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes calls of a QEMU under test fail, one at a time
 */
#include "qemu/osdep.h"
#include <sys/mman.h>
#include <linux/kvm.h>

#include "hw/vfio/vfio-abi.h"
#include "qemu/atomic.h"
#include "qemu/cutils.h"
#include "sysemu/iommufd-abi.h"
#include "vfio-fault.h"
#include "vfio-rig.h"

#define LIBRARY "/rig/tests/libfault.so"

static VFIOFaultShared *shared;

#define IOCTL(name) { name, #name }

static const struct {
    uint32_t request;
    const char *name;
} ioctls[] = {
    IOCTL(IOMMU_DESTROY),
    IOCTL(IOMMU_GET_HW_INFO),
    IOCTL(IOMMU_HWPT_ALLOC),
    IOCTL(IOMMU_HWPT_GET_DIRTY_BITMAP),
    IOCTL(IOMMU_HWPT_SET_DIRTY_TRACKING),
    IOCTL(IOMMU_IOAS_ALLOC),
    IOCTL(IOMMU_IOAS_COPY),
    IOCTL(IOMMU_IOAS_IOVA_RANGES),
    IOCTL(IOMMU_IOAS_MAP),
    IOCTL(IOMMU_IOAS_MAP_FILE),
    IOCTL(IOMMU_IOAS_UNMAP),
    IOCTL(IOMMU_OPTION),
    IOCTL(KVM_CREATE_DEVICE),
    IOCTL(KVM_SET_DEVICE_ATTR),
    IOCTL(VFIO_DEVICE_ATTACH_IOMMUFD_PT),
    IOCTL(VFIO_DEVICE_BIND_IOMMUFD),
    IOCTL(VFIO_DEVICE_DETACH_IOMMUFD_PT),
    IOCTL(VFIO_DEVICE_FEATURE),
    IOCTL(VFIO_DEVICE_GET_INFO),
    IOCTL(VFIO_DEVICE_GET_IRQ_INFO),
    IOCTL(VFIO_DEVICE_GET_PCI_HOT_RESET_INFO),
    IOCTL(VFIO_DEVICE_GET_REGION_INFO),
    IOCTL(VFIO_DEVICE_PCI_HOT_RESET),
    IOCTL(VFIO_DEVICE_RESET),
    IOCTL(VFIO_DEVICE_SET_IRQS),
#ifdef VFIO_MIG_GET_PRECOPY_INFO
    IOCTL(VFIO_MIG_GET_PRECOPY_INFO),
#endif
};

void vfio_fault_init(void)
{
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("vfio-fault-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, sizeof(*shared)), ==, 0);
    shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED,
                  fd, 0);
    g_assert(shared != MAP_FAILED);
    close(fd);
    g_setenv(VFIO_FAULT_FILE, path, true);
    g_setenv("LD_PRELOAD", LIBRARY, true);
}

/*
 * By default only allocations fail that cannot wait, or that are of several
 * pages.  Here others fail, too, but not those of user space's pages.
 */
void vfio_fault_init_steps(void)
{
    static const struct {
        const char *file;
        const char *value;
    } settings[] = {
        { "failslab/ignore-gfp-wait", "N" },
        { "failslab/verbose", "0" },
        { "fail_page_alloc/ignore-gfp-wait", "N" },
        { "fail_page_alloc/min-order", "0" },
        { "fail_page_alloc/verbose", "0" },
        { "fail_iommufd/verbose", "0" },
    };

    for (int i = 0; i < ARRAY_SIZE(settings); i++) {
        g_autofree char *path = g_build_filename("/sys/kernel/debug",
                                                 settings[i].file, NULL);

        vfio_rig_write(path, settings[i].value);
    }
}

static void arm_for(const VFIOFaultCall *only, uint32_t n, uint32_t last,
                    int error, uint32_t step)
{
    pstrcpy(shared->only, sizeof(shared->only), only ? only->name : "");
    shared->only_request = only ? only->request : 0;
    shared->begun = 0;
    shared->count = 0;
    shared->fail_at = n;
    shared->fail_last = last;
    shared->error = error;
    shared->step = step;
    shared->reached = false;
    qatomic_mb_set(&shared->watching, 1);
}

static void arm(uint32_t n, uint32_t last, int error, uint32_t step)
{
    arm_for(NULL, n, last, error, step);
}

void vfio_fault_arm(uint32_t n, int error)
{
    arm(n, n, error, 0);
}

void vfio_fault_arm_row(uint32_t n, uint32_t last, int error)
{
    arm(n, last, error, 0);
}

void vfio_fault_arm_step(uint32_t n, uint32_t step)
{
    arm(n, n, 0, step);
}

void vfio_fault_arm_only(const VFIOFaultCall *call, uint32_t n, int error)
{
    arm_for(call, n, n, error, 0);
}

void vfio_fault_arm_only_row(const VFIOFaultCall *call, uint32_t n,
                             uint32_t last, int error)
{
    arm_for(call, n, last, error, 0);
}

bool vfio_fault_reached(void)
{
    return shared->reached;
}

uint32_t vfio_fault_count(void)
{
    return qatomic_read(&shared->count);
}

uint32_t vfio_fault_disarm_many(void)
{
    qatomic_mb_set(&shared->watching, 0);
    return vfio_fault_count();
}

uint32_t vfio_fault_disarm(void)
{
    uint32_t count = vfio_fault_disarm_many();

    g_assert_cmpuint(count, <=, VFIO_FAULT_CALLS);
    return count;
}

const VFIOFaultCall *vfio_fault_call(uint32_t n)
{
    g_assert_cmpuint(n, >=, 1);
    g_assert_cmpuint(n, <=, shared->count);
    return &shared->calls[n - 1];
}

const char *vfio_fault_name(const VFIOFaultCall *call)
{
    if (!g_str_equal(call->name, "ioctl")) {
        return call->name;
    }
    for (int i = 0; i < ARRAY_SIZE(ioctls); i++) {
        if (ioctls[i].request == call->request) {
            return ioctls[i].name;
        }
    }
    g_error("an ioctl without a name: 0x%x", call->request);
}

void vfio_fault_tokens(VFIOFaultTokens tokens, const uint8_t *token)
{
    if (token) {
        memcpy(shared->token, token, sizeof(shared->token));
    }
    qatomic_mb_set(&shared->tokens, tokens);
}

void vfio_fault_ranges(const VFIOFaultRange *ranges, uint32_t count)
{
    g_assert_cmpuint(count, <=, VFIO_FAULT_RANGES);
    if (count) {
        memcpy(shared->ranges, ranges, count * sizeof(*ranges));
    }
    qatomic_mb_set(&shared->num_ranges, count);
}

static void hold(VFIOFaultHolds holds)
{
    qatomic_mb_set(&shared->allowed, 0);
    qatomic_mb_set(&shared->holds, holds);
}

void vfio_fault_hold_maps(void)
{
    hold(VFIO_FAULT_HOLDS_ALL);
}

void vfio_fault_hold_helpers(void)
{
    hold(VFIO_FAULT_HOLDS_HELPERS);
}

void vfio_fault_allow_maps(uint32_t count)
{
    qatomic_add(&shared->allowed, count);
}

void vfio_fault_release_maps(void)
{
    qatomic_mb_set(&shared->holds, VFIO_FAULT_HOLDS_NONE);
}

uint32_t vfio_fault_held_maps(void)
{
    return qatomic_mb_read(&shared->waiting);
}

void vfio_fault_wait_joining(void)
{
    g_assert_true(vfio_rig_wait(qatomic_mb_read(&shared->joining)));
}

void vfio_fault_allow_joined(void)
{
    if (qatomic_mb_read(&shared->joining) &&
        !qatomic_mb_read(&shared->allowed)) {
        vfio_fault_allow_maps(vfio_fault_held_maps());
    }
}

void vfio_fault_wait_held(void)
{
    /* QEMU leaves a processor to the guest. */
    uint32_t threads = MIN(MAX(g_get_num_processors(), 2) - 1, 16);

    g_assert_true(vfio_rig_wait(vfio_fault_held_maps() == threads));
}

void vfio_fault_meet_binds(uint32_t count)
{
    shared->met = 0;
    shared->missed = 0;
    qatomic_mb_set(&shared->meet, count);
}

bool vfio_fault_binds_met(void)
{
    return qatomic_mb_read(&shared->met) >= shared->meet && !shared->missed;
}
