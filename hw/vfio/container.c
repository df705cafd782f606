/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO container: the part that groups and iommufd share
 *
 * The listener (common.c) calls vfio_dma_map() and its like without knowing
 * what is behind; here the container's table decides.  See
 * include/hw/vfio/vfio-container.h for the contracts.
 */
#include "qemu/osdep.h"

#include "exec/address-spaces.h"
#include "hw/hw.h"
#include "hw/vfio/vfio-common.h"
#include "qapi/error.h"

void vfio_container_init(VFIOContainer *container, VFIOAddressSpace *space,
                         const VFIOContainerOps *ops)
{
    container->ops = ops;
    container->space = space;
    QLIST_INIT(&container->device_list);
    QLIST_INIT(&container->giommu_list);
    QLIST_INIT(&container->hostwin_list);
    QLIST_INIT(&container->vrdl_list);
}

void vfio_container_destroy(VFIOContainer *container)
{
    VFIOGuestIOMMU *giommu, *next_giommu;
    VFIOHostDMAWindow *hostwin, *next_hostwin;

    QLIST_SAFE_REMOVE(container, next);

    QLIST_FOREACH_SAFE(giommu, &container->giommu_list, giommu_next,
                       next_giommu) {
        memory_region_unregister_iommu_notifier(
            MEMORY_REGION(giommu->iommu_mr), &giommu->n);
        QLIST_REMOVE(giommu, giommu_next);
        g_free(giommu);
    }

    QLIST_FOREACH_SAFE(hostwin, &container->hostwin_list, hostwin_next,
                       next_hostwin) {
        QLIST_REMOVE(hostwin, hostwin_next);
        g_free(hostwin);
    }

    g_clear_pointer(&container->standing, g_hash_table_unref);
}

bool vfio_container_listen(VFIOContainer *container, Error **errp)
{
    container->listener = vfio_memory_listener;
    memory_listener_register(&container->listener, container->space->as);

    if (container->error) {
        error_propagate_prepend(errp, container->error,
                                "memory listener initialization failed: ");
        container->error = NULL;
        return false;
    }

    container->initialized = true;
    return true;
}

int vfio_dma_map(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                 void *vaddr, bool readonly)
{
    return container->ops->dma_map(container, iova, size, vaddr, readonly);
}

int vfio_dma_map_guest(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                       void *vaddr, bool readonly)
{
    if (container->ops->dma_map_guest) {
        return container->ops->dma_map_guest(container, iova, size, vaddr,
                                             readonly);
    }

    return vfio_dma_map(container, iova, size, vaddr, readonly);
}

int vfio_dma_map_section(VFIOContainer *container,
                         MemoryRegionSection *section, hwaddr iova,
                         ram_addr_t size, void *vaddr)
{
    if (memory_region_is_ram_device(section->mr) &&
        container->ops->dma_map_bar) {
        return container->ops->dma_map_bar(container, iova, size, vaddr,
                                           section->readonly);
    }
    if (container->ops->dma_map_memory) {
        return container->ops->dma_map_memory(container, section, iova, size,
                                              vaddr);
    }

    return vfio_dma_map(container, iova, size, vaddr, section->readonly);
}

int vfio_dma_unmap(VFIOContainer *container, hwaddr iova, ram_addr_t size,
                   IOMMUTLBEntry *iotlb)
{
    return container->ops->dma_unmap(container, iova, size, iotlb);
}

/* A guest's IOMMU has none, and what is plugged by blocks goes by itself. */
bool vfio_unmap_section_later(VFIOContainer *container,
                              MemoryRegionSection *section)
{
    return container->ops->unmap_memory_later &&
           !memory_region_is_iommu(section->mr) &&
           !memory_region_is_ram_device(section->mr) &&
           !memory_region_has_ram_discard_manager(section->mr) &&
           container->ops->unmap_memory_later(container, section);
}

void vfio_listener_begin(MemoryListener *listener)
{
    VFIOContainer *container = container_of(listener, VFIOContainer, listener);

    if (container->ops->begin) {
        container->ops->begin(container);
    }
}

void vfio_listener_commit(MemoryListener *listener)
{
    VFIOContainer *container = container_of(listener, VFIOContainer, listener);

    if (container->ops->commit) {
        container->ops->commit(container);
    }
}

bool vfio_container_is_direct(VFIOContainer *container)
{
    return container->space->as == &address_space_memory;
}

void vfio_set_dirty_page_tracking(VFIOContainer *container, bool start)
{
    if (container->ops->set_dirty_page_tracking) {
        container->ops->set_dirty_page_tracking(container, start);
    }
}

int vfio_get_dirty_bitmap(VFIOContainer *container, uint64_t iova,
                          uint64_t size, ram_addr_t ram_addr)
{
    return container->ops->query_dirty_bitmap(container, iova, size, ram_addr);
}

void vfio_container_map_failed(VFIOContainer *container,
                               MemoryRegionSection *section, Error *err)
{
    if (container->ops->map_failed) {
        container->ops->map_failed(container, section, err);
        return;
    }
    error_report_err(err);
    hw_error("vfio: DMA mapping failed, unable to continue");
}

void vfio_container_guest_map_failed(VFIOContainer *container, hwaddr iova,
                                     ram_addr_t size, void *vaddr, int ret)
{
    Error *err = NULL;

    if (container->ops->map_refused) {
        container->ops->map_refused(container, iova, size, vaddr, ret);
        return;
    }
    container->ops->map_error(container, iova, size, vaddr, ret, &err);
    error_report_err(err);
}

void vfio_container_guest_map_invalid(VFIOContainer *container, hwaddr iova,
                                      ram_addr_t size, Error *err)
{
    if (container->ops->map_invalid) {
        container->ops->map_invalid(container, iova, size, err);
    } else {
        error_report_err(err);
    }
}

int vfio_container_populate_failed(VFIOContainer *container, hwaddr iova,
                                   ram_addr_t size, void *vaddr, int ret,
                                   Error **errp)
{
    if (!container->ops->map_refused) {
        return ret;
    }
    if (!errp) {
        container->ops->map_refused(container, iova, size, vaddr, ret);
        return ret;
    }
    if (!*errp) {
        container->ops->map_error(container, iova, size, vaddr, ret, errp);
    }
    return 0;
}

bool vfio_container_add_window(VFIOContainer *container,
                               MemoryRegionSection *section, Error **errp)
{
    if (!container->ops->add_window) {
        return true;
    }
    return container->ops->add_window(container, section, errp);
}

void vfio_container_del_window(VFIOContainer *container,
                               MemoryRegionSection *section)
{
    if (container->ops->del_window) {
        container->ops->del_window(container, section);
    }
}
