/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a user or a guest does with passed-through devices, as acts of which any
 * part may fail
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "hw/pci/pci_regs.h"
#include "qapi/qmp/qdict.h"
#include "vfio-act.h"
#include "vfio-fault.h"
#include "vfio-mapped.h"
#include "vfio-memory.h"

/* Slots of the device that comes and goes, and of those that stay */
#define VIOMMU_SLOT     3
#define SLOT            4
#define STAYING_SLOT(i) (5 + (i))

/* Where they copy, in the guest's memory and also in a virtio-iommu */
#define COPY_FROM       0x300000
#define COPY_TO         0x400000
#define COPY_END        0x500000

/* What a virtio-iommu maps and unmaps */
#define DOMAIN          1
#define RW              (VIOMMU_READ | VIOMMU_WRITE)
#define IOVA            0x2000000
#define MAPPED          0x600000
#define MAPPED_SIZE     0x10000

/* The DIMM that comes and goes */
#define DIMM_SLOT       0
#define DIMM_SIZE       (128 * MiB)

/* The machine's memory: what is mapped in the background is 64 MiB or more */
static uint64_t memory_size(void)
{
    return vfio_rig_later() ? 128 * MiB : 32 * MiB;
}

static const char *object_of(const VFIOAct *act)
{
    return act->object ?: VFIO_RIG_IOMMUFD;
}

/* Memory that is mapped in the background is mapped, unless that failed. */
static void settle(VFIOStage *s)
{
    if (vfio_rig_later() && !s->maps_held) {
        vfio_machine_wait_mapped(s->machine);
    }
}

/* Plugging and unplugging a device */

char *vfio_stage_plug(VFIOStage *s)
{
    g_autofree char *device =
        g_strdup_printf("%s,id=dev0,addr=%d,iommufd=%s",
                        vfio_rig_device("EDU0"), SLOT, object_of(s->act));
    char *error = vfio_machine_device_add(s->machine, device);

    settle(s);
    return error;
}

static void plug(VFIOStage *s)
{
    g_assert_null(vfio_stage_plug(s));
}

static void unplug(VFIOStage *s)
{
    vfio_machine_device_del(s->machine, "dev0", SLOT);
}

static char *act_unplug(VFIOStage *s)
{
    unplug(s);
    return NULL;
}

static void check_plugged(VFIOStage *s)
{
    VFIOEdu *edu = vfio_edu_new(s->machine, SLOT);

    vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
    vfio_edu_check_copy(edu, 0x100000, memory_size() - 0x1000, 256);
    vfio_edu_free(edu);
    s->machine->pci->mmio_alloc_ptr = s->free_mmio;
}

/* The device reaches nothing, and can be plugged again. */
static void check_unplugged(VFIOStage *s)
{
    g_autoptr(GArray) pages = vfio_mapped_pages("EDU0");

    g_assert_cmpuint(pages->len, ==, 0);
    plug(s);
    check_plugged(s);
    unplug(s);
}

/* The guest gives the device its address; then a BAR is to be mapped. */
static char *act_enable(VFIOStage *s)
{
    vfio_edu_free(vfio_edu_new(s->machine, SLOT));
    s->machine->pci->mmio_alloc_ptr = s->free_mmio;
    return NULL;
}

/* Rebooting */

static void reset(VFIOStage *s)
{
    vfio_machine_reset(s->machine);
}

static char *act_reset(VFIOStage *s)
{
    reset(s);
    return NULL;
}

/* Mapping and unmapping by the guest's IOMMU */

static void map(VFIOStage *s)
{
    g_assert_cmpint(viommu_map(s->viommu, DOMAIN, IOVA, MAPPED, MAPPED_SIZE,
                               RW), ==, VIRTIO_IOMMU_S_OK);
}

static void unmap(VFIOStage *s)
{
    g_assert_cmpint(viommu_unmap(s->viommu, DOMAIN, IOVA, MAPPED_SIZE), ==,
                    VIRTIO_IOMMU_S_OK);
}

static char *act_map(VFIOStage *s)
{
    map(s);
    return NULL;
}

static char *act_unmap(VFIOStage *s)
{
    unmap(s);
    return NULL;
}

/* The device reads and writes the guest's page through @iova. */
static void check_mapped(VFIOStage *s)
{
    QTestState *qts = s->machine->qts;
    uint32_t sent = g_test_rand_int();

    qtest_writel(qts, MAPPED, sent);
    vfio_edu_dma(s->staying[0], EDU_DMA_FROM_MEMORY, IOVA, 4);
    vfio_edu_dma(s->staying[0], EDU_DMA_TO_MEMORY, IOVA + MAPPED_SIZE - 4, 4);
    g_assert_cmphex(qtest_readl(qts, MAPPED + MAPPED_SIZE - 4), ==, sent);
}

/* The page can be mapped again, also if it was not mapped. */
static void check_mapped_again(VFIOStage *s)
{
    unmap(s);
    map(s);
    check_mapped(s);
}

static void check_unmapped(VFIOStage *s)
{
    map(s);
    unmap(s);
    map(s);
    check_mapped(s);
    unmap(s);
}

/* Plugging and unplugging memory */

/* While a device can do DMA, nothing is mapped in the background. */
static void end_dma(VFIOStage *s)
{
    if (vfio_rig_later()) {
        vfio_edu_enable(s->staying[0], PCI_COMMAND_MEMORY);
    }
}

static void plug_memory(VFIOStage *s)
{
    g_assert_null(vfio_memory_plug(s->machine, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    settle(s);
}

static void unplug_memory(VFIOStage *s)
{
    g_assert_null(vfio_memory_ask_back(s->machine, DIMM_SLOT));
    vfio_memory_eject(s->machine, DIMM_SLOT);
    g_assert_null(vfio_memory_drop(s->machine, DIMM_SLOT));
    vfio_memory_wait_freed(s->machine, DIMM_SIZE);
}

static char *act_plug_memory(VFIOStage *s)
{
    plug_memory(s);
    return NULL;
}

static char *act_unplug_memory(VFIOStage *s)
{
    unplug_memory(s);
    return NULL;
}

/* The device reaches all of the DIMM, and the pages that QEMU has there. */
static void check_memory_of(VFIOStage *s, const char *device)
{
    g_autoptr(GArray) pages = vfio_mapped_pages(device);
    g_autoptr(GArray) regions = vfio_machine_regions(s->machine, NULL);
    uint64_t mapped = 0;

    for (int i = 0; i < pages->len; i++) {
        VFIOMappedPage *page = &g_array_index(pages, VFIOMappedPage, i);

        mapped += page->iova >= VFIO_ACT_DIMM ? page->size : 0;
    }
    g_assert_cmphex(mapped, ==, DIMM_SIZE);
    g_assert_null(vfio_mapped_wrong(s->machine, pages, regions));
}

static void check_memory(VFIOStage *s)
{
    for (int i = 0; i < ARRAY_SIZE(s->staying) && s->staying[i]; i++) {
        check_memory_of(s, s->act->staying[i]);
    }
}

static void check_memory_unplugged(VFIOStage *s)
{
    plug_memory(s);
    check_memory(s);
    unplug_memory(s);
}

/* What meets memory of which a half is mapped */

static void plug_half_mapped(VFIOStage *s)
{
    vfio_fault_hold_helpers();
    s->maps_held = true;
    plug(s);
    vfio_fault_wait_held();
}

/* Whoever met it has waited for the calls that were held. */
static void map_rest(VFIOStage *s)
{
    s->maps_held = false;
    settle(s);
}

static char *act_unplug_half_mapped(VFIOStage *s)
{
    unplug(s);
    map_rest(s);
    return NULL;
}

/* Whoever sets the bit makes the calls that are left. */
static char *act_bus_master_half_mapped(VFIOStage *s)
{
    vfio_memory_command(s->machine, SLOT, PCI_COMMAND_MASTER);
    map_rest(s);
    return NULL;
}

/* What is being mapped begins below 1 MiB, until firmware takes that away. */
static void plug_half_mapped_from_pam0(VFIOStage *s)
{
    vfio_memory_config_byte(s->machine, 0, I440FX_PAM0, PAM0_RAM);
    plug_half_mapped(s);
}

static char *act_change_half_mapped(VFIOStage *s)
{
    vfio_memory_config_byte(s->machine, 0, I440FX_PAM0, 0);
    map_rest(s);
    return NULL;
}

#define THREADS "-m 128M -object iommufd,id=parallel,map-threads=3"
#define ROOM    "-m 32M,slots=1,maxmem=1G"

/* A guest's IOMMU that lets all pass: each device has an address space. */
#define SPACES  " -device virtio-iommu-pci,addr=" stringify(VIOMMU_SLOT)

const VFIOAct vfio_acts[] = {
    {
        .name = "start",
        .staying = { "EDU0" },
    }, {
        .name = "start-two",
        .staying = { "EDU0", "EDU1" },
    }, {
        .name = "start-with-kvm",
        .options = "-accel kvm -S",
        .staying = { "EDU0" },
    }, {
        .name = "plug",
        .act = vfio_stage_plug,
        .check_refused = check_unplugged,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "plug-second",
        .staying = { "EDU1" },
        .act = vfio_stage_plug,
        .check_refused = check_unplugged,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "plug-with-kvm",
        .options = "-accel kvm -S",
        .act = vfio_stage_plug,
        .check_refused = check_unplugged,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "plug-by-threads",
        .options = THREADS,
        .object = "parallel",
        .act = vfio_stage_plug,
        .check_refused = check_unplugged,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "plug-shared",
        .options = "-m 128M" SPACES,
        .staying = { "EDU1" },
        .act = vfio_stage_plug,
        .check_refused = check_unplugged,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "enable",
        .prepare = plug,
        .act = act_enable,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "unplug",
        .prepare = plug,
        .act = act_unplug,
        .check = check_unplugged,
    }, {
        .name = "unplug-second",
        .staying = { "EDU1" },
        .prepare = plug,
        .act = act_unplug,
        .check = check_unplugged,
    }, {
        .name = "unplug-with-kvm",
        .options = "-accel kvm -S",
        .prepare = plug,
        .act = act_unplug,
        .check = check_unplugged,
    }, {
        .name = "reset",
        .staying = { "PAIR0", "PAIR1" },
        .act = act_reset,
        .undo = reset,
    }, {
        .name = "map",
        .staying = { "EDU0" },
        .viommu = true,
        .act = act_map,
        .check = check_mapped_again,
        .undo = unmap,
    }, {
        .name = "unmap",
        .staying = { "EDU0" },
        .viommu = true,
        .prepare = map,
        .act = act_unmap,
        .check = check_unmapped,
    }, {
        .name = "plug-memory",
        .options = ROOM,
        .staying = { "EDU0" },
        .prepare = end_dma,
        .act = act_plug_memory,
        .check = check_memory,
        .undo = unplug_memory,
    }, {
        .name = "plug-memory-shared",
        .options = ROOM SPACES,
        .staying = { "EDU0", "EDU1" },
        .act = act_plug_memory,
        .check = check_memory,
        .undo = unplug_memory,
    }, {
        .name = "unplug-memory",
        .options = ROOM,
        .staying = { "EDU0" },
        .prepare = plug_memory,
        .act = act_unplug_memory,
        .check = check_memory_unplugged,
    }, {
        .name = "unplug-memory-shared",
        .options = ROOM SPACES,
        .staying = { "EDU0", "EDU1" },
        .prepare = plug_memory,
        .act = act_unplug_memory,
        .check = check_memory_unplugged,
    }, {
        .name = "unplug-half-mapped",
        .later = true,
        .prepare = plug_half_mapped,
        .act = act_unplug_half_mapped,
        .check = check_unplugged,
    }, {
        .name = "bus-master-half-mapped",
        .later = true,
        .prepare = plug_half_mapped,
        .act = act_bus_master_half_mapped,
        .check = check_plugged,
        .undo = unplug,
    }, {
        .name = "change-half-mapped",
        .later = true,
        .prepare = plug_half_mapped_from_pam0,
        .act = act_change_half_mapped,
        .check = check_plugged,
        .undo = unplug,
    }, {
    }
};

/* Stages */

char *vfio_act_options(const VFIOAct *act)
{
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "-m %" PRIu64 "M %s", memory_size() / MiB,
                           act->options ?: "");
    if (act->viommu) {
        g_string_append_printf(text, " -device virtio-iommu-pci,addr=%d,"
                               "boot-bypass=off", VIOMMU_SLOT);
    }
    for (int i = 0; i < ARRAY_SIZE(act->staying) && act->staying[i]; i++) {
        g_string_append_printf(text, " -device %s,addr=%d",
                               vfio_rig_device(act->staying[i]),
                               STAYING_SLOT(i));
    }
    return g_string_free(text, false);
}

static void start_viommu(VFIOStage *s)
{
    s->viommu = viommu_new(s->machine, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(s->viommu, DOMAIN,
                                  VIOMMU_ENDPOINT(STAYING_SLOT(0)), 0), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmpint(viommu_map(s->viommu, DOMAIN, COPY_FROM, COPY_FROM,
                               COPY_END - COPY_FROM, RW), ==,
                    VIRTIO_IOMMU_S_OK);
}

VFIOStage *vfio_stage_start(const VFIOAct *act)
{
    VFIOStage *s = g_new0(VFIOStage, 1);
    g_autofree char *options = vfio_act_options(act);

    s->act = act;
    close(g_file_open_tmp("vfio-act-XXXXXX", &s->errors, NULL));
    s->machine = vfio_machine_start("%s 2>%s", options, s->errors);
    settle(s);
    return s;
}

void vfio_stage_boot(VFIOStage *s)
{
    const VFIOAct *act = s->act;

    for (int i = 0; i < ARRAY_SIZE(s->staying) && act->staying[i]; i++) {
        s->staying[i] = vfio_edu_new(s->machine, STAYING_SLOT(i));
    }
    if (act->viommu) {
        start_viommu(s);
    }
    s->free_mmio = s->machine->pci->mmio_alloc_ptr;
}

VFIOStage *vfio_stage_new(const VFIOAct *act)
{
    VFIOStage *s = vfio_stage_start(act);

    vfio_stage_boot(s);
    return s;
}

char *vfio_stage_end(VFIOStage *s)
{
    char *said;

    for (int i = 0; i < ARRAY_SIZE(s->staying) && s->staying[i]; i++) {
        vfio_edu_free(s->staying[i]);
    }
    if (s->viommu) {
        viommu_free(s->viommu);
    }
    g_free(vfio_stage_said(s));
    vfio_machine_stop(s->machine);
    said = vfio_stage_said(s);
    g_unlink(s->errors);
    g_free(s->errors);
    g_free(s);
    return said;
}

char *vfio_stage_said(VFIOStage *s)
{
    g_autofree char *text = NULL;
    size_t from = s->errors_read;

    g_assert_true(g_file_get_contents(s->errors, &text, &s->errors_read,
                                      NULL));
    return g_strdup(text + from);
}

char *vfio_stage_state(VFIOStage *s)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status",
                                            s->machine->pid);
    g_autofree char *state = vfio_machine_state(s->machine);
    g_autofree char *status = NULL;
    g_auto(GStrv) lines = NULL;
    GString *text = g_string_new(state);

    g_assert_true(g_file_get_contents(path, &status, NULL, NULL));
    lines = g_strsplit(status, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, "VmLck:") ||
            g_str_has_prefix(*line, "VmPin:")) {
            g_string_append_printf(text, "%s\n", *line);
        }
    }
    return g_string_free(text, false);
}

bool vfio_stage_is_stopped(VFIOStage *s)
{
    QDict *reply = qtest_qmp(s->machine->qts, "{ 'execute': 'query-status' }");
    QDict *status = qdict_get_qdict(reply, "return");
    bool stopped = g_str_equal(qdict_get_str(status, "status"), "io-error");

    qobject_unref(reply);
    return stopped;
}

void vfio_stage_go_on(VFIOStage *s, uint64_t iova)
{
    vfio_machine_wait_map_error(s->machine, object_of(s->act), iova,
                                "cannot map memory");
    vfio_machine_cont(s->machine);
}

/* After a reset the guest has to enable them first. */
void vfio_stage_check_staying(VFIOStage *s)
{
    for (int i = 0; i < ARRAY_SIZE(s->staying) && s->staying[i]; i++) {
        vfio_edu_enable(s->staying[i], PCI_COMMAND_MEMORY |
                                       PCI_COMMAND_MASTER);
        vfio_edu_check_copy(s->staying[i], COPY_FROM, COPY_TO, 256);
    }
}
