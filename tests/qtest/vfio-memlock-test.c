/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what QEMU locks of the guest's memory, and what happens if
 * the kernel does not allow it
 *
 * All of it is locked for DMA.  The QEMUs here lack CAP_IPC_LOCK, so the kernel
 * counts what they lock against RLIMIT_MEMLOCK.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>
#include <linux/iommufd.h>

#include <glib/gstdio.h>

#include "hw/rtc/mc146818rtc_regs.h"
#include "qapi/error.h"
#include "qapi/qmp/qdict.h"
#include "qemu/sockets.h"
#include "standard-headers/linux/virtio_mem.h"
#include "vfio-edu.h"
#include "vfio-guest.h"
#include "vfio-memory.h"
#include "vfio-mtty.h"
#include "vfio-nvme.h"
#include "vfio-viommu.h"

#define SLOT 4
#define NVME_SLOT 5
#define VIOMMU_SLOT 6

#define DIMM_SLOT 0
#define DIMM_ADDR (4 * GiB)
#define DIMM_SIZE (128 * MiB)
#define SMALL_DIMM_SIZE (16 * MiB)

#define MDEV "0a51c7de-4f4e-4a0b-8a53-2c0f0f4e9b11"
#define MDEV_SYSFS "/sys/bus/mdev/devices/" MDEV

/* Where the firmware would put the PIIX4's power management registers */
#define PM_BASE 0x600

/* Bytes: enough for one machine's memory, but not for two */
#define ENOUGH_FOR_ONE (VFIO_MACHINE_MEMORY + 64 * MiB)

static void limit_memlock(pid_t pid, uint64_t bytes)
{
    struct rlimit limit = { bytes, RLIM_INFINITY };

    g_assert_cmpint(prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL), ==, 0);
}

static void check_dma(VFIOMachine *m)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    vfio_edu_check_copy(edu, 0x100000, 0x200000, 0x100);
    vfio_edu_free(edu);
}

/* What QEMU wrote to the log @path, which is removed; to be freed */
static char *take_errors(char *path)
{
    char *text = vfio_rig_log_take(path);

    vfio_rig_log_free(path);
    return text;
}

static void test_start_says_how_much(void)
{
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -m %d -object iommufd,id="
                        VFIO_RIG_IOMMUFD " -device %s,addr=%d",
                        (int)(VFIO_MACHINE_MEMORY / MiB),
                        vfio_rig_device("EDU0"), SLOT);
    g_autofree char *err = NULL;
    int status;

    limit_memlock(0, 64 * MiB);
    status = vfio_rig_run_qemu(options, NULL, &err);
    limit_memlock(0, RLIM_INFINITY);

    vfio_rig_check_refusal(status, err);
    g_assert_nonnull(strstr(err, vfio_rig_address("EDU0")));
    g_assert_nonnull(strstr(err, "257 MiB have to be locked"));
    g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK is 64 MiB"));
    g_assert_nonnull(strstr(err, "ulimit -l"));
}

/* What a QEMU says that refuses to start with @options; to be freed */
static char *refusal(const char *options, uint64_t limit)
{
    g_autofree char *all = g_strdup_printf("-nodefaults %s -object iommufd,id="
                                           VFIO_RIG_IOMMUFD, options);
    char *err;
    int status;

    limit_memlock(0, limit);
    status = vfio_rig_run_qemu(all, NULL, &err);
    limit_memlock(0, RLIM_INFINITY);
    vfio_rig_check_refusal(status, err);
    return err;
}

/* Memory that comes after the device is no other than what comes before it. */
static void test_start_fails_in_any_order(void)
{
    const char *dimm = "-device pc-dimm,memdev=mem0";
    g_autofree char *device = g_strdup_printf("-device %s",
                                              vfio_rig_device("EDU0"));

    for (int i = 0; i < 2; i++) {
        g_autofree char *options =
            g_strdup_printf("-machine pc -m 256,slots=1,maxmem=1G "
                            "-object memory-backend-ram,id=mem0,size=128M "
                            "%s %s", i ? dimm : device, i ? device : dimm);
        g_autofree char *err = refusal(options, 320 * MiB);

        g_assert_nonnull(strstr(err, "385 MiB have to be locked"));
    }
}

/* The firmware's memory, too, is the guest's. */
static void test_figure_counts_all(void)
{
    g_autofree char *options = g_strdup_printf("-machine pc -m 128 -device %s",
                                               vfio_rig_device("EDU0"));
    g_autofree char *err = refusal(options, 128 * MiB);

    g_assert_nonnull(strstr(err, "129 MiB have to be locked"));
    g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK is 128 MiB"));
}

/* Address spaces of two objects share nothing. */
static void test_figure_counts_objects(void)
{
    g_autofree char *options =
        g_strdup_printf("-machine q35 -m 256 "
                        "-device intel-iommu,caching-mode=on "
                        "-object iommufd,id=second "
                        "-device vfio-pci,host=%s,iommufd=second,addr=5 "
                        "-device %s,addr=4", vfio_rig_address("EDU1"),
                        vfio_rig_device("EDU0"));
    g_autofree char *err = refusal(options, 300 * MiB);

    g_assert_nonnull(strstr(err, vfio_rig_address("EDU0")));
    g_assert_nonnull(strstr(err, "513 MiB have to be locked"));
    g_assert_nonnull(strstr(err, "all memory for each of 2 iommufd objects"));
    g_assert_nonnull(strstr(err, "(256 MiB are)"));
    g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK is 300 MiB"));
}

/* Where the guest's IOMMU has memory says nothing of which memory it is. */
static void test_figure_knows_memory_at_any_iova(void)
{
    char *errors = vfio_rig_log_new();
    g_autofree char *text = NULL;
    VFIOMachine *m;
    VIOMMU *viommu;

    limit_memlock(0, 16 * MiB);
    m = vfio_machine_start("-device virtio-iommu-pci,addr=%d,boot-bypass=off "
                           "-device %s,addr=%d 2>>%s", VIOMMU_SLOT,
                           vfio_rig_device("EDU0"), SLOT, errors);
    limit_memlock(0, RLIM_INFINITY);

    viommu = viommu_new(m, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(viommu, 1, VIOMMU_ENDPOINT(SLOT), 0), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmpint(viommu_map(viommu, 1, 64 * GiB, 64 * MiB, 32 * MiB,
                               VIOMMU_READ), ==, VIRTIO_IOMMU_S_OK);
    viommu_free(viommu);
    vfio_machine_stop(m);

    text = take_errors(errors);
    g_assert_nonnull(strstr(text, "257 MiB have to be locked"));
}

/* A guest's IOMMU can map all memory for each device, which is not shared. */
static void test_figure_counts_what_guest_can_map(void)
{
    g_autofree char *first = g_strdup(vfio_rig_device("EDU0"));
    char *errors = vfio_rig_log_new();
    g_autofree char *text = NULL;
    VFIOMachine *m;
    VIOMMU *viommu;

    limit_memlock(0, 48 * MiB);
    m = vfio_machine_start("-device virtio-iommu-pci,addr=%d,boot-bypass=off "
                           "-device %s,addr=%d -device %s,addr=%d 2>>%s",
                           VIOMMU_SLOT, first, SLOT, vfio_rig_device("EDU1"),
                           SLOT + 1, errors);
    limit_memlock(0, RLIM_INFINITY);

    viommu = viommu_new(m, VIOMMU_SLOT);
    for (int i = 0; i < 2; i++) {
        g_assert_cmpint(viommu_attach(viommu, 1, VIOMMU_ENDPOINT(SLOT + i), 0),
                        ==, VIRTIO_IOMMU_S_OK);
    }
    g_assert_cmpint(viommu_map(viommu, 1, 64 * MiB, 64 * MiB, 32 * MiB,
                               VIOMMU_READ), ==, VIRTIO_IOMMU_S_OK);
    viommu_free(viommu);
    vfio_machine_stop(m);

    text = take_errors(errors);
    g_assert_nonnull(strstr(text, "513 MiB have to be locked, all memory 2 "
                            "times, as the guest's IOMMU can map it for each "
                            "device (32 MiB are)"));
}

/* A mediated device alone locks nothing, and the next device locks all. */
static void test_figure_beside_mdev(void)
{
    g_autofree char *device = g_strdup_printf("%s,addr=%d",
                                              vfio_rig_device("EDU0"), SLOT);
    g_autofree char *error = NULL;
    VFIOMachine *m;

    vfio_mtty_create(MDEV);
    m = vfio_machine_start("-device vfio-pci,sysfsdev=" MDEV_SYSFS ",iommufd="
                           VFIO_RIG_IOMMUFD);
    limit_memlock(m->pid, 64 * MiB);
    error = vfio_machine_device_add(m, device);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, vfio_rig_address("EDU0")));
    g_assert_nonnull(strstr(error, "257 MiB have to be locked (0 MiB are), and "
                            "RLIMIT_MEMLOCK is 64 MiB"));

    limit_memlock(m->pid, ENOUGH_FOR_ONE);
    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

static void test_plug_works_with_limit_raised(void)
{
    g_autofree char *device =
        g_strdup_printf("%s,addr=%d", vfio_rig_device("EDU0"), SLOT);
    g_autofree char *reason = NULL;
    VFIOMachine *m;

    limit_memlock(0, 64 * MiB);
    m = vfio_machine_start(" ");
    limit_memlock(0, RLIM_INFINITY);

    reason = vfio_machine_device_add(m, device);
    g_assert_nonnull(reason);
    g_assert_nonnull(strstr(reason, "RLIMIT_MEMLOCK is 64 MiB"));
    g_assert_nonnull(strstr(reason, "raise it, with prlimit --memlock --pid"));
    g_assert_null(strstr(reason, "other processes"));

    limit_memlock(m->pid, ENOUGH_FOR_ONE);
    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
    vfio_machine_stop(m);
}

static bool migration_is_over(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-migrate' }");
    const char *status =
        qdict_get_try_str(qdict_get_qdict(reply, "return"), "status");
    bool over = g_strcmp0(status, "completed") == 0;

    qobject_unref(reply);
    return over;
}

static void plug_dimm(VFIOMachine *m)
{
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
}

static void check_dma_to_dimm(VFIOMachine *m)
{
    VFIONVMe *nvme = vfio_nvme_new(m, NVME_SLOT);

    nvme->memory = DIMM_ADDR;
    vfio_nvme_check_identify(nvme, "rig-nvme0");
    vfio_nvme_free(nvme);
}

static void wait_dimm_error(VFIOMachine *m)
{
    vfio_machine_wait_map_error(m, VFIO_RIG_IOMMUFD, DIMM_ADDR,
                                "385 MiB have to be locked");
}

/* How an error ends that says what leads on */
#define DIMM_LEADS_ON \
    "; cont tries again, and device_del of 'dimm0' takes the memory back"

static void wait_event_only(VFIOMachine *m)
{
    qobject_unref(vfio_machine_map_error(m));
}

/* @command, which would let the guest run, says why it does not. */
static void check_runs_in_vain(VFIOMachine *m, const char *command,
                               const char *state)
{
    g_autofree char *error = vfio_machine_qmp_error(m, command, "");

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "385 MiB have to be locked"));
    g_assert_nonnull(strstr(error, "RLIMIT_MEMLOCK is 320 MiB"));
    g_assert_nonnull(strstr(error, "prlimit --memlock --pid"));
    g_assert_true(g_str_has_suffix(error, DIMM_LEADS_ON));
    vfio_machine_check_run_state(m, state);
}

/* With room for a DIMM, and a limit that has none */
static VFIOMachine *start_limited(const char *options)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + DIMM_SIZE / 2);
    m = vfio_machine_start("-m slots=2,maxmem=1G "
                           "-device %s,addr=%d,id=edu0 "
                           "-device %s,addr=%d,id=nvme0 %s",
                           vfio_rig_device("EDU0"), SLOT,
                           vfio_rig_device("NVME0"), NVME_SLOT, options);
    limit_memlock(0, RLIM_INFINITY);
    return m;
}

/*
 * What a guest's IOMMU maps for a device counts for itself, but it may be little.
 * So a limit that is enough for all memory once is not refused beforehand.
 */
static void test_translated_device_does_not_count(void)
{
    g_autofree char *first = g_strdup(vfio_rig_device("EDU0"));
    VFIOMachine *m;
    VIOMMU *viommu;

    limit_memlock(0, VFIO_MACHINE_MEMORY + DIMM_SIZE + 8 * MiB);
    m = vfio_machine_start("-m slots=2,maxmem=1G "
                           "-device virtio-iommu-pci,addr=%d "
                           "-device %s,addr=%d -device %s,addr=%d", VIOMMU_SLOT,
                           first, SLOT, vfio_rig_device("NVME0"), NVME_SLOT);
    limit_memlock(0, RLIM_INFINITY);
    viommu = viommu_new(m, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(viommu, 1, VIOMMU_ENDPOINT(SLOT), 0), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    vfio_machine_check_run_state(m, "running");
    viommu_free(viommu);
    vfio_machine_stop(m);
}

/* A machine that is stopped because devices cannot reach its DIMM */
static VFIOMachine *start_and_stop_by_dimm(void)
{
    VFIOMachine *m = start_limited("");

    check_dma(m);
    vfio_machine_check_run_state(m, "running");
    plug_dimm(m);
    wait_dimm_error(m);
    check_dma(m);
    check_runs_in_vain(m, "cont", "io-error");
    check_runs_in_vain(m, "cont", "io-error");
    return m;
}

static void raise_limit(VFIOMachine *m)
{
    limit_memlock(m->pid, VFIO_MACHINE_MEMORY + 2 * DIMM_SIZE);
}

static void check_all_is_reached(VFIOMachine *m)
{
    vfio_machine_check_run_state(m, "running");
    check_dma(m);
    check_dma_to_dimm(m);
    vfio_machine_stop(m);
}

static void test_cont_maps_with_limit_raised(void)
{
    VFIOMachine *m = start_and_stop_by_dimm();

    raise_limit(m);
    vfio_machine_cont(m);
    check_all_is_reached(m);
}

static void test_event_names_dimm(void)
{
    VFIOMachine *m = start_limited("");
    QDict *data;

    plug_dimm(m);
    data = vfio_machine_map_error(m);
    g_assert_cmpstr(qdict_get_str(data, "id"), ==, VFIO_RIG_IOMMUFD);
    g_assert_cmpstr(qdict_get_str(data, "memory"), ==, "mem0");
    g_assert_cmpstr(qdict_get_str(data, "qom-path"), ==,
                    "/machine/peripheral/dimm0");
    g_assert_cmphex(vfio_map_error_number(data, "iova"), ==, DIMM_ADDR);
    g_assert_cmphex(vfio_map_error_number(data, "last"), ==,
                    DIMM_ADDR + DIMM_SIZE - 1);
    qobject_unref(data);
    vfio_machine_stop(m);
}

#define ALL_IS_REACHED "reach all of the guest's memory again"

/* Two address spaces, of which only one has room for the DIMM after a while */
static void test_reached_again_is_said_once(void)
{
    g_autofree char *text = NULL;
    char *errors = vfio_rig_log_new();
    const char *said;
    VFIOMachine *m;

    limit_memlock(0, 2 * VFIO_MACHINE_MEMORY + DIMM_SIZE / 2);
    m = vfio_machine_start("-m slots=2,maxmem=1G "
                           "-object iommufd,id=second "
                           "-device vfio-pci,host=%s,iommufd=second,addr=%d "
                           "-device %s,addr=%d 2>>%s",
                           vfio_rig_address("EDU0"), SLOT,
                           vfio_rig_device("NVME0"), NVME_SLOT, errors);
    limit_memlock(0, RLIM_INFINITY);

    plug_dimm(m);
    wait_event_only(m);
    wait_event_only(m);
    qtest_qmp_eventwait(m->qts, "STOP");
    limit_memlock(m->pid, 2 * VFIO_MACHINE_MEMORY + DIMM_SIZE * 3 / 2);
    for (int i = 0; i < 2; i++) {
        g_autofree char *error = vfio_machine_qmp_error(m, "cont", "");

        g_assert_nonnull(error);
    }
    g_assert_true(g_file_get_contents(errors, &text, NULL, NULL));
    g_assert_null(strstr(text, ALL_IS_REACHED));
    g_free(text);

    limit_memlock(m->pid, RLIM_INFINITY);
    vfio_machine_cont(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    vfio_machine_cont(m);
    check_all_is_reached(m);

    text = take_errors(errors);
    said = strstr(text, ALL_IS_REACHED);
    g_assert_nonnull(said);
    g_assert_null(strstr(said + 1, ALL_IS_REACHED));
}

/* Ways to let the guest run */

static void test_cont_after_start_stopped(void)
{
    VFIOMachine *m = start_limited("-S");

    plug_dimm(m);
    wait_event_only(m);
    vfio_machine_check_run_state(m, "prelaunch");
    check_runs_in_vain(m, "cont", "prelaunch");
    raise_limit(m);
    vfio_machine_cont(m);
    check_all_is_reached(m);
}

/* S3, by the PIIX4's registers */
static void suspend(VFIOMachine *m)
{
    QPCIDevice *pm = qpci_device_find(m->pci, QPCI_DEVFN(1, 3));

    g_assert_nonnull(pm);
    qpci_config_writel(pm, 0x40, PM_BASE | 1);
    qpci_config_writeb(pm, 0x80, 1);
    g_free(pm);
    qtest_outw(m->qts, PM_BASE + 4, 1 << 13 | 1 << 10);
    qtest_qmp_eventwait(m->qts, "SUSPEND");
    vfio_machine_check_run_state(m, "suspended");
}

/* What wakes a guest beside system_wakeup */

static void press_key(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'input-send-event',"
                             " 'arguments': { 'events': [ { 'type': 'key',"
                             " 'data': { 'down': true, 'key': {"
                             " 'type': 'qcode', 'data': 'a' } } } ] } }");
}

static bool key_is_pressed(VFIOMachine *m)
{
    return true;
}

static uint8_t read_rtc(VFIOMachine *m, uint8_t reg)
{
    qtest_outb(m->qts, 0x70, reg);
    return qtest_inb(m->qts, 0x71);
}

static void write_rtc(VFIOMachine *m, uint8_t reg, uint8_t value)
{
    qtest_outb(m->qts, 0x70, reg);
    qtest_outb(m->qts, 0x71, value);
}

/* At the next second, whichever it is; the PIIX4 lets it wake the guest. */
static void set_alarm(VFIOMachine *m)
{
    qtest_outw(m->qts, PM_BASE + 2, 1 << 10);
    write_rtc(m, RTC_SECONDS_ALARM, 0xc0);
    write_rtc(m, RTC_MINUTES_ALARM, 0xc0);
    write_rtc(m, RTC_HOURS_ALARM, 0xc0);
    write_rtc(m, RTC_REG_B, REG_B_AIE | REG_B_24H);
    read_rtc(m, RTC_REG_C);
}

static bool alarm_has_rung(VFIOMachine *m)
{
    return read_rtc(m, RTC_REG_C) & REG_C_AF;
}

/* Each wakes a guest, but none while devices miss memory: nobody is told. */
static void test_no_key_or_alarm_wakes(void)
{
    static const struct {
        void (*begin)(VFIOMachine *m);
        bool (*is_done)(VFIOMachine *m);
    } wake[] = {
        { press_key, key_is_pressed },
        { set_alarm, alarm_has_rung },
    };

    for (int i = 0; i < ARRAY_SIZE(wake); i++) {
        char *errors = vfio_rig_log_new();
        g_autofree char *options = g_strdup_printf("2>>%s", errors);
        g_autofree char *text = NULL;
        VFIOMachine *m = start_limited(options);

        suspend(m);
        wake[i].begin(m);
        qtest_qmp_eventwait(m->qts, "WAKEUP");
        vfio_machine_check_run_state(m, "running");

        suspend(m);
        plug_dimm(m);
        wait_event_only(m);
        g_free(vfio_rig_log_take(errors));
        for (int tries = 0; tries < 2; tries++) {
            wake[i].begin(m);
            g_assert_true(vfio_rig_wait(wake[i].is_done(m)));
            vfio_machine_check_run_state(m, "suspended");
            raise_limit(m);
        }
        text = vfio_rig_log_take(errors);
        g_assert_cmpstr(text, ==, "");

        qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_wakeup' }");
        qtest_qmp_eventwait(m->qts, "WAKEUP");
        check_all_is_reached(m);
        g_free(take_errors(errors));
    }
}

static void test_wakeup(void)
{
    VFIOMachine *m = start_limited("");

    suspend(m);
    plug_dimm(m);
    wait_event_only(m);
    check_runs_in_vain(m, "system_wakeup", "suspended");
    check_runs_in_vain(m, "cont", "suspended");
    raise_limit(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_wakeup' }");
    qtest_qmp_eventwait(m->qts, "WAKEUP");
    check_all_is_reached(m);
}

/* What was suspended comes up anew. */
static void test_reset_while_suspended(void)
{
    VFIOMachine *m = start_limited("");

    suspend(m);
    plug_dimm(m);
    wait_event_only(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(m->qts, "RESET");
    check_runs_in_vain(m, "cont", "prelaunch");
    raise_limit(m);
    vfio_machine_cont(m);
    vfio_machine_stop(m);
}

static void test_end_of_migration(void)
{
    g_autofree char *file = g_strdup_printf("/tmp/vfio-stream-%d", getpid());
    g_autofree char *to = g_strdup_printf("exec:cat >%s", file);
    g_autofree char *from = g_strdup_printf("exec:cat <%s", file);
    VFIOMachine *m = vfio_machine_start("-m slots=2,maxmem=1G");

    plug_dimm(m);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate', 'arguments': "
                             "{ 'uri': %s } }", to);
    qtest_qmp_eventwait(m->qts, "STOP");
    g_assert_true(vfio_rig_wait(migration_is_over(m)));
    vfio_machine_stop(m);

    m = start_limited("-incoming defer");
    plug_dimm(m);
    wait_event_only(m);
    vfio_machine_check_run_state(m, "inmigrate");
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-incoming', "
                             "'arguments': { 'uri': %s } }", from);
    g_assert_true(vfio_rig_wait(migration_is_over(m)));
    check_runs_in_vain(m, "cont", "io-error");
    raise_limit(m);
    vfio_machine_cont(m);
    check_all_is_reached(m);
    g_unlink(file);
}

/* gdb's packet @text, and how the answer begins */
static void check_gdb(int gdb, const char *text, const char *answer)
{
    g_autofree char *packet = NULL;
    GString *got = g_string_new(NULL);
    uint8_t sum = 0;
    char c;

    for (const char *p = text; *p; p++) {
        sum += *p;
    }
    packet = g_strdup_printf("$%s#%02x", text, sum);
    g_assert_cmpint(write(gdb, packet, strlen(packet)), ==, strlen(packet));
    while (!strchr(got->str, '#')) {
        g_assert_cmpint(read(gdb, &c, 1), ==, 1);
        g_string_append_c(got, c);
    }
    g_test_message("gdb got %s", got->str);
    g_assert_nonnull(strstr(got->str, answer));
    g_assert_cmpint(write(gdb, "+", 1), ==, 1);
    g_string_free(got, true);
}

/* SIGIO is what gdb gets for "io-error"; it can debug TCG and KVM only. */
static void test_gdb(void)
{
    g_autofree char *path = g_strdup_printf("/tmp/vfio-gdb-%d", getpid());
    g_autofree char *options =
        g_strdup_printf("-accel tcg -S "
                        "-chardev socket,id=gdb,path=%s,server=on,wait=off "
                        "-gdb chardev:gdb", path);
    VFIOMachine *m = start_limited(options);
    int gdb = unix_connect(path, &error_abort);

    check_gdb(gdb, "?", "$T05");
    plug_dimm(m);
    wait_event_only(m);
    check_gdb(gdb, "c", "$T17");
    vfio_machine_check_run_state(m, "io-error");
    check_gdb(gdb, "vCont;c", "$T17");
    check_gdb(gdb, "vCont;s:1", "$T17");
    vfio_machine_check_run_state(m, "io-error");
    raise_limit(m);
    check_gdb(gdb, "vCont;s:1", "$T05");
    vfio_machine_check_run_state(m, "debug");
    vfio_machine_stop(m);
    close(gdb);
}

/* Taking the memory back */

/*
 * What the guest was told of it has to be asked for; it cannot answer now, and
 * QEMU keeps it.
 */
static void test_only_missing_dimm_is_taken_back(void)
{
    VFIOMachine *m = start_limited("");

    g_assert_null(vfio_memory_plug(m, "pc-dimm", 1, "memory-backend-ram",
                                   SMALL_DIMM_SIZE));
    vfio_machine_check_run_state(m, "running");
    plug_dimm(m);
    qtest_qmp_eventwait(m->qts, "STOP");

    g_assert_null(vfio_memory_ask_back(m, 1));
    g_assert_nonnull(vfio_memory_drop(m, 1));
    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    g_assert_null(vfio_memory_drop(m, DIMM_SLOT));
    g_assert_nonnull(vfio_memory_drop(m, 1));
    vfio_machine_cont(m);
    check_dma(m);
    vfio_machine_stop(m);
}

/* What QEMU never takes back is not offered. */
static void test_nvdimm_stays(void)
{
    VFIOMachine *m = start_limited("-machine nvdimm=on");
    g_autofree char *error = NULL;
    QDict *event;
    const char *reason;

    g_assert_null(vfio_memory_plug(m, "nvdimm", DIMM_SLOT,
                                   "memory-backend-ram", DIMM_SIZE));
    event = qtest_qmp_eventwait_ref(m->qts, "IOMMUFD_MAP_ERROR");
    reason = qdict_get_str(qdict_get_qdict(event, "data"), "reason");
    g_test_message("%s", reason);
    g_assert_true(g_str_has_suffix(reason, "; cont tries again"));
    qobject_unref(event);
    qtest_qmp_eventwait(m->qts, "STOP");

    error = vfio_machine_qmp_error(m, "cont", "");
    g_assert_nonnull(error);
    g_assert_true(g_str_has_suffix(error, "; cont tries again"));
    g_assert_nonnull(vfio_memory_ask_back(m, DIMM_SLOT));
    raise_limit(m);
    vfio_machine_cont(m);
    vfio_machine_stop(m);
}

/* A real guest, which nobody helps to let something go */
static VFIOMachine *start_guest(const char *console)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + DIMM_SIZE / 2);
    m = vfio_machine_start(VFIO_GUEST_OPTIONS
                           " -m slots=2,maxmem=1G -device %s,id=nvme0 "
                           "-append 'console=ttyS0 quiet panic=-1 "
                           "memhp_default_state=online task=alive' "
                           "-serial file:%s", vfio_rig_device("NVME0"),
                           console);
    limit_memlock(0, RLIM_INFINITY);
    return m;
}

static void test_guest_goes_on_without_dimm(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest(console);
    uint64_t memory_kib = vfio_guest_wait_alive(console), ignored;
    int lines;

    plug_dimm(m);
    wait_dimm_error(m);
    lines = vfio_guest_alive_lines(console, &ignored);
    g_usleep(2 * G_USEC_PER_SEC);
    g_assert_cmpint(vfio_guest_alive_lines(console, &ignored), ==, lines);

    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    g_assert_null(vfio_memory_drop(m, DIMM_SLOT));
    vfio_machine_cont(m);
    g_assert_cmpuint(vfio_guest_wait_alive(console), ==, memory_kib);

    raise_limit(m);
    plug_dimm(m);
    memory_kib += DIMM_SIZE / KiB / 2;
    g_assert_true(vfio_rig_wait_for(
        120, vfio_guest_wait_alive(console) >= memory_kib));
    vfio_machine_stop(m);
    vfio_rig_log_free(console);
}

static void drop_dimm(VFIOMachine *m)
{
    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    g_assert_null(vfio_memory_drop(m, DIMM_SLOT));
}

static bool has_device(VFIOMachine *m, const char *id)
{
    g_autofree char *path = g_strdup_printf("path=%s,property=type", id);
    g_autofree char *error = vfio_machine_qmp_error(m, "qom-get", path);

    return !error;
}

/*
 * The guest uses the device and has to let it go, which it can do when it runs
 * again.  Until then the device is the VM's, and misses the memory.
 */
static void test_guest_lets_device_go_once_it_runs(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest(console);

    vfio_guest_wait_alive(console);
    plug_dimm(m);
    wait_dimm_error(m);
    g_assert_null(vfio_machine_qmp_error(m, "device_del", "id=nvme0"));
    check_runs_in_vain(m, "cont", "io-error");
    g_assert_true(has_device(m, "nvme0"));

    drop_dimm(m);
    vfio_machine_cont(m);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    g_assert_false(has_device(m, "nvme0"));
    g_assert_true(vfio_rig_wait(vfio_guest_says(console, "guest: alive 0 ")));

    /* nor is there a device then that anything could be missing for */
    plug_dimm(m);
    vfio_machine_check_run_state(m, "running");
    vfio_machine_stop(m);
    vfio_rig_log_free(console);
}

#define ON_DISK "/vfio-memlock"

/* The rig's own file system is an ext4. */
static void make_file_on_disk(void)
{
    int fd;

    g_assert_cmpint(mount(NULL, "/", NULL, MS_REMOUNT, NULL), ==, 0);
    fd = open(ON_DISK, O_RDWR | O_CREAT, 0600);
    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, SMALL_DIMM_SIZE), ==, 0);
    close(fd);
}

/*
 * A reset brings nothing that could be mapped, and takes nothing away: the
 * guest has still not seen the DIMM, and it can be taken back.
 */
static void test_guest_goes_on_after_reset(void)
{
    char *console = vfio_rig_log_new();
    VFIOMachine *m = start_guest(console);
    uint64_t memory_kib = vfio_guest_wait_alive(console);
    g_autofree char *error = NULL;

    make_file_on_disk();
    g_assert_null(vfio_memory_plug(m, "pc-dimm", DIMM_SLOT,
                                   "memory-backend-file,share=on,mem-path="
                                   ON_DISK, SMALL_DIMM_SIZE));
    qtest_qmp_eventwait(m->qts, "STOP");
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(m->qts, "RESET");
    error = vfio_machine_qmp_error(m, "cont", "");
    g_assert_nonnull(error);
    g_test_message("%s", error);
    g_assert_nonnull(strstr(error, "use share=off"));
    g_assert_true(g_str_has_suffix(error, DIMM_LEADS_ON));

    drop_dimm(m);
    vfio_machine_cont(m);
    g_assert_cmpuint(vfio_guest_wait_alive(console), ==, memory_kib);
    vfio_machine_stop(m);
    g_unlink(ON_DISK);
    vfio_rig_log_free(console);
}

/*
 * Memory that is gone need not be mapped.  The guest, which is stopped, has no
 * part in it.
 */
static void test_cont_works_without_dimm(void)
{
    VFIOMachine *m = start_and_stop_by_dimm();

    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
    g_assert_null(vfio_memory_drop(m, DIMM_SLOT));
    vfio_machine_cont(m);
    check_dma(m);

    limit_memlock(m->pid, VFIO_MACHINE_MEMORY + 2 * DIMM_SIZE);
    plug_dimm(m);
    vfio_machine_check_run_state(m, "running");
    check_dma_to_dimm(m);
    vfio_machine_stop(m);
}

/* No device is left that should reach it. */
static void test_cont_works_without_devices(void)
{
    VFIOMachine *m = start_and_stop_by_dimm();

    vfio_machine_device_del(m, "edu0", SLOT);
    vfio_machine_device_del(m, "nvme0", NVME_SLOT);
    vfio_machine_cont(m);
    vfio_machine_stop(m);
}

/* virtio-mem */

#define VMEM_SLOT 6
#define VMEM_ID "vmem0"

/* With a virtio-mem device that offers as much as there is without it */
static VFIOMachine *start_with_vmem(const char *options, const char *errors,
                                    VFIOVirtioMem **vmem)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + DIMM_SIZE / 2);
    m = vfio_machine_start("-m maxmem=1G %s "
                           "-object memory-backend-ram,id=mem0,size=%"PRIu64" "
                           "-device virtio-mem-pci,id=" VMEM_ID ",addr=%d,"
                           "memdev=mem0,block-size=64M 2>>%s", options,
                           VFIO_MACHINE_MEMORY, VMEM_SLOT, errors);
    limit_memlock(0, RLIM_INFINITY);

    *vmem = vfio_virtio_mem_new(m, VMEM_SLOT);
    vfio_virtio_mem_offer(*vmem, VMEM_ID, VFIO_MACHINE_MEMORY);
    return m;
}

/* What virtio-mem has plugged already is memory as any other. */
static void test_attach_reaches_virtio_mem(void)
{
    g_autofree char *device =
        g_strdup_printf("%s,addr=%d,id=nvme0", vfio_rig_device("NVME0"),
                        NVME_SLOT);
    g_autofree char *error = NULL, *text = NULL, *before = NULL, *after = NULL;
    char *errors = vfio_rig_log_new();
    VFIOVirtioMem *vmem;
    VFIOMachine *m = start_with_vmem("", errors, &vmem);
    VFIONVMe *nvme;

    g_assert_cmpint(vfio_virtio_mem_plug(vmem, 0, vmem->num_blocks), ==,
                    VIRTIO_MEM_RESP_ACK);
    before = vfio_machine_state(m);
    error = vfio_machine_device_add(m, device);
    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, "513 MiB have to be locked"));
    g_assert_nonnull(strstr(error, "RLIMIT_MEMLOCK is 320 MiB"));
    after = vfio_machine_state(m);
    g_assert_cmpstr(before, ==, after);

    limit_memlock(m->pid, 2 * ENOUGH_FOR_ONE);
    g_assert_null(vfio_machine_device_add(m, device));
    nvme = vfio_nvme_new(m, NVME_SLOT);
    nvme->memory = vmem->addr + VFIO_MACHINE_MEMORY - 64 * KiB;
    vfio_nvme_check_identify(nvme, "rig-nvme0");
    vfio_nvme_free(nvme);
    vfio_virtio_mem_free(vmem);
    vfio_machine_stop(m);

    text = take_errors(errors);
    g_assert_cmpstr(text, ==, "");
}

static void test_virtio_mem_grows_or_says_why_not(void)
{
    g_autofree char *device = g_strdup_printf("-device %s,addr=%d",
                                              vfio_rig_device("EDU0"), SLOT);
    g_autofree char *text = NULL;
    char *errors = vfio_rig_log_new();
    VFIOVirtioMem *vmem;
    VFIOMachine *m = start_with_vmem(device, errors, &vmem);
    int64_t start = g_get_monotonic_time();
    int seconds;

    for (int i = 0; i < 10; i++) {
        g_assert_cmpint(vfio_virtio_mem_plug(vmem, 0, 2), ==,
                        VIRTIO_MEM_RESP_BUSY);
    }
    seconds = (g_get_monotonic_time() - start) / G_USEC_PER_SEC;
    vfio_machine_check_run_state(m, "running");
    limit_memlock(m->pid, 2 * ENOUGH_FOR_ONE);
    g_assert_cmpint(vfio_virtio_mem_plug(vmem, 0, 2), ==, VIRTIO_MEM_RESP_ACK);
    check_dma(m);
    vfio_virtio_mem_free(vmem);
    vfio_machine_stop(m);

    text = take_errors(errors);
    g_assert_nonnull(strstr(text, "RLIMIT_MEMLOCK is 320 MiB"));
    g_assert_cmpint(vfio_rig_count_lines(text), <=, 1 + seconds);
}

static void test_memory_that_can_be_locked_is_plugged(void)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + 2 * DIMM_SIZE);
    m = vfio_machine_start("-m slots=1,maxmem=1G -device %s,addr=%d",
                           vfio_rig_device("EDU0"), SLOT);
    limit_memlock(0, RLIM_INFINITY);

    plug_dimm(m);
    vfio_machine_check_run_state(m, "running");
    check_dma(m);
    vfio_machine_stop(m);
}

/*
 * An ordinary user's QEMUs, which get their descriptors from the test
 *
 * By default the kernel counts all that the user has locked.
 */

/* /dev/iommu with IOMMU_OPTION_RLIMIT_MODE set, as libvirt passes it */
static int open_iommu(bool by_process)
{
    struct iommu_option option = {
        .size = sizeof(option),
        .op = IOMMU_OPTION_OP_SET,
        .option_id = IOMMU_OPTION_RLIMIT_MODE,
        .val64 = by_process,
    };
    int fd = vfio_rig_open("/dev/iommu", O_RDWR);

    g_assert_cmpint(ioctl(fd, IOMMU_OPTION, &option), ==, 0);
    return fd;
}

/* A device whose object uses @iommu, with @options; to be freed */
static char *given_device(const char *name, int iommu, const char *options,
                          int *cdev)
{
    g_autofree char *node = vfio_rig_cdev_node(name);

    *cdev = vfio_rig_open(node, O_RDWR);
    return g_strdup_printf("-object iommufd,id=given,fd=%d%s "
                           "-device vfio-pci,fd=%d,iommufd=given,addr=%d",
                           iommu, options, *cdev, SLOT);
}

static VFIOMachine *start_ordinary(const char *name, int iommu, uint64_t limit)
{
    int cdev;
    g_autofree char *device = given_device(name, iommu, "", &cdev);
    VFIOMachine *m;

    limit_memlock(0, limit);
    vfio_rig_be_ordinary();
    m = vfio_machine_start("%s", device);
    vfio_rig_be_root();
    limit_memlock(0, RLIM_INFINITY);
    close(cdev);
    return m;
}

/* The error of an ordinary user's QEMU that refuses to start; to be freed */
static char *refusal_to_ordinary(const char *name, int iommu,
                                 const char *object_options, uint64_t limit)
{
    int cdev;
    g_autofree char *device = given_device(name, iommu, object_options, &cdev);
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -m %d %s",
                        (int)(VFIO_MACHINE_MEMORY / MiB), device);
    char *err;
    int status;

    limit_memlock(0, limit);
    vfio_rig_be_ordinary();
    status = vfio_rig_run_qemu(options, NULL, &err);
    vfio_rig_be_root();
    limit_memlock(0, RLIM_INFINITY);

    close(cdev);
    vfio_rig_check_refusal(status, err);
    return err;
}

static void test_ordinary_user(void)
{
    int iommu = open_iommu(false);
    g_autofree char *err = refusal_to_ordinary("EDU0", iommu, "", 64 * MiB);
    VFIOMachine *m;

    g_assert_nonnull(strstr(err, "257 MiB have to be locked"));
    g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK is 64 MiB"));
    g_assert_nonnull(strstr(err, "ulimit -l"));

    m = start_ordinary("EDU0", iommu, ENOUGH_FOR_ONE);
    check_dma(m);
    vfio_machine_stop(m);
    close(iommu);
}

/* The limit is the user's, and has room for one VM's memory. */
static void test_user_counts_both(void)
{
    int first = open_iommu(false), second = open_iommu(false);
    VFIOMachine *m = start_ordinary("EDU0", first, ENOUGH_FOR_ONE);
    g_autofree char *err = refusal_to_ordinary("EDU1", second, "",
                                               ENOUGH_FOR_ONE);

    g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK"));
    /* in the message's own line */
    *strchrnul(err, '\n') = 0;
    g_assert_nonnull(strstr(err, "other processes of this user"));
    g_assert_nonnull(strstr(err, "memlock-accounting=process"));
    check_dma(m);
    vfio_machine_stop(m);
    close(first);
    close(second);
}

static void test_process_counts_its_own(void)
{
    int first = open_iommu(true), second = open_iommu(true);
    VFIOMachine *m = start_ordinary("EDU0", first, ENOUGH_FOR_ONE);
    VFIOMachine *other = start_ordinary("EDU1", second, ENOUGH_FOR_ONE);

    check_dma(m);
    check_dma(other);
    vfio_machine_stop(other);
    vfio_machine_stop(m);
    close(first);
    close(second);
}

/* There is nothing to change, so it needs no privilege. */
static void test_already_as_wanted(void)
{
    int cdev, iommu = open_iommu(true);
    g_autofree char *device =
        given_device("EDU0", iommu, ",memlock-accounting=process", &cdev);
    VFIOMachine *m;

    vfio_rig_be_ordinary();
    m = vfio_machine_start("%s", device);
    vfio_rig_be_root();
    check_dma(m);
    vfio_machine_stop(m);
    close(cdev);
    close(iommu);
}

static void test_not_privileged(void)
{
    int iommu = open_iommu(false);
    g_autofree char *err =
        refusal_to_ordinary("EDU0", iommu, ",memlock-accounting=process",
                            RLIM_INFINITY);

    g_assert_nonnull(strstr(err, vfio_rig_address("EDU0")));
    g_assert_nonnull(strstr(err, "memlock-accounting=process: Operation not "
                            "permitted"));
    g_assert_nonnull(strstr(err, "CAP_SYS_RESOURCE"));
    close(iommu);
}

/* Once an iommufd has an object in it, the mode cannot change. */
static void test_too_late(void)
{
    struct iommu_ioas_alloc alloc = {
        .size = sizeof(alloc),
    };
    int iommu = open_iommu(false);
    g_autofree char *object =
        g_strdup_printf("qom-type=iommufd,id=late,fd=%d,"
                        "memlock-accounting=process", iommu);
    g_autofree char *device =
        g_strdup_printf("vfio-pci,host=%s,iommufd=late",
                        vfio_rig_address("EDU0"));
    g_autofree char *error = NULL;
    VFIOMachine *m = vfio_machine_start(" ");

    g_assert_cmpint(ioctl(iommu, IOMMU_IOAS_ALLOC, &alloc), ==, 0);
    g_assert_null(vfio_machine_qmp_error(m, "object-add", object));
    error = vfio_machine_device_add(m, device);
    g_assert_nonnull(strstr(error, "busy"));
    g_assert_nonnull(strstr(error, "set this before"));
    g_assert_null(vfio_machine_qmp_error(m, "object-del", "id=late"));
    vfio_machine_stop(m);
    close(iommu);
}

/* In a user namespace of its own, as a container of an ordinary user has */

/*
 * Instead of QEMU; the maps of a namespace are written from outside.  A shell,
 * since a process with threads, as this one is, makes no user namespace.
 */
static const char in_namespace[] =
    "#!/bin/sh\n"
    "mkfifo /tmp/ns.$$.made /tmp/ns.$$.mapped\n"
    "unshare -U sh -c 'echo >$0.made; read -r _ <$0.mapped; exec \"$@\"' "
    "/tmp/ns.$$ \"$VFIO_TEST_QEMU\" \"$@\" &\n"
    "read -r _ </tmp/ns.$$.made\n"
    "echo \"$VFIO_TEST_MAP\" >/proc/$!/uid_map\n"
    "echo \"$VFIO_TEST_MAP\" >/proc/$!/gid_map\n"
    "echo >/tmp/ns.$$.mapped\n"
    "wait $!\n";

/* What a QEMU says whose users and groups are mapped by @map; to be freed */
static char *refusal_in_namespace(const char *map)
{
    g_autofree char *qemu = g_strdup(g_getenv("QTEST_QEMU_BINARY"));
    g_autofree char *options = g_strdup_printf("-machine pc -m 256 -device %s",
                                               vfio_rig_device("EDU0"));
    g_autofree char *name = g_path_get_basename(qemu);
    g_autofree char *dir = g_dir_make_tmp("vfio-memlock-XXXXXX", NULL);
    g_autofree char *script = g_build_filename(dir, name, NULL);
    char *err;

    g_assert_true(g_file_set_contents(script, in_namespace, -1, NULL));
    g_assert_cmpint(g_chmod(script, 0700), ==, 0);
    g_setenv("VFIO_TEST_QEMU", qemu, true);
    g_setenv("VFIO_TEST_MAP", map, true);
    g_setenv("QTEST_QEMU_BINARY", script, true);
    err = refusal(options, 64 * MiB);
    g_setenv("QTEST_QEMU_BINARY", qemu, true);
    g_unlink(script);
    g_rmdir(dir);
    return err;
}

/* There QEMU has the capability, and the kernel does not look at it. */
static void test_capability_of_namespace_does_not_count(void)
{
    const char *maps[] = { "0 0 1", "0 0 4294967295" };

    for (int i = 0; i < ARRAY_SIZE(maps); i++) {
        g_autofree char *err = refusal_in_namespace(maps[i]);

        g_test_message("%s: %s", maps[i], err);
        g_assert_nonnull(strstr(err, "257 MiB have to be locked"));
        g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK is 64 MiB"));
    }
}

/* A control group that has too little memory for what is to be locked */

#define CGROUPS "/sys/fs/cgroup"
#define CGROUP CGROUPS "/full"

static void enter_cgroup(const char *group)
{
    g_autofree char *procs = g_strdup_printf("%s/cgroup.procs", group);

    vfio_rig_write(procs, "0");
}

static void make_cgroup(uint64_t bytes)
{
    g_autofree char *text = g_strdup_printf("%"PRIu64, bytes);

    g_assert_cmpint(mount("cgroup2", CGROUPS, "cgroup2", 0, NULL), ==, 0);
    vfio_rig_write(CGROUPS "/cgroup.subtree_control", "+memory");
    g_assert_cmpint(g_mkdir(CGROUP, 0755), ==, 0);
    vfio_rig_write(CGROUP "/memory.max", text);
}

static void remove_cgroup(void)
{
    g_assert_true(vfio_rig_wait(g_rmdir(CGROUP) == 0));
    g_assert_cmpint(umount(CGROUPS), ==, 0);
}

/*
 * The kernel ends whoever asks for more, so QEMU cannot say anything.  The
 * device is the host's again.
 */
static void test_full_control_group_ends_qemu(void)
{
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -m 256 %s -device %s",
                        vfio_rig_iommufd() ? "-object iommufd,id="
                        VFIO_RIG_IOMMUFD : "", vfio_rig_device("EDU0"));
    g_autofree char *err = NULL;
    g_autofree char *events = NULL;
    int status;
    VFIOMachine *m;

    make_cgroup(128 * MiB);
    enter_cgroup(CGROUP);
    status = vfio_rig_run_qemu(options, NULL, &err);
    enter_cgroup(CGROUPS);
    g_test_message("%s", err);
    g_assert_cmpint(status, ==, -1);
    g_assert_true(g_file_get_contents(CGROUP "/memory.events", &events, NULL,
                                      NULL));
    g_assert_nonnull(strstr(events, "oom_kill 1"));
    remove_cgroup();

    m = vfio_machine_start("-device %s,addr=%d", vfio_rig_device("EDU0"),
                           SLOT);
    check_dma(m);
    vfio_machine_stop(m);
}

/* KiB that the kernel counts as locked by the process itself */
static uint64_t locked_with(const char *accounting)
{
    VFIOMachine *m =
        vfio_machine_start("-object iommufd,id=chosen%s "
                           "-device vfio-pci,host=%s,iommufd=chosen,addr=%d",
                           accounting, vfio_rig_address("EDU0"), SLOT);
    uint64_t kib = vfio_machine_status(m, "VmLck");

    check_dma(m);
    vfio_machine_stop(m);
    return kib;
}

static void test_set_by_qemu(void)
{
    g_assert_cmpint(locked_with(""), ==, 0);
    g_assert_cmpint(locked_with(",memlock-accounting=user"), ==, 0);
    g_assert_cmpint(locked_with(",memlock-accounting=process"), >=,
                    VFIO_MACHINE_MEMORY / KiB);
}

/* The list of them */

static void add_figure_tests(void)
{
    vfio_rig_add("figure/counts-all", VFIO_RIG_IOMMUFD_ONLY,
                 test_figure_counts_all);
    vfio_rig_add("figure/counts-objects", VFIO_RIG_IOMMUFD_ONLY,
                 test_figure_counts_objects);
    vfio_rig_add("figure/counts-what-guest-can-map", VFIO_RIG_IOMMUFD_ONLY,
                 test_figure_counts_what_guest_can_map);
    vfio_rig_add("figure/beside-mdev", VFIO_RIG_IOMMUFD_ONLY,
                 test_figure_beside_mdev);
    vfio_rig_add("figure/knows-memory-at-any-iova", VFIO_RIG_IOMMUFD_ONLY,
                 test_figure_knows_memory_at_any_iova);
}

static void add_runs_tests(void)
{
    vfio_rig_add("runs/cont-after-start-stopped", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_after_start_stopped);
    vfio_rig_add("runs/wakeup", VFIO_RIG_IOMMUFD_ONLY, test_wakeup);
    vfio_rig_add("runs/no-key-or-alarm-wakes", VFIO_RIG_IOMMUFD_ONLY,
                 test_no_key_or_alarm_wakes);
    vfio_rig_add("runs/reset-while-suspended", VFIO_RIG_IOMMUFD_ONLY,
                 test_reset_while_suspended);
    vfio_rig_add("runs/end-of-migration", VFIO_RIG_IOMMUFD_ONLY,
                 test_end_of_migration);
    vfio_rig_add("runs/gdb", VFIO_RIG_IOMMUFD_ONLY, test_gdb);
}

static void add_accounting_tests(void)
{
    vfio_rig_add("accounting/user-counts-both", VFIO_RIG_IOMMUFD_ONLY,
                 test_user_counts_both);
    vfio_rig_add("accounting/process-counts-its-own", VFIO_RIG_IOMMUFD_ONLY,
                 test_process_counts_its_own);
    vfio_rig_add("accounting/already-as-wanted", VFIO_RIG_IOMMUFD_ONLY,
                 test_already_as_wanted);
    vfio_rig_add("accounting/not-privileged", VFIO_RIG_IOMMUFD_ONLY,
                 test_not_privileged);
    vfio_rig_add("accounting/too-late", VFIO_RIG_IOMMUFD_ONLY, test_too_late);
    vfio_rig_add("accounting/set-by-qemu", VFIO_RIG_IOMMUFD_ONLY,
                 test_set_by_qemu);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "memlock");
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);
    limit_memlock(0, RLIM_INFINITY);

    vfio_rig_add("start-says-how-much", VFIO_RIG_IOMMUFD_ONLY,
                 test_start_says_how_much);
    vfio_rig_add("start-fails-in-any-order", VFIO_RIG_IOMMUFD_ONLY,
                 test_start_fails_in_any_order);
    add_figure_tests();
    vfio_rig_add("attach-reaches-virtio-mem", VFIO_RIG_IOMMUFD_ONLY,
                 test_attach_reaches_virtio_mem);
    vfio_rig_add("translated-device-does-not-count", VFIO_RIG_IOMMUFD_ONLY,
                 test_translated_device_does_not_count);
    vfio_rig_add("virtio-mem-grows-or-says-why-not", VFIO_RIG_IOMMUFD_ONLY,
                 test_virtio_mem_grows_or_says_why_not);
    vfio_rig_add("plug-works-with-limit-raised", VFIO_RIG_IOMMUFD_ONLY,
                 test_plug_works_with_limit_raised);
    vfio_rig_add("cont-maps-with-limit-raised", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_maps_with_limit_raised);
    vfio_rig_add("event-names-dimm", VFIO_RIG_IOMMUFD_ONLY,
                 test_event_names_dimm);
    vfio_rig_add("reached-again-is-said-once", VFIO_RIG_IOMMUFD_ONLY,
                 test_reached_again_is_said_once);
    add_runs_tests();
    vfio_rig_add("only-missing-dimm-is-taken-back", VFIO_RIG_IOMMUFD_ONLY,
                 test_only_missing_dimm_is_taken_back);
    vfio_rig_add("nvdimm-stays", VFIO_RIG_IOMMUFD_ONLY, test_nvdimm_stays);
    vfio_rig_add("guest-goes-on-without-dimm", VFIO_RIG_IOMMUFD_ONLY,
                 test_guest_goes_on_without_dimm);
    vfio_rig_add("guest-lets-device-go-once-it-runs", VFIO_RIG_IOMMUFD_ONLY,
                 test_guest_lets_device_go_once_it_runs);
    vfio_rig_add("guest-goes-on-after-reset", VFIO_RIG_IOMMUFD_ONLY,
                 test_guest_goes_on_after_reset);
    vfio_rig_add("cont-works-without-dimm", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_works_without_dimm);
    vfio_rig_add("cont-works-without-devices", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_works_without_devices);
    vfio_rig_add("memory-that-can-be-locked-is-plugged", VFIO_RIG_BOTH,
                 test_memory_that_can_be_locked_is_plugged);
    vfio_rig_add("ordinary-user", VFIO_RIG_IOMMUFD_ONLY, test_ordinary_user);
    vfio_rig_add("capability-of-namespace-does-not-count",
                 VFIO_RIG_IOMMUFD_ONLY,
                 test_capability_of_namespace_does_not_count);
    vfio_rig_add("full-control-group-ends-qemu", VFIO_RIG_BOTH,
                 test_full_control_group_ends_qemu);
    add_accounting_tests();

    return g_test_run();
}
