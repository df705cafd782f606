/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that devices should reach and do not: see missing.h */
#include "qemu/osdep.h"

#include "hw/mem/nvdimm.h"
#include "hw/mem/pc-dimm.h"
#include "memory-hint.h"
#include "missing.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/range.h"
#include "sysemu/iommufd.h"
#include "sysemu/run-gate.h"

/*
 * The copy has no view: a view would keep every region of the address space
 * alive, including the BARs of devices that are unplugged.
 */
struct VFIOMissingSection {
    MemoryRegionSection section;    /* has a reference to its region */
    DeviceState *dimm;  /* was just being plugged with it, or NULL */
    char *reason;       /* of the last failure */
    QLIST_ENTRY(VFIOMissingSection) next;
};

static QLIST_HEAD(VFIOAllMissing, VFIOMissing) all_missing =
    QLIST_HEAD_INITIALIZER(all_missing);

static bool gate_open(RunGate *gate, Error **errp);
static bool gate_keeps_back(RunGate *gate, DeviceState *dev);

static RunGate gate = {
    .open = gate_open,
    .keeps_back = gate_keeps_back,
};

static void vfio_missing_free(VFIOMissingSection *entry)
{
    QLIST_REMOVE(entry, next);
    memory_region_unref(entry->section.mr);
    g_free(entry->reason);
    g_free(entry);
}

/*
 * The guest learns of a DIMM after it is realized.  QEMU takes back no nvdimm,
 * not from a guest either.
 */
static DeviceState *dimm_being_plugged(MemoryRegion *mr)
{
    DeviceState *dev = vfio_memory_device(mr);

    return dev && object_dynamic_cast(OBJECT(dev), TYPE_PC_DIMM) &&
           !object_dynamic_cast(OBJECT(dev), TYPE_NVDIMM) && !dev->realized
           ? dev : NULL;
}

/* Other memory than such a DIMM cannot be taken back. */
static void vfio_missing_lead_on(const VFIOMissingSection *entry, Error **errp)
{
    g_autofree char *path = NULL;

    if (!entry->dimm) {
        iommufd_error_append_remedy(errp, "cont tries again");
        return;
    }

    path = object_get_canonical_path(OBJECT(entry->dimm));
    iommufd_error_append_remedy(errp, "cont tries again, and device_del of "
                                "'%s' takes the memory back",
                                entry->dimm->id ?: path);
}

/* @err says why it is missing, now that what leads on has been added. */
static void vfio_missing_keep_reason(VFIOMissingSection *entry, Error *err)
{
    g_free(entry->reason);
    entry->reason = g_strdup(error_get_pretty(err));
}

void vfio_missing_add(VFIOMissing *missing, MemoryRegionSection *section,
                      Error **errp)
{
    VFIOMissingSection *entry = g_new0(VFIOMissingSection, 1);

    entry->section = *section;
    entry->section.fv = NULL;
    entry->dimm = dimm_being_plugged(section->mr);
    memory_region_ref(section->mr);
    QLIST_INSERT_HEAD(&missing->sections, entry, next);
    vfio_missing_lead_on(entry, errp);
    vfio_missing_keep_reason(entry, *errp);
    run_gate_close(&gate);
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

    if (vfio_missing_is_retried(missing)) {
        return;     /* a map that fails half way takes the other half back */
    }

    range_set_bounds(&range, iova, iova + size - 1);
    QLIST_FOREACH_SAFE(entry, &missing->sections, next, next) {
        if (vfio_missing_begins_in(entry, &range)) {
            vfio_missing_free(entry);
        }
    }
}

void vfio_missing_foreach(VFIOMissing *missing,
                          void (*fn)(MemoryRegionSection *section,
                                     const char *reason, void *opaque),
                          void *opaque)
{
    VFIOMissingSection *entry;

    QLIST_FOREACH(entry, &missing->sections, next) {
        fn(&entry->section, entry->reason, opaque);
    }
}

void vfio_missing_range(const MemoryRegionSection *section, Range *range)
{
    hwaddr start = section->offset_within_address_space;
    hwaddr end = start + int128_getlo(section->size);   /* 0: 2^64 */

    range_set_bounds(range, REAL_HOST_PAGE_ALIGN(start),
                     (end & qemu_real_host_page_mask()) - 1);
}

bool vfio_missing_is_retried(VFIOMissing *missing)
{
    return missing->retried;
}

bool vfio_missing_retries(VFIOMissing *missing,
                          const MemoryRegionSection *section)
{
    return missing->retried && section->mr == missing->section->mr &&
           section->offset_within_address_space ==
           missing->section->offset_within_address_space;
}

void vfio_missing_still(VFIOMissing *missing, Error *err)
{
    error_propagate(missing->retried, err);
}

static bool vfio_missing_retry(VFIOMissing *missing, Error **errp)
{
    VFIOMissingSection *entry;
    Error *err = NULL;

    while ((entry = QLIST_FIRST(&missing->sections))) {
        missing->retried = &err;
        missing->section = &entry->section;
        /* The first region_add() took a reference and kept it, as this will. */
        memory_region_unref(entry->section.mr);
        missing->listener->region_add(missing->listener, &entry->section);
        missing->retried = NULL;
        missing->section = NULL;
        if (err) {
            vfio_missing_lead_on(entry, &err);
            vfio_missing_keep_reason(entry, err);
            error_propagate(errp, err);
            return false;
        }
        vfio_missing_free(entry);
    }
    return true;
}

/* Of any container; NULL if all have all of their memory */
static VFIOMissing *vfio_missing_first(void)
{
    VFIOMissing *missing = QLIST_FIRST(&all_missing);

    while (missing && QLIST_EMPTY(&missing->sections)) {
        missing = QLIST_NEXT(missing, next);
    }
    return missing;
}

/*
 * To map a section can mean to map for another container first what it shares
 * with that; if it fails there, it is missing in a container that may have had
 * its turn.
 */
static bool gate_open(RunGate *unused, Error **errp)
{
    VFIOMissing *missing = vfio_missing_first();

    while (missing) {
        if (!vfio_missing_retry(missing, errp)) {
            error_prepend(errp, "vfio: the VM cannot run, since devices do "
                          "not reach all of its memory: ");
            return false;
        }
        missing = vfio_missing_first();
    }
    info_report("vfio: devices reach all of the guest's memory again");
    return true;
}

static bool gate_keeps_back(RunGate *unused, DeviceState *dev)
{
    VFIOMissing *missing;
    VFIOMissingSection *entry;

    QLIST_FOREACH(missing, &all_missing, next) {
        QLIST_FOREACH(entry, &missing->sections, next) {
            if (entry->dimm == dev) {
                return true;
            }
        }
    }
    return false;
}

void vfio_missing_init(VFIOMissing *missing, MemoryListener *listener)
{
    missing->listener = listener;
    missing->retried = NULL;
    missing->section = NULL;
    QLIST_INIT(&missing->sections);
    QLIST_INSERT_HEAD(&all_missing, missing, next);
}

void vfio_missing_destroy(VFIOMissing *missing)
{
    QLIST_REMOVE(missing, next);
    while (!QLIST_EMPTY(&missing->sections)) {
        vfio_missing_free(QLIST_FIRST(&missing->sections));
    }
}
