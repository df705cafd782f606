/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: whatever call fails, QEMU says so and goes on
 *
 * An act is done once to see which calls QEMU makes for it, and then over and
 * over, each time with one of them failing.  QEMU must not crash, hang or leak.
 * It must say which device or object and which step, and what the kernel said.
 * And what comes next must work: the device can be used again, devices that
 * were there do DMA, and the host gets back what it gave.
 *
 * By default each place that calls the kernel is tried once, and places of
 * ioctls are tried again with a second errno.  With -m slow, each call is tried
 * with each errno that the kernel can give there.
 *
 * If the kernel can be told at which step to fail, all calls are made, and the
 * kernel fails in them: at the first step that it takes in a call, at the
 * second, and so on until there are no more.  By default each place in QEMU is
 * tried once, later steps ever more sparsely, and only in some acts;
 * VFIO_TEST_ALL_ACTS selects all acts.  A start makes the same calls as a plug,
 * and is left out.
 */
#include "qemu/osdep.h"

#include "hw/vfio/vfio-abi.h"
#include "vfio-act.h"
#include "vfio-fault.h"
#include "vfio-memory.h"

typedef enum Outcome {
    REFUSED,    /* the act is refused, and all is as before */
    GOES_ON,    /* the act is done as far as it can be */
    STOPPED,    /* ... and the VM does not run until the rest is */
    HELD,       /* ... and QEMU keeps something until it ends */
} Outcome;

/* The right outcome when a call fails; the first rule that fits counts. */
typedef struct Rule {
    const char *call;
    const char *act;    /* NULL: any that has these rules */
    bool start;         /* only if QEMU starts with the device */
    bool later;         /* only of memory that is mapped in the background */
    int nth;            /* of a device's calls of this kind, from 1; 0: any */
    int error;          /* 0: any */
    Outcome outcome;
    const char *says;   /* which step; NULL: nothing, there is nothing to do */
    bool terse;         /* QEMU 7.2's own words, without device or errno */
    bool limited;       /* it is said once a second */
    uint64_t missing;   /* STOPPED: IOVA of what is not mapped; 0: 1 MiB */
} Rule;

/*
 * A device works without what KVM could do for it, without its BARs mapped,
 * without notice of errors and of unplug requests, without migration, without a
 * reset of one kind if there is another, and without INTx, which a guest's
 * driver may set up again; only when INTx is set up for the first time, QEMU
 * 7.2 refuses.  Whether it is an mdev, which has no IOMMU of its own, matters
 * only to x-balloon-allowed.  If there are fewer threads, they do all of the
 * work.  What cannot be copied is mapped, unless there is no memory.  There,
 * only the BAR of the other device is mapped.  A close that fails has closed
 * the descriptor.  Memory waits to be mapped in the background only if the
 * kernel says that the IOMMU reaches it.  What fails ahead of the device's turn is
 * done anew.
 */
static const Rule plugging[] = {
    { "opendir vfio-dev", .start = true, .outcome = GOES_ON },
    { "open dev", .start = true, .outcome = GOES_ON },
    { "fstat dev", .start = true, .outcome = GOES_ON },
    { "read dev", .start = true, .outcome = GOES_ON },
    { "open /dev/vfio/devices", .start = true, .outcome = GOES_ON },
    { "fstat /dev/vfio/devices", .start = true, .outcome = GOES_ON },
    { "VFIO_DEVICE_BIND_IOMMUFD", .start = true, .outcome = GOES_ON },
    { "open /dev/iommu", .start = true, .outcome = GOES_ON },
    { "KVM_CREATE_DEVICE", .start = true, .outcome = GOES_ON },
    { "KVM_SET_DEVICE_ATTR", .start = true, .outcome = GOES_ON },
    { "stat device", .says = "no such host device" },
    { "realpath subsystem", .outcome = GOES_ON },
    { "open /dev/iommu", .says = "cannot open /dev/iommu" },
    { "opendir vfio-dev", .error = ENOENT, .says = "vfio-dev", .terse = true },
    { "opendir vfio-dev", .says = "vfio-dev" },
    { "open dev", .error = ENOENT, .says = "no character device",
      .terse = true },
    { "open dev", .says = "vfio-dev" },
    { "fstat dev", .says = "vfio-dev" },
    { "read dev", .error = EINTR, .outcome = GOES_ON },
    { "read dev", .says = "vfio-dev" },
    { "close dev", .outcome = GOES_ON },
    { "open /dev/vfio/devices", .says = "cannot open /dev/vfio/devices" },
    { "fstat /dev/vfio/devices", .says = "cannot stat /dev/vfio/devices" },
    { "KVM_CREATE_DEVICE", .outcome = GOES_ON, .says = "KVM VFIO device",
      .terse = true },
    { "KVM_SET_DEVICE_ATTR", .outcome = GOES_ON, .says = "KVM VFIO device" },
    { "VFIO_DEVICE_BIND_IOMMUFD", .says = "cannot bind the device" },
    { "IOMMU_GET_HW_INFO", .error = ENOENT, .outcome = GOES_ON },
    { "IOMMU_GET_HW_INFO", .error = EOPNOTSUPP, .says = "no IOMMU stands",
      .terse = true },
    { "IOMMU_GET_HW_INFO", .says = "whether an IOMMU" },
    { "VFIO_DEVICE_GET_INFO", .says = "getting device info" },
    { "IOMMU_IOAS_ALLOC", .says = "cannot allocate an I/O address space" },
    { "VFIO_DEVICE_ATTACH_IOMMUFD_PT", .error = EBUSY, .outcome = GOES_ON },
    { "VFIO_DEVICE_ATTACH_IOMMUFD_PT", .says = "cannot attach the device" },
    { "IOMMU_IOAS_IOVA_RANGES", .nth = 1, .says = "cannot get the ranges" },
    { "IOMMU_IOAS_IOVA_RANGES", .nth = 2, .says = "cannot get the ranges" },
    /* Whether memory may wait */
    { "IOMMU_IOAS_IOVA_RANGES", .act = "plug-shared", .nth = 5,
      .outcome = GOES_ON },
    { "IOMMU_IOAS_IOVA_RANGES", .act = "plug-shared", .nth = 6,
      .outcome = GOES_ON },
    { "IOMMU_IOAS_IOVA_RANGES", .act = "plug-shared",
      .says = "cannot get the ranges" },
    { "IOMMU_IOAS_IOVA_RANGES", .outcome = GOES_ON },
    { "pthread_create", .outcome = GOES_ON },
    { "IOMMU_IOAS_COPY", .error = ENOMEM, .later = true, .outcome = STOPPED,
      .says = "cannot map memory" },
    { "IOMMU_IOAS_COPY", .error = ENOMEM, .says = "cannot map memory" },
    { "IOMMU_IOAS_COPY", .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .act = "plug-shared", .error = EFAULT,
      .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .act = "plug-shared", .error = EINVAL,
      .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .act = "plug-shared", .outcome = GOES_ON,
      .says = "cannot map memory" },
    { "IOMMU_IOAS_MAP", .later = true, .outcome = STOPPED,
      .says = "cannot map memory" },
    { "IOMMU_IOAS_MAP", .says = "cannot map memory" },
    { "VFIO_DEVICE_GET_REGION_INFO", .says = "failed to get" },
    { "VFIO_DEVICE_GET_IRQ_INFO", .outcome = GOES_ON },
    { "mmap /dev/vfio/devices", .outcome = GOES_ON, .says = "Failed to mmap",
      .terse = true },
    { "eventfd", .nth = 1, .says = "event_notifier_init failed" },
    { "eventfd", .outcome = GOES_ON, .says = "event", .terse = true },
    { "VFIO_DEVICE_SET_IRQS", .nth = 1, .says = "INTX-0" },
    { "VFIO_DEVICE_SET_IRQS", .nth = 2, .outcome = GOES_ON, .says = "REQ-0" },
    { "VFIO_DEVICE_SET_IRQS", .nth = 3, .outcome = GOES_ON },
    { "VFIO_DEVICE_SET_IRQS", .nth = 5, .outcome = GOES_ON },
    { "VFIO_DEVICE_SET_IRQS", .outcome = GOES_ON, .says = "INTX-0" },
    { "VFIO_DEVICE_RESET", .outcome = GOES_ON },
    { "ioctl feature 1 get", .outcome = GOES_ON },
    { "ioctl feature 11 get", .error = EINVAL, .outcome = GOES_ON },
    { "ioctl feature 11 get", .error = ENOTTY, .outcome = GOES_ON },
    { "ioctl feature 11 get", .outcome = GOES_ON, .says = "cannot map memory" },
    { "readlink driver", .outcome = GOES_ON },
    { }
};

/* Without its map, a BAR is out of other devices' reach. */
static const Rule enabling[] = {
    { "IOMMU_IOAS_MAP", .error = EFAULT, .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .error = EINVAL, .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .outcome = GOES_ON, .says = "cannot map memory",
      .limited = true },
    { }
};

/*
 * The device goes in any case, and what is being mapped for it is not wanted
 * any more.  Closing the descriptors undoes what could not be undone before.
 * But if kvm-vfio was not made to drop the device, it holds the device, and
 * with it what the device is bound to.
 */
static const Rule unplugging[] = {
    { "VFIO_DEVICE_SET_IRQS", .nth = 1, .outcome = GOES_ON, .says = "REQ-0" },
    { "VFIO_DEVICE_SET_IRQS", .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .outcome = GOES_ON },
    { "VFIO_DEVICE_DETACH_IOMMUFD_PT", .outcome = GOES_ON,
      .says = "cannot detach the device" },
    { "IOMMU_DESTROY", .outcome = GOES_ON, .says = "cannot destroy" },
    { "KVM_SET_DEVICE_ATTR", .outcome = HELD, .says = "KVM VFIO device" },
    { "close /dev/vfio/devices", .outcome = GOES_ON },
    { "close /dev/iommu", .outcome = GOES_ON },
    { }
};

/*
 * Devices that were not reset still work, and so do those without INTx, which
 * the next reset sets up.  (That is what the third, fourth, sixth and eighth
 * are for.)  A BAR that was never mapped need not be unmapped.  If the kernel
 * does not say what a hot reset of the first device affects, that of the second
 * resets both.
 */
static const Rule resetting[] = {
    { "VFIO_DEVICE_SET_IRQS", .nth = 1, .outcome = GOES_ON },
    { "VFIO_DEVICE_SET_IRQS", .nth = 2, .outcome = GOES_ON },
    { "VFIO_DEVICE_SET_IRQS", .nth = 5, .outcome = GOES_ON },
    { "VFIO_DEVICE_SET_IRQS", .nth = 7, .outcome = GOES_ON },
    { "VFIO_DEVICE_SET_IRQS", .outcome = GOES_ON, .says = "INTX-0" },
    { "eventfd", .outcome = GOES_ON, .says = "event_notifier_init failed" },
    { "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", .nth = 1, .outcome = GOES_ON },
    { "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", .nth = 2, .outcome = GOES_ON },
    { "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", .error = ENODEV, .outcome = GOES_ON,
      .says = "no available reset mechanism", .terse = true, .limited = true },
    { "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", .outcome = GOES_ON,
      .says = "Cannot reset device", .limited = true },
    { "VFIO_DEVICE_PCI_HOT_RESET", .outcome = GOES_ON,
      .says = "Cannot reset device", .limited = true },
    { "IOMMU_IOAS_UNMAP", .error = ENOENT, .outcome = GOES_ON },
    { "IOMMU_IOAS_UNMAP", .outcome = GOES_ON, .says = "cannot unmap",
      .limited = true },
    { }
};

static const Rule mapping[] = {
    { "IOMMU_IOAS_MAP", .outcome = GOES_ON, .says = "cannot map memory",
      .limited = true },
    { }
};

/* What is still mapped stays so until it is unmapped once more. */
static const Rule unmapping[] = {
    { "IOMMU_IOAS_UNMAP", .error = ENOENT, .outcome = GOES_ON },
    { "IOMMU_IOAS_UNMAP", .outcome = GOES_ON, .says = "cannot unmap",
      .limited = true },
    { }
};

static const Rule plugging_memory[] = {
    { "pthread_create", .outcome = GOES_ON },
    { "IOMMU_IOAS_IOVA_RANGES", .outcome = GOES_ON },
    { "IOMMU_IOAS_COPY", .error = ENOMEM, .outcome = STOPPED,
      .says = "cannot map memory", .missing = VFIO_ACT_DIMM },
    { "IOMMU_IOAS_COPY", .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .outcome = STOPPED, .says = "cannot map memory",
      .missing = VFIO_ACT_DIMM },
    { }
};

/* The bit is set, but the VM is stopped before its driver uses it. */
static const Rule becoming_master[] = {
    { "pthread_create", .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .outcome = STOPPED, .says = "cannot map memory" },
    { }
};

/*
 * What the thread is mapping is not wanted any more: the rig's other processor
 * is left to the guest.  What is mapped gives way, in spite of a kernel that
 * says otherwise.  Then firmware is mapped, which comes in its place, and all
 * that follows in the background.
 */
static const Rule changing[] = {
    { "pthread_create", .outcome = GOES_ON },
    { "IOMMU_IOAS_IOVA_RANGES", .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .nth = 1, .outcome = GOES_ON },
    { "IOMMU_IOAS_MAP", .nth = 2, .outcome = STOPPED,
      .says = "cannot map memory", .missing = PAM0_BASE },
    { "IOMMU_IOAS_MAP", .outcome = STOPPED, .says = "cannot map memory" },
    { "IOMMU_IOAS_UNMAP", .error = ENOENT, .outcome = GOES_ON },
    { "IOMMU_IOAS_UNMAP", .outcome = GOES_ON, .says = "cannot unmap",
      .limited = true },
    { }
};

/*
 * QEMU does not mind if there was nothing to unmap.  But in truth there was
 * something here, and QEMU holds it until it ends.  What could not be unmapped
 * is held too, but only until the next memory there is mapped.
 */
static const Rule unplugging_memory[] = {
    { "IOMMU_IOAS_UNMAP", .error = ENOENT, .outcome = HELD },
    { "IOMMU_IOAS_UNMAP", .outcome = GOES_ON, .says = "cannot unmap",
      .limited = true },
    { }
};

static const struct {
    const char *act;    /* the beginning of its name */
    const Rule *rules;
} rules_for[] = {
    { "start", plugging },
    { "plug-memory", plugging_memory },
    { "plug", plugging },
    { "enable", enabling },
    { "unplug-memory", unplugging_memory },
    { "unplug", unplugging },
    { "reset", resetting },
    { "map", mapping },
    { "unmap", unmapping },
    { "bus-master", becoming_master },
    { "change", changing },
};

/* What the kernel can return; Linux 6.12 */
static const int any_errors[] = { ENOMEM, EINTR, EAGAIN, EIO, 0 };

static const struct {
    const char *call;
    int errors[8];
} own_errors[] = {
    { "stat", { ENOENT, EACCES } },
    { "open", { ENOENT, EACCES, ENODEV, EMFILE, EPERM } },
    { "opendir", { ENOENT, EACCES, EMFILE } },
    { "eventfd", { EMFILE, ENFILE } },
    { "mmap", { EINVAL, ENODEV } },
    { "pthread_create", { EAGAIN } },
    { "IOMMU_DESTROY", { EBUSY, ENOENT } },
    { "IOMMU_GET_HW_INFO", { EOPNOTSUPP, ENOENT } },
    { "IOMMU_IOAS_ALLOC", { EOPNOTSUPP } },
    { "IOMMU_IOAS_COPY", { ENOMEM, ENOENT, EPERM, EINVAL, EEXIST, EFAULT } },
    { "IOMMU_IOAS_IOVA_RANGES", { EMSGSIZE, ENOENT } },
    { "IOMMU_IOAS_MAP", { EFAULT, EINVAL, EEXIST, EOVERFLOW, ENOSPC } },
    { "IOMMU_IOAS_UNMAP", { EBUSY, ENOENT, EDEADLK, EINVAL } },
    { "KVM_CREATE_DEVICE", { ENODEV, EBUSY } },
    { "KVM_SET_DEVICE_ATTR", { EEXIST, ENOENT, EBADF, EINVAL } },
    { "VFIO_DEVICE_BIND_IOMMUFD",
      { EBUSY, EPERM, EINVAL, EACCES, EBADFD, ENODEV } },
    { "VFIO_DEVICE_ATTACH_IOMMUFD_PT",
      { EADDRINUSE, EINVAL, ENOENT, EFAULT, EBUSY } },
    { "VFIO_DEVICE_DETACH_IOMMUFD_PT", { EBUSY, EINVAL } },
    { "VFIO_DEVICE_GET_PCI_HOT_RESET_INFO", { ENOSPC, ENODEV } },
    { "VFIO_DEVICE_PCI_HOT_RESET", { EBUSY, EINVAL } },
    { "VFIO_DEVICE", { EINVAL, ENOTTY } },
};

/* In both tables, an entry is the beginning of the names that it is for. */
static const Rule *act_rules(const VFIOAct *act)
{
    for (int i = 0; i < ARRAY_SIZE(rules_for); i++) {
        if (g_str_has_prefix(act->name, rules_for[i].act)) {
            return rules_for[i].rules;
        }
    }
    g_error("no rules for %s", act->name);
}

static const int *call_errors(const char *call)
{
    for (int i = 0; i < ARRAY_SIZE(own_errors); i++) {
        if (g_str_has_prefix(call, own_errors[i].call)) {
            return own_errors[i].errors;
        }
    }
    return any_errors;
}

/* One call that shall fail */
typedef struct Point {
    uint32_t n;     /* of the act's calls, from 1 */
    int error;      /* 0: none, in spite of the step */
    uint32_t step;  /* the kernel's step in the call; 0: the call is not made */
    bool reached;   /* whether the step was: the call may have fewer */
} Point;

/* An act being swept */
typedef struct Sweep {
    const VFIOAct *act;
    VFIOStage *stage;
    GArray *calls;      /* VFIOFaultCalls, if nothing fails */
    GArray *points;
    int outcomes[HELD + 1];
} Sweep;

/* Points */

static void add_point(Sweep *sweep, uint32_t n, int error)
{
    Point point = { .n = n, .error = error };

    g_array_append_val(sweep->points, point);
}

static const VFIOFaultCall *swept_call(Sweep *sweep, uint32_t n)
{
    return &g_array_index(sweep->calls, VFIOFaultCall, n - 1);
}

static bool begins_device(const VFIOFaultCall *call)
{
    return g_str_equal(call->name, "stat device");
}

/*
 * What is mapped in the background is mapped by threads that come first.  Those
 * that bind devices come before the kernel tells what is reached.
 */
static bool is_later(const VFIOFaultCall *calls, uint32_t n)
{
    bool told = false, later = false;

    for (uint32_t i = 0; i < n; i++) {
        const char *name = vfio_fault_name(&calls[i]);

        if (begins_device(&calls[i])) {
            told = later = false;
        }
        told |= g_str_equal(name, "IOMMU_IOAS_IOVA_RANGES");
        later |= told && g_str_equal(name, "pthread_create");
    }
    return later && vfio_rig_later();
}

static bool is_same_place(Sweep *sweep, uint32_t a, uint32_t b)
{
    const VFIOFaultCall *x = swept_call(sweep, a), *y = swept_call(sweep, b);

    return x->site == y->site && x->request == y->request &&
           g_str_equal(x->name, y->name) &&
           is_later(swept_call(sweep, 1), a) ==
           is_later(swept_call(sweep, 1), b);
}

static bool is_first(Sweep *sweep, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++) {
        if (is_same_place(sweep, i, n)) {
            return false;
        }
    }
    return true;
}

static bool is_last(Sweep *sweep, uint32_t n)
{
    for (uint32_t i = n + 1; i <= sweep->calls->len; i++) {
        if (is_same_place(sweep, i, n)) {
            return false;
        }
    }
    return true;
}

/* A place's first call gets an errno of its own, an ioctl's last call EINTR. */
static void add_short(Sweep *sweep, uint32_t n)
{
    const VFIOFaultCall *call = swept_call(sweep, n);

    if (is_first(sweep, n)) {
        add_point(sweep, n, call_errors(vfio_fault_name(call))[0]);
    }
    if (is_last(sweep, n) && call->request) {
        add_point(sweep, n, EINTR);
    }
}

static void add_long(Sweep *sweep, uint32_t n)
{
    const int *own = call_errors(vfio_fault_name(swept_call(sweep, n)));

    for (int i = 0; any_errors[i]; i++) {
        add_point(sweep, n, any_errors[i]);
    }
    for (int i = 0; own != any_errors && own[i]; i++) {
        add_point(sweep, n, own[i]);
    }
}

/*
 * If QEMU starts with KVM, only KVM's calls differ from a start without.  Where
 * memory is mapped in the background, the VM must have run.
 */
static bool is_wanted(Sweep *sweep, uint32_t n)
{
    const VFIOAct *act = sweep->act;
    bool kvm = act->options && strstr(act->options, "kvm");

    return !kvm || (act->act && !vfio_rig_later()) ||
           g_str_has_prefix(vfio_fault_name(swept_call(sweep, n)), "KVM");
}

static void choose_points(Sweep *sweep)
{
    for (uint32_t n = 1; n <= sweep->calls->len; n++) {
        if (is_wanted(sweep, n)) {
            (g_test_slow() ? add_long : add_short)(sweep, n);
        }
    }
}

/* Rules */

static bool rule_fits(const Rule *rule, const VFIOAct *act, const char *call,
                      int nth, bool later, int error)
{
    return g_str_equal(rule->call, call) &&
           (!rule->act || g_str_equal(rule->act, act->name)) &&
           (!rule->start || !act->act) &&
           (!rule->later || later) &&
           (!rule->nth || rule->nth == nth) &&
           (!rule->error || rule->error == error);
}

/* A call can succeed without some of its steps. */
static const Rule unharmed = { .outcome = GOES_ON };

/* The rule for @point in @calls; the calls of a device begin with a stat. */
static const Rule *find_rule(const VFIOAct *act, const VFIOFaultCall *calls,
                             const Point *point)
{
    const char *call = vfio_fault_name(&calls[point->n - 1]);
    bool later = is_later(calls, point->n);
    int nth = 0;

    for (uint32_t i = 0; i < point->n; i++) {
        nth = begins_device(&calls[i]) ? 0 : nth;
        nth += g_str_equal(vfio_fault_name(&calls[i]), call);
    }
    g_test_message("%s: call %u, %s, the %d. of these: %s", act->name,
                   point->n, call, nth, g_strerror(point->error));
    if (!point->error) {
        return &unharmed;
    }
    for (const Rule *rule = act_rules(act); rule->call; rule++) {
        if (rule_fits(rule, act, call, nth, later, point->error)) {
            return rule;
        }
    }
    g_error("no rule for it");
}

static void check_said(const Rule *rule, const Point *point, const char *said)
{
    static const char *const crashes[] = { "assert", "Aborted", "BUG" };

    for (int i = 0; i < ARRAY_SIZE(crashes); i++) {
        g_assert_null(strstr(said, crashes[i]));
    }
    if (!rule->says) {
        g_assert_cmpstr(said, ==, "");
        return;
    }
    g_assert_nonnull(strstr(said, rule->says));
    if (!rule->terse) {
        g_assert_nonnull(strstr(said, g_strerror(point->error)));
        g_assert_true(strstr(said, "0000:") || strstr(said, "object '"));
    }
    if (rule->limited) {
        g_usleep(G_USEC_PER_SEC);
    }
}

/* A point */

static void call_if(void (*fn)(VFIOStage *s), VFIOStage *s)
{
    if (fn) {
        fn(s);
    }
}

static void arm(const Point *point)
{
    if (point->step) {
        vfio_fault_arm_step(point->n, point->step);
    } else {
        vfio_fault_arm(point->n, point->error);
    }
}

/* A call may fail by itself: QEMU asks how long a list is. */
static void look_at_step(Sweep *sweep, Point *point)
{
    int result = vfio_fault_call(point->n)->result;

    point->reached = vfio_fault_reached();
    point->error = result == swept_call(sweep, point->n)->result ? 0 : result;
}

/* Returns what QEMU said, to be freed. */
static char *act_with(Sweep *sweep, Point *point, bool *refused)
{
    VFIOStage *s = sweep->stage;
    g_autofree char *reason = NULL;
    g_autofree char *said = NULL;

    g_free(vfio_stage_said(s));
    arm(point);
    reason = sweep->act->act(s);
    g_assert_cmpuint(vfio_fault_disarm(), >=, point->n);
    if (point->step) {
        look_at_step(sweep, point);
    }
    said = vfio_stage_said(s);
    *refused = reason != NULL;
    if (reason) {   /* ... then undoing what was done has said nothing */
        g_assert_cmpstr(said, ==, "");
    }
    return g_strconcat(reason ?: "", said, NULL);
}

static void check_after(Sweep *sweep, const Rule *rule)
{
    const VFIOAct *act = sweep->act;

    switch (rule->outcome) {
    case REFUSED:
        act->check_refused(sweep->stage);
        break;
    case STOPPED:
        vfio_stage_go_on(sweep->stage, rule->missing ?: MiB);
        /* fall through */
    case GOES_ON:
        call_if(act->check, sweep->stage);
        call_if(act->undo, sweep->stage);
        break;
    case HELD:
        break;
    }
    vfio_stage_check_staying(sweep->stage);
}

static void watch(Sweep *sweep)
{
    g_autofree char *reason = NULL;
    uint32_t count;

    call_if(sweep->act->prepare, sweep->stage);
    vfio_fault_arm(0, 0);
    reason = sweep->act->act(sweep->stage);
    count = vfio_fault_disarm();
    g_assert_null(reason);
    g_assert_cmpuint(count, >, 0);
    g_array_set_size(sweep->calls, 0);
    g_array_append_vals(sweep->calls, vfio_fault_call(1), count);
    check_after(sweep, &unharmed);
}

/* Does the act once, since QEMU makes some calls only the first time. */
static void start(Sweep *sweep)
{
    sweep->stage = vfio_stage_new(sweep->act);
    watch(sweep);
}

static void restart(Sweep *sweep)
{
    g_free(vfio_stage_end(sweep->stage));
    start(sweep);
}

static void try_point(Sweep *sweep, Point *point)
{
    g_autofree char *before = vfio_stage_state(sweep->stage);
    g_autofree char *after = NULL;
    g_autofree char *said = NULL;
    const Rule *rule;
    bool refused;

    call_if(sweep->act->prepare, sweep->stage);
    said = act_with(sweep, point, &refused);
    rule = find_rule(sweep->act, vfio_fault_call(1), point);
    g_test_message("%s: %s", refused ? "refused" : "done", said);
    g_assert_cmpint(refused, ==, rule->outcome == REFUSED);
    g_assert_cmpint(vfio_stage_is_stopped(sweep->stage), ==,
                    rule->outcome == STOPPED);
    check_said(rule, point, said);

    check_after(sweep, rule);
    if (rule->outcome == HELD) {
        restart(sweep);
    } else {
        after = vfio_stage_state(sweep->stage);
        g_assert_cmpstr(after, ==, before);
    }
    sweep->outcomes[rule->outcome]++;
}

static void try_calls(Sweep *sweep)
{
    choose_points(sweep);
    for (int i = 0; i < sweep->points->len; i++) {
        try_point(sweep, &g_array_index(sweep->points, Point, i));
    }
}

/* Make the kernel's steps in the @n-th call fail, one at a time. */
static void try_steps(Sweep *sweep, uint32_t n)
{
    g_autofree char *call = g_strdup(vfio_fault_name(swept_call(sweep, n)));
    Point point = { .n = n };
    uint32_t step;
    int tried = 0, failed = 0;

    for (step = 1; ; step += g_test_slow() ? 1 : 1 + step / 8) {
        point.step = step;
        try_point(sweep, &point);
        if (!point.reached) {
            break;
        }
        tried++;
        failed += point.error != 0;
    }
    g_test_message("%s: call %u, %s: %d steps of less than %u, %d made it fail",
                   sweep->act->name, n, call, tried, step, failed);
}

/* Calls in sysfs are left out: their steps are the same for any file. */
static bool has_steps(Sweep *sweep, uint32_t n)
{
    const VFIOFaultCall *call = swept_call(sweep, n);

    return (call->request || strstr(call->name, "/dev/")) &&
           (g_test_slow() || is_first(sweep, n));
}

static void try_all_steps(Sweep *sweep)
{
    for (uint32_t n = 1; n <= sweep->calls->len; n++) {
        if (has_steps(sweep, n)) {
            try_steps(sweep, n);
        }
    }
}

/* An act */

/* Nobody holds the devices any more, or this would wait forever. */
static void check_given_back(const VFIOAct *act)
{
    const char *devices[] = { "EDU0", act->staying[0], act->staying[1] };

    for (int i = 0; i < ARRAY_SIZE(devices); i++) {
        if (devices[i]) {
            vfio_rig_unbind(devices[i]);
            vfio_rig_bind(devices[i], "vfio-pci");
        }
    }
}

static Sweep *sweep_new(const VFIOAct *act)
{
    Sweep *sweep = g_new0(Sweep, 1);

    sweep->act = act;
    sweep->calls = g_array_new(false, false, sizeof(VFIOFaultCall));
    sweep->points = g_array_new(false, false, sizeof(Point));
    return sweep;
}

static void sweep_free(Sweep *sweep)
{
    int tried = sweep->outcomes[REFUSED] + sweep->outcomes[GOES_ON] +
                sweep->outcomes[STOPPED] + sweep->outcomes[HELD];

    g_test_message("%s: %u calls, %d points: %d refused, %d gone on, "
                   "%d stopped, %d held",
                   sweep->act->name, sweep->calls->len, tried,
                   sweep->outcomes[REFUSED], sweep->outcomes[GOES_ON],
                   sweep->outcomes[STOPPED], sweep->outcomes[HELD]);
    g_array_unref(sweep->calls);
    g_array_unref(sweep->points);
    g_free(sweep);
}

static void test_act(const void *data)
{
    Sweep *sweep = sweep_new(data);

    start(sweep);
    watch(sweep);
    if (vfio_rig_kernel_is("faults")) {
        try_all_steps(sweep);
    } else {
        try_calls(sweep);
    }
    g_free(vfio_stage_end(sweep->stage));
    check_given_back(sweep->act);
    sweep_free(sweep);
}

/* Start and end of QEMU */

/* Returns what QEMU said, to be freed. */
static char *refuse_to_start(const VFIOAct *act, const Point *point)
{
    g_autofree char *own = vfio_act_options(act);
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -object iommufd,id="
                        VFIO_RIG_IOMMUFD " %s", own);
    char *said;
    int status;

    vfio_fault_arm(point->n, point->error);
    status = vfio_rig_run_qemu(options, NULL, &said);
    vfio_fault_disarm();
    vfio_rig_check_refusal(status, said);
    return said;
}

static char *start_in_part(const VFIOAct *act, const Point *point,
                           Outcome outcome)
{
    VFIOStage *s;
    char *said;

    vfio_fault_arm(point->n, point->error);
    s = vfio_stage_start(act);
    vfio_fault_disarm();
    said = vfio_stage_said(s);
    g_assert_cmpint(vfio_stage_is_stopped(s), ==, outcome == STOPPED);
    if (outcome == STOPPED) {
        vfio_machine_cont(s->machine);  /* nobody was there for the event */
    }
    vfio_stage_boot(s);
    vfio_stage_check_staying(s);
    g_free(vfio_stage_end(s));
    return said;
}

static void try_start(Sweep *sweep, const Point *point)
{
    const Rule *rule = find_rule(sweep->act, swept_call(sweep, 1), point);
    g_autofree char *said = rule->outcome == REFUSED ?
                            refuse_to_start(sweep->act, point) :
                            start_in_part(sweep->act, point, rule->outcome);

    g_test_message("%s: %s", rule->outcome ? "started" : "refused", said);
    check_said(rule, point, said);
    sweep->outcomes[rule->outcome]++;
}

/* When it ends, QEMU leaves everything to the kernel: no call can fail. */
static void watch_life(Sweep *sweep)
{
    VFIOStage *s;
    uint32_t count;

    vfio_fault_arm(0, 0);
    s = vfio_stage_start(sweep->act);
    count = vfio_fault_disarm();
    g_array_append_vals(sweep->calls, vfio_fault_call(1), count);
    vfio_stage_boot(s);

    vfio_fault_arm(0, 0);
    g_free(vfio_stage_end(s));
    g_assert_cmpuint(vfio_fault_disarm(), ==, 0);
}

static void test_start(const void *data)
{
    Sweep *sweep = sweep_new(data);

    watch_life(sweep);
    choose_points(sweep);
    for (int i = 0; i < sweep->points->len; i++) {
        try_start(sweep, &g_array_index(sweep->points, Point, i));
    }
    check_given_back(sweep->act);
    sweep_free(sweep);
}

/*
 * The first reset of a q35 maps some of its memory anew.  The machine is ready
 * then, but nobody has taken the start for done yet.
 */
static VFIOMachine *start_q35(void)
{
    VFIOMachine *m = vfio_machine_start("-machine q35 -m 256 -device %s",
                                        vfio_rig_device("EDU0"));

    vfio_machine_wait_mapped(m);
    return m;
}

static uint32_t find_last_map(void)
{
    uint32_t last = 0, count;
    VFIOMachine *m;

    vfio_fault_arm(0, 0);
    m = start_q35();
    count = vfio_fault_disarm();
    for (uint32_t n = 1; n <= count; n++) {
        if (g_str_equal(vfio_fault_name(vfio_fault_call(n)),
                        "IOMMU_IOAS_MAP")) {
            last = n;
        }
    }
    vfio_machine_stop(m);
    g_assert_cmpuint(last, >, 0);
    return last;
}

static void test_first_reset(void)
{
    const char *machine = "-machine q35 -nodefaults -m 256 -object iommufd,id="
                          VFIO_RIG_IOMMUFD;
    uint32_t last = find_last_map();

    for (int i = 0; i < 2; i++) {
        g_autofree char *options =
            g_strdup_printf("%s -device %s %s", machine,
                            vfio_rig_device("EDU0"), i ? "-S" : "");
        g_autofree char *said = NULL;
        int status;

        vfio_fault_arm(last, ENOMEM);
        status = vfio_rig_run_qemu(options, NULL, &said);
        g_assert_cmpuint(vfio_fault_disarm(), >=, last);
        g_test_message("%s", said);
        vfio_rig_check_refusal(status, said);
        g_assert_nonnull(strstr(said, "cannot map memory for DMA"));
    }
}

/* In the background, the start is over before anything is mapped. */
static void test_first_reset_later(void)
{
    uint32_t last = find_last_map();
    VFIOMachine *m;

    vfio_fault_arm(last, ENOMEM);
    m = start_q35();
    vfio_fault_disarm();
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, MiB, "cannot map memory");
    vfio_machine_cont(m);
    vfio_machine_stop(m);
}

/*
 * Otherwise each bind would ask ACPI how the device's interrupt is routed.
 * ACPI's interpreter does not survive an allocation that fails: it miscounts
 * its references, and in the end does not return.
 */
static void keep_enabled(const char *device)
{
    g_autofree char *enable = vfio_rig_sysfs(device, "enable");

    vfio_rig_unbind(device);
    vfio_rig_write(enable, "1");
    vfio_rig_bind(device, "vfio-pci");
}

/* Whether this run tries the kernel's steps in @act */
static bool has_steps_now(const VFIOAct *act)
{
    static const char *const some[] = {
        "plug", "unplug", "map", "unmap", NULL
    };

    return act->act && (g_test_slow() || getenv("VFIO_TEST_ALL_ACTS") ||
                        g_strv_contains(some, act->name));
}

static bool is_tried(const VFIOAct *act)
{
    return (!act->later || vfio_rig_later()) &&
           (!vfio_rig_kernel_is("faults") || has_steps_now(act));
}

/* A device of the group may be being reset, so it is tried again for a while. */

#define BUSY_SLOT 4

static char *plug_busy(VFIOMachine *m, uint32_t last)
{
    const VFIOFaultCall attach = {
        .name = "ioctl",
        .request = VFIO_DEVICE_ATTACH_IOMMUFD_PT,
    };
    g_autofree char *device = g_strdup_printf("%s,addr=%d",
                                              vfio_rig_device("EDU0"),
                                              BUSY_SLOT);

    vfio_fault_arm_only_row(&attach, 1, last, EBUSY);
    return vfio_machine_device_add(m, device);
}

static void check_plugged(VFIOMachine *m)
{
    VFIOEdu *edu = vfio_edu_new(m, BUSY_SLOT);

    vfio_edu_check_copy(edu, 0x100000, 0x200000, 1000);
    vfio_edu_free(edu);
    vfio_machine_stop(m);
}

static void test_busy_for_a_while(void)
{
    VFIOMachine *m = vfio_machine_start("-nodefaults");

    g_assert_null(plug_busy(m, 3));
    g_assert_cmpint(vfio_fault_disarm(), ==, 4);
    check_plugged(m);
}

static void test_busy_for_long(void)
{
    VFIOMachine *m = vfio_machine_start("-nodefaults");
    int64_t start = g_get_monotonic_time();
    g_autofree char *error = plug_busy(m, UINT32_MAX);

    g_assert_cmpint(g_get_monotonic_time() - start, <, 20 * G_USEC_PER_SEC);
    vfio_fault_disarm_many();
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, vfio_rig_address("EDU0")));
    g_assert_nonnull(strstr(error, "cannot attach the device"));
    g_assert_nonnull(strstr(error, "is being reset"));
    g_assert_nonnull(strstr(error, "busy"));

    g_assert_null(plug_busy(m, 0));
    vfio_fault_disarm();
    check_plugged(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "fault");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }
    if (vfio_rig_kernel_is("faults")) {
        vfio_fault_init_steps();
        keep_enabled("EDU0");
    }

    if (!vfio_rig_kernel_is("faults")) {
        vfio_rig_add("first-reset", VFIO_RIG_IOMMUFD_ONLY,
                     vfio_rig_later() ? test_first_reset_later
                                      : test_first_reset);
        vfio_rig_add("busy-for-a-while", VFIO_RIG_IOMMUFD_ONLY,
                     test_busy_for_a_while);
        vfio_rig_add("busy-for-long", VFIO_RIG_IOMMUFD_ONLY,
                     test_busy_for_long);
    }
    for (const VFIOAct *act = vfio_acts; act->name; act++) {
        if (is_tried(act)) {
            vfio_rig_add_data(act->name, VFIO_RIG_IOMMUFD_ONLY,
                              act->act ? test_act : test_start, act);
        }
    }

    return g_test_run();
}
