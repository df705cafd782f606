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

static QLIST_HEAD(AllReplaced, VFIOReplaced) all_replaced =
    QLIST_HEAD_INITIALIZER(all_replaced);

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

/* The sections of one container, to be freed when they are mapped again */
static void unmap(VFIOReplaced *replaced)
{
    FindSections find = {
        .as = replaced->as,
        .sections = g_array_new(false, false, sizeof(MemoryRegionSection)),
    };

    WITH_RCU_READ_LOCK_GUARD() {
        flatview_for_each_range(address_space_to_flatview(replaced->as),
                                find_section, &find);
    }
    for (int i = 0; i < find.sections->len; i++) {
        replaced->listener->region_del(replaced->listener,
            &g_array_index(find.sections, MemoryRegionSection, i));
    }
    replaced->sections = find.sections;
}

/* This takes long, and must not keep RCU waiting. */
static void map_again(VFIOReplaced *replaced)
{
    g_autoptr(GArray) sections = g_steal_pointer(&replaced->sections);

    for (int i = 0; i < sections->len; i++) {
        MemoryRegionSection *section = &g_array_index(sections,
                                                      MemoryRegionSection, i);

        replaced->listener->region_add(replaced->listener, section);
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

static void ram_was_replaced(Notifier *unused, void *data)
{
    VFIOReplaced *replaced;

    QLIST_FOREACH(replaced, &all_replaced, next) {
        unmap(replaced);
    }
    QLIST_FOREACH(replaced, &all_replaced, next) {
        map_again(replaced);
    }
}

static Notifier notifier = { .notify = ram_was_replaced };

void vfio_replaced_init(VFIOReplaced *replaced, MemoryListener *listener,
                        AddressSpace *as)
{
    if (QLIST_EMPTY(&all_replaced)) {
        ram_replaced_notifier_add(&notifier);
    }
    replaced->listener = listener;
    replaced->as = as;
    replaced->sections = NULL;
    QLIST_INSERT_HEAD(&all_replaced, replaced, next);
    replaced->postcopy.notify = refuse_postcopy;
    postcopy_add_notifier(&replaced->postcopy);
}

void vfio_replaced_destroy(VFIOReplaced *replaced)
{
    postcopy_remove_notifier(&replaced->postcopy);
    QLIST_REMOVE(replaced, next);
    if (QLIST_EMPTY(&all_replaced)) {
        notifier_remove(&notifier);
    }
}
