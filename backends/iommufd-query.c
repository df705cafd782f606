/* SPDX-License-Identifier: GPL-2.0-or-later */
/* query-iommufd and query-iommufd-progress */
#include "qemu/osdep.h"
#include <linux/iommufd.h>

#include "iommufd-progress.h"
#include "qapi/error.h"
#include "qapi/qapi-commands-iommufd.h"
#include "qemu/timer.h"
#include "qom/object_interfaces.h"
#include "sysemu/iommufd-query.h"

static IOMMUFDQuery *query_users;

void iommufd_query_register(IOMMUFDQuery *query)
{
    assert(!query_users);
    query_users = query;
}

/* What the kernel says */

IommufdAddressSpace *iommufd_query_ioas(IOMMUFDBackend *be, uint32_t ioas_id,
                                        Error **errp)
{
    g_autofree Range *ranges = NULL;
    IommufdAddressSpace *space;
    IommufdRangeList **tail;
    uint64_t alignment;
    uint32_t i, num_ranges;

    if (!iommufd_backend_iova_ranges(be, ioas_id, &ranges, &num_ranges,
                                     &alignment, errp)) {
        return NULL;
    }

    space = g_new0(IommufdAddressSpace, 1);
    space->ioas_id = ioas_id;
    space->iova_alignment = alignment;
    tail = &space->iova_ranges;
    for (i = 0; i < num_ranges; i++) {
        IommufdRange *range = g_new(IommufdRange, 1);

        range->first = range_lob(&ranges[i]);
        range->last = range_upb(&ranges[i]);
        QAPI_LIST_APPEND(tail, range);
    }
    return space;
}

/*
 * By number: the kernel's headers that QEMU is built with may know fewer than
 * the kernel that it runs on.
 */
static IommufdIommuType iommu_type(uint32_t type)
{
    static const IommufdIommuType types[] = {
        [IOMMU_HW_INFO_TYPE_NONE] = IOMMUFD_IOMMU_TYPE_UNNAMED,
        [IOMMU_HW_INFO_TYPE_INTEL_VTD] = IOMMUFD_IOMMU_TYPE_INTEL_VTD,
        [2] = IOMMUFD_IOMMU_TYPE_ARM_SMMUV3,
        [3] = IOMMUFD_IOMMU_TYPE_TEGRA241_CMDQV,
        [4] = IOMMUFD_IOMMU_TYPE_AMD,
    };

    return type < ARRAY_SIZE(types) ? types[type] : IOMMUFD_IOMMU_TYPE_UNKNOWN;
}

static void read_vtd(const IOMMUFDHwInfo *info, IommufdIommuVtd *vtd)
{
    struct iommu_hw_info_vtd data;

    QEMU_BUILD_BUG_ON(sizeof(data) > sizeof(info->data));
    memcpy(&data, info->data, sizeof(data));
    vtd->cap = data.cap_reg;
    vtd->ecap = data.ecap_reg;
}

IommufdIommu *iommufd_query_iommu(IOMMUFDBackend *be, uint32_t devid)
{
    IOMMUFDHwInfo info = {};
    IommufdIommu *iommu;

    if (iommufd_backend_get_hw_info(be, devid, &info)) {
        return NULL;
    }

    iommu = g_new0(IommufdIommu, 1);
    iommu->type = iommu_type(info.type);
    iommu->dirty_tracking = info.capabilities & IOMMU_HW_CAP_DIRTY_TRACKING;
    if (iommu->type == IOMMUFD_IOMMU_TYPE_INTEL_VTD) {
        read_vtd(&info, &iommu->u.intel_vtd);
    }
    return iommu;
}

/* query-iommufd */

static IommufdCounters *query_counters(const IOMMUFDCounters *counters)
{
    IommufdCounters *copy = g_new(IommufdCounters, 1);

    *copy = (IommufdCounters) {
        .calls = stat64_get(&counters->calls),
        .failures = stat64_get(&counters->failures),
        .bytes = stat64_get(&counters->bytes),
        .large_bytes = stat64_get(&counters->large_bytes),
        .large_time = stat64_get(&counters->large_ns),
    };
    return copy;
}

static IommufdInfo *query_object(IOMMUFDBackend *be, Error **errp)
{
    g_autoptr(IommufdInfo) info = g_new0(IommufdInfo, 1);
    int accounting = iommufd_backend_accounting(be);

    info->id = g_strdup(iommufd_backend_id(be));
    info->fd_given = be->fd_given;
    info->has_memlock_accounting = accounting >= 0;
    info->memlock_accounting = MAX(accounting, 0);
    info->has_threads = be->users;
    info->threads = be->threads;
    info->max_guest_maps = iommufd_backend_max_guest_maps(be);
    info->map = query_counters(&be->maps);
    info->unmap = query_counters(&be->unmaps);
    if (query_users && !query_users(be, &info->address_spaces, errp)) {
        return NULL;
    }
    return g_steal_pointer(&info);
}

typedef struct Query {
    IommufdInfoList **tail;
    Error **errp;
} Query;

static int query_child(Object *obj, void *opaque)
{
    Query *query = opaque;
    IommufdInfo *info;

    if (!object_dynamic_cast(obj, TYPE_IOMMUFD_BACKEND)) {
        return 0;
    }

    info = query_object(IOMMUFD_BACKEND(obj), query->errp);
    if (!info) {
        return 1;
    }
    QAPI_LIST_APPEND(query->tail, info);
    return 0;
}

IommufdInfoList *qmp_query_iommufd(Error **errp)
{
    g_autoptr(IommufdInfoList) list = NULL;
    Query query = {
        .tail = &list,
        .errp = errp,
    };

    if (object_child_foreach(object_get_objects_root(), query_child, &query)) {
        return NULL;
    }
    return g_steal_pointer(&list);
}

/* query-iommufd-progress */

static void append_progress(const IOMMUFDProgress *progress, void *opaque)
{
    IommufdProgressList ***tail = opaque;
    IommufdProgress *copy = g_new(IommufdProgress, 1);

    *copy = (IommufdProgress) {
        .id = g_strdup(progress->id),
        .ioas_id = progress->ioas_id,
        .operation = progress->unmaps ? IOMMUFD_OPERATION_UNMAP
                                      : IOMMUFD_OPERATION_MAP,
        .iova = progress->iova,
        .size = progress->size,
        .done = stat64_get(&progress->done),
        .time = qemu_clock_get_ns(QEMU_CLOCK_REALTIME) - progress->start,
    };
    QAPI_LIST_APPEND(*tail, copy);
}

/* Out of band it runs in the monitor's thread, without the big lock. */
IommufdProgressList *qmp_query_iommufd_progress(Error **errp)
{
    IommufdProgressList *list = NULL, **tail = &list;

    iommufd_progress_foreach(append_progress, &tail);
    return list;
}
