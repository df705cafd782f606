/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which addresses the host's IOMMU can map: see reach.h */
#include "qemu/osdep.h"

#include "hw/core/cpu.h"
#include "qapi/error.h"
#include "reach.h"

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
