/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory that the container of iommufd cannot map: why, and what becomes of it
 *
 * Devices reach all of the guest's memory, or the guest does not run.  Which
 * of the ways to keep that is taken depends on who wanted the memory mapped,
 * and when; the table is in docs/devel/vfio-iommufd.rst.
 */
#include "qemu/osdep.h"
#include <sys/resource.h>
#include <sys/syscall.h>
#include <linux/capability.h>

#include "exec/address-spaces.h"
#include "hw/qdev-core.h"
#include "iommufd.h"
#include "memory-hint.h"
#include "qapi/error.h"
#include "qapi/qapi-events-machine.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/units.h"
#include "reach.h"
#include "start.h"

/* How much has to be locked */

typedef struct Locked {
    uint64_t bytes;
    uintptr_t first, end;   /* what is looked for */
    uint64_t found;         /* bytes of it that are among them */
} Locked;

static void add_ram(Locked *locked, const MemoryRegion *mr, hwaddr offset,
                    uint64_t size)
{
    uint8_t *start = memory_region_get_ram_ptr((MemoryRegion *)mr);
    uintptr_t first = MAX((uintptr_t)start + offset, locked->first);
    uintptr_t end = MIN((uintptr_t)start + offset + size, locked->end);

    locked->bytes += size;
    locked->found += first < end ? end - first : 0;
}

static int add_populated(MemoryRegionSection *section, void *opaque)
{
    add_ram(opaque, section->mr, section->offset_within_region,
            int128_get64(section->size));
    return 0;
}

static bool add_locked(Int128 start, Int128 len, const MemoryRegion *const_mr,
                       hwaddr offset, void *opaque)
{
    MemoryRegion *mr = (MemoryRegion *)const_mr;

    if (!memory_region_is_ram(mr) || memory_region_is_ram_device(mr) ||
        memory_region_is_protected(mr)) {
        return false;
    }

    if (memory_region_has_ram_discard_manager(mr)) {
        MemoryRegionSection section = {
            .mr = mr,
            .offset_within_region = offset,
            .offset_within_address_space = int128_get64(start),
            .size = len,
        };

        ram_discard_manager_replay_populated(
            memory_region_get_ram_discard_manager(mr), &section,
            add_populated, opaque);
    } else {
        add_ram(opaque, mr, offset, int128_get64(len));
    }
    return false;
}

/*
 * Bytes of all memory, with the @size bytes at @vaddr.  What is being plugged
 * is not in the guest's memory yet, and of what is being moved a part is.
 */
static uint64_t bytes_to_lock(const void *vaddr, uint64_t size)
{
    Locked locked = {
        .first = (uintptr_t)vaddr,
        .end = (uintptr_t)vaddr + size,
    };

    RCU_READ_LOCK_GUARD();
    flatview_for_each_range(address_space_to_flatview(&address_space_memory),
                            add_locked, &locked);
    return locked.bytes + size - MIN(locked.found, size);
}

/* Who locks all memory without regard to who else does */
typedef struct Lockers {
    GHashTable *all;        /* objects, and address spaces of a guest's IOMMU */
    unsigned translated;    /* the latter */
} Lockers;

/*
 * The address spaces of an object share what they have of the guest's memory as
 * a whole.  But what a guest's IOMMU maps in one is locked for that alone, and
 * can be all of it.
 */
static void add_locker(Lockers *lockers, VFIOContainer *base)
{
    bool translated = !QLIST_EMPTY(&base->giommu_list);
    void *locker = translated ? (void *)base : vfio_iommufd_container(base)->be;

    if (g_hash_table_add(lockers->all, locker)) {
        lockers->translated += translated;
    }
}

static void find_lockers(Lockers *lockers, VFIOContainer *failing)
{
    VFIODevice *vbasedev;

    add_locker(lockers, failing);
    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->container->ops == &vfio_iommufd_ops && vbasedev->pins) {
            add_locker(lockers, vbasedev->container);
        }
    }
}

/* How often all memory has to be locked; @text says why, and is to be freed. */
static unsigned times_locked(VFIOContainer *failing, char **text)
{
    g_autoptr(GHashTable) all = g_hash_table_new(NULL, NULL);
    Lockers lockers = { .all = all };
    unsigned times;

    find_lockers(&lockers, failing);
    times = g_hash_table_size(all);
    if (times == 1) {
        *text = g_strdup("");
    } else if (!lockers.translated) {
        *text = g_strdup_printf(", all memory for each of %u iommufd objects",
                                times);
    } else {
        *text = g_strdup_printf(", all memory %u times, as the guest's IOMMU "
                                "can map it for each device", times);
    }
    return times;
}

/* MiB that this process has pinned, as far as the kernel shows it */
static uint64_t pinned_mib(void)
{
    g_autofree char *text = NULL;
    const char *line;

    if (!g_file_get_contents("/proc/self/status", &text, NULL, NULL)) {
        return 0;
    }
    line = strstr(text, "VmPin:");
    return !line ? 0 :
           g_ascii_strtoull(line + strlen("VmPin:"), NULL, 10) * KiB / MiB;
}

/* The host's own has a number that never changes: Linux, PROC_USER_INIT_INO. */
static bool is_in_user_namespace(void)
{
    g_autofree char *name = g_file_read_link("/proc/self/ns/user", NULL);

    return name && !g_str_equal(name, "user:[4026531837]");
}

/*
 * What the kernel does not count is what a process with CAP_IPC_LOCK locks;
 * the capability of a user namespace of its own does not matter to it.
 */
static bool memlock_is_counted(void)
{
    struct __user_cap_header_struct header = {
        .version = _LINUX_CAPABILITY_VERSION_3,
    };
    struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

    if (syscall(SYS_capget, &header, data) ||
        !(data[CAP_TO_INDEX(CAP_IPC_LOCK)].effective &
          CAP_TO_MASK(CAP_IPC_LOCK))) {
        return true;
    }

    return is_in_user_namespace();
}

/* How often all memory will be locked, as far as that is certain */
static unsigned times_certain(VFIOContainer *base)
{
    g_autoptr(GHashTable) all = g_hash_table_new(NULL, NULL);
    Lockers lockers = { .all = all };

    find_lockers(&lockers, base);
    return MAX(g_hash_table_size(all) - lockers.translated, 1);
}

/*
 * While the memory map changes, what is about to leave it counts as well, as
 * firmware that moves; so then a limit that is a little too small is not
 * refused.  Nor is one that is too small if a guest's IOMMU maps all memory for
 * another device: it may map little.
 */
bool vfio_iommufd_memlock_suffices(VFIOContainer *base, const void *vaddr,
                                   ram_addr_t size)
{
    struct rlimit limit = { .rlim_cur = RLIM_INFINITY };
    uint64_t bytes, leaving = base->initialized ? MiB : 0;

    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (limit.rlim_cur == RLIM_INFINITY || !memlock_is_counted()) {
        return true;
    }
    bytes = bytes_to_lock(vaddr, size) * times_certain(base);
    return bytes <= limit.rlim_cur + leaving;
}

/* Why */

static void explain_no_memory(uint64_t limit, Error **errp)
{
    g_autofree char *uncounted = limit == RLIM_INFINITY ? g_strdup("") :
        g_strdup_printf(" (RLIMIT_MEMLOCK is %"PRIu64" MiB, which does not "
                        "count with CAP_IPC_LOCK)", limit / (uint64_t)MiB);

    error_prepend(errp, "the host is out of memory, or the control group's "
                  "memory limit is reached%s: ", uncounted);
}

static void explain_enomem(VFIOContainer *base, const void *vaddr,
                           ram_addr_t size, Error **errp)
{
    g_autofree char *each = NULL;
    uint64_t bytes = bytes_to_lock(vaddr, size) * times_locked(base, &each);
    struct rlimit limit = { .rlim_cur = RLIM_INFINITY };

    getrlimit(RLIMIT_MEMLOCK, &limit);
    if (!memlock_is_counted() || limit.rlim_cur == RLIM_INFINITY) {
        explain_no_memory(limit.rlim_cur, errp);
        return;
    }

    error_prepend(errp, "%"PRIu64" MiB have to be locked%s (%"PRIu64" MiB "
                  "are), and RLIMIT_MEMLOCK is %"PRIu64" MiB: ",
                  (uint64_t)DIV_ROUND_UP(bytes, MiB), each, pinned_mib(),
                  (uint64_t)limit.rlim_cur / MiB);
    iommufd_error_append_remedy(errp, "raise it, with prlimit --memlock --pid "
                                "%d for instance%s", getpid(),
                                bytes > limit.rlim_cur ? "" :
                                ", or give the iommufd object "
                                "memlock-accounting=process, as other "
                                "processes of this user have locked memory");
    error_append_hint(errp, "ulimit -l, LimitMEMLOCK= in a systemd unit and "
                      "<hard_limit> in a libvirt domain raise\nit as well. "
                      "What other processes of this user have locked counts, "
                      "unless the iommufd\nobject has "
                      "memlock-accounting=process.\n");
}

/* What is mapped for mediated devices is locked once another device comes. */
void vfio_iommufd_attach_enomem(VFIOContainer *base, Error **errp)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    if (container->mapped && !container->pinning) {
        explain_enomem(base, NULL, 0, errp);
    } else {
        explain_no_memory(RLIM_INFINITY, errp);
    }
}

/* A guest's IOMMU maps BARs wherever it likes, not where firmware put them. */
static char *explain_far_bar(VFIOIOMMUFDContainer *container, void *vaddr)
{
    return QLIST_EMPTY(&container->base.giommu_list) &&
           vfio_memory_is_bar(vaddr)
           ? vfio_reach_explain_bar(container, range_upb(&container->failed))
           : NULL;
}

static void explain_einval(VFIOIOMMUFDContainer *container, void *vaddr,
                           Error **errp)
{
    g_autofree char *far_bar = explain_far_bar(container, vaddr);
    g_autoptr(GString) text = g_string_new(NULL);
    g_autofree Range *ranges = NULL;
    uint64_t alignment;
    uint32_t i, num_ranges;

    error_prepend(errp, "the host's IOMMU reserves a part of it or does not "
                  "reach it: ");
    if (far_bar) {
        iommufd_error_append_remedy(errp, "%s", far_bar);
        return;
    }

    /* A guest's IOMMU can ask for anything, as often as it likes. */
    if (container->base.initialized ||
        !iommufd_backend_iova_ranges(container->be, container->ioas_id,
                                     &ranges, &num_ranges, &alignment, NULL)) {
        return;
    }

    for (i = 0; i < num_ranges; i++) {
        g_string_append_printf(text, "%s0x%"PRIx64" to 0x%"PRIx64,
                               i ? ", " : "", range_lob(&ranges[i]),
                               range_upb(&ranges[i]));
    }
    iommufd_error_append_remedy(errp, "it can map %s", text->str);
}

/* The kernel has no such bound; it is ours. */
static void explain_enospc(VFIOIOMMUFDContainer *container, Error **errp)
{
    VFIODevice *vbasedev = QLIST_FIRST(&container->base.device_list);

    if (vfio_iommufd_is_full(container)) {
        error_prepend(errp, "the guest's IOMMU has %"PRIu64" maps for %s, and "
                      "may have no more (max-guest-maps= of the object): ",
                      container->maps.guest_count,
                      vbasedev ? vbasedev->name : "a device that is plugged");
    }
}

static void prepend_where(VFIOIOMMUFDContainer *container, hwaddr iova,
                          hwaddr last, Error **errp)
{
    error_prepend(errp, "iommufd object '%s': cannot map memory for DMA at "
                  "IOVA 0x%"HWADDR_PRIx" to 0x%"HWADDR_PRIx": ",
                  iommufd_backend_id(container->be), iova, last);
}

void vfio_iommufd_map_error(VFIOContainer *base, hwaddr iova, ram_addr_t size,
                            void *vaddr, int ret, Error **errp)
{
    ERRP_GUARD();
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    error_setg(errp, "%s", strerror(-ret));
    switch (-ret) {
    case ENOMEM:
        explain_enomem(base, vaddr, size, errp);
        break;
    case EINVAL:
        explain_einval(container, vaddr, errp);
        break;
    case ENOSPC:
        explain_enospc(container, errp);
        break;
    case EFAULT:
        vfio_memory_explain_efault(vaddr, errp);
        break;
    }
    prepend_where(container, range_lob(&container->failed),
                  range_upb(&container->failed), errp);
}

/* What becomes of it */

static void send_event(VFIOIOMMUFDContainer *container,
                       MemoryRegionSection *section, Error *err)
{
    DeviceState *dev = vfio_memory_device(section->mr);
    g_autofree char *path = dev ? object_get_canonical_path(OBJECT(dev)) : NULL;
    Range range;

    vfio_missing_range(section, &range);
    qapi_event_send_iommufd_map_error(iommufd_backend_id(container->be),
                                      range_lob(&range), range_size(&range),
                                      range_upb(&range),
                                      memory_region_name(section->mr),
                                      !!path, path, error_get_pretty(err));
}

/*
 * Memory that appeared in the address space.  Nobody can be refused it, and a
 * device that reaches there now gets an error from the IOMMU, so the guest
 * must not run on unawares.  A start that would have to stop the guest fails.
 */
void vfio_iommufd_map_failed(VFIOContainer *base, MemoryRegionSection *section,
                             Error *err)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    if (vfio_missing_retries(&container->missing, section)) {
        vfio_missing_still(&container->missing, err);
        return;
    }

    if (!vfio_start_is_over()) {
        error_report_err(err);
        exit(EXIT_FAILURE);
    }

    vfio_missing_add(&container->missing, section, &err);
    send_event(container, section, err);
    error_append_hint(&err, "The VM does not run until it is mapped or "
                      "gone.\n");
    error_report_err(err);
}

/*
 * Memory that the guest asked for: more of a virtio-mem device, or a map of
 * its IOMMU.  It is refused, or its devices get errors.
 */
void vfio_iommufd_map_refused(VFIOContainer *base, hwaddr iova,
                              ram_addr_t size, void *vaddr, int ret)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);
    Error *err = NULL;

    if (vfio_guest_log_is_due(&container->refused)) {
        vfio_iommufd_map_error(base, iova, size, vaddr, ret, &err);
        vfio_guest_log_say(&container->refused, err);
    }
}

/* What its IOMMU maps is no memory, so the kernel was not asked. */
void vfio_iommufd_map_invalid(VFIOContainer *base, hwaddr iova,
                              ram_addr_t size, Error *err)
{
    VFIOIOMMUFDContainer *container = vfio_iommufd_container(base);

    prepend_where(container, iova, iova + size - 1, &err);
    vfio_guest_log(&container->refused, err);
}
