/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DMA windows of sPAPR: the container's windows follow the guest's
 *
 * With VFIO_SPAPR_TCE_v2_IOMMU a guest creates and removes windows, each of
 * which is an IOMMU memory region in its address space.  So a window is
 * created on the host when such a section appears, and removed with it.
 * Other types of IOMMU have fixed windows, and nothing is done here.
 */
#include "qemu/osdep.h"

#include "hw/hw.h"
#include "hw/vfio/kvm-device.h"
#include "hw/vfio/vfio-common.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/range.h"
#include "sysemu/kvm.h"
#include "trace.h"

static hwaddr section_last(MemoryRegionSection *section)
{
    return section->offset_within_address_space +
           int128_get64(section->size) - 1;
}

/* Windows must not overlap; this might be relaxed. */
static bool vfio_spapr_window_is_free(VFIOContainer *base,
                                      MemoryRegionSection *section,
                                      Error **errp)
{
    VFIOHostDMAWindow *hostwin;

    QLIST_FOREACH(hostwin, &base->hostwin_list, hostwin_next) {
        if (ranges_overlap(hostwin->min_iova,
                           hostwin->max_iova - hostwin->min_iova + 1,
                           section->offset_within_address_space,
                           int128_get64(section->size))) {
            error_setg(errp,
                       "region [0x%"PRIx64",0x%"PRIx64"] overlaps with existing"
                       "host DMA window [0x%"PRIx64",0x%"PRIx64"]",
                       section->offset_within_address_space,
                       section_last(section),
                       hostwin->min_iova, hostwin->max_iova);
            return false;
        }
    }

    return true;
}

/*
 * Let KVM handle the guest's changes to the table without leaving the kernel.
 * A failure is only reported: then QEMU handles them.
 */
static void vfio_spapr_window_to_kvm(VFIOLegacyContainer *container,
                                     MemoryRegionSection *section)
{
    VFIOGroup *group;
    int table_fd;
    int ret;

    if (!kvm_enabled() ||
        memory_region_iommu_get_attr(IOMMU_MEMORY_REGION(section->mr),
                                     IOMMU_ATTR_SPAPR_TCE_FD, &table_fd)) {
        return;
    }

    QLIST_FOREACH(group, &container->group_list, container_next) {
        ret = vfio_kvm_device_set_spapr_tce(group->fd, table_fd);
        if (ret) {
            error_report("vfio: failed to setup fd %d "
                         "for a group with fd %d: %s",
                         table_fd, group->fd, strerror(-ret));
            return;
        }
        trace_vfio_spapr_group_attach(group->fd, table_fd);
    }
}

bool vfio_spapr_add_window(VFIOContainer *base, MemoryRegionSection *section,
                           Error **errp)
{
    VFIOLegacyContainer *container = vfio_legacy_container(base);
    hwaddr pgsize = 0;
    int ret;

    if (container->iommu_type != VFIO_SPAPR_TCE_v2_IOMMU) {
        return true;
    }

    if (!vfio_spapr_window_is_free(base, section, errp)) {
        return false;
    }

    ret = vfio_spapr_create_window(container, section, &pgsize);
    if (ret) {
        error_setg_errno(errp, -ret, "Failed to create SPAPR window");
        return false;
    }

    vfio_host_win_add(base, section->offset_within_address_space,
                      section_last(section), pgsize);
    vfio_spapr_window_to_kvm(container, section);
    return true;
}

void vfio_spapr_del_window(VFIOContainer *base, MemoryRegionSection *section)
{
    VFIOLegacyContainer *container = vfio_legacy_container(base);

    if (container->iommu_type != VFIO_SPAPR_TCE_v2_IOMMU) {
        return;
    }

    vfio_spapr_remove_window(container, section->offset_within_address_space);
    if (vfio_host_win_del(base, section->offset_within_address_space,
                          section_last(section)) < 0) {
        hw_error("%s: Cannot delete missing window at %"HWADDR_PRIx,
                 __func__, section->offset_within_address_space);
    }
}
