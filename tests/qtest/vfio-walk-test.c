/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: random walks, by the group and by iommufd
 *
 * "memory" changes a guest's memory, "spaces" the same with two devices that
 * have an address space each, "viommu" changes what a guest's IOMMU maps.
 * vfio-walk.h says what must hold after each step.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "hw/pci/pci_regs.h"
#include "hw/pci-host/pam.h"
#include "hw/pci-host/q35.h"
#include "vfio-viommu.h"
#include "vfio-walk.h"

static const char *done_or(const char *error)
{
    return error ?: "done";
}

static unsigned draw(VFIOWalker *w, unsigned end)
{
    return vfio_walk_draw(w, end);
}

#define DRAW_FROM(w, values) ((values)[draw(w, ARRAY_SIZE(values))])

/* Memory */

#define SHMEM_SLOT  5
#define VGA_SLOT    6
#define VMEM_SLOT   7
#define VMEM_ID     "virtio-mem0"
#define DIMM_SLOTS  6

#define FILE_MIB    4

/* Whether shared memory has huge pages */
#define SHARED_HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

/*
 * The rest of what maxmem= leaves is for DIMMs; some of them find no place.
 * Everything is small, so that there are few entries in the IOMMU's page table,
 * which takes longest to look at.
 */
#define MEMORY_OPTIONS "-m 32M,slots=6,maxmem=96M " MEMORY_DEVICES

#define MEMORY_DEVICES \
    "-object memory-backend-ram,id=shmem,size=1M " \
    "-device ivshmem-plain,memdev=shmem,addr=5 " \
    "-device VGA,addr=6,vgamem_mb=1 " \
    "-object memory-backend-ram,id=" VFIO_SCENE_VMEM ",size=40M " \
    "-device virtio-mem-pci,addr=7,id=" VMEM_ID ",memdev=" VFIO_SCENE_VMEM

/* For memory that a device may only read */
static char *readonly_file;

/* A size that is not a multiple of 2 MiB is refused. */
static char *plug_dimm(VFIOWalker *w)
{
    static const unsigned sizes[] = { 2, 2, 3, FILE_MIB, 6, 10, 34 };
    g_autofree char *readonly =
        g_strdup_printf("memory-backend-file,mem-path=%s,share=on,readonly=on",
                        readonly_file);
    const char *backends[] = {
        "memory-backend-ram", "memory-backend-ram,share=on",
        "memory-backend-memfd", readonly,
    };
    const char *backend = DRAW_FROM(w, backends);
    unsigned mib = backend == readonly ? FILE_MIB : DRAW_FROM(w, sizes);
    unsigned slot = draw(w, DIMM_SLOTS);
    g_autofree char *error = vfio_memory_plug(w->scene.machine, "pc-dimm",
                                              slot, backend, mib * MiB);

    return g_strdup_printf("plug %u MiB of %s in slot %u: %s", mib, backend,
                           slot, done_or(error));
}

static char *unplug_dimm(VFIOWalker *w)
{
    VFIOMachine *m = w->scene.machine;
    unsigned slot = draw(w, DIMM_SLOTS);
    g_autofree char *asked = vfio_memory_ask_back(m, slot);
    g_autofree char *dropped = NULL;

    if (!asked) {
        vfio_memory_eject(m, slot);
    }
    dropped = vfio_memory_drop(m, slot);
    return g_strdup_printf("unplug slot %u: %s, its memory: %s", slot,
                           done_or(asked), done_or(dropped));
}

/* The guest keeps it until it lets it go, which it does not do here. */
static char *drop_memory(VFIOWalker *w)
{
    unsigned slot = draw(w, DIMM_SLOTS);
    g_autofree char *error = vfio_memory_drop(w->scene.machine, slot);

    return g_strdup_printf("drop the memory of slot %u: %s", slot,
                           done_or(error));
}

static char *offer_blocks(VFIOWalker *w)
{
    VFIOVirtioMem *vmem = w->scene.vmem;
    unsigned blocks = draw(w, vmem->num_blocks + 1);

    vfio_virtio_mem_offer(vmem, VMEM_ID, blocks * vmem->block_size);
    return g_strdup_printf("offer %u blocks", blocks);
}

static char *change_blocks(VFIOWalker *w)
{
    VFIOVirtioMem *vmem = w->scene.vmem;
    bool plugs = draw(w, 2);
    unsigned block = draw(w, vmem->num_blocks);
    unsigned count = 1 + draw(w, 5);
    int response = plugs ? vfio_virtio_mem_plug(vmem, block, count)
                         : vfio_virtio_mem_unplug(vmem, block, count);

    return g_strdup_printf("%s block %u and on, %u: response %d",
                           plugs ? "plug" : "unplug", block, count, response);
}

static char *unplug_all_blocks(VFIOWalker *w)
{
    return g_strdup_printf("unplug all blocks: response %d",
                           vfio_virtio_mem_unplug_all(w->scene.vmem));
}

/* Two areas of the first MiB: ROM, RAM or neither */
static char *set_pam(VFIOWalker *w)
{
    uint8_t reg = 0x59 + draw(w, 7);
    uint8_t value = draw(w, 1 << 8) & (PAM_ATTR_MASK << 4 | PAM_ATTR_MASK);

    vfio_memory_config_byte(w->scene.machine, 0, reg, value);
    return g_strdup_printf("PAM 0x%x: 0x%02x", reg, value);
}

/* The area below the memory from 1 MiB on is one with that, or not. */
static char *set_last_pam(VFIOWalker *w)
{
    uint8_t value = draw(w, 2) ? PAM_ATTR_MASK << 4 : 0;

    vfio_memory_config_byte(w->scene.machine, 0, 0x59, value);
    return g_strdup_printf("PAM 0x59: 0x%02x", value);
}

static char *set_smram(VFIOWalker *w)
{
    uint8_t value = draw(w, 1 << 8) & (SMRAM_D_OPEN | SMRAM_G_SMRAME);

    value |= SMRAM_C_BASE_SEG;
    vfio_memory_config_byte(w->scene.machine, 0, 0x72, value);
    return g_strdup_printf("SMRAM: 0x%02x", value);
}

/*
 * Within memory and behind it, below 4 GiB and in the 4th GiB, between what is
 * plugged, and far away; but not where the virtio-mem has its registers.
 */
static uint64_t draw_address(VFIOWalker *w, uint64_t size, unsigned places)
{
    static const struct {
        uint64_t first;
        uint64_t span;
    } place[] = {
        { 0, 64 * MiB },
        { 3 * GiB, 256 * MiB },
        { 0xf0000000, 256 * MiB },
        { 4 * GiB, 256 * MiB },
        { 8 * GiB, 504 * GiB },
    };
    unsigned i = draw(w, places);

    return place[i].first + draw(w, place[i].span / size) * size;
}

#define PLACES_BELOW_4GIB   3
#define PLACES              5

static char *move_shmem(VFIOWalker *w)
{
    uint64_t addr = draw_address(w, MiB, PLACES);

    vfio_memory_bar64(w->scene.machine, SHMEM_SLOT, PCI_BASE_ADDRESS_2, addr);
    return g_strdup_printf("shared memory at 0x%" PRIx64, addr);
}

static char *move_vga(VFIOWalker *w)
{
    uint64_t addr = draw_address(w, MiB, PLACES_BELOW_4GIB);

    vfio_memory_bar(w->scene.machine, VGA_SLOT, PCI_BASE_ADDRESS_0, addr);
    return g_strdup_printf("video memory at 0x%" PRIx64, addr);
}

static char *move_rom(VFIOWalker *w)
{
    uint64_t addr = draw_address(w, 64 * KiB, PLACES_BELOW_4GIB);
    uint32_t enable = draw(w, 4) ? PCI_ROM_ADDRESS_ENABLE : 0;

    vfio_memory_bar(w->scene.machine, VGA_SLOT, PCI_ROM_ADDRESS,
                    addr | enable);
    return g_strdup_printf("VGA's ROM at 0x%" PRIx64 ", %s", addr,
                           enable ? "on" : "off");
}

static char *decode(VFIOWalker *w)
{
    unsigned slot = draw(w, 2) ? SHMEM_SLOT : VGA_SLOT;
    uint16_t command = draw(w, 3) ? PCI_COMMAND_MEMORY | PCI_COMMAND_IO : 0;

    vfio_memory_command(w->scene.machine, slot, command);
    return g_strdup_printf("memory of slot %u: %s", slot,
                           command ? "on" : "off");
}

/* The window of video memory in the first MiB is plain memory or not. */
static char *set_window(VFIOWalker *w)
{
    QTestState *qts = w->scene.machine->qts;
    static const uint16_t sequencer = 0x3c4, graphics = 0x3ce;
    uint8_t chain = draw(w, 3) ? 0x0e : 0x06;
    uint8_t range = draw(w, 4) << 2;

    qtest_outw(qts, sequencer, 0x0f02);     /* write to all planes */
    qtest_outw(qts, sequencer, chain << 8 | 4);
    qtest_outw(qts, graphics, range << 8 | 6);
    return g_strdup_printf("video window: 0x%02x, 0x%02x", chain, range);
}

static void start_virtio_mem(VFIOWalker *w)
{
    VFIOScene *s = &w->scene;

    if (s->vmem) {
        vfio_virtio_mem_free(s->vmem);
    }
    s->vmem = vfio_virtio_mem_new(s->machine, VMEM_SLOT);
}

static char *reset_memory(VFIOWalker *w)
{
    vfio_machine_reset(w->scene.machine);
    start_virtio_mem(w);
    return g_strdup("reset");
}

/* When a device comes, all memory is mapped for it. */
static char *replug_device(VFIOWalker *w)
{
    g_autofree char *device = vfio_scene_device(w->scene.device);
    g_autofree char *error = NULL;

    vfio_machine_device_del(w->scene.machine, "edu0", VFIO_SCENE_SLOT);
    error = vfio_machine_device_add(w->scene.machine, device);
    return g_strdup_printf("the device was away, and is back: %s",
                           done_or(error));
}

static char *replug_other(VFIOWalker *w)
{
    g_autofree char *device = vfio_walk_other_device(w->other.device);
    g_autofree char *error = NULL;

    vfio_machine_device_del(w->scene.machine, "other", VFIO_WALK_OTHER_SLOT);
    error = vfio_machine_device_add(w->scene.machine, device);
    return g_strdup_printf("the other device was away, and is back: %s",
                           done_or(error));
}

/* Of two devices one stays, and keeps the memory that both share. */
static char *replug(VFIOWalker *w)
{
    return w->other.device && draw(w, 2) ? replug_other(w) : replug_device(w);
}

static GArray *memory_regions(VFIOWalker *w)
{
    return vfio_machine_regions(w->scene.machine, w->scene.regions);
}

/* Between two looks memory may have gone, and other of its name have come. */
static GArray *memory_regions_anew(VFIOWalker *w)
{
    return vfio_machine_regions(w->scene.machine, NULL);
}

static const VFIOWalkStep memory_steps[] = {
    { 12, plug_dimm },
    { 8, unplug_dimm },
    { 1, drop_memory },
    { 3, offer_blocks },
    { 16, change_blocks },
    { 1, unplug_all_blocks },
    { 10, set_pam },
    { 4, set_smram },
    { 10, move_shmem },
    { 8, move_vga },
    { 6, move_rom },
    { 8, decode },
    { 6, set_window },
    { 1, reset_memory },
    { 4, replug },
    { }
};

/* Much that has the large section mapped anew, and something beside it */
static const VFIOWalkStep later_steps[] = {
    { 6, plug_dimm },
    { 4, unplug_dimm },
    { 6, change_blocks },
    { 50, set_last_pam },
    { 4, move_shmem },
    { 2, reset_memory },
    { 4, replug },
    { }
};

static void walk_memory(const VFIOWalk *walk)
{
    int fd = g_file_open_tmp("vfio-walk-XXXXXX", &readonly_file, NULL);

    vfio_rig_write(SHARED_HUGE_PAGES, "always");
    g_assert_cmpint(ftruncate(fd, FILE_MIB * MiB), ==, 0);
    close(fd);
    vfio_walk(walk);
    g_unlink(readonly_file);
    g_free(readonly_file);
}

static void test_memory(void)
{
    static const VFIOWalk walk = {
        .options = MEMORY_OPTIONS,
        .steps = memory_steps,
        .default_steps = 200,
        .start = start_virtio_mem,
        .regions = memory_regions,
    };

    walk_memory(&walk);
}

/* Only large sections are mapped in the background. */
static void test_later(void)
{
    static const VFIOWalk walk = {
        .options = "-m 96M,slots=6,maxmem=160M " MEMORY_DEVICES,
        .later = true,
        .steps = later_steps,
        .default_steps = 400,
        .start = start_virtio_mem,
        .regions = memory_regions_anew,
    };

    g_setenv("VFIO_TEST_BACKGROUND", "yes", true);
    walk_memory(&walk);
    g_unsetenv("VFIO_TEST_BACKGROUND");
}

/* Behind an IOMMU of the guest's that lets all pass */
static void test_spaces(void)
{
    static const VFIOWalk walk = {
        .options = MEMORY_OPTIONS " -device virtio-iommu-pci,addr=3",
        .has_other = true,
        .steps = memory_steps,
        .default_steps = 100,
        .start = start_virtio_mem,
        .regions = memory_regions,
    };

    walk_memory(&walk);
}

/* A guest's IOMMU */

#define VIOMMU_SLOT     3
#define KEEPER_SLOT     6   /* keeps the domain while the device is elsewhere */

#define DOMAIN          1
#define PASSING         2

/* The memory that maps lead to: it has no ROM */
#define MEMORY          MiB
#define MEMORY_END      (32 * MiB)
#define ARENA           (64 * MiB)      /* of IOVAs, so small that maps meet */

#define PAGES(n)        ((uint64_t)(n) * VIOMMU_PAGE)

typedef struct Map {
    uint64_t iova;
    uint64_t last;
    uint64_t addr;
    uint32_t flags;
} Map;

/* The guest, as it should be */
typedef struct Guest {
    VIOMMU *viommu;
    GArray *maps;       /* of DOMAIN, in the order of their addresses */
    uint32_t domain;    /* the device's; 0 for none */
    GArray *memory;     /* VFIORegions */
} Guest;

static Guest *guest_of(VFIOWalker *w)
{
    return w->state;
}

static Map *nth_map(Guest *g, unsigned i)
{
    return &g_array_index(g->maps, Map, i);
}

static void insert_map(Guest *g, Map map)
{
    unsigned i = 0;

    while (i < g->maps->len && nth_map(g, i)->iova < map.iova) {
        i++;
    }
    g_array_insert_val(g->maps, i, map);
}

static void remove_maps(Guest *g, uint64_t first, uint64_t last)
{
    for (unsigned i = g->maps->len; i-- > 0;) {
        if (nth_map(g, i)->iova >= first && nth_map(g, i)->last <= last) {
            g_array_remove_index(g->maps, i);
        }
    }
}

/* 1 to 4096 pages, rarely many */
static uint64_t draw_size(VFIOWalker *w)
{
    unsigned order = draw(w, 13);

    return PAGES(1 + draw(w, 1 << MIN(order, draw(w, 13))));
}

/* Sometimes at the same offset within 2 MiB, as a large page needs it */
static uint64_t draw_memory(VFIOWalker *w, uint64_t iova, uint64_t size)
{
    uint64_t room = MEMORY_END - MEMORY - size;
    uint64_t addr = MEMORY + PAGES(draw(w, room / VIOMMU_PAGE + 1));
    uint64_t aligned = QEMU_ALIGN_DOWN(addr, 2 * MiB) + iova % (2 * MiB);
    bool fits = aligned >= MEMORY && aligned + size <= MEMORY_END;

    return fits && draw(w, 2) ? aligned : addr;
}

/* A map that overlaps another one is refused. */
static char *map(VFIOWalker *w)
{
    static const uint32_t kinds[] = {
        VIOMMU_READ, VIOMMU_WRITE, VIOMMU_READ | VIOMMU_WRITE,
        VIOMMU_READ | VIOMMU_WRITE, VIOMMU_READ | VIOMMU_WRITE, 0,
    };
    Guest *g = guest_of(w);
    uint64_t size = draw_size(w);
    uint64_t base = draw(w, 4) ? 0 : draw(w, 2) ? 4 * GiB : 512 * GiB - ARENA;
    uint64_t iova = base + PAGES(draw(w, (ARENA - size) / VIOMMU_PAGE + 1));
    uint64_t addr = draw_memory(w, iova, size);
    uint32_t flags = DRAW_FROM(w, kinds);
    uint8_t status = viommu_map(g->viommu, DOMAIN, iova, addr, size, flags);

    if (status == VIRTIO_IOMMU_S_OK) {
        insert_map(g, (Map) { iova, iova + size - 1, addr, flags });
    }
    return g_strdup_printf("map 0x%" PRIx64 " at 0x%" PRIx64 " to 0x%" PRIx64
                           ", flags %u: status %u", size, iova, addr, flags,
                           status);
}

static char *unmap_range(Guest *g, const char *what, uint64_t first,
                         uint64_t last)
{
    uint8_t status = viommu_unmap(g->viommu, DOMAIN, first, last - first + 1);

    if (status == VIRTIO_IOMMU_S_OK) {
        remove_maps(g, first, last);
    }
    return g_strdup_printf("unmap %s, 0x%" PRIx64 " to 0x%" PRIx64
                           ": status %u", what, first, last, status);
}

static char *unmap_anything(VFIOWalker *w)
{
    uint64_t size = draw_size(w);
    uint64_t iova = 128 * MiB + PAGES(draw(w, ARENA / VIOMMU_PAGE));

    return unmap_range(guest_of(w), "what is not mapped", iova,
                       iova + size - 1);
}

/* One map, or several and what is between them */
static char *unmap(VFIOWalker *w)
{
    Guest *g = guest_of(w);
    unsigned i, j;

    if (!g->maps->len) {
        return unmap_anything(w);
    }
    i = draw(w, g->maps->len);
    j = MIN(i + (draw(w, 4) ? 0 : draw(w, 4)), g->maps->len - 1);
    return unmap_range(g, "some", nth_map(g, i)->iova, nth_map(g, j)->last);
}

/* Refused, unless the part is the whole map. */
static char *unmap_part(VFIOWalker *w)
{
    Guest *g = guest_of(w);
    uint64_t pages, first, last;
    Map *m;

    if (!g->maps->len) {
        return unmap_anything(w);
    }
    m = nth_map(g, draw(w, g->maps->len));
    pages = (m->last + 1 - m->iova) / VIOMMU_PAGE;
    first = draw(w, pages);
    last = first + draw(w, pages - first);
    return unmap_range(g, "a part", m->iova + PAGES(first),
                       m->iova + PAGES(last + 1) - 1);
}

static char *unmap_all(VFIOWalker *w)
{
    return unmap_range(guest_of(w), "all", 0, 512 * GiB - 1);
}

static uint8_t attach(Guest *g, int slot, uint32_t domain)
{
    return viommu_attach(g->viommu, domain, VIOMMU_ENDPOINT(slot),
                         domain == PASSING ? VIRTIO_IOMMU_ATTACH_F_BYPASS : 0);
}

/* To DOMAIN, with all that is mapped there, or to a domain that passes all */
static char *attach_device(VFIOWalker *w)
{
    uint32_t domain = draw(w, 8) ? DOMAIN : PASSING;
    uint8_t status = attach(guest_of(w), VFIO_SCENE_SLOT, domain);

    if (status == VIRTIO_IOMMU_S_OK) {
        guest_of(w)->domain = domain;
    }
    return g_strdup_printf("attach to domain %u: status %u", domain, status);
}

static char *detach_device(VFIOWalker *w)
{
    Guest *g = guest_of(w);
    uint8_t status = viommu_detach(g->viommu, DOMAIN,
                                   VIOMMU_ENDPOINT(VFIO_SCENE_SLOT));

    if (status == VIRTIO_IOMMU_S_OK) {
        g->domain = 0;
    }
    return g_strdup_printf("detach from domain %d: status %u", DOMAIN, status);
}

static void attach_both(Guest *g)
{
    g_assert_cmpint(attach(g, KEEPER_SLOT, DOMAIN), ==, VIRTIO_IOMMU_S_OK);
    g_assert_cmpint(attach(g, VFIO_SCENE_SLOT, DOMAIN), ==, VIRTIO_IOMMU_S_OK);
    g->domain = DOMAIN;
}

static char *reset_guest(VFIOWalker *w)
{
    Guest *g = guest_of(w);

    vfio_machine_reset(w->scene.machine);
    viommu_restart(g->viommu);
    attach_both(g);
    g_array_set_size(g->maps, 0);
    return g_strdup("reset");
}

static void start_guest(VFIOWalker *w)
{
    Guest *g = g_new0(Guest, 1);

    g->viommu = viommu_new(w->scene.machine, VIOMMU_SLOT);
    g->maps = g_array_new(false, false, sizeof(Map));
    g->memory = vfio_machine_regions(w->scene.machine, NULL);
    attach_both(g);
    w->state = g;
}

static void stop_guest(VFIOWalker *w)
{
    Guest *g = guest_of(w);

    viommu_free(g->viommu);
    g_array_unref(g->maps);
    g_array_unref(g->memory);
    g_free(g);
}

/* The region that has the start of the machine's memory */
static VFIORegion *start_of_memory(Guest *g)
{
    VFIORegion *region = &g_array_index(g->memory, VFIORegion, 0);

    g_assert_cmpstr(region->name, ==, "pc.ram");
    g_assert_cmphex(region->range.first, ==, region->offset);
    return region;
}

/* A map without permissions gives the device nothing. */
static GArray *translated(Guest *g)
{
    VFIORegion *memory = start_of_memory(g);
    GArray *regions = g_array_new(false, true, sizeof(VFIORegion));

    for (unsigned i = 0; i < g->maps->len; i++) {
        Map *m = nth_map(g, i);
        VFIORegion region = {
            .range = { m->iova, m->last, m->flags & VIOMMU_WRITE },
            .name = memory->name,
            .offset = m->addr,
            .host = memory->host - memory->offset + m->addr,
        };

        if (m->flags) {
            g_array_append_val(regions, region);
        }
    }
    return regions;
}

static GArray *reached_regions(VFIOWalker *w)
{
    Guest *g = guest_of(w);

    if (g->domain == PASSING) {
        return vfio_machine_regions(w->scene.machine, g->memory);
    }
    return g->domain == DOMAIN ? translated(g) :
           g_array_new(false, true, sizeof(VFIORegion));
}

static void test_viommu(void)
{
    static const VFIOWalkStep steps[] = {
        { 80, map },
        { 56, unmap },
        { 12, unmap_part },
        { 4, unmap_anything },
        { 4, unmap_all },
        { 14, attach_device },
        { 4, detach_device },
        { 1, reset_guest },
        { }
    };
    static const VFIOWalk walk = {
        .options = "-m 32M -device virtio-iommu-pci,addr=3,boot-bypass=off "
                   "-device edu,addr=6",
        .steps = steps,
        .default_steps = 500,
        .start = start_guest,
        .stop = stop_guest,
        .regions = reached_regions,
    };

    vfio_walk(&walk);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "walk");
    vfio_rig_add("memory", VFIO_RIG_BOTH, test_memory);
    vfio_rig_add("later", VFIO_RIG_BOTH, test_later);
    vfio_rig_add("spaces", VFIO_RIG_BOTH, test_spaces);
    vfio_rig_add("viommu", VFIO_RIG_BOTH, test_viommu);
    return g_test_run();
}
