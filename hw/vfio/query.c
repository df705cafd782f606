/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What query-iommufd tells of VFIO devices and their address spaces */
#include "qemu/osdep.h"

#include "dirty.h"
#include "iommufd.h"
#include "memory-hint.h"
#include "sysemu/iommufd-query.h"

static IommufdDirtyTracking query_tracking(VFIODevice *vbasedev)
{
    static const IommufdDirtyTracking by[] = {
        [VFIO_DIRTY_ALL] = IOMMUFD_DIRTY_TRACKING_NONE,
        [VFIO_DIRTY_LOG] = IOMMUFD_DIRTY_TRACKING_DEVICE,
        [VFIO_DIRTY_IOMMU] = IOMMUFD_DIRTY_TRACKING_IOMMU,
    };

    return by[vfio_dirty_by(vbasedev)];
}

static void query_migration(VFIODevice *vbasedev, IommufdDevice *device)
{
    Error *blocker = vbasedev->migration_blocker;

    device->has_dirty_tracking = vbasedev->mig;
    if (vbasedev->mig) {
        device->dirty_tracking = query_tracking(vbasedev);
    }
    device->has_migration_blocker = blocker;
    device->migration_blocker = blocker ? g_strdup(error_get_pretty(blocker))
                                        : NULL;
}

static IommufdDevice *query_device(VFIODevice *vbasedev)
{
    IommufdDevice *device = g_new0(IommufdDevice, 1);

    device->qom_path = object_get_canonical_path(OBJECT(vbasedev->dev));
    device->host = g_strdup(vbasedev->name);
    device->devid = vbasedev->devid;
    device->pins = vbasedev->pins;
    device->has_page_table = vbasedev->pins;
    device->page_table = vbasedev->pt_id;
    device->iommu = iommufd_query_iommu(vbasedev->iommufd, vbasedev->devid);
    device->has_iommu = device->iommu;
    query_migration(vbasedev, device);
    return device;
}

static void append_missing(MemoryRegionSection *section, const char *reason,
                           void *opaque)
{
    IommufdAddressSpace *space = opaque;
    IommufdMissingMemory *missing = g_new0(IommufdMissingMemory, 1);
    DeviceState *dev = vfio_memory_device(section->mr);
    Range range;

    vfio_missing_range(section, &range);
    missing->iova = range_lob(&range);
    missing->size = range_size(&range);
    missing->last = range_upb(&range);
    missing->memory = g_strdup(memory_region_name(section->mr));
    missing->has_qom_path = dev;
    missing->qom_path = dev ? object_get_canonical_path(OBJECT(dev)) : NULL;
    missing->reason = g_strdup(reason);
    space->missing_bytes += missing->size;
    QAPI_LIST_PREPEND(space->missing, missing);
}

static IommufdPeerToPeer query_peers(VFIOIOMMUFDContainer *container)
{
    bool by_dma_buf = vfio_p2p_is_used(&container->p2p);

    if (container->out_of_reach || (container->no_bars && !by_dma_buf)) {
        return IOMMUFD_PEER_TO_PEER_NONE;
    }
    if (!range_is_empty(&container->far_bar)) {
        return IOMMUFD_PEER_TO_PEER_OUT_OF_REACH;
    }
    if (by_dma_buf) {
        return IOMMUFD_PEER_TO_PEER_DMA_BUF;
    }
    return container->bars ? IOMMUFD_PEER_TO_PEER_ADDRESS
                           : IOMMUFD_PEER_TO_PEER_UNTRIED;
}

static IommufdAddressSpace *query_container(VFIOIOMMUFDContainer *container,
                                            Error **errp)
{
    IommufdAddressSpace *space = iommufd_query_ioas(container->be,
                                                    container->ioas_id, errp);
    VFIODevice *vbasedev;

    if (!space) {
        return NULL;
    }

    space->name = g_strdup(container->base.space->as->name);
    space->maps = container->maps.count;
    space->guest_maps = container->maps.guest_count;
    space->mapped_bytes = container->mapped;
    space->background_bytes = vfio_background_bytes(container);
    space->has_background_bytes = space->background_bytes;
    space->peer_to_peer = query_peers(container);
    vfio_missing_foreach(&container->missing, append_missing, space);
    QLIST_FOREACH(vbasedev, &container->base.device_list, container_next) {
        QAPI_LIST_PREPEND(space->devices, query_device(vbasedev));
    }
    return space;
}

/* So that each container is found once: it has devices as long as it exists. */
static bool is_first(VFIODevice *vbasedev)
{
    return vbasedev == QLIST_FIRST(&vbasedev->container->device_list);
}

/* The lists have what came last first; what came first is told of first. */
static bool query_containers(IOMMUFDBackend *be,
                             IommufdAddressSpaceList **list, Error **errp)
{
    IommufdAddressSpace *space;
    VFIODevice *vbasedev;

    QLIST_FOREACH(vbasedev, &vfio_device_list, global_next) {
        if (vbasedev->iommufd == be && is_first(vbasedev)) {
            space = query_container(vfio_iommufd_container(vbasedev->container),
                                    errp);
            if (!space) {
                return false;
            }
            QAPI_LIST_PREPEND(*list, space);
        }
    }
    return true;
}

static void register_query(void)
{
    iommufd_query_register(query_containers);
}

type_init(register_query)
