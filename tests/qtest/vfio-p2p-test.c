/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a device reaches another one's BAR (peer-to-peer DMA)
 *
 * An edu of the rig writes to a BAR of its peer and reads it.  Its addresses
 * have 28 bits, so that the BAR is put below 256 MiB, and the guest has little
 * memory.
 *
 * By the group this works on any kernel; by iommufd it needs dma-bufs of BARs.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "hw/vfio/vfio-abi.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-memory.h"
#include "vfio-query.h"
#include "vfio-viommu.h"
#include "vfio-vtd.h"

#define EDU_SLOT    4
#define PEER_SLOT   5
#define VIOMMU_SLOT 6
#define BRIDGE_SLOT 7

/* Where the peer's BAR is; a bridge's window begins at the first. */
#define HERE        (128 * MiB)
#define THERE       (192 * MiB)

/* Where the guest has the data */
#define DATA        (1 * MiB)

/* Where a guest's IOMMU has the BAR */
#define IOVA        (64 * MiB)
QEMU_BUILD_BUG_ON(IOVA != VTD_IOVA);

#define SDHC_ARGUMENT   0x08

#define NVME_CSTS   0x1c
#define NVME_CC     0x14
#define NVME_AQA    0x24
#define NVME_ASQ    0x28
#define NVME_ACQ    0x30

/* Enabled, with entries of 64 bytes (submissions) and 16 bytes (completions) */
#define NVME_CC_START   0x00460001
#define NVME_CSTS_RDY   0x1

typedef struct Peer {
    const char *name;   /* in the rig */
    int bar;
    uint32_t size;      /* of the BAR */
    uint32_t reg;       /* holds the 32 bits that are written to it ... */
    uint32_t invert;    /* ... with these inverted */
} Peer;

/* A register within a BAR with an MSI-X table, which is QEMU's own */
static const Peer nvme = { "NVME1", 0, 16 * KiB, NVME_ASQ };

static const Peer edu = { "EDU1", 0, MiB, EDU_REG_LIVENESS, UINT32_MAX };

/* A controller memory buffer */
static const Peer buffer = { "APART2", 2, MiB, 0x54320 };

/* A BAR that is smaller than a page */
static const Peer small = { "SMALL0", 0, 256, SDHC_ARGUMENT };

static const Peer *const peers[] = { &nvme, &edu, &buffer };

typedef struct Scene {
    VFIOMachine *machine;
    VFIOEdu *edu;
    const Peer *kind;
    QPCIDevice *peer;
    QPCIBar bar;
    int devfn;          /* the peer's, and its bus */
    uint32_t data;      /* where edu has DATA */
} Scene;

static void place_peer(Scene *s, uint32_t addr)
{
    uint8_t reg = PCI_BASE_ADDRESS_0 + s->kind->bar * 4;

    s->bar.addr = addr;
    qpci_config_writel(s->peer, reg, addr);
    if (qpci_config_readl(s->peer, reg) & PCI_BASE_ADDRESS_MEM_TYPE_64) {
        qpci_config_writel(s->peer, reg + 4, 0);
    }
    qpci_config_writew(s->peer, PCI_COMMAND,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void find_peer(Scene *s)
{
    g_free(s->peer);
    s->peer = qpci_device_find(s->machine->pci, s->devfn);
    g_assert_nonnull(s->peer);
    place_peer(s, HERE);
}

static char *edu_option(void)
{
    return g_strdup_printf("%s,id=edu,addr=%d", vfio_rig_device("EDU0"),
                           EDU_SLOT);
}

static char *peer_option(const Peer *kind)
{
    return g_strdup_printf("%s,id=peer,addr=%d", vfio_rig_device(kind->name),
                           PEER_SLOT);
}

static void start_with(Scene *s, const Peer *kind, const char *options)
{
    g_autofree char *option = edu_option();
    g_autofree char *peer = peer_option(kind);

    *s = (Scene) {
        .machine = vfio_machine_start("-m 64 %s -device %s -device %s", options,
                                      option, peer),
        .kind = kind,
        .devfn = QPCI_DEVFN(PEER_SLOT, 0),
        .data = DATA,
    };
    s->edu = vfio_edu_new(s->machine, EDU_SLOT);
    find_peer(s);
}

static void start(Scene *s, const Peer *kind)
{
    start_with(s, kind, "");
}

/* The initiator is not there yet. */
static void start_alone(Scene *s, const Peer *kind, const char *options)
{
    g_autofree char *peer = peer_option(kind);

    *s = (Scene) {
        .machine = vfio_machine_start("-m 64 %s -device %s", options, peer),
        .kind = kind,
        .devfn = QPCI_DEVFN(PEER_SLOT, 0),
        .data = DATA,
    };
    find_peer(s);
}

static void stop(Scene *s)
{
    vfio_edu_free(s->edu);
    g_free(s->peer);
    vfio_machine_stop(s->machine);
}

static uint32_t peer_reg(Scene *s)
{
    return qpci_io_readl(s->peer, s->bar, s->kind->reg);
}

/* Have edu move the 32 bits at @from in its address space to @to. */
static void carry(Scene *s, uint32_t from, uint32_t to)
{
    vfio_edu_dma(s->edu, EDU_DMA_FROM_MEMORY, from, 4);
    vfio_edu_dma(s->edu, EDU_DMA_TO_MEMORY, to, 4);
}

/* edu writes to the peer's register, with the BAR at @iova. */
static void check_written_at(Scene *s, uint32_t iova)
{
    uint32_t value = g_test_rand_int();

    qtest_writel(s->machine->qts, DATA, value);
    carry(s, s->data, iova + s->kind->reg);
    g_assert_cmphex(peer_reg(s), ==, value ^ s->kind->invert);
}

/* ... and reads it. */
static void check_read_at(Scene *s, uint32_t iova)
{
    uint32_t value = g_test_rand_int();

    qpci_io_writel(s->peer, s->bar, s->kind->reg, value);
    value ^= s->kind->invert;
    g_assert_cmphex(peer_reg(s), ==, value);
    qtest_writel(s->machine->qts, DATA, ~value);
    carry(s, iova + s->kind->reg, s->data);
    g_assert_cmphex(qtest_readl(s->machine->qts, DATA), ==, value);
}

static void check_reached_at(Scene *s, uint32_t iova)
{
    check_written_at(s, iova);
    check_read_at(s, iova);
}

static void check_reached(Scene *s)
{
    check_reached_at(s, s->bar.addr);
}

static void check_not_at(Scene *s, uint32_t iova)
{
    uint32_t before = peer_reg(s);

    qtest_writel(s->machine->qts, DATA, ~before ^ s->kind->invert);
    carry(s, s->data, iova + s->kind->reg);
    g_assert_cmphex(peer_reg(s), ==, before);
}

/* QEMU's dma-bufs */
static int bufs(Scene *s)
{
    return vfio_machine_holds(s->machine, "/dmabuf:");
}

static void test_reached(const void *kind)
{
    Scene s;

    start(&s, kind);
    check_reached(&s);
    stop(&s);
}

/* As much as edu can move, across pages of the buffer, there and back */
static void check_bytes_at(Scene *s, uint32_t offset)
{
    g_autofree uint8_t *data = g_malloc(EDU_DMA_MAX);
    g_autofree uint8_t *result = g_malloc0(EDU_DMA_MAX);
    uint32_t addr = s->bar.addr + offset;

    for (int i = 0; i < EDU_DMA_MAX; i++) {
        data[i] = g_test_rand_int();
    }
    qtest_memwrite(s->machine->qts, DATA, data, EDU_DMA_MAX);
    vfio_edu_dma(s->edu, EDU_DMA_FROM_MEMORY, DATA, EDU_DMA_MAX);
    vfio_edu_dma(s->edu, EDU_DMA_TO_MEMORY, addr, EDU_DMA_MAX);
    qtest_memread(s->machine->qts, addr, result, EDU_DMA_MAX);
    g_assert_cmpmem(result, EDU_DMA_MAX, data, EDU_DMA_MAX);

    qtest_memset(s->machine->qts, DATA, 0, EDU_DMA_MAX);
    vfio_edu_dma(s->edu, EDU_DMA_FROM_MEMORY, addr, EDU_DMA_MAX);
    vfio_edu_dma(s->edu, EDU_DMA_TO_MEMORY, DATA, EDU_DMA_MAX);
    qtest_memread(s->machine->qts, DATA, result, EDU_DMA_MAX);
    g_assert_cmpmem(result, EDU_DMA_MAX, data, EDU_DMA_MAX);
}

static void test_bytes(void)
{
    Scene s;

    start(&s, &buffer);
    for (int i = 0; i < 8; i++) {
        check_bytes_at(&s, i * 128 * KiB + i * 0x123);
    }
    check_bytes_at(&s, buffer.size - EDU_DMA_MAX);
    stop(&s);
}

/*
 * Of a BAR that can be mapped in parts, each is reached where it is: see
 * tests/rig/sparse-bar.c
 */
static void test_parts(void)
{
    Scene s;

    g_setenv("LD_PRELOAD", "/rig/tests/libsparse-bar.so", true);
    start(&s, &buffer);
    g_unsetenv("LD_PRELOAD");

    for (int i = 0; i < 2; i++) {
        check_bytes_at(&s, 64 * KiB);
        check_bytes_at(&s, 128 * KiB - EDU_DMA_MAX);
        check_bytes_at(&s, 256 * KiB);
        check_bytes_at(&s, 300 * KiB + 0x321);
        check_bytes_at(&s, 512 * KiB - EDU_DMA_MAX);
        check_reached(&s);
        place_peer(&s, THERE);
    }
    if (vfio_rig_iommufd()) {
        g_assert_cmpint(bufs(&s), ==, 3);   /* with edu's BAR */
    }
    stop(&s);
}

static void test_moved(const void *kind)
{
    Scene s;

    start(&s, kind);
    for (int i = 0; i < 3; i++) {
        place_peer(&s, THERE);
        check_reached(&s);
        check_not_at(&s, HERE);

        place_peer(&s, HERE);
        check_reached(&s);
        check_not_at(&s, THERE);
    }
    stop(&s);
}

static void decode(Scene *s, bool on)
{
    qpci_config_writew(s->peer, PCI_COMMAND,
                       on ? PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER : 0);
}

static void test_decode(const void *kind)
{
    Scene s;

    start(&s, kind);
    for (int i = 0; i < 3; i++) {
        uint32_t before = peer_reg(&s);

        qtest_writel(s.machine->qts, DATA, ~before ^ s.kind->invert);
        decode(&s, false);
        carry(&s, DATA, HERE + s.kind->reg);
        decode(&s, true);
        g_assert_cmphex(peer_reg(&s), ==, before);
        check_reached(&s);
    }
    stop(&s);
}

/* What the guest does to the peer, while it decodes */

static uint32_t nvme_read(Scene *s, uint32_t reg)
{
    return qpci_io_readl(s->peer, s->bar, reg);
}

static bool nvme_is_ready(Scene *s)
{
    return nvme_read(s, NVME_CSTS) & NVME_CSTS_RDY;
}

/* It does nothing, and raises no interrupt. */
static void start_nvme(Scene *s)
{
    qpci_io_writel(s->peer, s->bar, NVME_AQA, 0x00010001);
    qpci_io_writel(s->peer, s->bar, NVME_ASQ, 4 * MiB);
    qpci_io_writel(s->peer, s->bar, NVME_ACQ, 5 * MiB);
    qpci_io_writel(s->peer, s->bar, NVME_CC, NVME_CC_START);
    g_assert_true(vfio_rig_wait(nvme_is_ready(s)));
}

static uint8_t find_capability(Scene *s, uint8_t id)
{
    uint8_t cap = qpci_find_capability(s->peer, id, 0);

    g_assert_cmphex(cap, !=, 0);
    return cap;
}

static void reset_function(Scene *s)
{
    qpci_config_writew(s->peer, find_capability(s, PCI_CAP_ID_EXP) +
                       PCI_EXP_DEVCTL, PCI_EXP_DEVCTL_BCR_FLR);
}

static void set_power(Scene *s, int state)
{
    qpci_config_writew(s->peer, find_capability(s, PCI_CAP_ID_PM) +
                       PCI_PM_CTRL, state);
}

static void test_flr(void)
{
    Scene s;

    start(&s, &nvme);
    for (int i = 0; i < 3; i++) {
        start_nvme(&s);
        check_reached(&s);
        reset_function(&s);
        g_assert_false(nvme_is_ready(&s));
        check_reached(&s);
    }
    stop(&s);
}

static void test_d3hot(void)
{
    Scene s;

    start(&s, &nvme);
    check_reached(&s);
    for (int i = 0; i < 3; i++) {
        set_power(&s, 3);
        set_power(&s, 0);
        check_reached(&s);
    }
    stop(&s);
}

/*
 * A BAR that is moved while its device sleeps is reached when it wakes up.  By
 * the group it is not: type1 cannot map it then, and nobody tries again.
 */
static void test_moved_in_d3hot(void)
{
    Scene s;

    start(&s, &nvme);
    for (int i = 0; i < 3; i++) {
        set_power(&s, 3);
        place_peer(&s, i % 2 ? HERE : THERE);
        set_power(&s, 0);
        check_reached(&s);
        check_not_at(&s, i % 2 ? THERE : HERE);
    }
    stop(&s);
}

/* An edu is reset by its bus, an NVMe by its function. */
static void test_system_reset(const void *kind)
{
    Scene s;

    start(&s, kind);
    for (int i = 0; i < 3; i++) {
        check_reached(&s);
        vfio_machine_reset(s.machine);
        vfio_edu_enable(s.edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        place_peer(&s, HERE);
    }
    check_reached(&s);
    stop(&s);
}

/* Do what firmware does for a bridge: bus 1 is behind it. */
static void open_bridge(VFIOMachine *m)
{
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_SECONDARY_BUS, 1);
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_SUBORDINATE_BUS, 1);
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_MEMORY_BASE, HERE >> 16 & 0xff);
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_MEMORY_BASE + 1, HERE >> 24);
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_MEMORY_LIMIT, 0xf0);
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_MEMORY_LIMIT + 1,
                            HERE >> 24 | 3);
    vfio_memory_command(m, BRIDGE_SLOT,
                        PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void reset_bus(VFIOMachine *m)
{
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_BRIDGE_CONTROL,
                            PCI_BRIDGE_CTL_BUS_RESET);
    vfio_memory_config_byte(m, BRIDGE_SLOT, PCI_BRIDGE_CONTROL, 0);
}

/* The peer is behind a bridge, and edu is not. */
static void start_with_bridge(Scene *s, const Peer *kind, const char *options)
{
    g_autofree char *option = edu_option();

    *s = (Scene) {
        .machine = vfio_machine_start("-m 64 %s -device pci-bridge,id=bridge,"
                                      "chassis_nr=1,addr=%d -device %s "
                                      "-device %s,bus=bridge,addr=%d", options,
                                      BRIDGE_SLOT, option,
                                      vfio_rig_device(kind->name), PEER_SLOT),
        .kind = kind,
        .devfn = 1 << 8 | QPCI_DEVFN(PEER_SLOT, 0),
        .data = DATA,
    };
    open_bridge(s->machine);
    s->edu = vfio_edu_new(s->machine, EDU_SLOT);
    find_peer(s);
}

/* The guest resets the peer's bus, and not the device that reaches it. */
static void check_bus_resets(Scene *s, uint32_t iova)
{
    for (int i = 0; i < 3; i++) {
        check_reached_at(s, iova);
        reset_bus(s->machine);
        place_peer(s, HERE);
    }
    check_reached_at(s, iova);
}

static void test_bus_reset(const void *kind)
{
    Scene s;

    start_with_bridge(&s, kind, "");
    check_bus_resets(&s, HERE);
    stop(&s);
}

/* Devices that come and go */

static void plug(Scene *s, char *option)
{
    g_assert_null(vfio_machine_device_add(s->machine, option));
    g_free(option);
}

static void plug_peer(Scene *s)
{
    plug(s, peer_option(s->kind));
    find_peer(s);
}

static void unplug_peer(Scene *s)
{
    vfio_machine_device_del(s->machine, "peer", PEER_SLOT);
}

static void plug_edu(Scene *s)
{
    plug(s, edu_option());
    s->edu = vfio_edu_new(s->machine, EDU_SLOT);
}

static void unplug_edu(Scene *s)
{
    vfio_machine_device_del(s->machine, "edu", EDU_SLOT);
    vfio_edu_free(s->edu);
    s->edu = NULL;
}

static void test_peer_leaves(const void *kind)
{
    Scene s;
    int both;

    start(&s, kind);
    check_reached(&s);
    both = bufs(&s);
    g_assert_cmpint(both, ==, vfio_rig_iommufd() ? 2 : 0);
    for (int i = 0; i < 3; i++) {
        unplug_peer(&s);
        g_assert_cmpint(bufs(&s), ==, both / 2);
        plug_peer(&s);
        check_reached(&s);
        g_assert_cmpint(bufs(&s), ==, both);
    }
    unplug_peer(&s);
    unplug_edu(&s);
    g_assert_cmpint(bufs(&s), ==, 0);
    vfio_machine_stop(s.machine);
    g_free(s.peer);
}

static void test_initiator_leaves(const void *kind)
{
    Scene s;
    int both;

    start(&s, kind);
    check_reached(&s);
    both = bufs(&s);
    for (int i = 0; i < 3; i++) {
        unplug_edu(&s);
        g_assert_cmpint(bufs(&s), ==, both / 2);
        plug_edu(&s);
        check_reached(&s);
        g_assert_cmpint(bufs(&s), ==, both);
    }
    stop(&s);
}

/* The peer is there, and decodes, before the initiator comes. */
static void test_initiator_comes(const void *kind)
{
    Scene s;

    start_alone(&s, kind, "");
    g_assert_cmpint(bufs(&s), ==, 0);
    plug_edu(&s);
    check_reached(&s);
    stop(&s);
}

/* Guests' IOMMUs */

#define VIRTIO  "-device virtio-iommu-pci,addr=6"

static VIOMMU *start_viommu(Scene *s, const Peer *kind)
{
    start_with(s, kind, VIRTIO);
    return viommu_new(s->machine, VIOMMU_SLOT);
}

static void map(VIOMMU *viommu, uint64_t iova, uint64_t addr, uint64_t size)
{
    g_assert_cmphex(viommu_map(viommu, 1, iova, addr, size,
                               VIOMMU_READ | VIOMMU_WRITE), ==,
                    VIRTIO_IOMMU_S_OK);
}

static void unmap(VIOMMU *viommu, uint64_t iova, uint64_t size)
{
    g_assert_cmphex(viommu_unmap(viommu, 1, iova, size), ==,
                    VIRTIO_IOMMU_S_OK);
}

/* What has the peer's register, at IOVA */
static void map_peer(Scene *s, VIOMMU *viommu)
{
    uint32_t offset = s->kind->reg & ~0xfff;

    map(viommu, IOVA + offset, s->bar.addr + offset, 4 * KiB);
}

static void unmap_peer(Scene *s, VIOMMU *viommu)
{
    unmap(viommu, IOVA + (s->kind->reg & ~0xfff), 4 * KiB);
}

static void attach_edu(VIOMMU *viommu)
{
    g_assert_cmphex(viommu_attach(viommu, 1, VIOMMU_ENDPOINT(EDU_SLOT), 0), ==,
                    VIRTIO_IOMMU_S_OK);
    map(viommu, DATA, DATA, 64 * KiB);
}

/* Its map lasts while the peer is away. */
static void test_guest_iommu(const void *kind)
{
    VIOMMU *viommu;
    Scene s;

    viommu = start_viommu(&s, kind);
    attach_edu(viommu);
    for (int i = 0; i < 3; i++) {
        map_peer(&s, viommu);
        check_reached_at(&s, IOVA);

        decode(&s, false);
        decode(&s, true);
        check_reached_at(&s, IOVA);

        unmap_peer(&s, viommu);
        check_not_at(&s, IOVA);
    }
    viommu_free(viommu);
    stop(&s);
}

/* A map that the guest has made lasts. */
static void check_resets_at(Scene *s, uint32_t iova)
{
    for (int i = 0; i < 3; i++) {
        reset_function(s);
        check_reached_at(s, iova);
        set_power(s, 3);
        set_power(s, 0);
        check_reached_at(s, iova);
    }
}

static void test_guest_iommu_resets(void)
{
    VIOMMU *viommu;
    Scene s;

    viommu = start_viommu(&s, &nvme);
    attach_edu(viommu);
    map_peer(&s, viommu);
    check_resets_at(&s, IOVA);
    viommu_free(viommu);
    stop(&s);
}

static void test_guest_iommu_bus_reset(const void *kind)
{
    VIOMMU *viommu;
    Scene s;

    start_with_bridge(&s, kind, VIRTIO);
    viommu = viommu_new(s.machine, VIOMMU_SLOT);
    attach_edu(viommu);
    map_peer(&s, viommu);
    check_bus_resets(&s, IOVA);
    viommu_free(viommu);
    stop(&s);
}

/* The guest maps it where it is now. */
static void test_guest_iommu_moved(const void *kind)
{
    VIOMMU *viommu;
    Scene s;

    viommu = start_viommu(&s, kind);
    attach_edu(viommu);
    for (int i = 0; i < 4; i++) {
        map_peer(&s, viommu);
        check_reached_at(&s, IOVA);
        place_peer(&s, i % 2 ? HERE : THERE);
        unmap_peer(&s, viommu);
        check_not_at(&s, IOVA);
    }
    viommu_free(viommu);
    stop(&s);
}

/* The map is the guest's, and it takes it back after the peer has gone. */
static void test_guest_iommu_peer_leaves(const void *kind)
{
    VIOMMU *viommu;
    Scene s;
    int both;

    viommu = start_viommu(&s, kind);
    attach_edu(viommu);
    map_peer(&s, viommu);
    check_reached_at(&s, IOVA);
    both = bufs(&s);
    for (int i = 0; i < 3; i++) {
        unplug_peer(&s);
        g_assert_cmpint(bufs(&s), <=, MAX(both - 1, 0));
        unmap_peer(&s, viommu);
        plug_peer(&s);
        map_peer(&s, viommu);
        check_reached_at(&s, IOVA);
        g_assert_cmpint(bufs(&s), ==, both);
    }
    viommu_free(viommu);
    stop(&s);
}

/* A domain outlives its device: what comes back to its place is in it. */
static void test_guest_iommu_initiator_leaves(const void *kind)
{
    VIOMMU *viommu;
    Scene s;
    int both;

    viommu = start_viommu(&s, kind);
    attach_edu(viommu);
    map_peer(&s, viommu);
    check_reached_at(&s, IOVA);
    both = bufs(&s);
    for (int i = 0; i < 3; i++) {
        unplug_edu(&s);
        g_assert_cmpint(bufs(&s), <=, MAX(both - 1, 0));
        plug_edu(&s);
        check_reached_at(&s, IOVA);
        g_assert_cmpint(bufs(&s), ==, both);
    }
    viommu_free(viommu);
    stop(&s);
}

static void test_guest_iommu_system_reset(const void *kind)
{
    VIOMMU *viommu;
    Scene s;

    viommu = start_viommu(&s, kind);
    for (int i = 0; i < 3; i++) {
        attach_edu(viommu);
        map_peer(&s, viommu);
        check_reached_at(&s, IOVA);
        vfio_machine_reset(s.machine);
        viommu_restart(viommu);
        vfio_edu_enable(s.edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        place_peer(&s, HERE);
    }
    viommu_free(viommu);
    stop(&s);
}

static uint64_t guest_maps(Scene *s)
{
    QDict *info = vfio_query(s->machine, VFIO_RIG_IOMMUFD);
    uint64_t maps = 0;

    for (int i = 0; i < vfio_query_count_spaces(info); i++) {
        maps += vfio_query_number(vfio_query_nth_space(info, i), "guest-maps");
    }
    qobject_unref(info);
    return maps;
}

/* What is mapped while the peer sleeps is counted, and reached afterwards. */
static void test_guest_iommu_maps_in_d3hot(void)
{
    VIOMMU *viommu;
    Scene s;
    uint64_t before;

    viommu = start_viommu(&s, &nvme);
    attach_edu(viommu);
    before = guest_maps(&s);
    for (int i = 0; i < 3; i++) {
        set_power(&s, 3);
        map_peer(&s, viommu);
        map(viommu, IOVA + MiB, HERE, 4 * KiB);
        g_assert_cmpuint(guest_maps(&s), ==, before + 2);
        set_power(&s, 0);
        g_assert_cmpuint(guest_maps(&s), ==, before + 2);
        check_reached_at(&s, IOVA);
        check_reached_at(&s, IOVA + MiB);

        set_power(&s, 3);
        unmap_peer(&s, viommu);
        g_assert_cmpuint(guest_maps(&s), ==, before + 1);
        set_power(&s, 0);
        check_not_at(&s, IOVA);
        check_reached_at(&s, IOVA + MiB);
        unmap(viommu, IOVA + MiB, 4 * KiB);
        g_assert_cmpuint(guest_maps(&s), ==, before);
    }
    viommu_free(viommu);
    stop(&s);
}

/* By intel-iommu the first MiB at IOVA is the peer's BAR, the rest is DATA. */

#define INTEL   "-machine q35 -device intel-iommu,caching-mode=on"

static void set_pages(Scene *s, bool peer)
{
    uint64_t addrs[VTD_PAGES] = { };

    for (int i = 0; i < VTD_PAGES / 2; i++) {
        addrs[i] = peer && i * VTD_PAGE < s->kind->size ? HERE + i * VTD_PAGE
                                                        : 0;
        addrs[VTD_PAGES / 2 + i] = DATA + i * VTD_PAGE;
    }
    vtd_set_small(s->machine, addrs);
    vtd_flush(s->machine);
}

static void switch_intel_on(Scene *s)
{
    vtd_start(s->machine, EDU_SLOT);
    set_pages(s, true);
    s->data = IOVA + MiB;
}

static void switch_intel_off(Scene *s)
{
    vtd_stop(s->machine);
    s->data = DATA;
}

static void start_intel(Scene *s, const Peer *kind)
{
    start_with(s, kind, INTEL);
    check_reached(s);
    switch_intel_on(s);
}

static void test_guest_intel_iommu(const void *kind)
{
    Scene s;

    start_intel(&s, kind);
    for (int i = 0; i < 3; i++) {
        check_reached_at(&s, IOVA);
        decode(&s, false);
        decode(&s, true);
        check_reached_at(&s, IOVA);

        set_pages(&s, false);
        check_not_at(&s, IOVA);
        set_pages(&s, true);
    }
    switch_intel_off(&s);
    check_reached(&s);
    stop(&s);
}

static void test_guest_intel_iommu_resets(void)
{
    Scene s;

    start_intel(&s, &nvme);
    check_resets_at(&s, IOVA);
    stop(&s);
}

static void test_guest_intel_iommu_bus_reset(const void *kind)
{
    Scene s;

    start_with_bridge(&s, kind, INTEL);
    switch_intel_on(&s);
    check_bus_resets(&s, IOVA);
    stop(&s);
}

/* Nothing is translated after a reset, until the guest has it so again. */
static void test_guest_intel_iommu_system_reset(const void *kind)
{
    Scene s;

    start_intel(&s, kind);
    for (int i = 0; i < 3; i++) {
        check_reached_at(&s, IOVA);
        vfio_machine_reset(s.machine);
        s.data = DATA;
        vfio_edu_enable(s.edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        place_peer(&s, HERE);
        check_reached(&s);
        switch_intel_on(&s);
    }
    check_reached_at(&s, IOVA);
    stop(&s);
}

/* What is told */

/* Beside the MSI-X table, which is QEMU's own, the BAR is the device's. */
static void test_beside_msix(void)
{
    Scene s;
    uint32_t table;

    start(&s, &nvme);
    table = qpci_config_readl(s.peer, find_capability(&s, PCI_CAP_ID_MSIX) +
                              PCI_MSIX_TABLE);
    g_assert_cmphex(table & PCI_MSIX_TABLE_BIR, ==, nvme.bar);
    g_assert_cmphex(table, >, nvme.reg);
    check_reached(&s);
    stop(&s);
}

static void check_told(Scene *s, const char *expected)
{
    QDict *info = vfio_query(s->machine, VFIO_RIG_IOMMUFD);

    g_assert_cmpstr(qdict_get_str(vfio_query_space(info), "peer-to-peer"), ==,
                    expected);
    vfio_query_check_trace(s->machine, info);
    qobject_unref(info);
}

static void test_query(void)
{
    Scene s;

    start(&s, &nvme);
    check_told(&s, "dma-buf");
    reset_function(&s);
    check_told(&s, "dma-buf");
    place_peer(&s, THERE);
    check_told(&s, "dma-buf");
    stop(&s);
}

/* One device makes no dma-buf. */
static void test_alone(void)
{
    g_auto(GStrv) trace = NULL;
    Scene s;

    start_alone(&s, &nvme, "");
    decode(&s, false);
    decode(&s, true);
    reset_function(&s);
    set_power(&s, 3);
    set_power(&s, 0);
    trace = vfio_machine_trace(s.machine);
    for (char **line = trace; *line; line++) {
        g_assert_false(vfio_trace_is(*line, "vfio_feature") &&
                       vfio_trace_value(*line, "feature") ==
                       VFIO_DEVICE_FEATURE_DMA_BUF);
    }
    g_assert_cmpint(vfio_trace_count(trace, "iommufd_backend_map_file"), ==, 0);
    g_assert_cmpint(bufs(&s), ==, 0);
    g_free(s.peer);
    vfio_machine_stop(s.machine);
}

/* @log has one line, with @text. */
static void check_only_line(const char *log, const char *text)
{
    g_autofree char *said = vfio_rig_log_take(log);

    g_test_message("%s", said);
    g_assert_cmpint(vfio_rig_count_lines(said), ==, 1);
    g_assert_nonnull(strstr(said, text));
}

/*
 * A dma-buf has whole pages, so by iommufd such a BAR is not reached, which is
 * said once.  The next peer's BAR is.
 */
static void test_smaller_than_page(void)
{
    g_autofree char *says =
        g_strdup_printf("cannot reach a BAR of %s (peer-to-peer DMA): it is "
                        "smaller than a page; DMA to memory is not affected",
                        vfio_rig_address(small.name));
    char *log = vfio_rig_log_new();
    g_autofree char *more = g_strdup_printf("2>>%s", log);
    Scene s;

    start_with(&s, &small, more);
    for (int i = 0; i < 3; i++) {
        place_peer(&s, i % 2 ? HERE : THERE);
        check_not_at(&s, s.bar.addr);
    }
    check_only_line(log, says);
    check_told(&s, "none");
    vfio_edu_check_copy(s.edu, DATA, DATA + MiB, 1000);

    unplug_peer(&s);
    s.kind = &nvme;
    plug_peer(&s);
    check_reached(&s);
    stop(&s);
    vfio_rig_log_free(log);
}

typedef struct Lack {
    const char *name;
    const Peer *kind;
    int error;          /* of making a dma-buf */
    const char *says;
} Lack;

#define KERNEL_WITHOUT \
    "cannot reach each other's BARs (peer-to-peer DMA): this needs dma-buf, " \
    "which the host's kernel was built without (CONFIG_VFIO_PCI_DMABUF"

static const Lack lacks[] = {
    { "kernel-without", &nvme, ENOTTY, KERNEL_WITHOUT },
    { "kernel-without-small", &small, ENOTTY, KERNEL_WITHOUT },
    { "driver-without", &nvme, EOPNOTSUPP,
      "(peer-to-peer DMA): its driver in the host makes no dma-bufs" },
};

/*
 * Said once, of whichever BAR is the first.  DMA to memory is as ever, and all
 * is well when that is over.
 */
static void test_lack(const void *data)
{
    const VFIOFaultCall export = {
        .name = "ioctl feature 11 get",
        .request = VFIO_DEVICE_FEATURE,
    };
    const Lack *lack = data;
    g_autofree char *more = NULL;
    char *log = vfio_rig_log_new();
    Scene s;

    vfio_fault_init();
    vfio_fault_arm_only_row(&export, 1, UINT32_MAX, lack->error);
    more = g_strdup_printf("2>>%s", log);
    start_alone(&s, lack->kind, more);
    g_unsetenv("LD_PRELOAD");
    plug_edu(&s);
    for (int i = 0; i < 3; i++) {
        place_peer(&s, i % 2 ? HERE : THERE);
        check_not_at(&s, s.bar.addr);
    }
    vfio_edu_check_copy(s.edu, DATA, DATA + MiB, 1000);
    check_told(&s, "none");
    vfio_fault_disarm_many();

    check_only_line(log, lack->says);
    stop(&s);
    vfio_rig_log_free(log);
}

static void add_each(const char *name, void (*fn)(const void *kind))
{
    for (int i = 0; i < ARRAY_SIZE(peers); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", name, peers[i]->name);

        vfio_rig_add_data(path, VFIO_RIG_BOTH, fn, peers[i]);
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "p2p");

    add_each("reached", test_reached);
    vfio_rig_add("bytes", VFIO_RIG_BOTH, test_bytes);
    vfio_rig_add("parts", VFIO_RIG_BOTH, test_parts);
    vfio_rig_add("beside-msix", VFIO_RIG_BOTH, test_beside_msix);
    vfio_rig_add_data("reached/SMALL0", VFIO_RIG_LEGACY_ONLY, test_reached,
                      &small);
    vfio_rig_add("smaller-than-page", VFIO_RIG_IOMMUFD_ONLY,
                 test_smaller_than_page);
    add_each("moved", test_moved);
    add_each("decode", test_decode);
    vfio_rig_add("flr", VFIO_RIG_BOTH, test_flr);
    vfio_rig_add("d3hot", VFIO_RIG_BOTH, test_d3hot);
    vfio_rig_add("moved-in-d3hot", VFIO_RIG_IOMMUFD_ONLY, test_moved_in_d3hot);
    add_each("system-reset", test_system_reset);
    add_each("bus-reset", test_bus_reset);
    add_each("peer-leaves", test_peer_leaves);
    add_each("initiator-leaves", test_initiator_leaves);
    add_each("initiator-comes", test_initiator_comes);
    add_each("guest-iommu", test_guest_iommu);
    vfio_rig_add("guest-iommu-resets", VFIO_RIG_BOTH, test_guest_iommu_resets);
    add_each("guest-iommu-bus-reset", test_guest_iommu_bus_reset);
    add_each("guest-iommu-moved", test_guest_iommu_moved);
    add_each("guest-iommu-peer-leaves", test_guest_iommu_peer_leaves);
    add_each("guest-iommu-initiator-leaves", test_guest_iommu_initiator_leaves);
    add_each("guest-iommu-system-reset", test_guest_iommu_system_reset);
    vfio_rig_add("guest-iommu-maps-in-d3hot", VFIO_RIG_IOMMUFD_ONLY,
                 test_guest_iommu_maps_in_d3hot);
    add_each("guest-intel-iommu", test_guest_intel_iommu);
    vfio_rig_add("guest-intel-iommu-resets", VFIO_RIG_BOTH,
                 test_guest_intel_iommu_resets);
    add_each("guest-intel-iommu-bus-reset", test_guest_intel_iommu_bus_reset);
    add_each("guest-intel-iommu-system-reset",
             test_guest_intel_iommu_system_reset);
    vfio_rig_add("query", VFIO_RIG_IOMMUFD_ONLY, test_query);
    vfio_rig_add("alone", VFIO_RIG_IOMMUFD_ONLY, test_alone);
    for (int i = 0; i < ARRAY_SIZE(lacks); i++) {
        vfio_rig_add_data(lacks[i].name, VFIO_RIG_IOMMUFD_ONLY, test_lack,
                          &lacks[i]);
    }

    return g_test_run();
}
