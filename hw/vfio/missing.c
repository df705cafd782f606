/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that devices should reach and do not: see missing.h */
#include "qemu/osdep.h"
#include "missing.h"
#include "qemu/error-report.h"
#include "qemu/range.h"

/*
 * The copy has no view: a view would keep every region of the address space
 * alive, including the BARs of devices that are unplugged.
 */
struct VFIOMissingSection {
    MemoryRegionSection section;    /* has a reference to its region */
    QLIST_ENTRY(VFIOMissingSection) next;
};

static void vfio_missing_free(VFIOMissingSection *entry)
{
    QLIST_REMOVE(entry, next);
    memory_region_unref(entry->section.mr);
    g_free(entry);
}

void vfio_missing_add(VFIOMissing *missing, MemoryRegionSection *section)
{
    VFIOMissingSection *entry = g_new(VFIOMissingSection, 1);

    entry->section = *section;
    entry->section.fv = NULL;
    memory_region_ref(section->mr);
    QLIST_INSERT_HEAD(&missing->sections, entry, next);
    qemu_system_vmstop_request_prepare();
    qemu_system_vmstop_request(RUN_STATE_IO_ERROR);
}

static bool vfio_missing_begins_in(const VFIOMissingSection *entry,
                                   const Range *range)
{
    hwaddr offset = entry->section.offset_within_address_space;

    return range_contains(range, REAL_HOST_PAGE_ALIGN(offset));
}

void vfio_missing_remove(VFIOMissing *missing, hwaddr iova, ram_addr_t size)
{
    VFIOMissingSection *entry, *next;
    Range range;

    range_set_bounds(&range, iova, iova + size - 1);
    QLIST_FOREACH_SAFE(entry, &missing->sections, next, next) {
        if (vfio_missing_begins_in(entry, &range)) {
            vfio_missing_free(entry);
        }
    }
}

static void vfio_missing_retry(VFIOMissing *missing)
{
    VFIOMissingSections before = QLIST_HEAD_INITIALIZER(before);
    VFIOMissingSection *entry;

    QLIST_SWAP(&before, &missing->sections, next);
    while ((entry = QLIST_FIRST(&before))) {
        /* The first region_add() took a reference and kept it, as this will. */
        memory_region_unref(entry->section.mr);
        missing->listener->region_add(missing->listener, &entry->section);
        vfio_missing_free(entry);
    }
}

/*
 * Called last of all handlers when the VM is about to run, with the processors
 * still stopped; and they stay so, since resume_all_vcpus() asks for the run
 * state.  Another container may have stopped the VM again just before.
 */
static void vfio_missing_vm_state_change(void *opaque, bool running,
                                         RunState state)
{
    VFIOMissing *missing = opaque;

    if (running && runstate_is_running() &&
        !QLIST_EMPTY(&missing->sections)) {
        vfio_missing_retry(missing);
        if (QLIST_EMPTY(&missing->sections)) {
            info_report("vfio: devices reach all of the guest's memory again");
        } else {
            vm_stop(RUN_STATE_IO_ERROR);
        }
    }
}

void vfio_missing_init(VFIOMissing *missing, MemoryListener *listener)
{
    missing->listener = listener;
    QLIST_INIT(&missing->sections);
    missing->vm_state =
        qemu_add_vm_change_state_handler_prio(vfio_missing_vm_state_change,
                                              missing, INT_MAX);
}

void vfio_missing_destroy(VFIOMissing *missing)
{
    qemu_del_vm_change_state_handler(missing->vm_state);
    while (!QLIST_EMPTY(&missing->sections)) {
        vfio_missing_free(QLIST_FIRST(&missing->sections));
    }
}
