/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which memory devices have written to: see dirty.h
 *
 * QEMU asks for one section of guest memory after the other.  What devices
 * reach of it is a part, of whole pages.  If the writes of some device are not
 * told, the whole part is dirty; else it is cut into pieces, and the records of
 * all devices are added up in a bitmap for each piece.
 *
 * A part that is dirty only because nobody knows better is so no longer once it
 * has been marked and its devices have stood since.  So a guest that is paused
 * can be migrated whatever its devices are: ->standing has these parts.
 */
#include "qemu/osdep.h"

#include "cpu.h"
#include "dirty.h"
#include "dirty-log.h"
#include "exec/address-spaces.h"
#include "exec/ram_addr.h"
#include "hw/pci/pci.h"
#include "hwpt.h"
#include "mig.h"
#include "migration/migration.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/error-report.h"
#include "qemu/rcu.h"
#include "qemu/units.h"
#include "trace.h"

/*
 * Bytes; a bitmap of 512 KiB.  No page of a page table, which has 1 GiB at
 * most, lies across the boundary: the kernel would tell of it in the first
 * piece, and with it forget the rest (Linux, drivers/iommu/intel/iommu.c,
 * intel_iommu_read_and_clear_dirty()).
 */
#define PIECE_SIZE (16 * GiB)

typedef struct Part {
    hwaddr iova;
    uint64_t size;
    ram_addr_t ram_addr;
} Part;

typedef void PartFn(VFIOContainer *container, const Part *part);

/* Who tells */

void vfio_dirty_query(VFIODevice *vbasedev)
{
    if (vbasedev->device_dirty_page_tracking != ON_OFF_AUTO_OFF) {
        vbasedev->dirty_log = vfio_dirty_log_query(vbasedev);
    }
}

void vfio_dirty_forget(VFIODevice *vbasedev)
{
    g_free(vbasedev->dirty_log);
    vbasedev->dirty_log = NULL;
}

VFIODirtyBy vfio_dirty_by(VFIODevice *vbasedev)
{
    if (vbasedev->dirty_log) {
        return VFIO_DIRTY_LOG;
    }
    return vbasedev->hwpt ? VFIO_DIRTY_IOMMU : VFIO_DIRTY_ALL;
}

bool vfio_dirty_can_track(VFIODevice *vbasedev)
{
    return vfio_dirty_by(vbasedev) != VFIO_DIRTY_ALL;
}

/* What can tell has been made to. */
static bool is_told(VFIODevice *vbasedev)
{
    if (vbasedev->untold) {
        return false;
    }
    switch (vfio_dirty_by(vbasedev)) {
    case VFIO_DIRTY_LOG:
        return vbasedev->dirty_log->on;
    case VFIO_DIRTY_IOMMU:
        return vfio_hwpt_records_all(vbasedev);
    default:
        return false;
    }
}

bool vfio_dirty_serves(VFIOContainer *container)
{
    VFIODevice *vbasedev;

    if (!vfio_container_is_direct(container)) {
        return false;   /* nothing there is migrated */
    }
    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        if (vbasedev->mig) {
            return true;
        }
    }
    return false;
}

/*
 * With virtio-net's failover, the guest has to let a device go before it is
 * migrated, and has no access to its configuration from then on
 * (hw/pci/pci_host.c, is_pci_dev_ejected()).  But it stays, for the case that
 * the migration fails.
 */
static bool is_let_go(VFIODevice *vbasedev)
{
    PCIDevice *pdev = (PCIDevice *)object_dynamic_cast(OBJECT(vbasedev->dev),
                                                       TYPE_PCI_DEVICE);

    return pdev && pdev->partially_hotplugged &&
           !vbasedev->dev->pending_deleted_event;
}

/* A device that nobody can stop may as long as the guest has it. */
static bool may_write(VFIODevice *vbasedev)
{
    return vbasedev->mig ? vfio_mig_is_running(vbasedev)
                         : !is_let_go(vbasedev);
}

bool vfio_dirty_wanted(VFIODevice *vbasedev)
{
    return vbasedev->pre_copy_dirty_page_tracking != ON_OFF_AUTO_OFF ||
           !vbasedev->mig || !vfio_mig_is_running(vbasedev);
}

/* Begin and end */

static bool start_device(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();
    bool started = true;

    vbasedev->ran = may_write(vbasedev);
    vbasedev->untold = false;
    if (vfio_dirty_by(vbasedev) == VFIO_DIRTY_LOG) {
        started = vfio_dirty_log_start(vbasedev, errp);
    } else if (vfio_dirty_by(vbasedev) == VFIO_DIRTY_IOMMU) {
        started = vfio_hwpt_start(vbasedev, errp);
    }
    if (!started) {
        error_prepend(errp, VFIO_MSG_PREFIX, vbasedev->name);
    }
    return started;
}

static void stop_device(VFIODevice *vbasedev)
{
    if (vfio_dirty_by(vbasedev) == VFIO_DIRTY_LOG) {
        vfio_dirty_log_stop(vbasedev);
    } else if (vfio_dirty_by(vbasedev) == VFIO_DIRTY_IOMMU) {
        vfio_hwpt_stop(vbasedev);
    }
}

static void forget_standing(VFIOContainer *container)
{
    g_clear_pointer(&container->standing, g_hash_table_unref);
}

bool vfio_dirty_start(VFIOContainer *container, Error **errp)
{
    VFIODevice *vbasedev;
    bool started = true;

    container->records_dirty = vfio_dirty_serves(container);
    forget_standing(container);
    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        Error *err = NULL;

        if (!start_device(vbasedev, &err)) {
            trace_vfio_dirty_start_failed(vbasedev->name);
            error_propagate(errp, err);
            started = false;
        }
    }
    return started;
}

void vfio_dirty_stop(VFIOContainer *container)
{
    VFIODevice *vbasedev;

    container->records_dirty = false;
    forget_standing(container);
    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        stop_device(vbasedev);
    }
}

static void start_or_warn(VFIOContainer *container)
{
    Error *err = NULL;

    if (!vfio_dirty_start(container, &err)) {
        warn_report_err(err);
    }
}

void vfio_dirty_track(VFIOContainer *container, bool start)
{
    if (!vfio_dirty_serves(container)) {
        vfio_set_dirty_page_tracking(container, start);
    } else if (start) {
        start_or_warn(container);
    } else {
        vfio_dirty_stop(container);
    }
}

/* Sections, and what devices reach of them */

static void mark(VFIOContainer *container, const Part *part)
{
    trace_vfio_dirty_mark(part->iova, part->size, part->ram_addr);
    cpu_physical_memory_set_dirty_range(part->ram_addr, part->size,
                                        DIRTY_CLIENTS_NOCODE);
}

/*
 * The listener maps whole pages, and nothing of a section that lies otherwise
 * in its region than in the address space (vfio_listener_region_add()).
 */
static bool find_part(MemoryRegionSection *section, Part *part)
{
    hwaddr start = section->offset_within_address_space;
    hwaddr end = (start + int128_get64(section->size)) &
                 qemu_real_host_page_mask();
    hwaddr iova = REAL_HOST_PAGE_ALIGN(start);

    if (iova >= end || ((start ^ section->offset_within_region) &
                        ~qemu_real_host_page_mask())) {
        return false;
    }

    *part = (Part) {
        .iova = iova,
        .size = end - iova,
        .ram_addr = memory_region_get_ram_addr(section->mr) +
                    section->offset_within_region + (iova - start),
    };
    return true;
}

typedef struct EachPart {
    VFIOContainer *container;
    PartFn *fn;
} EachPart;

static int call_for_part(MemoryRegionSection *section, void *opaque)
{
    EachPart *each = opaque;
    Part part;

    if (find_part(section, &part)) {
        each->fn(each->container, &part);
    }
    return 0;
}

/* Other devices' BARs do not migrate, and what is discarded has no content. */
static void for_each_part(VFIOContainer *container,
                          MemoryRegionSection *section, PartFn *fn)
{
    EachPart each = { .container = container, .fn = fn };
    RamDiscardManager *rdm;

    if (section->readonly || !memory_region_is_ram(section->mr) ||
        memory_region_is_ram_device(section->mr)) {
        return;
    }

    rdm = memory_region_get_ram_discard_manager(section->mr);
    if (rdm) {
        ram_discard_manager_replay_populated(rdm, section, call_for_part,
                                             &each);
    } else {
        call_for_part(section, &each);
    }
}

/* Sync */

static void begin_standing(VFIOContainer *container)
{
    if (container->standing) {
        g_hash_table_remove_all(container->standing);
    } else {
        container->standing = g_hash_table_new_full(g_int64_hash, g_int64_equal,
                                                    g_free, NULL);
    }
}

/*
 * Whether something has written to @part, or may have, and nothing tells.  The
 * first time after its devices have come to stand, the answer is yes.
 */
static bool is_unknown(VFIOContainer *container, const Part *part)
{
    VFIODevice *vbasedev;
    bool untold = false;
    uint64_t *key;

    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        if (is_told(vbasedev) || !vfio_dirty_wanted(vbasedev)) {
            continue;
        }
        untold = true;
        if (may_write(vbasedev) || vbasedev->ran) {
            begin_standing(container);
        }
        vbasedev->ran = may_write(vbasedev);
    }

    /* Without a table, none has run since the recording began. */
    if (!untold || !container->standing) {
        return false;
    }
    key = g_new(uint64_t, 1);
    *key = part->iova;
    return g_hash_table_add(container->standing, key);
}

static bool is_asked_by_table(VFIODevice *vbasedev)
{
    return vfio_dirty_by(vbasedev) == VFIO_DIRTY_IOMMU && is_told(vbasedev) &&
           vfio_dirty_wanted(vbasedev);
}

/*
 * Devices that share a page table share its record.  One that has a log of its
 * own may have the table nevertheless (vfio_hwpt_share()): it is not asked for
 * that.
 */
static bool is_first_of_table(VFIODevice *vbasedev)
{
    VFIODevice *other;

    QLIST_FOREACH(other, &vbasedev->container->device_list, container_next) {
        if (other->hwpt == vbasedev->hwpt && is_asked_by_table(other)) {
            return other == vbasedev;
        }
    }
    g_assert_not_reached();
}

static bool add_record(VFIODevice *vbasedev, const Part *piece,
                       unsigned long *bits)
{
    if (!is_told(vbasedev)) {
        return true;
    }
    if (vfio_dirty_by(vbasedev) == VFIO_DIRTY_LOG) {
        return vfio_dirty_log_report(vbasedev, piece->iova, piece->size, bits);
    }
    return !is_first_of_table(vbasedev) ||
           vfio_hwpt_report(vbasedev, piece->iova, piece->size, bits);
}

/*
 * Returns false if something may be missing.  From a device that stands nothing
 * can be missing later, so it need not be asked again, and what it reaches need
 * not be sent again and again.
 */
static bool sync_piece(VFIOContainer *container, const Part *piece,
                       unsigned long *bits)
{
    uint64_t pages = piece->size / qemu_real_host_page_size();
    VFIODevice *vbasedev;

    bitmap_zero(bits, pages);
    QLIST_FOREACH(vbasedev, &container->device_list, container_next) {
        if (vfio_dirty_wanted(vbasedev) &&
            !add_record(vbasedev, piece, bits)) {
            vbasedev->untold = !may_write(vbasedev);
            return false;
        }
    }
    cpu_physical_memory_set_dirty_lebitmap(bits, piece->ram_addr, pages);
    return true;
}

/*
 * The bitmap is written to before the kernel gets it: a page of it that cannot
 * be had would cost what is recorded there, and the kernel would not tell.
 */
static void sync_part(VFIOContainer *container, const Part *part)
{
    g_autofree unsigned long *bits = NULL;
    hwaddr iova, next, end = part->iova + part->size;

    if (is_unknown(container, part)) {
        mark(container, part);
        return;
    }

    bits = bitmap_new(MIN(part->size, PIECE_SIZE) / qemu_real_host_page_size());
    for (iova = part->iova; iova < end; iova = next) {
        Part piece;

        next = MIN(end, ROUND_UP(iova + 1, PIECE_SIZE));
        piece = (Part) {
            .iova = iova,
            .size = next - iova,
            .ram_addr = part->ram_addr + (iova - part->iova),
        };
        if (!sync_piece(container, &piece, bits)) {
            mark(container, part);
            return;
        }
    }
}

/* Where dirty rates are measured, what devices write to does not count. */
void vfio_dirty_sync(VFIOContainer *container, MemoryRegionSection *section)
{
    if (container->records_dirty &&
        migration_is_setup_or_active(migrate_get_current()->state)) {
        for_each_part(container, section, sync_part);
    }
}

/* What goes */

void vfio_dirty_gone(VFIOContainer *container, MemoryRegionSection *section)
{
    if (container->records_dirty) {
        for_each_part(container, section, mark);
    }
}

static void mark_all(VFIOContainer *container, AddressSpace *as);

typedef struct MarkAll {
    VFIOContainer *container;
    bool translated;
} MarkAll;

static bool mark_range(Int128 start, Int128 size, const MemoryRegion *mr,
                       hwaddr offset, void *opaque)
{
    MarkAll *all = opaque;
    MemoryRegionSection section = {
        .mr = (MemoryRegion *)mr,
        .offset_within_region = offset,
        .offset_within_address_space = int128_get64(start),
        .size = size,
    };

    all->translated |= memory_region_is_iommu(section.mr);
    for_each_part(all->container, &section, mark);
    return false;
}

/* Behind an IOMMU of the guest's, that is all of the guest's memory. */
static void mark_all(VFIOContainer *container, AddressSpace *as)
{
    MarkAll all = { .container = container };

    WITH_RCU_READ_LOCK_GUARD() {
        flatview_for_each_range(address_space_to_flatview(as), mark_range,
                                &all);
    }
    if (all.translated) {
        mark_all(container, &address_space_memory);
    }
}

/*
 * Nothing is plugged during a migration, but while dirty rates are measured.
 * What a group's container has begun before it had such a device, ends.
 */
void vfio_dirty_join(VFIODevice *vbasedev)
{
    VFIOContainer *container = vbasedev->container;
    Error *err = NULL;

    if (!global_dirty_tracking || !vfio_dirty_serves(container)) {
        return;
    }

    if (!container->records_dirty) {
        vfio_set_dirty_page_tracking(container, false);
        container->records_dirty = true;
    }
    if (!start_device(vbasedev, &err)) {
        warn_report_err(err);
    }
}

void vfio_dirty_leave(VFIODevice *vbasedev)
{
    VFIOContainer *container = vbasedev->container;

    if (container->records_dirty) {
        mark_all(container, container->space->as);
        forget_standing(container);
    }
}
