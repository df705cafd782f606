/* SPDX-License-Identifier: GPL-2.0-or-later */
/* info iommufd: what query-iommufd tells, for a person */
#include "qemu/osdep.h"

#include "monitor/hmp.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-iommufd.h"
#include "qemu/cutils.h"
#include "qemu/timer.h"

/* The width of what stands before each line's text */
#define LABEL "    %-14s"

static const char *plural(uint64_t count)
{
    return count == 1 ? "" : "s";
}

static void print_counters(Monitor *mon, const char *what,
                           const IommufdCounters *counters)
{
    g_autofree char *bytes = size_to_str(counters->bytes);
    g_autofree char *large = size_to_str(counters->large_bytes);

    monitor_printf(mon, "  %-16s%" PRIu64 " call%s, %s", what, counters->calls,
                   plural(counters->calls), bytes);
    if (counters->failures) {
        monitor_printf(mon, ", %" PRIu64 " failed", counters->failures);
    }
    if (counters->large_bytes) {
        monitor_printf(mon, "; large ones %s in %.3f s", large,
                       (double)counters->large_time / NANOSECONDS_PER_SECOND);
    }
    monitor_printf(mon, "\n");
}

static void print_missing(Monitor *mon, const IommufdMissingMemory *missing)
{
    g_autofree char *size = size_to_str(missing->size);

    monitor_printf(mon, LABEL "%s of %s at 0x%" PRIx64 "%s%s\n", "missing:",
                   size, missing->memory, missing->iova,
                   missing->has_qom_path ? ", " : "",
                   missing->has_qom_path ? missing->qom_path : "");
    monitor_printf(mon, LABEL "%s\n", "", missing->reason);
}

static void print_ranges(Monitor *mon, const IommufdRangeList *ranges)
{
    const char *label = "can map:";

    for (; ranges; ranges = ranges->next) {
        monitor_printf(mon, LABEL "0x%" PRIx64 " to 0x%" PRIx64 "\n", label,
                       ranges->value->first, ranges->value->last);
        label = "";
    }
}

static void print_migration(Monitor *mon, const IommufdDevice *device)
{
    static const char *const writes[] = {
        [IOMMUFD_DIRTY_TRACKING_NONE] = "nothing tells of its writes",
        [IOMMUFD_DIRTY_TRACKING_DEVICE] = "it tells of its writes itself",
        [IOMMUFD_DIRTY_TRACKING_IOMMU] = "the IOMMU tells of its writes",
    };

    if (device->has_migration_blocker) {
        monitor_printf(mon, LABEL "blocks migration: %s\n", "",
                       device->migration_blocker);
    } else if (device->has_dirty_tracking) {
        monitor_printf(mon, LABEL "can be migrated, %s\n", "",
                       writes[device->dirty_tracking]);
    }
}

static void print_device(Monitor *mon, const IommufdDevice *device)
{
    const IommufdIommu *iommu = device->iommu;

    monitor_printf(mon, LABEL "%s, %s\n", "device:", device->host,
                   device->qom_path);
    monitor_printf(mon, LABEL "number %u", "", device->devid);
    if (device->pins) {
        monitor_printf(mon, ", page table %u", device->page_table);
    } else {
        monitor_printf(mon, ", pins nothing");
    }
    if (iommu) {
        monitor_printf(mon, ", IOMMU %s%s", IommufdIommuType_str(iommu->type),
                       iommu->dirty_tracking ? " with dirty tracking" : "");
    }
    monitor_printf(mon, "\n");
    print_migration(mon, device);
}

static void print_background(Monitor *mon, uint64_t bytes)
{
    g_autofree char *text = size_to_str(bytes);

    if (bytes) {
        monitor_printf(mon, LABEL "%s\n", "background:", text);
    }
}

static void print_space(Monitor *mon, const IommufdAddressSpace *space,
                        uint64_t max_guest_maps)
{
    g_autofree char *mapped = size_to_str(space->mapped_bytes);
    const IommufdMissingMemoryList *missing;
    const IommufdDeviceList *device;

    monitor_printf(mon, "  address space '%s' (IOAS %u)\n", space->name,
                   space->ioas_id);
    monitor_printf(mon, LABEL "%s in %" PRIu64 " map%s", "mapped:", mapped,
                   space->maps, plural(space->maps));
    if (space->guest_maps) {
        monitor_printf(mon, ", for %" PRIu64 " of the guest's IOMMU (at most %"
                       PRIu64 ")", space->guest_maps, max_guest_maps);
    }
    monitor_printf(mon, "\n");
    print_background(mon, space->background_bytes);
    for (missing = space->missing; missing; missing = missing->next) {
        print_missing(mon, missing->value);
    }
    print_ranges(mon, space->iova_ranges);
    monitor_printf(mon, LABEL "%s\n", "peer-to-peer:",
                   IommufdPeerToPeer_str(space->peer_to_peer));
    for (device = space->devices; device; device = device->next) {
        print_device(mon, device->value);
    }
}

static void print_object(Monitor *mon, const IommufdInfo *info)
{
    const IommufdAddressSpaceList *space;

    monitor_printf(mon, "%s:\n", info->id);
    monitor_printf(mon, "  %-16s%s\n", "/dev/iommu:",
                   info->fd_given ? "given" :
                   info->has_threads ? "opened by QEMU" : "not open");
    if (info->has_memlock_accounting) {
        monitor_printf(mon, "  %-16scounted by %s\n", "locked memory:",
                       IommufdMemlockAccounting_str(info->memlock_accounting));
    }
    if (info->has_threads) {
        monitor_printf(mon, "  %-16s%u\n", "threads:", info->threads);
    }
    print_counters(mon, "map:", info->map);
    print_counters(mon, "unmap:", info->unmap);
    for (space = info->address_spaces; space; space = space->next) {
        print_space(mon, space->value, info->max_guest_maps);
    }
}

void hmp_info_iommufd(Monitor *mon, const QDict *qdict)
{
    Error *err = NULL;
    g_autoptr(IommufdInfoList) list = qmp_query_iommufd(&err);
    const IommufdInfoList *object;

    if (hmp_handle_error(mon, err)) {
        return;
    }
    if (!list) {
        monitor_printf(mon, "No iommufd objects\n");
    }
    for (object = list; object; object = object->next) {
        print_object(mon, object->value);
    }
}
