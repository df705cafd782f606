/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that gets new pages while devices reach the old ones: replaced.h */
#include "qemu/osdep.h"

#include "qapi/error.h"
#include "qemu/notify.h"
#include "qemu/rcu.h"
#include "qemu/thread.h"
#include "migration/postcopy-ram.h"     /* needs notify.h and thread.h */
#include "replaced.h"
#include "sysemu/ram-replaced.h"

static bool has_new_pages(MemoryRegion *mr, hwaddr offset, uint64_t size)
{
    return memory_region_is_ram(mr) &&
           ram_replaced_is_in(memory_region_get_ram_addr(mr) + offset, size);
}

typedef struct FindSections {
    AddressSpace *as;
    GArray *sections;   /* of MemoryRegionSection, each with a reference */
} FindSections;

static bool find_section(Int128 start, Int128 size, const MemoryRegion *mr,
                         hwaddr offset, void *opaque)
{
    FindSections *find = opaque;
    MemoryRegionSection section;

    if (has_new_pages((MemoryRegion *)mr, offset, int128_get64(size))) {
        section = memory_region_find(find->as->root, int128_get64(start),
                                     int128_get64(size));
        g_array_append_val(find->sections, section);
    }
    return false;
}

/* Mapping takes long, and must not keep RCU waiting. */
static void ram_was_replaced(Notifier *notifier, void *unused)
{
    VFIOReplaced *replaced = container_of(notifier, VFIOReplaced, notifier);
    MemoryListener *listener = replaced->listener;
    g_autoptr(GArray) sections = g_array_new(false, false,
                                             sizeof(MemoryRegionSection));
    FindSections find = { .as = replaced->as, .sections = sections };

    WITH_RCU_READ_LOCK_GUARD() {
        flatview_for_each_range(address_space_to_flatview(replaced->as),
                                find_section, &find);
    }
    for (int i = 0; i < sections->len; i++) {
        MemoryRegionSection *section = &g_array_index(sections,
                                                      MemoryRegionSection, i);

        listener->region_del(listener, section);
        listener->region_add(listener, section);
        memory_region_unref(section->mr);
    }
}

/* It drops all of the memory at first, and brings pages as the guest runs. */
static int refuse_postcopy(NotifierWithReturn *notifier, void *opaque)
{
    struct PostcopyNotifyData *data = opaque;

    if (data->reason != POSTCOPY_NOTIFY_PROBE) {
        return 0;
    }
    error_setg(data->errp, "vfio: postcopy would give the guest other pages "
               "than devices with iommufd= reach; plug them afterwards");
    return -EBUSY;
}

void vfio_replaced_init(VFIOReplaced *replaced, MemoryListener *listener,
                        AddressSpace *as)
{
    replaced->listener = listener;
    replaced->as = as;
    replaced->notifier.notify = ram_was_replaced;
    ram_replaced_notifier_add(&replaced->notifier);
    replaced->postcopy.notify = refuse_postcopy;
    postcopy_add_notifier(&replaced->postcopy);
}

void vfio_replaced_destroy(VFIOReplaced *replaced)
{
    postcopy_remove_notifier(&replaced->postcopy);
    notifier_remove(&replaced->notifier);
}
