/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: memory of the host's that fails while devices have it
 *
 * The host's kernel takes the page out of use and tells QEMU.  A reset gives
 * the guest other pages, where there are any.
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "vfio-edu.h"
#include "vfio-guest.h"
#include "vfio-memory.h"
#include "vfio-nvme.h"

#define SLOT 4
#define NVME_SLOT 5
#define VIOMMU_SLOT 6

#define DIMM_SLOT 0
#define DIMM_ADDR (4 * GiB)
#define DIMM_SIZE (128 * MiB)

#define BROKEN_IN_DIMM (DIMM_ADDR + 3 * MiB)
#define BROKEN_IN_RAM (64 * MiB)

#define HUGE_PAGES "/sys/kernel/mm/transparent_hugepage/enabled"

/* The devices */

static void check_dma_to(VFIOMachine *m, uint32_t addr)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    vfio_edu_check_copy(edu, addr, 0x200000, 0x100);
    vfio_edu_check_copy(edu, 0x200000, addr, 0x100);
    vfio_edu_free(edu);
}

static void check_dma(VFIOMachine *m)
{
    check_dma_to(m, 0x400000);
}

/* The NVMe has its queues there, and writes. */
static void check_dma_of_nvme(VFIOMachine *m, uint64_t addr)
{
    VFIONVMe *nvme = vfio_nvme_new(m, NVME_SLOT);

    nvme->memory = addr;
    vfio_nvme_check_identify(nvme, "rig-nvme0");
    vfio_nvme_free(nvme);
}

/* Pages */

/* Where the host has the page of the guest's memory at @addr */
static uint64_t host_page(VFIOMachine *m, uint64_t addr)
{
    g_autofree char *command = g_strdup_printf("gpa2hpa 0x%"PRIx64, addr);
    g_autofree char *answer = vfio_machine_monitor(m, command);
    const char *found = strstr(answer, ") is 0x");

    g_assert_nonnull(found);
    return g_ascii_strtoull(found + strlen(") is "), NULL, 16);
}

/*
 * As when the hardware tells the host's kernel, which tells QEMU.  A page of a
 * file stays there while a device has it: EBUSY.
 */
static void break_page(VFIOMachine *m, uint64_t addr)
{
    g_autofree char *text = g_strdup_printf("0x%"PRIx64, host_page(m, addr));
    int fd = vfio_rig_open("/sys/devices/system/memory/hard_offline_page",
                           O_WRONLY);

    if (write(fd, text, strlen(text)) < 0) {
        g_assert_cmpint(errno, ==, EBUSY);
    }
    close(fd);
    qtest_qmp_eventwait(m->qts, "MEMORY_FAILURE");
}

/*
 * Only with KVM does QEMU expect such memory.  Nothing runs, so that nothing
 * touches the page.  The kernel takes no page out of a huge one that is pinned.
 */
static VFIOMachine *start_on_kvm(const char *options)
{
    VFIOMachine *m;

    vfio_rig_write(HUGE_PAGES, "never");
    m = vfio_machine_start("-S -accel kvm -m slots=2,maxmem=1G %s "
                           "-device %s,addr=%d,id=edu0 "
                           "-device %s,addr=%d,id=nvme0", options,
                           vfio_rig_device("EDU0"), SLOT,
                           vfio_rig_device("NVME0"), NVME_SLOT);
    vfio_rig_write(HUGE_PAGES, "always");
    return m;
}

/*
 * Who does not touch it goes on.  But once all devices are gone, none that comes
 * later can have it, until it is gone as well.
 */
static void test_broken_page_hurts_nothing_else(void)
{
    VFIOMachine *m;
    g_autofree char *device = NULL;
    g_autofree char *error = NULL;

    m = start_on_kvm("-cpu host,xsave=off,mce=off");
    vfio_rig_write(HUGE_PAGES, "never");
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    vfio_rig_write(HUGE_PAGES, "always");
    break_page(m, BROKEN_IN_DIMM);
    vfio_machine_check_run_state(m, "prelaunch");
    check_dma(m);
    check_dma_of_nvme(m, DIMM_ADDR);

    vfio_machine_device_del(m, "nvme0", NVME_SLOT);
    vfio_machine_device_del(m, "edu0", SLOT);
    device = g_strdup_printf("%s,addr=%d,id=edu0", vfio_rig_device("EDU0"),
                             SLOT);
    error = vfio_machine_device_add(m, device);
    g_test_message("%s", error);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "Bad address"));
    if (vfio_rig_iommufd()) {
        g_assert_nonnull(strstr(error, "memory 'mem0' (memory-backend-ram, "
                                "pages of 4 KiB): a page of it may be "
                                "poisoned"));
    }

    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    vfio_memory_eject(m, DIMM_SLOT);
    g_assert_null(vfio_memory_drop(m, DIMM_SLOT));
    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
    vfio_machine_stop(m);
}

/* A guest that uses 208 MiB, and whose memory above that may break */

#define UNUSED 0xe000000

static VFIOMachine *start_guest(const char *console, const char *options)
{
    VFIOMachine *m;

    vfio_rig_write(HUGE_PAGES, "never");
    m = vfio_machine_start(VFIO_GUEST_OPTIONS
                           " -append 'console=ttyS0 panic=-1 mem=208M "
                           "task=alive' -serial file:%s "
                           "-m slots=1,maxmem=1G -device %s,addr=%d,id=edu0 "
                           "-device %s,addr=%d,id=nvme0 %s", console,
                           vfio_rig_device("EDU0"), SLOT,
                           vfio_rig_device("NVME0"), NVME_SLOT, options);
    vfio_rig_write(HUGE_PAGES, "always");
    vfio_guest_wait_alive(console);
    return m;
}

/* What it makes of that is its own matter. */
static void test_guest_is_told_of_broken_page(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest(console, "");

    break_page(m, UNUSED);
    g_assert_true(vfio_rig_wait(vfio_guest_says(console, "ADDR e000000")));
    vfio_machine_check_run_state(m, "running");
    vfio_machine_stop(m);
    vfio_rig_log_free(console);
}

static void stop_and_reset(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_reset' }");
}

/* Several pages of one piece of memory, and one of another */
static void test_reset_replaces_all_broken_pages(void)
{
    static const uint64_t broken[] = {
        UNUSED, UNUSED + 5 * MiB, UNUSED + 6 * MiB, BROKEN_IN_DIMM,
    };
    char *console = vfio_rig_log_new();
    VFIOMachine *m =
        start_guest(console, "-object memory-backend-ram,id=mem0,size=128M "
                    "-device pc-dimm,memdev=mem0");
    uint64_t before[ARRAY_SIZE(broken)];

    for (int i = 0; i < ARRAY_SIZE(broken); i++) {
        before[i] = host_page(m, broken[i]);
        break_page(m, broken[i]);
    }
    stop_and_reset(m);
    qtest_qmp_eventwait(m->qts, "RESET");
    for (int i = 0; i < ARRAY_SIZE(broken); i++) {
        g_assert_cmphex(host_page(m, broken[i]), !=, before[i]);
        if (broken[i] < DIMM_ADDR) {
            check_dma_to(m, broken[i]);
        } else {
            check_dma_of_nvme(m, broken[i]);
        }
    }
    vfio_machine_cont(m);
    vfio_machine_stop(m);
    vfio_rig_log_free(console);
}

/* What is replaced is reached, although something else is not. */
static void test_one_page_stays_broken(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m =
        start_guest(console, "-object memory-backend-memfd,id=mem0,size=128M,"
                    "share=on -device pc-dimm,memdev=mem0,id=dimm0");
    g_autofree char *error = NULL;
    QDict *data;

    break_page(m, BROKEN_IN_DIMM);
    break_page(m, UNUSED);
    stop_and_reset(m);
    data = vfio_machine_map_error(m);
    qtest_qmp_eventwait(m->qts, "RESET");
    g_assert_cmpstr(qdict_get_str(data, "qom-path"), ==,
                    "/machine/peripheral/dimm0");
    qobject_unref(data);
    check_dma_to(m, UNUSED);
    error = vfio_machine_qmp_error(m, "cont", "");
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "a page of it may be poisoned"));
    vfio_machine_check_run_state(m, "prelaunch");
    vfio_machine_stop(m);
    vfio_rig_log_free(console);
}

/* A machine without a guest */

/* A guest that handles no machine check is reset, and gets another page. */
static void test_reset_replaces_broken_page(void)
{
    VFIOMachine *m = start_on_kvm("-cpu host,xsave=off");
    uint64_t broken = host_page(m, BROKEN_IN_RAM);

    break_page(m, BROKEN_IN_RAM);
    qtest_qmp_eventwait(m->qts, "RESET");
    g_assert_cmphex(host_page(m, BROKEN_IN_RAM), !=, broken);
    check_dma_to(m, BROKEN_IN_RAM);
    vfio_machine_cont(m);
    vfio_machine_stop(m);
}

/* Neither of two address spaces copies the old page from the other. */
static void test_reset_replaces_shared_page(void)
{
    VFIOMachine *m = start_on_kvm("-cpu host,xsave=off "
                                  "-device virtio-iommu-pci,addr="
                                  stringify(VIOMMU_SLOT));

    g_assert_cmpuint(vfio_machine_status(m, "VmPin"), <,
                     2 * VFIO_MACHINE_MEMORY / KiB);
    break_page(m, BROKEN_IN_RAM);
    qtest_qmp_eventwait(m->qts, "RESET");
    check_dma_to(m, BROKEN_IN_RAM);
    check_dma_of_nvme(m, BROKEN_IN_RAM);
    vfio_machine_cont(m);
    vfio_machine_stop(m);
}

/* One that comes later is given what the other one has, broken as it is. */
static void test_broken_page_is_shared(void)
{
    VFIOMachine *m = start_on_kvm("-cpu host,xsave=off,mce=off "
                                  "-device virtio-iommu-pci,addr="
                                  stringify(VIOMMU_SLOT));
    g_autofree char *device = g_strdup_printf("%s,addr=%d,id=edu0",
                                              vfio_rig_device("EDU0"), SLOT);

    break_page(m, BROKEN_IN_RAM);
    vfio_machine_device_del(m, "edu0", SLOT);
    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
    check_dma_of_nvme(m, 0x800000);
    vfio_machine_stop(m);
}

/* What is in a file has no other page. */
static void test_page_that_stays_broken_stops_vm(void)
{
    VFIOMachine *m =
        start_on_kvm("-cpu host,xsave=off -machine memory-backend=mem "
                     "-object memory-backend-memfd,id=mem,size=256M,share=on");
    g_autofree char *error = NULL;
    QDict *data;

    break_page(m, BROKEN_IN_RAM);
    data = vfio_machine_map_error(m);
    qtest_qmp_eventwait(m->qts, "RESET");
    g_test_message("%s", qdict_get_str(data, "reason"));
    qobject_unref(data);
    error = vfio_machine_qmp_error(m, "cont", "");
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "a page of it may be poisoned"));
    vfio_machine_check_run_state(m, "prelaunch");
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "broken-page");

    vfio_rig_add("hurts-nothing-else", VFIO_RIG_BOTH,
                 test_broken_page_hurts_nothing_else);
    vfio_rig_add("guest-is-told", VFIO_RIG_BOTH,
                 test_guest_is_told_of_broken_page);
    vfio_rig_add("is-replaced-by-reset", VFIO_RIG_IOMMUFD_ONLY,
                 test_reset_replaces_broken_page);
    vfio_rig_add("is-replaced-where-it-is-shared", VFIO_RIG_IOMMUFD_ONLY,
                 test_reset_replaces_shared_page);
    vfio_rig_add("is-shared-with-who-comes-later", VFIO_RIG_IOMMUFD_ONLY,
                 test_broken_page_is_shared);
    vfio_rig_add("stops-vm-if-it-stays", VFIO_RIG_IOMMUFD_ONLY,
                 test_page_that_stays_broken_stops_vm);
    vfio_rig_add("all-are-replaced-by-reset", VFIO_RIG_IOMMUFD_ONLY,
                 test_reset_replaces_all_broken_pages);
    vfio_rig_add("one-that-stays-stops-vm", VFIO_RIG_IOMMUFD_ONLY,
                 test_one_page_stays_broken);
    return g_test_run();
}
