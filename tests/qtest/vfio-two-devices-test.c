/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: two devices of one address space
 *
 * The devices are edus of the rig; see vfio-rig.h.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-edu.h"
#include "vfio-memory.h"
#include "vfio-vtd.h"

#define SLOT(i) (4 + (i))

/* The first two have a group each, the others share one, as do functions. */
static const char *const of_two_groups[] = { "EDU0", "EDU1" };
static const char *const of_one_group[] = { "PAIR0", "PAIR1" };
static const char *const of_one_slot[] = { "MULTI0", "MULTI1" };

static char *device_option(const char *name, int i)
{
    return g_strdup_printf("%s,id=edu%d,addr=%d", vfio_rig_device(name), i,
                           SLOT(i));
}

static VFIOMachine *start(const char *const names[2])
{
    g_autofree char *first = device_option(names[0], 0);
    g_autofree char *second = device_option(names[1], 1);

    return vfio_machine_start("-device %s -device %s", first, second);
}

static void find_both(VFIOMachine *m, VFIOEdu *edus[2])
{
    edus[0] = vfio_edu_new(m, SLOT(0));
    edus[1] = vfio_edu_new(m, SLOT(1));
}

static void stop(VFIOMachine *m, VFIOEdu *edus[2])
{
    vfio_edu_free(edus[0]);
    vfio_edu_free(edus[1]);
    vfio_machine_stop(m);
}

static void check_copy(VFIOEdu *edu)
{
    vfio_edu_check_copy(edu, 0x100000, 0x200000, 1000);
}

/* Unplug, and wait until QEMU holds nothing of the device any more. */
static void unplug(VFIOMachine *m, VFIOEdu *edu, const char *name, int i)
{
    g_autofree char *id = g_strdup_printf("edu%d", i);
    g_autofree char *node = vfio_rig_iommufd() ? vfio_rig_cdev_node(name)
                                               : vfio_rig_group_node(name);

    g_assert_cmpint(vfio_machine_holds(m, node), ==, 1);
    vfio_machine_device_del(m, id, SLOT(i));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    vfio_edu_free(edu);
}

static void check_each_does_dma(const char *const names[2])
{
    VFIOMachine *m = start(names);
    VFIOEdu *edus[2];

    find_both(m, edus);
    vfio_edu_check_registers(edus[0]);
    vfio_edu_check_registers(edus[1]);
    for (int i = 0; i < 2; i++) {
        check_copy(edus[0]);
        check_copy(edus[1]);
    }

    stop(m, edus);
}

static void test_each_does_dma(void)
{
    check_each_does_dma(of_two_groups);
}

static void test_each_of_group_does_dma(void)
{
    check_each_does_dma(of_one_group);
}

/* Data goes from one device through memory into the other, and to memory. */
static void test_data_goes_round(void)
{
    static const char data[] = "from edu0, by way of edu1";
    const uint32_t a = 0x100000, b = 0x200000, c = 0x300000;
    VFIOMachine *m = start(of_two_groups);
    char result[sizeof(data)];
    VFIOEdu *edus[2];

    find_both(m, edus);
    qtest_memwrite(m->qts, a, data, sizeof(data));
    qtest_memset(m->qts, b, 0, sizeof(data));
    qtest_memset(m->qts, c, 0, sizeof(data));

    vfio_edu_dma(edus[0], EDU_DMA_FROM_MEMORY, a, sizeof(data));
    vfio_edu_dma(edus[0], EDU_DMA_TO_MEMORY, b, sizeof(data));
    vfio_edu_dma(edus[1], EDU_DMA_FROM_MEMORY, b, sizeof(data));
    vfio_edu_dma(edus[1], EDU_DMA_TO_MEMORY, c, sizeof(data));

    qtest_memread(m->qts, c, result, sizeof(result));
    g_assert_cmpmem(result, sizeof(result), data, sizeof(data));

    stop(m, edus);
}

static void check_reset_of(VFIOEdu *edu, const char *name)
{
    g_assert_false(vfio_rig_command(name) & PCI_COMMAND_MASTER);
    vfio_edu_enable(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    check_copy(edu);
}

static void check_reset(VFIOMachine *m)
{
    VFIOEdu *edus[2];

    find_both(m, edus);
    check_copy(edus[0]);
    check_copy(edus[1]);

    vfio_machine_reset(m);
    check_reset_of(edus[0], of_two_groups[0]);
    check_reset_of(edus[1], of_two_groups[1]);
    stop(m, edus);
}

static void test_reset_reaches_both(void)
{
    check_reset(start(of_two_groups));
}

/* They share nothing but the guest's memory. */
static void test_group_beside_iommufd(void)
{
    VFIOMachine *m =
        vfio_machine_start("-device vfio-pci,host=%s,addr=%d "
                           "-device %s,addr=%d",
                           vfio_rig_address(of_two_groups[0]), SLOT(0),
                           vfio_rig_device(of_two_groups[1]), SLOT(1));

    g_assert_cmpint(vfio_machine_holds(m, "/dev/vfio/vfio"), ==, 1);
    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 1);
    check_reset(m);
}

static void test_two_objects(void)
{
    VFIOMachine *m =
        vfio_machine_start("-device %s,addr=%d -object iommufd,id=more "
                           "-device vfio-pci,host=%s,addr=%d,iommufd=more",
                           vfio_rig_device(of_two_groups[0]), SLOT(0),
                           vfio_rig_address(of_two_groups[1]), SLOT(1));
    g_auto(GStrv) trace = vfio_machine_trace(m);

    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 2);
    g_assert_cmpint(vfio_trace_count(trace, "iommufd_backend_alloc_ioas"), ==,
                    2);
    check_reset(m);
}

/*
 * The second device of a group is given by another path than the first, which
 * the kernel refuses, and then by the same path.
 */
static void check_group_is_not_split(const char *first, const char *other,
                                     const char *const words[3])
{
    VFIOMachine *m =
        vfio_machine_start("-object iommufd,id=more "
                           "-device vfio-pci,host=%s,addr=%d%s",
                           vfio_rig_address(of_one_group[0]), SLOT(0), first);
    g_autofree char *apart =
        g_strdup_printf("vfio-pci,host=%s,addr=%d%s",
                        vfio_rig_address(of_one_group[1]), SLOT(1), other);
    g_autofree char *together =
        g_strdup_printf("vfio-pci,host=%s,addr=%d%s",
                        vfio_rig_address(of_one_group[1]), SLOT(1), first);
    g_autofree char *error = vfio_machine_device_add(m, apart);
    VFIOEdu *edus[2];

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, vfio_rig_address(of_one_group[1])));
    g_assert_nonnull(strstr(error, words[0]));
    g_assert_nonnull(strstr(error, words[1]));
    g_assert_nonnull(strstr(error, words[2]));
    g_assert_nonnull(strstr(error, vfio_rig_address(of_one_group[0])));
    g_assert_null(strstr(error, "interrupt remapping"));

    g_assert_null(vfio_machine_device_add(m, together));
    find_both(m, edus);
    check_copy(edus[0]);
    check_copy(edus[1]);
    stop(m, edus);
}

static void test_group_by_iommufd_first(void)
{
    static const char *const words[] = {
        "used with iommufd=", "busy", "give both devices the same iommufd=" };

    check_group_is_not_split(",iommufd=" VFIO_RIG_IOMMUFD, "", words);
}

static void test_group_by_group_first(void)
{
    static const char *const words[] = {
        "group is open as /dev/vfio/", "busy", "give both devices iommufd=" };

    check_group_is_not_split("", ",iommufd=" VFIO_RIG_IOMMUFD, words);
}

static void test_group_by_two_objects(void)
{
    static const char *const words[] = {
        "uses iommufd object '" VFIO_RIG_IOMMUFD "'", "not permitted",
        "give both devices the same" };

    check_group_is_not_split(",iommufd=" VFIO_RIG_IOMMUFD, ",iommufd=more",
                             words);
}

#define GUEST_IOMMU "-machine q35 -device intel-iommu,caching-mode=on "

static void check_told_apart(const char *error, const char *const names[2])
{
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, vfio_rig_address(names[1])));
    if (vfio_rig_iommufd()) {
        g_assert_nonnull(strstr(error, vfio_rig_address(names[0])));
        g_assert_nonnull(strstr(error, "another address space of the guest"));
        g_assert_nonnull(strstr(error, "put both behind one pcie-pci-bridge"));
    } else {
        g_assert_nonnull(strstr(error, "multiple address spaces"));
    }
}

/*
 * Behind a guest's IOMMU each device has an address space of its own, unless a
 * conventional bridge makes one of them.  The kernel keeps a group together.
 */
static void test_group_in_two_address_spaces(void)
{
    g_autofree char *first = device_option(of_one_group[0], 0);
    g_autofree char *apart = g_strdup_printf("%s,bus=rp",
                                             vfio_rig_device(of_one_group[1]));
    VFIOMachine *m =
        vfio_machine_start(GUEST_IOMMU "-device pcie-root-port,id=rp,addr=8 "
                           "-device %s", first);
    g_autofree char *error = vfio_machine_device_add(m, apart);

    check_told_apart(error, of_one_group);
    vfio_machine_stop(m);
}

/* As a graphics card and its sound have come to be given: as they really are */
static void test_functions_in_two_address_spaces(void)
{
    g_autofree char *options =
        g_strdup_printf("-nodefaults -m 64 -object iommufd,id="
                        VFIO_RIG_IOMMUFD " " GUEST_IOMMU
                        "-device %s,addr=5.0,multifunction=on "
                        "-device %s,addr=5.1",
                        vfio_rig_device(of_one_slot[0]),
                        vfio_rig_device(of_one_slot[1]));
    g_autofree char *err = NULL;
    int status = vfio_rig_run_qemu(options, NULL, &err);

    vfio_rig_check_refusal(status, err);
    check_told_apart(err, of_one_slot);
}

/* What the message leads to */

#define BRIDGE_SLOT 8
#define PXB_BUS     64

/* The slot of a device that is on another bus than the first */
#define SLOT_ON(bus, slot) ((bus) << 5 | (slot))

/* Where libqos places BARs: at most 256 MiB from here on */
#define BARS        0xe0000000

/* Do what firmware does for a bridge: @bus is behind the one in @slot. */
static void open_bridge(VFIOMachine *m, int slot, int bus)
{
    vfio_memory_config_byte(m, slot, PCI_PRIMARY_BUS, slot >> 5);
    vfio_memory_config_byte(m, slot, PCI_SECONDARY_BUS, bus);
    vfio_memory_config_byte(m, slot, PCI_SUBORDINATE_BUS, bus);
    vfio_memory_config_byte(m, slot, PCI_MEMORY_BASE, 0);
    vfio_memory_config_byte(m, slot, PCI_MEMORY_BASE + 1, BARS >> 24);
    vfio_memory_config_byte(m, slot, PCI_MEMORY_LIMIT, 0xf0);
    vfio_memory_config_byte(m, slot, PCI_MEMORY_LIMIT + 1, BARS >> 24 | 0xf);
    vfio_memory_command(m, slot, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* The device finds the guest's memory where the guest's IOMMU maps it. */
static void check_translated(VFIOEdu *edu, uint64_t addr)
{
    const char data[] = "by way of two IOMMUs";
    QTestState *qts = edu->machine->qts;
    char result[sizeof(data)] = "";

    qtest_memwrite(qts, addr, data, sizeof(data));
    qtest_memset(qts, addr + MiB, 0, sizeof(data));
    vfio_edu_dma(edu, EDU_DMA_FROM_MEMORY, VTD_IOVA, sizeof(data));
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, VTD_IOVA + MiB, sizeof(data));
    qtest_memread(qts, addr + MiB, result, sizeof(result));
    g_assert_cmpmem(result, sizeof(result), data, sizeof(data));
}

static void check_behind_one_bridge(VFIOMachine *m)
{
    const uint64_t addr = 32 * MiB;

    open_bridge(m, BRIDGE_SLOT, 1);
    vtd_start_bridge(m, 1);
    vtd_set_large(m, addr);
    vtd_flush(m);
    for (int i = 0; i < 4; i++) {
        VFIOEdu *edu = vfio_edu_new(m, SLOT_ON(1, SLOT(i % 2)));

        check_translated(edu, addr);
        vfio_edu_free(edu);
    }
    vfio_machine_check_run_state(m, "running");
    vfio_machine_stop(m);
}

static void test_group_behind_one_bridge(void)
{
    g_autofree char *first = device_option(of_one_group[0], 0);
    g_autofree char *second = device_option(of_one_group[1], 1);
    VFIOMachine *m =
        vfio_machine_start(GUEST_IOMMU "-device pcie-pci-bridge,id=bridge,"
                           "addr=%d -device %s,bus=bridge "
                           "-device %s,bus=bridge", BRIDGE_SLOT, first, second);

    check_behind_one_bridge(m);
}

static void test_functions_behind_one_bridge(void)
{
    VFIOMachine *m =
        vfio_machine_start(GUEST_IOMMU "-device pcie-pci-bridge,id=bridge,"
                           "addr=%d", BRIDGE_SLOT);

    for (int i = 0; i < 2; i++) {
        g_autofree char *option = device_option(of_one_slot[i], i);
        g_autofree char *device = g_strdup_printf("%s,bus=bridge", option);
        g_autofree char *error = vfio_machine_device_add(m, device);

        g_assert_cmpstr(error, ==, NULL);
    }
    check_behind_one_bridge(m);
}

/* The manual's other way: a port whose devices the guest's IOMMU lets pass */
static void test_group_bypasses_iommu(void)
{
    const int bus = PXB_BUS + 1;
    VFIOMachine *m =
        vfio_machine_start(GUEST_IOMMU
                           "-device pxb-pcie,id=pxb,bus_nr=%d,bypass_iommu=on "
                           "-device pcie-root-port,id=rp,bus=pxb,chassis=1 "
                           "-device %s,bus=rp,addr=0.0,multifunction=on "
                           "-device %s,bus=rp,addr=0.1", PXB_BUS,
                           vfio_rig_device(of_one_slot[0]),
                           vfio_rig_device(of_one_slot[1]));

    open_bridge(m, SLOT_ON(PXB_BUS, 0), bus);
    for (int i = 0; i < 4; i++) {
        VFIOEdu *edu = vfio_edu_new_at(m, bus << 8 | QPCI_DEVFN(0, i % 2));

        check_copy(edu);
        vfio_edu_free(edu);
    }
    vfio_machine_stop(m);
}

/* Checks what the trace says of the second device that came to an IOAS. */
static void check_second_attach(char **trace)
{
    uint64_t ioas = 0;
    int attached = 0;

    for (char **line = trace; *line; line++) {
        if (vfio_trace_is(*line, "iommufd_backend_alloc_ioas")) {
            ioas = vfio_trace_value(*line, "ioas");
        }
        if (vfio_trace_is(*line, "vfio_cdev_attach")) {
            g_assert_cmpuint(vfio_trace_value(*line, "ioas"), ==, ioas);
            attached++;
        }
        if (vfio_trace_is(*line, "iommufd_backend_map_dma")) {
            g_assert_cmpint(attached, ==, 1);
        }
    }
    g_assert_cmpint(attached, ==, 2);
}

static void check_shared_ioas(const char *const names[2])
{
    const char *alloc = "iommufd_backend_alloc_ioas";
    VFIOMachine *m = start(names);
    g_auto(GStrv) trace = vfio_machine_trace(m);

    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 1);
    g_assert_cmpint(vfio_machine_holds(m, "/dev/vfio/vfio"), ==, 0);
    g_assert_cmpint(vfio_trace_count(trace, alloc), ==, 1);
    g_assert_cmpint(vfio_trace_count(trace, "iommufd_backend_map_dma"), >, 0);
    check_second_attach(trace);
    vfio_machine_stop(m);
}

static void test_share_one_ioas(void)
{
    check_shared_ioas(of_two_groups);
}

static void test_group_shares_one_ioas(void)
{
    check_shared_ioas(of_one_group);
}

/*
 * Linux does not map a BAR by its address in QEMU.  However often BARs come and
 * go, there is one try, and one line on standard error that says so.
 */
static void check_bars_refused(VFIOMachine *m, int expected)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int refused = 0;

    for (char **line = trace; *line; line++) {
        refused += vfio_trace_is(*line, "iommufd_backend_map_dma") &&
                   !g_str_has_suffix(*line, " (0)");
    }
    g_assert_cmpint(refused, ==, expected);
}

static void check_nothing_said(const char *path)
{
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "");
}

static void check_one_line(const char *path, const char *word)
{
    g_autofree char *text = NULL;
    char *end;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    g_test_message("QEMU wrote: %s", text);
    end = strchr(text, '\n');
    g_assert_nonnull(end);
    g_assert_cmpstr(end, ==, "\n");
    g_assert_nonnull(strstr(text, word));
}

static void test_peer_to_peer_told_once(void)
{
    g_autofree char *first = device_option(of_two_groups[0], 0);
    g_autofree char *second = device_option(of_two_groups[1], 1);
    g_autofree char *path = NULL;
    VFIOMachine *m;
    VFIOEdu *edus[2];

    close(g_file_open_tmp("vfio-stderr-XXXXXX", &path, NULL));
    m = vfio_machine_start("-device %s -device %s 2>%s", first, second, path);
    find_both(m, edus);
    for (int i = 0; i < 4; i++) {
        vfio_edu_enable(edus[i % 2], PCI_COMMAND_MASTER);
        vfio_edu_enable(edus[i % 2], PCI_COMMAND_MASTER | PCI_COMMAND_MEMORY);
    }
    check_copy(edus[0]);
    if (vfio_rig_reaches_bars()) {
        check_bars_refused(m, 0);
        check_nothing_said(path);
    } else {
        check_bars_refused(m, 1);
        check_one_line(path, "peer-to-peer");
    }

    stop(m, edus);
    unlink(path);
}

/* Where the rig's IOMMU does not map, if there is such an address */
static uint64_t far_address(void)
{
    return vfio_rig_iommu()->far ?: 1ULL << 39;
}

static void put_far_away(VFIOMachine *m, int slot)
{
    vfio_memory_command(m, slot, 0);
    vfio_memory_bar64(m, slot, PCI_BASE_ADDRESS_0, far_address());
    vfio_memory_command(m, slot, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* @property: what the width of the processor is set by, and to which */
static void check_far_bar_told(const char *path, const char *property)
{
    const VFIORigIommu *host = vfio_rig_iommu();
    g_autofree char *place = g_strdup_printf("0x%" PRIx64, host->far);
    g_autofree char *last = g_strdup_printf("reaches up to 0x%" PRIx64,
                                            host->far - 1);

    check_one_line(path, "peer-to-peer");
    if (!host->far) {
        check_one_line(path, "this needs dma-buf");
    } else if (host->behind_far) {
        check_one_line(path, place);
        check_one_line(path, "the host's IOMMU reserves addresses there");
    } else {
        check_one_line(path, place);
        check_one_line(path, last);
        check_one_line(path, property);
    }
}

/* @cpu: options, and @property what the processor's width is set by then */
static void check_far_bar(const char *cpu, const char *property)
{
    g_autofree char *second = device_option(of_two_groups[0], 1);
    g_autofree char *path = NULL;
    VFIOMachine *m;
    VFIOEdu *edu;

    close(g_file_open_tmp("vfio-stderr-XXXXXX", &path, NULL));
    m = vfio_machine_start("%s -device %s,addr=%d 2>%s", cpu,
                           vfio_rig_device("NVME0"), SLOT(0), path);
    put_far_away(m, SLOT(0));
    put_far_away(m, SLOT(0));
    check_nothing_said(path);

    g_assert_null(vfio_machine_device_add(m, second));
    check_far_bar_told(path, property);
    put_far_away(m, SLOT(0));
    put_far_away(m, SLOT(0));
    check_far_bar_told(path, property);
    vfio_machine_check_run_state(m, "running");
    edu = vfio_edu_new(m, SLOT(1));
    check_copy(edu);
    vfio_edu_free(edu);
    vfio_machine_stop(m);
    unlink(path);
}

static void test_far_bar_told_once(void)
{
    check_far_bar("", "-cpu ...,phys-bits=39 ");
}

/* As -cpu host has it; KVM then does not look at phys-bits. */
static void test_far_bar_with_width_of_host(void)
{
    check_far_bar("-cpu qemu64,host-phys-bits=on",
                  "-cpu ...,host-phys-bits-limit=39 ");
}

static void test_share_one_container(void)
{
    VFIOMachine *m = start(of_two_groups);

    g_assert_cmpint(vfio_machine_holds(m, "/dev/vfio/vfio"), ==, 1);
    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 0);
    vfio_machine_stop(m);
}

/* Whichever device goes, the other stays; the one that went may come again. */
static void check_unplug(const char *const names[2], int gone)
{
    VFIOMachine *m = start(names);
    g_autofree char *option = device_option(names[gone], gone);
    VFIOEdu *edus[2];

    find_both(m, edus);
    unplug(m, edus[gone], names[gone], gone);
    check_copy(edus[!gone]);

    g_assert_null(vfio_machine_device_add(m, option));
    edus[gone] = vfio_edu_new(m, SLOT(gone));
    check_copy(edus[gone]);
    check_copy(edus[!gone]);

    stop(m, edus);
}

static void test_unplug_first(void)
{
    check_unplug(of_two_groups, 0);
}

static void test_unplug_second(void)
{
    check_unplug(of_two_groups, 1);
}

/* Unmaps of guest memory, without those where the devices' own BARs were */
static int count_memory_unmaps(char **trace)
{
    int count = 0;

    for (char **line = trace; *line; line++) {
        count += vfio_trace_is(*line, "iommufd_backend_unmap_dma") &&
                 vfio_trace_value(*line, "iova") < VFIO_MACHINE_MEMORY;
    }
    return count;
}

/*
 * When the last device goes, the IOAS goes with it.  All that was mapped is
 * gone in one step, without an unmap for each section.
 */
static void check_ioas_destroyed(char **before, char **after)
{
    const char *destroy = "iommufd_backend_destroy_id";

    g_assert_cmpint(vfio_trace_count(before, destroy), ==, 0);
    g_assert_cmpint(vfio_trace_count(after, destroy), ==, 1);
    g_assert_cmpint(count_memory_unmaps(after), ==,
                    count_memory_unmaps(before));
}

static void test_unplug_both(void)
{
    const char *opened = vfio_rig_iommufd() ? "/dev/iommu" : "/dev/vfio/vfio";
    VFIOMachine *m = start(of_two_groups);
    g_autofree char *option = device_option(of_two_groups[0], 0);
    g_auto(GStrv) before = NULL;
    g_auto(GStrv) after = NULL;
    VFIOEdu *edus[2];

    find_both(m, edus);
    unplug(m, edus[0], of_two_groups[0], 0);
    g_assert_cmpint(vfio_machine_holds(m, opened), ==, 1);

    before = vfio_machine_trace(m);
    unplug(m, edus[1], of_two_groups[1], 1);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, opened) == 0));
    after = vfio_machine_trace(m);
    if (vfio_rig_iommufd()) {
        check_ioas_destroyed(before, after);
    }

    g_assert_null(vfio_machine_device_add(m, option));
    edus[0] = vfio_edu_new(m, SLOT(0));
    check_copy(edus[0]);
    vfio_edu_free(edus[0]);
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "two-devices");

    vfio_rig_add("each-does-dma", VFIO_RIG_BOTH, test_each_does_dma);
    vfio_rig_add("each-of-group-does-dma", VFIO_RIG_BOTH,
                 test_each_of_group_does_dma);
    vfio_rig_add("data-goes-round", VFIO_RIG_BOTH, test_data_goes_round);
    vfio_rig_add("reset-reaches-both", VFIO_RIG_BOTH, test_reset_reaches_both);
    if (!vfio_rig_kernel_is("nogroup")) {
        vfio_rig_add("group-beside-iommufd", VFIO_RIG_IOMMUFD_ONLY,
                     test_group_beside_iommufd);
        vfio_rig_add("group-by-iommufd-then-by-group", VFIO_RIG_IOMMUFD_ONLY,
                     test_group_by_iommufd_first);
        vfio_rig_add("group-by-group-then-by-iommufd", VFIO_RIG_IOMMUFD_ONLY,
                     test_group_by_group_first);
    }
    vfio_rig_add("two-objects", VFIO_RIG_IOMMUFD_ONLY, test_two_objects);
    vfio_rig_add("group-by-two-objects", VFIO_RIG_IOMMUFD_ONLY,
                 test_group_by_two_objects);
    vfio_rig_add("share-one-ioas", VFIO_RIG_IOMMUFD_ONLY, test_share_one_ioas);
    vfio_rig_add("group-shares-one-ioas", VFIO_RIG_IOMMUFD_ONLY,
                 test_group_shares_one_ioas);
    vfio_rig_add("group-in-two-address-spaces", VFIO_RIG_BOTH,
                 test_group_in_two_address_spaces);
    vfio_rig_add("group-behind-one-bridge", VFIO_RIG_BOTH,
                 test_group_behind_one_bridge);
    vfio_rig_add("functions-in-two-address-spaces", VFIO_RIG_BOTH,
                 test_functions_in_two_address_spaces);
    vfio_rig_add("functions-behind-one-bridge", VFIO_RIG_BOTH,
                 test_functions_behind_one_bridge);
    vfio_rig_add("group-bypasses-iommu", VFIO_RIG_BOTH,
                 test_group_bypasses_iommu);
    vfio_rig_add("far-bar-told-once", VFIO_RIG_IOMMUFD_ONLY,
                 test_far_bar_told_once);
    vfio_rig_add("far-bar-with-width-of-host", VFIO_RIG_IOMMUFD_ONLY,
                 test_far_bar_with_width_of_host);
    vfio_rig_add("peer-to-peer-told-once", VFIO_RIG_IOMMUFD_ONLY,
                 test_peer_to_peer_told_once);
    vfio_rig_add("share-one-container", VFIO_RIG_LEGACY_ONLY,
                 test_share_one_container);
    vfio_rig_add("unplug-first", VFIO_RIG_BOTH, test_unplug_first);
    vfio_rig_add("unplug-second", VFIO_RIG_BOTH, test_unplug_second);
    vfio_rig_add("unplug-both", VFIO_RIG_BOTH, test_unplug_both);

    return g_test_run();
}
