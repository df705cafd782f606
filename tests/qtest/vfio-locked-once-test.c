/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: memory that several address spaces of one object share
 *
 * The guest has an IOMMU that lets everything pass, so each device has an
 * address space with all of the guest's memory.  The kernel pins it once.  What
 * each device reaches is looked up in the page table of the rig's own IOMMU,
 * page by page, and tried by DMA.
 */
#include "qemu/osdep.h"
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>

#include "hw/pci/pci_regs.h"
#include "qapi/qmp/qdict.h"
#include "standard-headers/linux/virtio_mem.h"
#include "vfio-edu.h"
#include "vfio-mtty.h"
#include "vfio-nvme.h"
#include "vfio-scene.h"
#include "vfio-viommu.h"
#include "vfio-vtd.h"

#define MEMORY          (128 * MiB)

#define VIOMMU_SLOT     3
#define SLOT(i)         (4 + (i))
#define VMEM_SLOT       9

#define DIMM_SLOT       0
#define DIMM_ADDR       (4 * GiB)
#define DIMM_SIZE       (64 * MiB)

/* A guest's IOMMU that nobody has switched on */
#define INTEL           "-machine q35 -device intel-iommu,caching-mode=on "
#define VIRTIO          "-device virtio-iommu-pci,addr=" \
                        stringify(VIOMMU_SLOT) " "

/* Firmware and the like, and what the kernel needs */
#define A_LITTLE        (2 * MiB)

#define FIRMWARE        (256 * KiB)

/* Each has a group of its own; the last one is an NVMe. */
static const char *const names[] = { "EDU0", "EDU1", "EDU2", "NVME0" };
#define NVME            3

static void limit_memlock(pid_t pid, uint64_t bytes)
{
    struct rlimit limit = { bytes, RLIM_INFINITY };

    g_assert_cmpint(prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL), ==, 0);
}

/* KiB */
static uint64_t pinned(VFIOMachine *m)
{
    return vfio_machine_status(m, "VmPin");
}

static char *device(int i)
{
    return g_strdup_printf("%s,id=dev%d,addr=%d", vfio_rig_device(names[i]), i,
                           SLOT(i));
}

/* A machine with the first @count devices */
static VFIOMachine *start(const char *options, int count)
{
    g_autoptr(GString) text = g_string_new(options);

    for (int i = 0; i < count; i++) {
        g_autofree char *option = device(i);

        g_string_append_printf(text, " -device %s", option);
    }
    return vfio_machine_start("-m %dM %s", (int)(MEMORY / MiB), text->str);
}

static void plug(VFIOMachine *m, int i)
{
    g_autofree char *option = device(i);

    g_assert_null(vfio_machine_device_add(m, option));
}

static void unplug(VFIOMachine *m, int i)
{
    g_autofree char *id = g_strdup_printf("dev%d", i);
    g_autofree char *node = vfio_rig_cdev_node(names[i]);

    vfio_machine_device_del(m, id, SLOT(i));
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
}

/* What one device alone has pinned of such a machine's memory, KiB */
static uint64_t pinned_by_one(const char *options)
{
    VFIOMachine *m = start(options, 1);
    uint64_t kib = pinned(m);

    vfio_machine_stop(m);
    g_assert_cmpuint(kib, >=, MEMORY / KiB);
    g_assert_cmpuint(kib, <=, (MEMORY + A_LITTLE) / KiB);
    return kib;
}

/*
 * All memory is pinned, and none twice; @more KiB came to it.  Only firmware can
 * be pinned more than once, as it is at two places, and parts of it come and go.
 */
static void check_pinned(VFIOMachine *m, uint64_t once, uint64_t more)
{
    g_assert_cmpuint(pinned(m), >=, MEMORY / KiB + more);
    g_assert_cmpuint(pinned(m), <=, once + more + FIRMWARE / KiB);
}

/* What a device reaches */

/*
 * The BAR is there no longer than that.  "info mtree -f", which check_pages()
 * uses, does not let go of what it has shown, and so keeps the BAR's device.
 */
static void check_dma(VFIOMachine *m, int i)
{
    if (i == NVME) {
        VFIONVMe *nvme = vfio_nvme_new(m, SLOT(i));

        nvme->memory = MEMORY - MiB;
        vfio_nvme_check_identify(nvme, "rig-nvme0");
        vfio_nvme_free(nvme);
    } else {
        VFIOEdu *edu = vfio_edu_new(m, SLOT(i));

        vfio_edu_check_copy(edu, MiB, MEMORY - EDU_DMA_MAX - 16,
                            EDU_DMA_MAX);
        vfio_edu_check_copy(edu, MEMORY / 2 - 0x800, 2 * MiB, EDU_DMA_MAX);
        vfio_edu_free(edu);
    }
    vfio_memory_command(m, SLOT(i), 0);
}

/* All of the guest's memory, and the pages that QEMU has there */
static void check_pages(VFIOMachine *m, int i, VFIOVirtioMem *vmem)
{
    VFIOScene scene = { .device = names[i], .machine = m, .vmem = vmem };
    g_autofree char *wrong =
        vfio_scene_wrong(&scene, vfio_machine_regions(m, NULL));

    g_assert_cmpstr(wrong, ==, NULL);
    g_array_unref(scene.pages);
    g_array_unref(scene.regions);
}

static void check_reaches_all(VFIOMachine *m, int i)
{
    check_pages(m, i, NULL);
    check_dma(m, i);
}

static void check_reaches_nothing(int i)
{
    g_autoptr(GArray) pages = vfio_mapped_pages(names[i]);

    g_assert_cmpuint(pages->len, ==, 0);
}

static int copies(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "iommufd_backend_copy_dma");
}

/* Devices from the start */

static void check_pinned_once(const char *options)
{
    uint64_t once = pinned_by_one(options);

    for (int count = 2; count <= ARRAY_SIZE(names); count += 2) {
        VFIOMachine *m = start(options, count);

        g_assert_cmpuint(pinned(m), >=, MEMORY / KiB);
        g_assert_cmpuint(pinned(m), <=, once);
        g_assert_cmpint(copies(m), >, 0);
        for (int i = 0; i < count; i++) {
            check_reaches_all(m, i);
        }
        check_pinned(m, once, 0);
        vfio_machine_stop(m);
    }
}

static void test_behind_intel_iommu(void)
{
    check_pinned_once(INTEL);
}

static void test_behind_virtio_iommu(void)
{
    check_pinned_once(VIRTIO);
}

/* The same memory at two places, as firmware is, does not count as another. */
static void test_one_device_copies_nothing(void)
{
    VFIOMachine *m = start(INTEL, 1);

    g_assert_cmpint(copies(m), ==, 0);
    vfio_machine_stop(m);
}

static void test_limit_for_one_suffices(void)
{
    VFIOMachine *m;

    limit_memlock(0, MEMORY + A_LITTLE);
    m = start(INTEL, ARRAY_SIZE(names));
    limit_memlock(0, RLIM_INFINITY);

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        check_dma(m, i);
    }
    vfio_machine_stop(m);
}

/* Two objects know nothing of each other. */
static void test_objects_share_nothing(void)
{
    uint64_t once = pinned_by_one(INTEL);
    VFIOMachine *m;
    g_autofree char *options =
        g_strdup_printf(INTEL "-object iommufd,id=other -device vfio-pci,"
                        "host=%s,iommufd=other,addr=8",
                        vfio_rig_address("EDU1"));

    m = start(options, 1);
    g_assert_cmpuint(pinned(m), ==, 2 * once);
    check_reaches_all(m, 0);
    vfio_machine_stop(m);
}

/* Devices that go and come */

static void check_left(VFIOMachine *m, const bool *there, uint64_t once)
{
    bool any = false;

    for (int i = 0; i < 3; i++) {
        if (there[i]) {
            check_reaches_all(m, i);
            any = true;
        }
    }
    if (any) {
        check_pinned(m, once, 0);
    } else {
        g_assert_cmpuint(pinned(m), ==, 0);
    }
}

/* Whoever goes, the others keep the memory, and whoever comes shares it. */
static void test_any_order_of_unplugs(void)
{
    static const int orders[][3] = {
        { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
        { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 },
    };
    uint64_t once = pinned_by_one(VIRTIO);
    VFIOMachine *m = start(VIRTIO, 3);

    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        const int *order = orders[i];
        bool there[3] = { true, true, true };

        for (int j = 0; j < 3; j++) {
            unplug(m, order[j]);
            there[order[j]] = false;
            check_left(m, there, once);
        }
        for (int j = 0; j < 3; j++) {
            plug(m, order[j]);
            there[order[j]] = true;
            check_pinned(m, once, 0);
        }
    }
    vfio_machine_stop(m);
}

/* The memory outlives the one that mapped it, over and over. */
static void test_memory_is_handed_on(void)
{
    uint64_t once = pinned_by_one(VIRTIO);
    VFIOMachine *m = start(VIRTIO, 1);

    for (int i = 0; i < 8; i++) {
        plug(m, (i + 1) % 2);
        check_pinned(m, once, 0);
        unplug(m, i % 2);
        check_pinned(m, once, 0);
        check_reaches_all(m, (i + 1) % 2);
    }
    vfio_machine_stop(m);
}

/* Memory that comes and goes */

#define ROOM "-m slots=2,maxmem=1G "

static void plug_dimm(VFIOMachine *m)
{
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
}

static void unplug_dimm(VFIOMachine *m)
{
    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    vfio_memory_eject(m, DIMM_SLOT);
    g_assert_null(vfio_memory_drop(m, DIMM_SLOT));
}

static void test_dimm(void)
{
    uint64_t once = pinned_by_one(VIRTIO);
    VFIOMachine *m = start(ROOM VIRTIO, 2);

    for (int i = 0; i < 2; i++) {
        plug_dimm(m);
        check_pinned(m, once, DIMM_SIZE / KiB);
        check_reaches_all(m, 0);
        check_reaches_all(m, 1);
        plug(m, 2);
        check_pinned(m, once, DIMM_SIZE / KiB);
        check_reaches_all(m, 2);
        unplug(m, 2);

        unplug_dimm(m);
        check_pinned(m, once, 0);
        check_reaches_all(m, 0);
        check_reaches_all(m, 1);
    }
    vfio_machine_stop(m);
}

static void change_blocks(VFIOVirtioMem *vmem, uint64_t block, int count,
                          bool plugs)
{
    g_assert_cmpint((plugs ? vfio_virtio_mem_plug
                           : vfio_virtio_mem_unplug)(vmem, block, count), ==,
                    VIRTIO_MEM_RESP_ACK);
}

static void check_blocks(VFIOMachine *m, VFIOVirtioMem *vmem, uint64_t once,
                         int blocks)
{
    check_pinned(m, once, blocks * vmem->block_size / KiB);
    check_pages(m, 0, vmem);
    check_pages(m, 1, vmem);
}

/* With holes, and with a device that comes while there are some */
static void test_virtio_mem(void)
{
    uint64_t once = pinned_by_one(VIRTIO);
    VFIOMachine *m =
        start(ROOM VIRTIO "-object memory-backend-ram,id=" VFIO_SCENE_VMEM
              ",size=64M -device virtio-mem-pci,addr=" stringify(VMEM_SLOT)
              ",id=mem,memdev=" VFIO_SCENE_VMEM, 2);
    VFIOVirtioMem *vmem = vfio_virtio_mem_new(m, VMEM_SLOT);

    vfio_virtio_mem_offer(vmem, "mem", 64 * MiB);
    change_blocks(vmem, 0, 9, true);
    check_blocks(m, vmem, once, 9);
    change_blocks(vmem, 12, 4, true);
    change_blocks(vmem, 3, 2, false);
    change_blocks(vmem, 0, 1, false);
    check_blocks(m, vmem, once, 10);

    plug(m, 2);
    check_pages(m, 2, vmem);
    check_blocks(m, vmem, once, 10);
    unplug(m, 0);
    change_blocks(vmem, 3, 2, true);
    plug(m, 0);
    check_pages(m, 2, vmem);
    check_blocks(m, vmem, once, 12);

    g_assert_cmpint(vfio_virtio_mem_unplug_all(vmem), ==, VIRTIO_MEM_RESP_ACK);
    check_blocks(m, vmem, once, 0);
    vfio_virtio_mem_free(vmem);
    vfio_machine_stop(m);
}

/* A DIMM that nobody can have: all is as with one address space. */
static void test_dimm_beyond_limit(void)
{
    uint64_t once = pinned_by_one(VIRTIO);
    g_autofree char *error = NULL;
    VFIOMachine *m;

    limit_memlock(0, MEMORY + DIMM_SIZE / 2);
    m = start(ROOM VIRTIO, 2);
    limit_memlock(0, RLIM_INFINITY);

    plug_dimm(m);
    for (int i = 0; i < 2; i++) {
        QDict *data = vfio_machine_map_error(m);
        const char *reason = qdict_get_str(data, "reason");

        g_test_message("%s", reason);
        g_assert_nonnull(strstr(reason, "193 MiB have to be locked (128 MiB"));
        g_assert_nonnull(strstr(reason, "RLIMIT_MEMLOCK is 160 MiB"));
        g_assert_null(strstr(reason, "other processes"));
        qobject_unref(data);
    }
    qtest_qmp_eventwait(m->qts, "STOP");
    error = vfio_machine_qmp_error(m, "cont", "");
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "193 MiB have to be locked"));
    check_dma(m, 0);
    check_dma(m, 1);

    limit_memlock(m->pid, MEMORY + DIMM_SIZE + A_LITTLE);
    vfio_machine_cont(m);
    check_pinned(m, once, DIMM_SIZE / KiB);
    check_reaches_all(m, 0);
    check_reaches_all(m, 1);
    vfio_machine_stop(m);
}

/* The guest switches its IOMMU on, and off again */

#define DOMAIN      1
#define PASSING     2
#define RW          (VIOMMU_READ | VIOMMU_WRITE)

static void attach(VIOMMU *viommu, int i, uint32_t domain)
{
    g_assert_cmpint(viommu_attach(viommu, domain, VIOMMU_ENDPOINT(SLOT(i)),
                                  domain == PASSING ?
                                  VIRTIO_IOMMU_ATTACH_F_BYPASS : 0), ==,
                    VIRTIO_IOMMU_S_OK);
}

/* A page that the guest maps for a device is locked for that device. */
static void check_map(VFIOMachine *m, VIOMMU *viommu, int devices)
{
    uint64_t before = pinned(m);

    g_assert_cmpint(viommu_map(viommu, DOMAIN, MiB, 64 * MiB, VIOMMU_PAGE, RW),
                    ==, VIRTIO_IOMMU_S_OK);
    g_assert_cmpuint(pinned(m), ==, before + devices * VIOMMU_PAGE / KiB);
    g_assert_cmpint(viommu_unmap(viommu, DOMAIN, MiB, VIOMMU_PAGE), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmpuint(pinned(m), ==, before);
}

static void test_virtio_iommu_on_and_off(void)
{
    uint64_t once = pinned_by_one(VIRTIO);
    VFIOMachine *m = start(VIRTIO, 2);
    VIOMMU *viommu = viommu_new(m, VIOMMU_SLOT);

    for (int first = 0; first < 2; first++) {
        int second = !first;

        attach(viommu, first, DOMAIN);
        check_reaches_nothing(first);
        check_reaches_all(m, second);
        check_pinned(m, once, 0);
        check_map(m, viommu, 1);

        attach(viommu, second, DOMAIN);
        check_reaches_nothing(second);
        g_assert_cmpuint(pinned(m), ==, 0);
        check_map(m, viommu, 2);

        attach(viommu, first, PASSING);
        check_reaches_all(m, first);
        check_pinned(m, once, 0);
        attach(viommu, second, PASSING);
        check_reaches_all(m, second);
        check_pinned(m, once, 0);
    }
    viommu_free(viommu);
    vfio_machine_stop(m);
}

static void test_intel_iommu_on_and_off(void)
{
    uint64_t once = pinned_by_one(INTEL);
    VFIOMachine *m = start(INTEL, 2);

    for (int i = 0; i < 2; i++) {
        vtd_start(m, SLOT(i));
        check_reaches_nothing(0);
        check_reaches_nothing(1);
        g_assert_cmpuint(pinned(m), ==, 0);

        vtd_set_large(m, 32 * MiB);
        vtd_flush(m);
        g_assert_cmpuint(pinned(m), ==, VTD_LARGE_PAGE / KiB);

        vtd_stop(m);
        check_reaches_all(m, 0);
        check_reaches_all(m, 1);
        check_pinned(m, once, 0);
    }
    vfio_machine_stop(m);
}

/* The guest reboots with it on: then it is off. */
static void test_reset(void)
{
    uint64_t once = pinned_by_one(INTEL);
    VFIOMachine *m = start(INTEL, 2);

    for (int i = 0; i < 2; i++) {
        vtd_start(m, SLOT(i));
        g_assert_cmpuint(pinned(m), ==, 0);
        vfio_machine_reset(m);
        check_reaches_all(m, 0);
        check_reaches_all(m, 1);
        check_pinned(m, once, 0);
    }
    vfio_machine_stop(m);
}

/* A mediated device: what is mapped for it alone is not pinned */

#define MDEV        "7d0f3a52-53a9-4a57-a6f0-6c1f7b0e1a01"
#define MDEV_SYSFS  "/sys/bus/mdev/devices/" MDEV
#define MDEV_OPTION "vfio-pci,sysfsdev=" MDEV_SYSFS ",iommufd=" VFIO_RIG_IOMMUFD

/* The devices behind it have one address space. */
#define BRIDGE      "-device pci-bridge,id=br,chassis_nr=1,addr=8 "

static void create_mdev(void)
{
    vfio_mtty_create(MDEV);
}

static void remove_mdev(void)
{
    vfio_mtty_remove(MDEV);
}

/*
 * EDU0 has its address space together with the mdev, and EDU1 has one of its
 * own; whichever comes first, the memory is the same.
 */
static void test_beside_mdev(void)
{
    g_autofree char *edu0 = g_strdup_printf("%s,bus=br",
                                            vfio_rig_device("EDU0"));
    g_autofree char *edu1 = device(1);
    const char *const mdev = MDEV_OPTION ",bus=br";
    const char *orders[][3] = {
        { mdev, edu1, edu0 }, { edu1, mdev, edu0 },
        { mdev, edu0, edu1 }, { edu0, mdev, edu1 },
    };
    uint64_t once = pinned_by_one(VIRTIO BRIDGE);

    create_mdev();
    for (int i = 0; i < ARRAY_SIZE(orders); i++) {
        g_autofree char *options =
            g_strdup_printf(VIRTIO BRIDGE "-device %s -device %s -device %s",
                            orders[i][0], orders[i][1], orders[i][2]);
        VFIOMachine *m = start(options, 0);

        check_pinned(m, once, 0);
        check_pages(m, 0, NULL);
        check_reaches_all(m, 1);
        vfio_machine_stop(m);
    }
    remove_mdev();
}

/*
 * A guest can get back a page that the balloon has discarded, and that such an
 * mdev has pinned.  So nobody copies what is mapped for it.
 */
static void test_beside_mdev_with_balloon(void)
{
    g_autofree char *edu1 = device(1);
    g_autofree char *options =
        g_strdup_printf(VIRTIO "-device " MDEV_OPTION ",x-balloon-allowed=on,"
                        "addr=8 -device %s", edu1);
    VFIOMachine *m;

    create_mdev();
    m = start(options, 0);
    g_assert_cmpint(copies(m), ==, 0);
    check_reaches_all(m, 1);
    vfio_machine_stop(m);
    remove_mdev();
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "locked-once");
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);
    limit_memlock(0, RLIM_INFINITY);

    vfio_rig_add("behind-intel-iommu", VFIO_RIG_IOMMUFD_ONLY,
                 test_behind_intel_iommu);
    vfio_rig_add("behind-virtio-iommu", VFIO_RIG_IOMMUFD_ONLY,
                 test_behind_virtio_iommu);
    vfio_rig_add("one-device-copies-nothing", VFIO_RIG_IOMMUFD_ONLY,
                 test_one_device_copies_nothing);
    vfio_rig_add("limit-for-one-suffices", VFIO_RIG_IOMMUFD_ONLY,
                 test_limit_for_one_suffices);
    vfio_rig_add("objects-share-nothing", VFIO_RIG_IOMMUFD_ONLY,
                 test_objects_share_nothing);
    vfio_rig_add("any-order-of-unplugs", VFIO_RIG_IOMMUFD_ONLY,
                 test_any_order_of_unplugs);
    vfio_rig_add("memory-is-handed-on", VFIO_RIG_IOMMUFD_ONLY,
                 test_memory_is_handed_on);
    vfio_rig_add("dimm", VFIO_RIG_IOMMUFD_ONLY, test_dimm);
    vfio_rig_add("virtio-mem", VFIO_RIG_IOMMUFD_ONLY, test_virtio_mem);
    vfio_rig_add("dimm-beyond-limit", VFIO_RIG_IOMMUFD_ONLY,
                 test_dimm_beyond_limit);
    vfio_rig_add("virtio-iommu-on-and-off", VFIO_RIG_IOMMUFD_ONLY,
                 test_virtio_iommu_on_and_off);
    vfio_rig_add("intel-iommu-on-and-off", VFIO_RIG_IOMMUFD_ONLY,
                 test_intel_iommu_on_and_off);
    vfio_rig_add("reset", VFIO_RIG_IOMMUFD_ONLY, test_reset);
    vfio_rig_add("beside-mdev", VFIO_RIG_IOMMUFD_ONLY, test_beside_mdev);
    vfio_rig_add("beside-mdev-with-balloon", VFIO_RIG_IOMMUFD_ONLY,
                 test_beside_mdev_with_balloon);
    return g_test_run();
}
