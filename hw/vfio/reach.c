/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which addresses the host's IOMMU can map, and who has to know: see reach.h */
#include "qemu/osdep.h"

#include "hw/core/cpu.h"
#include "hw/guest-iommu.h"
#include "qapi/error.h"
#include "reach.h"

/* The guest's IOMMU */

static GList *add_range(GList *list, uint64_t first, uint64_t last)
{
    Range *range = g_new(Range, 1);

    range_set_bounds(range, first, last);
    return range_list_insert(list, range);
}

/* Add to *@list what the host cannot map for the devices of @container. */
static bool add_unreachable(VFIOIOMMUFDContainer *container, GList **list,
                            Error **errp)
{
    g_autofree Range *ranges = NULL;
    uint64_t alignment, next = 0;
    uint32_t num_ranges;

    if (!iommufd_backend_iova_ranges(container->be, container->ioas_id, &ranges,
                                     &num_ranges, &alignment, errp)) {
        return false;
    }

    for (uint32_t i = 0; i < num_ranges; i++) {
        if (range_lob(&ranges[i]) > next) {
            *list = add_range(*list, next, range_lob(&ranges[i]) - 1);
        }
        next = range_upb(&ranges[i]) + 1;   /* 0 after the last address */
    }
    if (next || !num_ranges) {
        *list = add_range(*list, next, UINT64_MAX);
    }
    return true;
}

static bool find_unreachable(VFIOAddressSpace *space, GList **list,
                             Error **errp)
{
    VFIOContainer *base;

    QLIST_FOREACH(base, &space->containers, next) {
        if (base->ops == &vfio_iommufd_ops &&
            !add_unreachable(vfio_iommufd_container(base), list, errp)) {
            return false;
        }
    }
    return true;
}

bool vfio_reach_tell_guest(AddressSpace *as, Error **errp)
{
    VFIOAddressSpace *space;
    GList *list = NULL;
    bool ok;

    if (!guest_iommu_translates(as)) {
        return true;
    }

    space = vfio_get_address_space(as);
    ok = find_unreachable(space, &list, errp) &&
         guest_iommu_set_unreachable(as, list, errp);
    vfio_put_address_space(space);
    g_list_free_full(list, g_free);
    return ok;
}

/* BARs */

/*
 * Firmware places BARs by the width of the processor's addresses.  With
 * host-phys-bits=on, which -cpu host implies, phys-bits is without effect.
 * NULL if processors of this kind have no such property.
 */
static const char *width_property(void)
{
    Object *cpu = OBJECT(first_cpu);

    if (!object_property_find(cpu, "phys-bits")) {
        return NULL;
    }
    return object_property_get_bool(cpu, "host-phys-bits", NULL)
           ? "host-phys-bits-limit" : "phys-bits";
}

/* The highest address that can be mapped; false if that is not known */
static bool find_last(VFIOIOMMUFDContainer *container, uint64_t *last)
{
    g_autofree Range *ranges = NULL;
    uint64_t alignment;
    uint32_t num_ranges;

    if (!iommufd_backend_iova_ranges(container->be, container->ioas_id, &ranges,
                                     &num_ranges, &alignment, NULL) ||
        !num_ranges) {
        return false;
    }
    *last = range_upb(&ranges[num_ranges - 1]);
    return true;
}

char *vfio_reach_explain_bar(VFIOIOMMUFDContainer *container, hwaddr last)
{
    const char *property = width_property();
    g_autofree char *remedy = NULL;
    uint64_t reach;

    if (!find_last(container, &reach) || last <= reach) {
        return NULL;
    }

    if (property) {
        remedy = g_strdup_printf(", and -cpu ...,%s=%d makes firmware place "
                                 "BARs lower", property, 63 - clz64(reach + 1));
    }
    return g_strdup_printf("the host's IOMMU reaches up to 0x%"PRIx64"%s",
                           reach, remedy ?: "");
}
