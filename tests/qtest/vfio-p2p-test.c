/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a device reaches another one's BAR (peer-to-peer DMA)
 *
 * An edu of the rig writes to registers of its peer and reads them.  Its
 * addresses have 28 bits, so that the peer's BAR is put below 256 MiB, and the
 * guest has little memory.
 *
 * By the group this works on any kernel; by iommufd it needs dma-bufs of BARs.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "hw/vfio/vfio-abi.h"
#include "vfio-edu.h"
#include "vfio-viommu.h"

#define EDU_SLOT    4
#define PEER_SLOT   5
#define VIOMMU_SLOT 6

#define HERE        (128 * MiB)
#define THERE       (192 * MiB)

/* Where the guest has the data */
#define DATA        0x100000

#define NVME_CC     0x14
#define NVME_CSTS   0x1c
#define NVME_AQA    0x24
#define NVME_ASQ    0x28    /* holds what is written to it */
#define NVME_ACQ    0x30

/* Enabled, with entries of 64 bytes (submissions) and 16 bytes (completions) */
#define NVME_CC_START   0x00460001
#define NVME_CSTS_RDY   0x1

/* This one holds the complement. */
#define EDU_HOLDS   EDU_REG_LIVENESS

typedef struct Scene {
    VFIOMachine *machine;
    VFIOEdu *edu;
    QPCIDevice *peer;
    QPCIBar bar;
    const char *name;   /* of the peer in the rig */
    uint32_t reg;
    uint32_t invert;    /* what the register makes of a value, by XOR */
} Scene;

static void place_peer(Scene *s, uint32_t addr)
{
    s->bar.addr = addr;
    qpci_config_writel(s->peer, PCI_BASE_ADDRESS_0, addr);
    if (qpci_config_readl(s->peer, PCI_BASE_ADDRESS_0) &
        PCI_BASE_ADDRESS_MEM_TYPE_64) {
        qpci_config_writel(s->peer, PCI_BASE_ADDRESS_1, 0);
    }
    qpci_config_writew(s->peer, PCI_COMMAND,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

static void find_peer(Scene *s)
{
    g_free(s->peer);
    s->peer = qpci_device_find(s->machine->pci, QPCI_DEVFN(PEER_SLOT, 0));
    g_assert_nonnull(s->peer);
    place_peer(s, HERE);
}

static char *device(const char *name, int slot)
{
    return g_strdup_printf("%s,id=%s,addr=%d", vfio_rig_device(name),
                           slot == EDU_SLOT ? "edu" : "peer", slot);
}

static void start_with(Scene *s, const char *name, const char *options)
{
    g_autofree char *edu = device("EDU0", EDU_SLOT);
    g_autofree char *peer = device(name, PEER_SLOT);
    bool is_edu = g_str_has_prefix(name, "EDU");

    *s = (Scene) {
        .machine = vfio_machine_start("-m 64 %s -device %s -device %s", options,
                                      edu, peer),
        .name = name,
        .reg = is_edu ? EDU_HOLDS : NVME_ASQ,
        .invert = is_edu ? UINT32_MAX : 0,
    };
    s->edu = vfio_edu_new(s->machine, EDU_SLOT);
    find_peer(s);
}

static void start(Scene *s, const char *name)
{
    start_with(s, name, "");
}

static void stop(Scene *s)
{
    vfio_edu_free(s->edu);
    g_free(s->peer);
    vfio_machine_stop(s->machine);
}

static uint32_t peer_reg(Scene *s)
{
    return qpci_io_readl(s->peer, s->bar, s->reg);
}

/* Have edu move the 32 bits at @from in its address space to @to. */
static void carry(Scene *s, uint32_t from, uint32_t to)
{
    vfio_edu_dma(s->edu, EDU_DMA_FROM_MEMORY, from, 4);
    vfio_edu_dma(s->edu, EDU_DMA_TO_MEMORY, to, 4);
}

/* Whether edu writes to the peer's register, with the BAR at @iova */
static bool writes_at(Scene *s, uint32_t iova)
{
    uint32_t value = g_test_rand_int();

    qtest_writel(s->machine->qts, DATA, value);
    carry(s, DATA, iova + s->reg);
    return peer_reg(s) == (value ^ s->invert);
}

/* ... and reads it */
static bool reads_at(Scene *s, uint32_t iova)
{
    uint32_t value = g_test_rand_int();

    qpci_io_writel(s->peer, s->bar, s->reg, value);
    qtest_writel(s->machine->qts, DATA, value);
    carry(s, iova + s->reg, DATA);
    return qtest_readl(s->machine->qts, DATA) == (value ^ s->invert) &&
           peer_reg(s) == (value ^ s->invert);
}

static void check_reached_at(Scene *s, uint32_t iova)
{
    g_assert_true(writes_at(s, iova));
    if (s->invert) {    /* else it reads what was there before as well */
        g_assert_true(reads_at(s, iova));
    }
}

static void check_reached(Scene *s)
{
    check_reached_at(s, s->bar.addr);
}

static void check_not_at(Scene *s, uint32_t iova)
{
    uint32_t before = peer_reg(s);

    qtest_writel(s->machine->qts, DATA, ~before);
    carry(s, DATA, iova + s->reg);
    g_assert_cmphex(peer_reg(s), ==, before);
}

/* QEMU's dma-bufs */
static int bufs(Scene *s)
{
    return vfio_machine_holds(s->machine, "/dmabuf:");
}

static void test_reached(const void *name)
{
    Scene s;

    start(&s, name);
    check_reached(&s);
    stop(&s);
}

static void test_moved(const void *name)
{
    Scene s;

    start(&s, name);
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

static void test_decode(const void *name)
{
    Scene s;

    start(&s, name);
    for (int i = 0; i < 3; i++) {
        uint32_t before = peer_reg(&s);

        qpci_config_writew(s.peer, PCI_COMMAND, 0);
        carry(&s, DATA, HERE + s.reg);
        qpci_config_writew(s.peer, PCI_COMMAND, PCI_COMMAND_MEMORY);
        g_assert_cmphex(peer_reg(&s), ==, before);
        check_reached(&s);
    }
    stop(&s);
}

static bool nvme_is_ready(Scene *s)
{
    return qpci_io_readl(s->peer, s->bar, NVME_CSTS) & NVME_CSTS_RDY;
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

/* The guest resets the peer, and leaves its decoding on. */
static void test_flr(void)
{
    Scene s;
    uint8_t cap;

    start(&s, "NVME1");
    cap = qpci_find_capability(s.peer, PCI_CAP_ID_EXP, 0);
    g_assert_cmphex(cap, !=, 0);
    for (int i = 0; i < 3; i++) {
        start_nvme(&s);
        check_reached(&s);

        qpci_config_writew(s.peer, cap + PCI_EXP_DEVCTL,
                           PCI_EXP_DEVCTL_BCR_FLR);
        g_assert_false(nvme_is_ready(&s));
        check_reached(&s);
    }
    stop(&s);
}

/* The guest sends the peer to sleep, and leaves its decoding on. */
static void test_d3hot(void)
{
    Scene s;
    uint8_t cap;

    start(&s, "NVME1");
    cap = qpci_find_capability(s.peer, PCI_CAP_ID_PM, 0);
    g_assert_cmphex(cap, !=, 0);
    check_reached(&s);
    for (int i = 0; i < 3; i++) {
        qpci_config_writew(s.peer, cap + PCI_PM_CTRL, 3);
        qpci_config_writew(s.peer, cap + PCI_PM_CTRL, 0);
        place_peer(&s, HERE);
        check_reached(&s);
    }
    stop(&s);
}

/* An edu is reset by its bus, an NVMe by its function. */
static void test_system_reset(const void *name)
{
    Scene s;

    start(&s, name);
    for (int i = 0; i < 3; i++) {
        check_reached(&s);
        vfio_machine_reset(s.machine);
        vfio_edu_enable(s.edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        place_peer(&s, HERE);
    }
    check_reached(&s);
    stop(&s);
}

static void plug(Scene *s, const char *name, int slot)
{
    g_autofree char *option = device(name, slot);

    g_assert_null(vfio_machine_device_add(s->machine, option));
}

static void test_peer_leaves(const void *name)
{
    Scene s;
    int before;

    start(&s, name);
    check_reached(&s);
    before = bufs(&s);
    for (int i = 0; i < 3; i++) {
        vfio_machine_device_del(s.machine, "peer", PEER_SLOT);
        g_assert_cmpint(bufs(&s), <=, before);
        plug(&s, name, PEER_SLOT);
        find_peer(&s);
        check_reached(&s);
        g_assert_cmpint(bufs(&s), ==, before);
    }
    stop(&s);
}

static void test_initiator_leaves(const void *name)
{
    Scene s;
    int before;

    start(&s, name);
    check_reached(&s);
    before = bufs(&s);
    for (int i = 0; i < 3; i++) {
        vfio_machine_device_del(s.machine, "edu", EDU_SLOT);
        vfio_edu_free(s.edu);
        plug(&s, "EDU0", EDU_SLOT);
        s.edu = vfio_edu_new(s.machine, EDU_SLOT);
        check_reached(&s);
        g_assert_cmpint(bufs(&s), ==, before);
    }
    stop(&s);
}

/* The peer is there, and decodes, before the initiator comes. */
static void test_initiator_comes(const void *name)
{
    g_autofree char *peer = device(name, PEER_SLOT);
    Scene s = {
        .machine = vfio_machine_start("-m 64 -device %s", peer),
        .name = name,
        .reg = NVME_ASQ,
    };

    find_peer(&s);
    g_assert_cmpint(bufs(&s), ==, 0);
    plug(&s, "EDU0", EDU_SLOT);
    s.edu = vfio_edu_new(s.machine, EDU_SLOT);
    check_reached(&s);
    stop(&s);
}

/* A guest's IOMMU maps the BAR; its map lasts while the peer is away. */
static void test_guest_iommu(const void *name)
{
    const uint32_t iova = 64 * MiB, size = 8 * KiB;
    VIOMMU *viommu;
    Scene s;

    start_with(&s, name, "-machine q35 -device virtio-iommu-pci,addr=6");
    viommu = viommu_new(s.machine, VIOMMU_SLOT);
    g_assert_cmphex(viommu_attach(viommu, 1, VIOMMU_ENDPOINT(EDU_SLOT), 0), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmphex(viommu_map(viommu, 1, DATA, DATA, 64 * KiB,
                               VIOMMU_READ | VIOMMU_WRITE), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmphex(viommu_map(viommu, 1, iova, HERE, size,
                               VIOMMU_READ | VIOMMU_WRITE), ==,
                    VIRTIO_IOMMU_S_OK);
    check_reached_at(&s, iova);

    qpci_config_writew(s.peer, PCI_COMMAND, 0);
    qpci_config_writew(s.peer, PCI_COMMAND, PCI_COMMAND_MEMORY);
    check_reached_at(&s, iova);

    g_assert_cmphex(viommu_unmap(viommu, 1, iova, size), ==,
                    VIRTIO_IOMMU_S_OK);
    check_not_at(&s, iova);
    viommu_free(viommu);
    stop(&s);
}

/* Beside the MSI-X table, which is QEMU's own, the BAR is the device's. */
static void test_beside_msix(void)
{
    Scene s;
    uint32_t table;
    uint8_t cap;

    start(&s, "NVME1");
    cap = qpci_find_capability(s.peer, PCI_CAP_ID_MSIX, 0);
    table = qpci_config_readl(s.peer, cap + PCI_MSIX_TABLE);
    g_assert_cmphex(table & PCI_MSIX_TABLE_BIR, ==, 0);
    g_assert_cmphex(table, >, s.reg);
    check_reached(&s);
    stop(&s);
}

/* One device makes no dma-buf. */
static void test_alone(void)
{
    g_autofree char *peer = device("NVME1", PEER_SLOT);
    Scene s = {
        .machine = vfio_machine_start("-m 64 -device %s", peer),
    };
    g_auto(GStrv) trace = NULL;

    find_peer(&s);
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

static void add_each(const char *name, void (*fn)(const void *name))
{
    static const char *const peers[] = { "NVME1", "EDU1" };

    for (int i = 0; i < ARRAY_SIZE(peers); i++) {
        g_autofree char *path = g_strdup_printf("%s/%s", name, peers[i]);

        vfio_rig_add_data(path, VFIO_RIG_BOTH, fn, peers[i]);
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "p2p");

    add_each("reached", test_reached);
    add_each("moved", test_moved);
    add_each("decode", test_decode);
    vfio_rig_add("flr", VFIO_RIG_BOTH, test_flr);
    vfio_rig_add("d3hot", VFIO_RIG_BOTH, test_d3hot);
    add_each("system-reset", test_system_reset);
    add_each("peer-leaves", test_peer_leaves);
    add_each("initiator-leaves", test_initiator_leaves);
    vfio_rig_add_data("initiator-comes", VFIO_RIG_BOTH, test_initiator_comes,
                      "NVME1");
    add_each("guest-iommu", test_guest_iommu);
    vfio_rig_add("beside-msix", VFIO_RIG_BOTH, test_beside_msix);
    vfio_rig_add("alone", VFIO_RIG_IOMMUFD_ONLY, test_alone);

    return g_test_run();
}
