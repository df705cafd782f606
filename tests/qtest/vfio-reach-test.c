/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a guest's IOMMU heeds what the host's cannot map
 *
 * What the rig's IOMMU maps is in vfio-rig.c; it reserves where interrupts go.
 * Where others are needed, a library (tests/rig/fault.c) answers in place of
 * the kernel.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "qapi/qmp/qdict.h"
#include "qemu/bswap.h"
#include "qemu/host-utils.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-viommu.h"

#define VIOMMU_SLOT     3
#define EDU_SLOT        4
#define BRIDGE_SLOT     6

#define LAST_OF(bits)   ((1ULL << (bits)) - 1)

static const VFIOFaultRange whole_36_bits = { 0, LAST_OF(36) };
static const VFIOFaultRange whole_39_bits = { 0, LAST_OF(39) };
static const VFIOFaultRange whole_48_bits = { 0, LAST_OF(48) };

/* Where interrupts go */
#define MSI_FIRST       0xfee00000
#define MSI_LAST        0xfeefffff

/* Intel's */

#define PORTS "-machine q35 -m 64M -device pcie-root-port,id=rp,addr=8 " \
              "-device pcie-pci-bridge,id=bridge,addr=9 "
#define INTEL PORTS "-device intel-iommu,caching-mode=on"

/* QEMU comes to be as it was @before; it closes files in its own time. */
static void check_state(VFIOMachine *m, const char *before)
{
    g_autofree char *now = NULL;

    g_assert_true(vfio_rig_wait((g_free(now), now = vfio_machine_state(m),
                                 g_str_equal(now, before))));
}

static char *on_bus(const char *name, const char *bus, const char *more)
{
    return g_strdup_printf("%s,bus=%s%s", vfio_rig_device(name), bus, more);
}

static void check_words(const char *text, const char *const words[])
{
    for (; *words; words++) {
        if (!strstr(text, *words)) {
            g_error("'%s' is not in: %s", *words, text);
        }
    }
}

/* @far: the first address from 4 GiB on that the host's IOMMU does not map */
static void check_too_wide(const char *text, const char *name, uint64_t far)
{
    g_autofree char *bits = g_strdup_printf("%d bits", 64 - clz64(far - 1));
    g_autofree char *last = g_strdup_printf("0x%" PRIx64, far - 1);
    const char *const words[] = {
        vfio_rig_address(name), "the guest's intel-iommu has aw-bits=48", bits,
        last, "give intel-iommu aw-bits=39", NULL,
    };

    g_assert_nonnull(text);
    check_words(text, words);
}

static void test_wider_is_refused_at_start(void)
{
    static const char *const orders[][2] = {
        { "-object iommufd,id=" VFIO_RIG_IOMMUFD
          " -device intel-iommu,aw-bits=48,caching-mode=on", "" },
        { "-device intel-iommu,caching-mode=on",
          "-object iommufd,id=" VFIO_RIG_IOMMUFD
          " -global intel-iommu.aw-bits=48" },
    };

    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        g_autofree char *options =
            g_strdup_printf("-machine q35 -nodefaults -m 64 %s -device %s %s",
                            orders[i][0], vfio_rig_device("EDU0"),
                            orders[i][1]);
        g_autofree char *err = NULL;
        int status = vfio_rig_run_qemu(options, NULL, &err);

        vfio_rig_check_refusal(status, err);
        check_too_wide(err, "EDU0", vfio_rig_iommu()->far);
    }
}

/* ... and the group's path does not know. */
static void test_wider_is_refused_when_plugged(void)
{
    VFIOMachine *m = vfio_machine_start(INTEL ",aw-bits=48");
    g_autofree char *device = on_bus("EDU0", "rp", "");
    g_autofree char *by_group = g_strdup_printf("vfio-pci,host=%s,bus=rp",
                                                vfio_rig_address("EDU0"));

    for (int i = 0; i < 2; i++) {
        g_autofree char *before = vfio_machine_state(m);
        g_autofree char *error = vfio_machine_device_add(m, device);

        check_too_wide(error, "EDU0", vfio_rig_iommu()->far);
        check_state(m, before);
    }
    g_assert_null(vfio_machine_device_add(m, by_group));
    vfio_machine_stop(m);
}

/* Where the host maps everything */
static void test_wider_is_accepted(void)
{
    VFIOMachine *m = vfio_machine_start(INTEL ",aw-bits=48");
    g_autofree char *device = on_bus("EDU0", "rp", "");
    g_autofree char *error = vfio_machine_device_add(m, device);

    g_assert_cmpstr(error, ==, NULL);
    vfio_machine_stop(m);
}

/* Where the guest cannot map as far as that, or not at all */
static void test_not_wider_is_accepted(void)
{
    static const char *const options[] = {
        INTEL ",aw-bits=48,dma-translation=off",
        "-machine q35 -m 64M -device intel-iommu,caching-mode=on,aw-bits=48 "
        "-device pxb-pcie,id=pxb,bus_nr=64,bypass_iommu=on "
        "-device pcie-root-port,id=rp,bus=pxb",
    };
    g_autofree char *device = on_bus("EDU0", "rp", "");

    for (int i = 0; i < ARRAY_SIZE(options); i++) {
        VFIOMachine *m = vfio_machine_start("%s", options[i]);
        g_autofree char *error = vfio_machine_device_add(m, device);

        g_assert_cmpstr(error, ==, NULL);
        vfio_machine_stop(m);
    }
}

/* The address space of two devices has what both of their IOMMUs have. */
static void test_second_device_narrows(void)
{
    VFIOMachine *m = vfio_machine_start(INTEL ",aw-bits=48");
    g_autofree char *first = on_bus("EDU0", "bridge", ",addr=1,id=first");
    g_autofree char *second = on_bus("EDU1", "bridge", ",addr=2");
    g_autofree char *error = NULL;

    vfio_fault_ranges(&whole_48_bits, 1);
    g_assert_null(vfio_machine_device_add(m, first));
    vfio_fault_ranges(&whole_39_bits, 1);
    error = vfio_machine_device_add(m, second);
    check_too_wide(error, "EDU1", 1ULL << 39);

    vfio_fault_ranges(&whole_48_bits, 1);
    g_assert_null(vfio_machine_device_add(m, second));
    vfio_fault_ranges(NULL, 0);
    vfio_machine_check_run_state(m, "running");
    vfio_machine_stop(m);
}

/* No intel-iommu of QEMU's is as narrow as that. */
static void test_narrow_host_leads_to_virtio(void)
{
    static const char *const words[] = {
        "aw-bits=39", "36 bits", "0xfffffffff", "use virtio-iommu-pci", NULL,
    };
    VFIOMachine *m = vfio_machine_start(INTEL);
    g_autofree char *device = on_bus("EDU0", "rp", "");
    g_autofree char *error = NULL;

    vfio_fault_ranges(&whole_36_bits, 1);
    error = vfio_machine_device_add(m, device);
    g_assert_nonnull(error);
    check_words(error, words);
    vfio_fault_ranges(NULL, 0);
    g_assert_null(vfio_machine_device_add(m, device));
    vfio_machine_stop(m);
}

/* virtio-iommu */

typedef struct Fixture {
    VFIOMachine *machine;
    VIOMMU *viommu;
} Fixture;

/* With a conventional bridge, behind which all devices are one endpoint */
static VFIOMachine *start_machine(const char *options)
{
    return vfio_machine_start("-m 64M -device virtio-iommu-pci,addr=%d "
                              "-device pci-bridge,id=bridge,chassis_nr=1,"
                              "addr=%d %s", VIOMMU_SLOT, BRIDGE_SLOT, options);
}

static Fixture *start(const char *options)
{
    Fixture *f = g_new0(Fixture, 1);

    f->machine = start_machine(options);
    f->viommu = viommu_new(f->machine, VIOMMU_SLOT);
    return f;
}

static void stop(Fixture *f)
{
    if (f->viommu) {
        viommu_free(f->viommu);
    }
    vfio_machine_stop(f->machine);
    if (vfio_rig_iommufd()) {
        vfio_fault_ranges(NULL, 0);
    }
    g_free(f);
}

static uint8_t *put_region(uint8_t *at, uint8_t subtype, uint64_t first,
                           uint64_t last)
{
    struct virtio_iommu_probe_resv_mem region = {
        .head.type = cpu_to_le16(VIRTIO_IOMMU_PROBE_T_RESV_MEM),
        .head.length = cpu_to_le16(20),
        .subtype = subtype,
        .start = cpu_to_le64(first),
        .end = cpu_to_le64(last),
    };

    g_assert_cmpint(sizeof(region), ==, 24);
    memcpy(at, &region, sizeof(region));
    return at + sizeof(region);
}

/*
 * The answer has where interrupts go, as always, then the @count @regions, and
 * is else zero, to the last byte.
 */
static void check_probe(Fixture *f, int slot, const VFIOFaultRange *regions,
                        int count)
{
    uint8_t expected[VIOMMU_PROPERTIES] = {}, answer[VIOMMU_PROPERTIES];
    uint8_t *at = put_region(expected, VIRTIO_IOMMU_RESV_MEM_T_MSI, MSI_FIRST,
                             MSI_LAST);

    for (int i = 0; i < count; i++) {
        at = put_region(at, VIRTIO_IOMMU_RESV_MEM_T_RESERVED, regions[i].first,
                        regions[i].last);
    }
    memset(answer, 0xaa, sizeof(answer));
    g_assert_cmpint(viommu_probe(f->viommu, VIOMMU_ENDPOINT(slot), answer), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmpmem(answer, sizeof(answer), expected, sizeof(expected));
}

/* What the rig's IOMMU does not map; by the group nothing is told. */
static void check_probe_of_rig(Fixture *f, int slot)
{
    const VFIORigIommu *host = vfio_rig_iommu();
    VFIOFaultRange far = { host->far, host->behind_far - 1 };

    check_probe(f, slot, &far, host->far && vfio_rig_iommufd());
}

static void check_probe_is_plain(Fixture *f, int slot)
{
    check_probe(f, slot, NULL, 0);
}

static void plug(Fixture *f, const char *device)
{
    g_autofree char *error = vfio_machine_device_add(f->machine, device);

    g_assert_cmpstr(error, ==, NULL);
}

static void plug_edu(Fixture *f, const char *name)
{
    g_autofree char *device = g_strdup_printf("%s,id=edu0,addr=%d",
                                              vfio_rig_device(name), EDU_SLOT);

    plug(f, device);
}

/* ... and wait until QEMU holds nothing of the device any more. */
static void unplug(Fixture *f)
{
    const char *opened = vfio_rig_iommufd() ? "/dev/iommu" : "/dev/vfio/vfio";

    vfio_machine_device_del(f->machine, "edu0", EDU_SLOT);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(f->machine, opened) == 0));
}

static void test_probe_tells(void)
{
    g_autofree char *options =
        g_strdup_printf("-device %s,addr=%d -device edu,addr=%d",
                        vfio_rig_device("EDU0"), EDU_SLOT, EDU_SLOT + 1);
    Fixture *f = start(options);

    check_probe_of_rig(f, EDU_SLOT);
    check_probe_is_plain(f, EDU_SLOT + 1);
    check_probe_of_rig(f, EDU_SLOT);
    vfio_machine_reset(f->machine);
    viommu_restart(f->viommu);
    check_probe_of_rig(f, EDU_SLOT);
    stop(f);
}

/* Whoever asked before asked for another device. */
static void test_probe_tells_of_device_that_is_there(void)
{
    Fixture *f = start("-device edu,id=edu0,addr=" stringify(EDU_SLOT));

    check_probe_is_plain(f, EDU_SLOT);
    for (int i = 0; i < 2; i++) {
        unplug(f);
        plug_edu(f, "EDU0");
        check_probe_of_rig(f, EDU_SLOT);
        unplug(f);
        plug_edu(f, "EDU1");
        check_probe_of_rig(f, EDU_SLOT);
        unplug(f);
        plug(f, "edu,id=edu0,addr=" stringify(EDU_SLOT));
        check_probe_is_plain(f, EDU_SLOT);
    }
    stop(f);
}

/* ... as a host has them whose processors are AMD's, or one that is odder */
static const VFIOFaultRange odd_host[] = {
    { 0x10000, 0xdfffffff },
    { 0xe0001000, 0xfedfffff },
    { 0xfef10000, 0xfcffffffff },
    { 0x10000000000, LAST_OF(48) },
};

static void check_regions_do_not_overlap(Fixture *f)
{
    static const VFIOFaultRange regions[] = {
        { 0, 0xffff },
        { 0xe0000000, 0xe0000fff },
        { 0xfef00000, 0xfef0ffff },
        { 0xfd00000000, 0xffffffffff },
        { 1ULL << 48, UINT64_MAX },
    };

    vfio_fault_ranges(odd_host, ARRAY_SIZE(odd_host));
    plug_edu(f, "EDU0");
    check_probe(f, EDU_SLOT, regions, ARRAY_SIZE(regions));
    unplug(f);
}

/* The host maps everything, or next to nothing. */
static void check_extremes(Fixture *f)
{
    static const VFIOFaultRange all = { 0, UINT64_MAX };
    static const VFIOFaultRange page = { MSI_FIRST, MSI_FIRST + 0xfff };
    static const VFIOFaultRange regions[] = {
        { 0, MSI_FIRST - 1 },
        { MSI_LAST + 1, UINT64_MAX },
    };

    vfio_fault_ranges(&all, 1);
    plug_edu(f, "EDU0");
    check_probe_is_plain(f, EDU_SLOT);
    unplug(f);

    vfio_fault_ranges(&page, 1);
    plug_edu(f, "EDU0");
    check_probe(f, EDU_SLOT, regions, 2);
    unplug(f);
}

static void test_probe_tells_of_any_host(void)
{
    Fixture *f = start("");

    check_regions_do_not_overlap(f);
    check_extremes(f);
    stop(f);
}

/* The answer has room for 21 regions, and the machine has one. */
static void test_too_many_are_refused(void)
{
    static const char *const words[] = {
        "virtio-iommu", "22 reserved regions", "room for 21", NULL,
    };
    VFIOFaultRange ranges[21], regions[21];
    g_autofree char *device = g_strdup_printf("%s,id=edu0,addr=%d",
                                              vfio_rig_device("EDU0"),
                                              EDU_SLOT);
    Fixture *f = start("");
    g_autofree char *error = NULL;

    for (uint64_t i = 0; i < 21; i++) {
        ranges[i] = (VFIOFaultRange) { i << 40, (i << 40) + LAST_OF(39) };
        regions[i] = (VFIOFaultRange) { ranges[i].last + 1,
                                        ((i + 1) << 40) - 1 };
    }

    vfio_fault_ranges(ranges, 21);
    error = vfio_machine_device_add(f->machine, device);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, vfio_rig_address("EDU0")));
    check_words(error, words);

    vfio_fault_ranges(ranges, 20);
    regions[19].last = UINT64_MAX;
    plug(f, device);
    check_probe(f, EDU_SLOT, regions, 20);
    stop(f);
}

/* Devices of which the guest knows one */

#define BEHIND_BRIDGE ",bus=bridge,addr="

static const char *const not_told[] = {
    "cannot map 0x1000000000 to 0xffffffffffffffff", "behind the same bridge",
    "plug it elsewhere", NULL,
};

static void check_refused(Fixture *f, const char *device, const char *name)
{
    g_autofree char *before = vfio_machine_state(f->machine);
    g_autofree char *error = vfio_machine_device_add(f->machine, device);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, vfio_rig_address(name)));
    check_words(error, not_told);
    check_state(f->machine, before);
}

static void test_told_guest_is_told_no_more(void)
{
    static const VFIOFaultRange above_36 = { 1ULL << 36, UINT64_MAX };
    g_autofree char *first = on_bus("EDU0", "bridge", ",addr=2,id=edu0");
    g_autofree char *second = on_bus("EDU1", "bridge", ",addr=3");
    Fixture *f = start("-device edu" BEHIND_BRIDGE "1");

    /* An emulated one, which does DMA to wherever the guest maps something */
    vfio_fault_ranges(&whole_36_bits, 1);
    check_probe_is_plain(f, BRIDGE_SLOT);
    check_refused(f, first, "EDU0");
    check_refused(f, first, "EDU0");
    check_probe_is_plain(f, BRIDGE_SLOT);

    /* The guest starts anew, and asks when the device is there. */
    vfio_machine_reset(f->machine);
    viommu_restart(f->viommu);
    plug(f, first);
    check_probe(f, BRIDGE_SLOT, &above_36, 1);

    /* That holds for the second one as well. */
    plug(f, second);
    check_probe(f, BRIDGE_SLOT, &above_36, 1);
    stop(f);
}

/* ... and when one has gone, what the guest was told holds for the others. */
static void test_narrower_device_is_refused(void)
{
    static const VFIOFaultRange above_48 = { 1ULL << 48, UINT64_MAX };
    g_autofree char *first = on_bus("EDU0", "bridge", ",addr=1,id=edu0");
    g_autofree char *second = on_bus("EDU1", "bridge", ",addr=2");
    Fixture *f = start("");

    vfio_fault_ranges(&whole_48_bits, 1);
    plug(f, first);
    check_probe(f, BRIDGE_SLOT, &above_48, 1);

    vfio_fault_ranges(&whole_36_bits, 1);
    check_refused(f, second, "EDU1");
    check_probe(f, BRIDGE_SLOT, &above_48, 1);
    vfio_fault_ranges(&whole_48_bits, 1);
    plug(f, second);
    check_probe(f, BRIDGE_SLOT, &above_48, 1);
    stop(f);
}

static bool is_migrated(Fixture *f)
{
    QDict *reply = qtest_qmp(f->machine->qts, "{ 'execute': 'query-migrate' }");
    QDict *info = qdict_get_qdict(reply, "return");
    bool done = !g_strcmp0(qdict_get_try_str(info, "status"), "completed");

    qobject_unref(reply);
    return done;
}

/* A guest that was migrated has asked elsewhere, for all that it has. */
static void test_migrated_guest_is_told_no_more(void)
{
    const char *behind_bridge = "-device edu" BEHIND_BRIDGE "1";
    g_autofree char *device = on_bus("EDU0", "bridge", ",addr=2");
    g_autofree char *path = NULL;
    g_autofree char *uri = NULL;
    g_autofree char *options = NULL;
    Fixture *f = start(behind_bridge);

    close(g_file_open_tmp("vfio-reach-XXXXXX", &path, NULL));
    uri = g_strdup_printf("exec:cat >%s", path);
    options = g_strdup_printf("%s -incoming 'exec:cat %s'", behind_bridge,
                              path);
    check_probe_is_plain(f, BRIDGE_SLOT);
    qtest_qmp_assert_success(f->machine->qts, "{ 'execute': 'migrate',"
                             " 'arguments': { 'uri': %s } }", uri);
    g_assert_true(vfio_rig_wait(is_migrated(f)));
    stop(f);

    f = g_new0(Fixture, 1);
    f->machine = start_machine(options);
    g_assert_true(vfio_rig_wait(is_migrated(f)));
    vfio_fault_ranges(&whole_36_bits, 1);
    check_refused(f, device, "EDU0");
    plug_edu(f, "EDU0");
    stop(f);
    g_unlink(path);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "reach");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }

    if (vfio_rig_iommu()->far) {
        vfio_rig_add("intel/wider-is-refused-at-start", VFIO_RIG_IOMMUFD_ONLY,
                     test_wider_is_refused_at_start);
        vfio_rig_add("intel/wider-is-refused-when-plugged",
                     VFIO_RIG_IOMMUFD_ONLY, test_wider_is_refused_when_plugged);
    } else {
        vfio_rig_add("intel/wider-is-accepted", VFIO_RIG_IOMMUFD_ONLY,
                     test_wider_is_accepted);
    }
    vfio_rig_add("intel/not-wider-is-accepted", VFIO_RIG_IOMMUFD_ONLY,
                 test_not_wider_is_accepted);
    vfio_rig_add("intel/second-device-narrows", VFIO_RIG_IOMMUFD_ONLY,
                 test_second_device_narrows);
    vfio_rig_add("intel/narrow-host-leads-to-virtio", VFIO_RIG_IOMMUFD_ONLY,
                 test_narrow_host_leads_to_virtio);
    vfio_rig_add("virtio/probe-tells", VFIO_RIG_BOTH, test_probe_tells);
    vfio_rig_add("virtio/probe-tells-of-device-that-is-there", VFIO_RIG_BOTH,
                 test_probe_tells_of_device_that_is_there);
    vfio_rig_add("virtio/probe-tells-of-any-host", VFIO_RIG_IOMMUFD_ONLY,
                 test_probe_tells_of_any_host);
    vfio_rig_add("virtio/too-many-are-refused", VFIO_RIG_IOMMUFD_ONLY,
                 test_too_many_are_refused);
    vfio_rig_add("virtio/told-guest-is-told-no-more", VFIO_RIG_IOMMUFD_ONLY,
                 test_told_guest_is_told_no_more);
    vfio_rig_add("virtio/narrower-device-is-refused", VFIO_RIG_IOMMUFD_ONLY,
                 test_narrower_device_is_refused);
    vfio_rig_add("virtio/migrated-guest-is-told-no-more", VFIO_RIG_IOMMUFD_ONLY,
                 test_migrated_guest_is_told_no_more);

    return g_test_run();
}
