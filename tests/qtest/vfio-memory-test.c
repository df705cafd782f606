/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: memory that changes while a device uses it
 *
 * A scenario is a list of steps.  It runs twice, with the device by its group
 * and by iommufd; vfio-scene.h says what must hold after each step.
 *
 * If a step should change what is mapped but does not, that is a failure as
 * well.  So steps that do nothing cannot pass.
 *
 * The rig runs it in two parts: memory that is plugged, and memory that moves.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>
#include <sys/mount.h>

#include "hw/pci/pci_regs.h"
#include "hw/pci-host/pam.h"
#include "hw/pci-host/q35.h"
#include "standard-headers/linux/virtio_mem.h"
#include "vfio-edu.h"
#include "vfio-scene.h"

/* If there is a virtio-mem device */
#define VMEM_SLOT   5
#define VMEM_ID     "virtio-mem0"

typedef struct Scenario {
    const char *name;
    const char *options;
    void (*run)(VFIOScene *s);
    bool peers;     /* there is another passed-through device */
} Scenario;

/* Runs */

/* QEMU has nothing to say about any of it, except once about BARs. */
static void check_words(const char *path, bool peers)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_test_message("QEMU wrote: %s", text);
    if (peers && !vfio_rig_reaches_bars()) {
        g_assert_nonnull(strstr(text, "peer-to-peer"));
        g_assert_cmpstr(strchr(text, '\n'), ==, "\n");
    } else {
        g_assert_cmpstr(text, ==, "");
    }
}

static char *new_file(void)
{
    char *path;

    close(g_file_open_tmp("vfio-stderr-XXXXXX", &path, NULL));
    return path;
}

static char *run_once(const Scenario *scenario, const char *mode)
{
    g_autofree char *errors = new_file();
    char *record;
    VFIOScene s;

    vfio_rig_use(mode);
    g_test_message("%s", mode);
    vfio_scene_start(&s, "EDU0", scenario->options, errors);
    scenario->run(&s);
    record = vfio_scene_stop(&s);
    check_words(errors, scenario->peers);
    g_unlink(errors);
    return record;
}

static void check_equal(const char *legacy, const char *iommufd)
{
    g_auto(GStrv) a = g_strsplit(legacy, "\n", -1);
    g_auto(GStrv) b = g_strsplit(iommufd, "\n", -1);

    for (int i = 0; a[i] || b[i]; i++) {
        g_assert_cmpstr(a[i], ==, b[i]);
    }
}

static void test_scenario(const void *data)
{
    const Scenario *scenario = data;
    g_autofree char *legacy = run_once(scenario, "legacy");
    g_autofree char *iommufd = run_once(scenario, "iommufd");

    check_equal(legacy, iommufd);
}

/* DIMMs */

static void reset(VFIOScene *s)
{
    vfio_machine_reset(s->machine);
}

static void plug(VFIOScene *s, const char *driver, int slot,
                 const char *backend, uint64_t size)
{
    g_assert_null(vfio_memory_plug(s->machine, driver, slot, backend, size));
    vfio_changed(s, "plug %s in slot %d: 0x%" PRIx64, driver, slot, size);
}

static void unplug(VFIOScene *s, int slot)
{
    g_assert_null(vfio_memory_ask_back(s->machine, slot));
    vfio_unchanged(s, "ask the guest for slot %d", slot);
    vfio_memory_eject(s->machine, slot);
    vfio_changed(s, "eject slot %d", slot);
    g_assert_null(vfio_memory_drop(s->machine, slot));
    vfio_unchanged(s, "drop the memory of slot %d", slot);
}

/* The sizes are multiples of 2 MiB pages; others are refused. */
static void run_dimms_pc(VFIOScene *s)
{
    vfio_rig_write("/proc/sys/vm/nr_hugepages", "4");
    plug(s, "pc-dimm", 0, "memory-backend-ram", 128 * MiB);
    plug(s, "pc-dimm", 1, "memory-backend-memfd,share=on", 6 * MiB);
    plug(s, "pc-dimm", 2, "memory-backend-ram", 34 * MiB);
    unplug(s, 1);
    plug(s, "pc-dimm", 3, "memory-backend-ram", 10 * MiB);
    plug(s, "pc-dimm", 1, "memory-backend-memfd,hugetlb=on", 4 * MiB);
    unplug(s, 0);
    plug(s, "pc-dimm", 0, "memory-backend-ram,share=on", 2 * MiB);
    reset(s);
    vfio_unchanged(s, "reset");
    unplug(s, 3);
    unplug(s, 2);
}

static void run_dimms_q35(VFIOScene *s)
{
    plug(s, "pc-dimm", 0, "memory-backend-ram", 6 * MiB);
    plug(s, "pc-dimm", 7, "memory-backend-ram", 34 * MiB);
    unplug(s, 0);
    plug(s, "pc-dimm", 0, "memory-backend-ram", 2 * MiB);
    reset(s);
    vfio_unchanged(s, "reset");
    unplug(s, 7);
}

/* A device may only read a file that QEMU may not write to. */
static void run_files(VFIOScene *s)
{
    g_autofree char *path = NULL;
    g_autofree char *file = NULL;
    g_autofree char *private = NULL;
    g_autofree char *readonly = NULL;
    int fd = g_file_open_tmp("vfio-memory-XXXXXX", &path, NULL);

    g_assert_cmpint(ftruncate(fd, 6 * MiB), ==, 0);
    close(fd);
    file = g_strdup_printf("memory-backend-file,mem-path=%s", path);
    private = g_strdup_printf("%s,share=off", file);
    readonly = g_strdup_printf("%s,share=on,readonly=on", file);

    plug(s, "nvdimm,unarmed=on", 0, readonly, 6 * MiB);
    plug(s, "nvdimm", 1, private, 4 * MiB);
    plug(s, "pc-dimm", 2, readonly, 2 * MiB);
    unplug(s, 2);
    reset(s);
    vfio_unchanged(s, "reset");
    g_unlink(path);
}

/* virtio-mem */

static void offer(VFIOScene *s, uint64_t size)
{
    vfio_virtio_mem_offer(s->vmem, VMEM_ID, size);
    vfio_unchanged(s, "offer 0x%" PRIx64, size);
}

static void plug_blocks(VFIOScene *s, uint64_t block, uint16_t count)
{
    g_assert_cmpint(vfio_virtio_mem_plug(s->vmem, block, count), ==,
                    VIRTIO_MEM_RESP_ACK);
    vfio_changed(s, "plug block %" PRIu64 " and on, %d", block, count);
}

static void unplug_blocks(VFIOScene *s, uint64_t block, uint16_t count)
{
    g_assert_cmpint(vfio_virtio_mem_unplug(s->vmem, block, count), ==,
                    VIRTIO_MEM_RESP_ACK);
    vfio_changed(s, "unplug block %" PRIu64 " and on, %d", block, count);
}

static void refuse_blocks(VFIOScene *s, int response, uint64_t block,
                          uint16_t count)
{
    g_assert_cmpint(vfio_virtio_mem_plug(s->vmem, block, count), ==,
                    response);
    vfio_unchanged(s, "refuse block %" PRIu64 " and on, %d", block, count);
}

static void start_virtio_mem(VFIOScene *s)
{
    if (s->vmem) {
        vfio_virtio_mem_free(s->vmem);
    }
    s->vmem = vfio_virtio_mem_new(s->machine, VMEM_SLOT);
}

static void run_virtio_mem(VFIOScene *s)
{
    start_virtio_mem(s);
    vfio_unchanged(s, "start the driver");
    refuse_blocks(s, VIRTIO_MEM_RESP_ERROR, 0, 1);

    offer(s, 20 * s->vmem->block_size);
    plug_blocks(s, 0, 1);
    plug_blocks(s, 3, 8);
    plug_blocks(s, 11, 2);
    plug_blocks(s, 31, 1);
    refuse_blocks(s, VIRTIO_MEM_RESP_ERROR, 10, 2);
    refuse_blocks(s, VIRTIO_MEM_RESP_NACK, 13, 9);
    unplug_blocks(s, 5, 1);
    unplug_blocks(s, 0, 1);
    unplug_blocks(s, 8, 5);
    plug_blocks(s, 5, 1);

    offer(s, 4 * s->vmem->block_size);
    unplug_blocks(s, 31, 1);
    g_assert_cmpint(vfio_virtio_mem_unplug_all(s->vmem), ==,
                    VIRTIO_MEM_RESP_ACK);
    vfio_changed(s, "unplug all");
    plug_blocks(s, 1, 4);

    reset(s);
    start_virtio_mem(s);
    vfio_changed(s, "reset");
    plug_blocks(s, 2, 2);
}

/* ROM and RAM in a PC's first MiB, and what system management mode hides */

/* A register of the host bridge */
static void set_host(VFIOScene *s, uint8_t reg, uint8_t value)
{
    vfio_memory_config_byte(s->machine, 0, reg, value);
}

/* The register has the attributes of two areas. */
static void set_pam(VFIOScene *s, uint8_t reg, uint8_t attributes)
{
    set_host(s, reg, attributes << 4 | attributes);
}

static void run_pam(VFIOScene *s, uint8_t first_reg)
{
    for (uint8_t reg = first_reg; reg < first_reg + 7; reg++) {
        set_pam(s, reg, PAM_ATTR_RE);
        vfio_changed(s, "PAM 0x%x: read", reg);
        set_pam(s, reg, PAM_ATTR_RE | PAM_ATTR_WE);
        vfio_changed(s, "PAM 0x%x: read and write", reg);
        if (reg % 2) {
            set_pam(s, reg, 0);
            vfio_changed(s, "PAM 0x%x: off", reg);
        }
    }

    /* For QEMU, write-only memory can be read, too; see init_pam(). */
    set_pam(s, first_reg, PAM_ATTR_RE | PAM_ATTR_WE);
    vfio_look(s, "PAM 0x%x: read and write", first_reg);
    set_pam(s, first_reg, PAM_ATTR_WE);
    vfio_unchanged(s, "PAM 0x%x: write", first_reg);
}

static void run_firmware_pc(VFIOScene *s)
{
    uint8_t smram = 0x72;   /* I440FX_SMRAM */

    run_pam(s, 0x59);
    set_host(s, smram, SMRAM_D_OPEN | SMRAM_G_SMRAME | SMRAM_C_BASE_SEG);
    vfio_changed(s, "SMRAM open");
    vfio_check_dma(s, VFIO_SCENE_SLOT);
    set_host(s, smram, SMRAM_G_SMRAME | SMRAM_C_BASE_SEG);
    vfio_changed(s, "SMRAM closed");
    reset(s);
    vfio_unchanged(s, "reset, which an i440fx does not know");
}

static void set_tseg(VFIOScene *s, uint8_t size)
{
    set_host(s, MCH_HOST_BRIDGE_ESMRAMC, size | MCH_HOST_BRIDGE_ESMRAMC_T_EN);
    vfio_changed(s, "TSEG 0x%x", size);
}

static void run_firmware_q35(VFIOScene *s)
{
    uint8_t smram = MCH_HOST_BRIDGE_SMRAM;
    uint8_t enabled = SMRAM_G_SMRAME | SMRAM_C_BASE_SEG;

    run_pam(s, MCH_HOST_BRIDGE_PAM0);
    set_host(s, smram, enabled | SMRAM_D_OPEN);
    vfio_changed(s, "SMRAM open");
    set_host(s, MCH_HOST_BRIDGE_ESMRAMC, MCH_HOST_BRIDGE_ESMRAMC_H_SMRAME);
    vfio_changed(s, "high SMRAM open");
    set_host(s, MCH_HOST_BRIDGE_ESMRAMC, 0);
    vfio_changed(s, "high SMRAM closed");
    set_host(s, smram, enabled);
    vfio_changed(s, "SMRAM closed");

    set_tseg(s, MCH_HOST_BRIDGE_ESMRAMC_TSEG_SZ_1MB);
    set_tseg(s, MCH_HOST_BRIDGE_ESMRAMC_TSEG_SZ_2MB);
    set_tseg(s, MCH_HOST_BRIDGE_ESMRAMC_TSEG_SZ_8MB);
    set_tseg(s, MCH_HOST_BRIDGE_ESMRAMC_TSEG_SZ_MASK);  /* 16 MiB */

    set_host(s, MCH_HOST_BRIDGE_F_SMBASE, MCH_HOST_BRIDGE_F_SMBASE_QUERY);
    vfio_unchanged(s, "ask for SMRAM at the default SMBASE");
    set_host(s, MCH_HOST_BRIDGE_F_SMBASE, MCH_HOST_BRIDGE_F_SMBASE_LCK);
    vfio_changed(s, "lock SMRAM at the default SMBASE");
    reset(s);
    vfio_changed(s, "reset");
}

typedef struct Firmware {
    const char *name;
    const char *options;
    void (*run)(VFIOScene *s);
} Firmware;

static const Firmware firmware[] = {
    { "move/firmware-pc-leaves-rest", "-m 128M -device VGA,addr=6",
      run_firmware_pc },
    { "move/firmware-q35-leaves-rest", "-machine q35 -m 128M -device VGA,addr=6",
      run_firmware_q35 },
};

/* Bytes that the kernel has been asked to map */
static uint64_t count_mapped(VFIOMachine *m)
{
    return vfio_machine_trace_sum(m, "iommufd_backend_map_dma", "size");
}

/* All memory above the first MiB changes its section with each of these steps. */
static void test_firmware_leaves_rest(const void *data)
{
    const Firmware *f = data;
    g_autofree char *errors = new_file();
    VFIOScene s;

    vfio_rig_use("iommufd");
    vfio_scene_start(&s, "EDU0", f->options, errors);
    g_assert_cmpuint(count_mapped(s.machine), <, 128 * MiB + 32 * MiB);
    f->run(&s);
    g_assert_cmpuint(count_mapped(s.machine), <, 2 * 128 * MiB);
    vfio_check_dma(&s, VFIO_SCENE_SLOT);
    g_free(vfio_scene_stop(&s));
    g_unlink(errors);
}

/* Memory of other devices that the guest moves */

#define SHMEM_SLOT  5
#define SHMEM_BAR   PCI_BASE_ADDRESS_2
#define VGA_SLOT    6

static void move_shmem(VFIOScene *s, uint64_t addr)
{
    vfio_memory_bar64(s->machine, SHMEM_SLOT, SHMEM_BAR, addr);
    vfio_changed(s, "shared memory at 0x%" PRIx64, addr);
}

static void decode(VFIOScene *s, int slot, bool on)
{
    vfio_memory_command(s->machine, slot, on ? PCI_COMMAND_MEMORY |
                        PCI_COMMAND_IO : 0);
}

/* 4 MiB in the guest's address space, also while the guest finds their size */
static void run_shmem(VFIOScene *s)
{
    vfio_memory_bar64(s->machine, SHMEM_SLOT, SHMEM_BAR, 0xd0000000);
    vfio_unchanged(s, "shared memory has an address");
    decode(s, SHMEM_SLOT, true);
    vfio_changed(s, "shared memory is on");
    move_shmem(s, 0xc8000000);
    move_shmem(s, 0x08000000);
    move_shmem(s, 64 * MiB);        /* 2 MiB of it behind memory */
    move_shmem(s, 0x01000000);      /* all of it */
    move_shmem(s, 0x180000000);
    move_shmem(s, 0x4000000000);

    vfio_memory_bar(s->machine, SHMEM_SLOT, SHMEM_BAR, UINT32_MAX);
    vfio_changed(s, "size of shared memory, low part");
    vfio_memory_bar(s->machine, SHMEM_SLOT, SHMEM_BAR + 4, UINT32_MAX);
    vfio_changed(s, "size of shared memory, high part");
    move_shmem(s, 0xd0000000);
    decode(s, SHMEM_SLOT, false);
    vfio_changed(s, "shared memory is off");
    decode(s, SHMEM_SLOT, true);
    vfio_changed(s, "shared memory is on again");
}

static void move_vga(VFIOScene *s, uint32_t addr)
{
    vfio_memory_bar(s->machine, VGA_SLOT, PCI_BASE_ADDRESS_0, addr);
    vfio_changed(s, "video memory at 0x%x", addr);
}

static void move_rom(VFIOScene *s, uint32_t addr)
{
    vfio_memory_bar(s->machine, VGA_SLOT, PCI_ROM_ADDRESS,
                    addr | PCI_ROM_ADDRESS_ENABLE);
    vfio_changed(s, "VGA's ROM at 0x%x", addr);
}

/* 16 MiB that the shared memory and the interrupt controllers overlap */
static void run_video_memory(VFIOScene *s)
{
    vfio_memory_bar(s->machine, VGA_SLOT, PCI_BASE_ADDRESS_0, 0xc8000000);
    decode(s, VGA_SLOT, true);
    vfio_changed(s, "video memory is on");
    move_vga(s, 0xd0000000);
    move_vga(s, 0xfe000000);
    move_vga(s, 0x08000000);
    move_rom(s, 0xc7ff0000);
    move_rom(s, 0x0a010000);
    move_shmem(s, 0x08400000);
}

static void set_vga(VFIOScene *s, uint16_t port, uint8_t index, uint8_t value)
{
    qtest_outb(s->machine->qts, port, index);
    qtest_outb(s->machine->qts, port + 1, value);
}

/* In this mode the window at 0xa0000 is plain video memory. */
static void run_video_window(VFIOScene *s)
{
    uint16_t sequencer = 0x3c4, graphics = 0x3ce;

    set_vga(s, sequencer, 2, 0x0f);     /* write to all planes */
    set_vga(s, graphics, 6, 0x04);      /* 64 KiB at 0xa0000 */
    set_vga(s, sequencer, 4, 0x0e);     /* chain 4 */
    vfio_changed(s, "video window of 64 KiB");
    /* All of these are below 256 MiB now. */
    vfio_check_dma(s, VFIO_SCENE_SLOT);
    set_vga(s, graphics, 6, 0x00);
    vfio_changed(s, "video window of 128 KiB");
    set_vga(s, sequencer, 4, 0x06);
    vfio_changed(s, "no video window");
    vfio_memory_bar(s->machine, VGA_SLOT, PCI_ROM_ADDRESS, 0x0a010000);
    vfio_changed(s, "VGA's ROM is off");
}

static void run_bars(VFIOScene *s)
{
    run_shmem(s);
    run_video_memory(s);
    run_video_window(s);
    decode(s, VGA_SLOT, false);
    vfio_changed(s, "VGA is off");
    reset(s);
    vfio_changed(s, "reset");
}

/* Balloon */

#define BALLOON_SLOT    5
#define BALLOON_PAGE    0x2001000
#define BALLOON_DATA    64

/* Whether the guest loses a page that it puts in the balloon */
static bool is_discarded(VFIOMachine *m, VFIOVirtio *balloon)
{
    static const uint8_t data[BALLOON_DATA] = "what the guest has here";
    static const uint8_t none[BALLOON_DATA];
    uint8_t found[BALLOON_DATA];

    qtest_bufwrite(m->qts, BALLOON_PAGE, data, BALLOON_DATA);
    vfio_balloon_inflate(balloon, BALLOON_PAGE);
    qtest_bufread(m->qts, BALLOON_PAGE, found, BALLOON_DATA);
    vfio_balloon_deflate(balloon, BALLOON_PAGE);

    if (!memcmp(found, none, BALLOON_DATA)) {
        return true;
    }
    g_assert_cmpmem(found, BALLOON_DATA, data, BALLOON_DATA);
    return false;
}

/* A pinned page must stay, or the device and the guest would have two pages. */
static void run_balloon(VFIOScene *s)
{
    VFIOVirtio *balloon = vfio_virtio_new(s->machine, BALLOON_SLOT, 2);
    g_autofree char *edu = vfio_scene_device("EDU0");

    g_assert_false(is_discarded(s->machine, balloon));
    vfio_unchanged(s, "a page went through the balloon");

    vfio_machine_device_del(s->machine, "edu0", VFIO_SCENE_SLOT);
    g_assert_true(vfio_rig_wait(is_discarded(s->machine, balloon)));
    g_assert_null(vfio_machine_device_add(s->machine, edu));
    vfio_changed(s, "the device was away");

    g_assert_false(is_discarded(s->machine, balloon));
    vfio_unchanged(s, "a page went through the balloon again");
    vfio_virtio_free(balloon);
}

/* The message that QEMU prints after the device's name */
static char *balloon_refusal(const char *mode)
{
    g_autofree char *options = NULL;
    g_autofree char *err = NULL;
    const char *reason;
    int status;

    vfio_rig_use(mode);
    options = g_strdup_printf("-machine pc -nodefaults %s -device %s,"
                              "x-balloon-allowed=on", vfio_rig_iommufd() ?
                              "-object iommufd,id=" VFIO_RIG_IOMMUFD : "",
                              vfio_rig_device("EDU0"));
    status = vfio_rig_run_qemu(options, NULL, &err);
    vfio_rig_check_refusal(status, err);
    reason = strstr(err, "x-balloon-allowed=on: ");
    g_assert_nonnull(reason);
    return g_strdup(reason);
}

static void test_balloon_not_allowed(void)
{
    g_autofree char *legacy = balloon_refusal("legacy");
    g_autofree char *iommufd = balloon_refusal("iommufd");

    g_assert_cmpstr(legacy, ==, iommufd);
}

#define MDEV_UUID   "7b1c9a35-6c3f-4c09-a0f5-2d1f0d3c8a11"
#define MDEV_CREATE "/sys/devices/virtual/mtty/mtty/mdev_supported_types/" \
                    "mtty-1/create"
#define MDEV        "/sys/bus/mdev/devices/" MDEV_UUID

static bool mdev_discards(const char *properties)
{
    VFIOMachine *m =
        vfio_machine_start("-m 64M -device virtio-balloon-pci,addr=%d "
                           "-device vfio-pci,sysfsdev=" MDEV "%s%s",
                           BALLOON_SLOT, vfio_rig_iommufd() ?
                           ",iommufd=" VFIO_RIG_IOMMUFD : "", properties);
    VFIOVirtio *balloon = vfio_virtio_new(m, BALLOON_SLOT, 2);
    bool discarded = is_discarded(m, balloon);

    vfio_virtio_free(balloon);
    vfio_machine_stop(m);
    return discarded;
}

/* A mediated device that says it pins what it needs */
static void test_balloon_allowed_for_mdev(void)
{
    static const char *const modes[] = { "legacy", "iommufd" };

    vfio_rig_write(MDEV_CREATE, MDEV_UUID);
    for (int i = 0; i < ARRAY_SIZE(modes); i++) {
        vfio_rig_use(modes[i]);
        g_assert_false(mdev_discards(""));
        g_assert_true(mdev_discards(",x-balloon-allowed=on"));
    }
    vfio_rig_write(MDEV "/remove", "1");
}

/* Another passed-through device */

#define PEER_SLOT   5

/*
 * This difference is intended: type1 maps the other device's BAR, and Linux
 * 6.12's iommufd cannot.
 */
static void changed_by_bar(VFIOScene *s, const char *step)
{
    g_assert_cmpint(vfio_look(s, "%s", step), ==, vfio_rig_reaches_bars());
}

/* The BAR that is mapped is the device's. */
static void check_bar_mapped(VFIOScene *s, VFIOEdu *peer)
{
    g_autofree char *path = vfio_rig_sysfs("EDU1", "resource");
    g_autofree char *resource = NULL;
    bool found = false;

    g_assert_true(g_file_get_contents(path, &resource, NULL, NULL));
    for (int i = 0; i < s->pages->len; i++) {
        VFIOMappedPage *page = &g_array_index(s->pages, VFIOMappedPage, i);

        if (page->iova == peer->bar.addr) {
            found = true;
            g_assert_cmphex(page->phys, ==,
                            g_ascii_strtoull(resource, NULL, 16));
        }
    }
    g_assert_cmpint(found, ==, vfio_rig_reaches_bars());
}

static void run_peers(VFIOScene *s)
{
    g_autofree char *option = g_strdup_printf("%s,addr=%d",
                                              vfio_rig_device("EDU1"),
                                              PEER_SLOT);
    VFIOEdu *peer;

    g_assert_null(vfio_machine_device_add(s->machine, option));
    vfio_unchanged(s, "another device, and its BAR is off");
    peer = vfio_edu_new(s->machine, PEER_SLOT);
    changed_by_bar(s, "its BAR is on");
    peer->bar.addr = 0xf0000000;
    vfio_edu_enable(peer, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    changed_by_bar(s, "its BAR is elsewhere");
    check_bar_mapped(s, peer);
    vfio_check_dma(s, VFIO_SCENE_SLOT);
    vfio_check_dma(s, PEER_SLOT);
    peer->bar.addr = 0xf1000000;
    vfio_edu_enable(peer, 0);
    changed_by_bar(s, "its BAR is off");
    vfio_edu_free(peer);
}

/* Memory for which the IOMMU has no place */

typedef struct Reserved {
    const char *name;
    const char *options;
    uint64_t addr;
    uint64_t failed;    /* the first address that is not mapped */
    const char *reason;
} Reserved;

#define SHMEM "-object memory-backend-ram,id=shmem,size=4M " \
              "-device ivshmem-plain,memdev=shmem,addr=5 "

#define RESERVED \
    "the host's IOMMU reserves a part of it or does not reach it"

static const Reserved behind_last_address = {
    "move/behind-last-address", SHMEM, 1ULL << 39, 1ULL << 39,
    RESERVED ": Invalid argument; the host's IOMMU reaches up to "
    "0x7fffffffff, and -cpu ...,phys-bits=39 makes firmware place BARs lower;"
    " cont tries again"
};

static const Reserved between_addresses = {
    "move/between-addresses", SHMEM, 0xfd00000000, 0xfd00000000,
    RESERVED ": Invalid argument; cont tries again"
};

/*
 * A processor without an APIC has nothing there.  But the machine's HPET is
 * there, and the page behind it is the first that is not mapped.
 */
static const Reserved to_interrupts = {
    "move/to-interrupts", SHMEM "-cpu qemu64,-apic", 0xfec00000, 0xfed01000,
    RESERVED ": Invalid argument; cont tries again"
};

static void check_told(const char *path)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_test_message("QEMU wrote: %s", text);
    g_assert_nonnull(strstr(text, "cannot map memory for DMA at IOVA"));
    g_assert_nonnull(strstr(text, RESERVED));
    g_assert_nonnull(strstr(text, "The VM does not run until"));
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpint(g_strv_length(lines), ==, 4);   /* with those of the end */
}

static void turn_on_shmem(VFIOMachine *m)
{
    vfio_memory_bar64(m, SHMEM_SLOT, SHMEM_BAR, 0xd0000000);
    vfio_memory_command(m, SHMEM_SLOT, PCI_COMMAND_MEMORY);
}

static void test_reserved_stops_vm(const void *data)
{
    const Reserved *r = data;
    g_autofree char *errors = new_file();
    g_autofree char *error = NULL;
    VFIOScene s;

    vfio_rig_use("iommufd");
    vfio_scene_start(&s, "EDU0", r->options, errors);
    turn_on_shmem(s.machine);
    vfio_changed(&s, "shared memory is on");

    vfio_memory_bar64(s.machine, SHMEM_SLOT, SHMEM_BAR, r->addr);
    vfio_machine_wait_map_error(s.machine, VFIO_RIG_IOMMUFD, r->failed,
                                r->reason);
    vfio_changed(&s, "it is where it cannot be mapped");
    error = vfio_machine_qmp_error(s.machine, "cont", "");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, r->reason));
    vfio_machine_check_run_state(s.machine, "io-error");
    vfio_unchanged(&s, "go on in vain");

    decode(&s, SHMEM_SLOT, false);
    vfio_memory_bar64(s.machine, SHMEM_SLOT, SHMEM_BAR, 0x08000000);
    decode(&s, SHMEM_SLOT, true);
    vfio_changed(&s, "it is back");
    vfio_machine_cont(s.machine);
    vfio_unchanged(&s, "go on");
    vfio_check_dma(&s, VFIO_SCENE_SLOT);
    g_free(vfio_scene_stop(&s));
    check_told(errors);
    g_unlink(errors);
}

/* The group's path has always ended QEMU in this case. */
static void test_reserved_ends_legacy(const void *data)
{
    const Reserved *r = data;
    VFIOMachine *m;

    if (!g_test_subprocess()) {
        g_test_trap_subprocess(NULL, 0, 0);
        g_test_trap_assert_failed();
        g_test_trap_assert_stderr("*vfio: DMA mapping failed, unable to "
                                  "continue*QEMU death from signal 6*");
        return;
    }

    vfio_rig_use("legacy");
    m = vfio_scene_machine("EDU0", r->options, "/dev/stderr");
    turn_on_shmem(m);
    vfio_memory_bar64(m, SHMEM_SLOT, SHMEM_BAR, r->addr);
}

/* ... and with it there, no device can come. */
static void test_far_bar_refuses_device(void)
{
    g_autofree char *edu = vfio_scene_device("EDU0");
    g_autofree char *error = NULL;
    VFIOMachine *m;

    vfio_rig_use("iommufd");
    m = vfio_machine_start("-m 64M -cpu qemu64,host-phys-bits=on " SHMEM);
    turn_on_shmem(m);
    vfio_memory_bar64(m, SHMEM_SLOT, SHMEM_BAR, vfio_rig_iommu()->far);
    error = vfio_machine_device_add(m, edu);
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "Region shmem"));
    g_assert_nonnull(strstr(error, vfio_rig_iommu()->behind_far ?
                            "0xfef00000 to 0xfcffffffff, 0x10000000000 to "
                            "0xffffffffffffffff" :
                            "; the host's IOMMU reaches up to "
                            "0x7fffffffff, and -cpu ...,"
                            "host-phys-bits-limit=39 makes firmware place "
                            "BARs lower"));

    vfio_memory_bar64(m, SHMEM_SLOT, SHMEM_BAR, 0xd0000000);
    g_assert_null(vfio_machine_device_add(m, edu));
    vfio_machine_stop(m);
}

static void add_reserved(const Reserved *r)
{
    g_autofree char *stops = g_strdup_printf("%s-stops-vm", r->name);
    g_autofree char *ends = g_strdup_printf("%s-ends-legacy", r->name);

    vfio_rig_add_data(stops, VFIO_RIG_BOTH, test_reserved_stops_vm, r);
    vfio_rig_add_data(ends, VFIO_RIG_BOTH, test_reserved_ends_legacy, r);
}

/* Memory that the kernel cannot pin */

typedef struct Unpinnable {
    const char *name;
    const char *backend;
    uint64_t size;
    const char *words[4];
    void (*prepare)(void);
    void (*mend)(void);     /* then it can be; NULL if it never can */
} Unpinnable;

#define ON_DISK "/vfio-memory"

/* The rig's own file system is an ext4. */
static void make_file_on_disk(void)
{
    int fd;

    g_assert_cmpint(mount(NULL, "/", NULL, MS_REMOUNT, NULL), ==, 0);
    fd = open(ON_DISK, O_RDWR | O_CREAT, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, 2 * MiB), ==, 0);
    close(fd);
}

static void reserve_huge_pages(void)
{
    vfio_rig_write("/proc/sys/vm/nr_hugepages", "2");
}

static void drop_huge_pages(void)
{
    vfio_rig_write("/proc/sys/vm/nr_hugepages", "0");
}

static const Unpinnable unpinnable[] = {
    {
        .name = "plug/no-huge-pages-left",
        .backend = "memory-backend-memfd,hugetlb=on,reserve=off",
        .size = 4 * MiB,
        .words = { "memory 'mem0'", "memory-backend-memfd", "2048 KiB",
                   "HugePages_Free" },
        .prepare = drop_huge_pages,
        .mend = reserve_huge_pages,
    }, {
        .name = "plug/file-on-disk",
        .backend = "memory-backend-file,share=on,mem-path=" ON_DISK,
        .size = 2 * MiB,
        .words = { "memory 'mem0'", "memory-backend-file",
                   "neither tmpfs nor hugetlbfs", "share=off" },
        .prepare = make_file_on_disk,
    },
};

static void plug_unpinnable(const Unpinnable *u, const char *options,
                            const char *step)
{
    g_autofree char *error = NULL;
    g_autofree char *device = NULL;
    VFIOMachine *m;

    vfio_rig_use("iommufd");
    device = g_strdup_printf("%s,addr=4", vfio_rig_device("EDU0"));
    u->prepare();
    m = vfio_machine_start("-m slots=1,maxmem=1G %s", options);
    g_assert_null(vfio_memory_plug(m, "pc-dimm", 0, u->backend, u->size));
    error = vfio_machine_device_add(m, device);
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, step));
    for (int i = 0; i < ARRAY_SIZE(u->words); i++) {
        g_assert_nonnull(strstr(error, u->words[i]));
    }
    if (u->mend) {
        u->mend();
        g_assert_null(vfio_machine_device_add(m, device));
    }
    vfio_machine_stop(m);
    drop_huge_pages();
}

static void test_unpinnable_is_named(const void *data)
{
    plug_unpinnable(data, "", "cannot map memory for DMA at IOVA");
}

/*
 * Beside a mediated device the memory is mapped already, and the kernel locks
 * it when another device is attached.
 */
static void test_unpinnable_is_named_at_attach(const void *data)
{
    vfio_rig_write(MDEV_CREATE, MDEV_UUID);
    plug_unpinnable(data, "-device vfio-pci,sysfsdev=" MDEV ",addr=5,"
                    "iommufd=" VFIO_RIG_IOMMUFD,
                    "cannot attach the device to I/O address space");
    vfio_rig_write(MDEV "/remove", "1");
}

static void add_unpinnable(const Unpinnable *u)
{
    g_autofree char *beside = g_strdup_printf("%s-beside-mdev", u->name);

    vfio_rig_add_data(u->name, VFIO_RIG_BOTH, test_unpinnable_is_named, u);
    vfio_rig_add_data(beside, VFIO_RIG_BOTH, test_unpinnable_is_named_at_attach,
                      u);
}

/* huge-pages= of the iommufd object, with memory of 2 MiB pages */

static uint64_t largest_page(const char *huge_pages)
{
    VFIOMachine *m =
        vfio_machine_start("-object memory-backend-memfd,id=ram,hugetlb=on,"
                           "size=%" PRIu64 " -machine memory-backend=ram "
                           "-object iommufd,id=chosen%s "
                           "-device vfio-pci,host=%s,iommufd=chosen",
                           VFIO_MACHINE_MEMORY, huge_pages,
                           vfio_rig_address("EDU0"));
    g_autoptr(GArray) pages = vfio_mapped_pages("EDU0");
    uint64_t largest = 0;

    for (int i = 0; i < pages->len; i++) {
        largest = MAX(largest, g_array_index(pages, VFIOMappedPage, i).size);
    }
    vfio_machine_stop(m);
    return largest;
}

/* Huge pages that are neighbours may be one page to the IOMMU. */
static void check_huge(const char *huge_pages)
{
    uint64_t size = largest_page(huge_pages);

    if (vfio_rig_iommu()->all_sizes) {
        g_assert_cmphex(size, >=, 2 * MiB);
    } else {
        g_assert_cmphex(size, ==, 2 * MiB);
    }
}

static void test_huge_pages(void)
{
    vfio_rig_use("iommufd");
    vfio_rig_write("/proc/sys/vm/nr_hugepages", "128");
    check_huge("");
    check_huge(",huge-pages=on");
    g_assert_cmphex(largest_page(",huge-pages=off"), ==, 4 * KiB);
    vfio_rig_write("/proc/sys/vm/nr_hugepages", "0");
}

int main(int argc, char **argv)
{
    static const Scenario scenarios[] = {
        { "plug/dimms-pc", "-m slots=8,maxmem=1G", run_dimms_pc },
        { "plug/dimms-q35", "-machine q35 -m slots=8,maxmem=1G",
          run_dimms_q35 },
        { "plug/files", "-machine nvdimm=on -m slots=8,maxmem=1G", run_files },
        { "plug/virtio-mem", "-m maxmem=1G "
          "-object memory-backend-ram,id=" VFIO_SCENE_VMEM ",size=128M "
          "-device virtio-mem-pci,addr=5,id=" VMEM_ID
          ",memdev=" VFIO_SCENE_VMEM,
          run_virtio_mem },
        { "move/firmware-pc", "-device VGA,addr=6", run_firmware_pc },
        { "move/firmware-q35", "-machine q35 -device VGA,addr=6",
          run_firmware_q35 },
        { "move/bars", SHMEM "-m 66M -device VGA,addr=6", run_bars },
        { "plug/balloon", "-device virtio-balloon-pci,addr=5", run_balloon },
        { "move/peers", "", run_peers, .peers = true },
    };

    vfio_rig_init(&argc, &argv, "memory");

    for (int i = 0; i < ARRAY_SIZE(scenarios); i++) {
        vfio_rig_add_data(scenarios[i].name, VFIO_RIG_BOTH, test_scenario,
                          &scenarios[i]);
    }
    for (int i = 0; i < ARRAY_SIZE(firmware); i++) {
        vfio_rig_add_data(firmware[i].name, VFIO_RIG_BOTH,
                          test_firmware_leaves_rest, &firmware[i]);
    }
    add_reserved(vfio_rig_iommu()->behind_far ? &between_addresses
                                              : &behind_last_address);
    add_reserved(&to_interrupts);
    for (int i = 0; i < ARRAY_SIZE(unpinnable); i++) {
        add_unpinnable(&unpinnable[i]);
    }
    vfio_rig_add("move/far-bar-refuses-device", VFIO_RIG_BOTH,
                 test_far_bar_refuses_device);
    vfio_rig_add("plug/balloon-not-allowed", VFIO_RIG_BOTH,
                 test_balloon_not_allowed);
    vfio_rig_add("plug/balloon-allowed-for-mdev", VFIO_RIG_BOTH,
                 test_balloon_allowed_for_mdev);

    vfio_rig_add("plug/huge-pages", VFIO_RIG_BOTH, test_huge_pages);

    return g_test_run();
}
