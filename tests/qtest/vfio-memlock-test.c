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
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>
#include <linux/iommufd.h>

#include "qapi/qmp/qdict.h"
#include "vfio-edu.h"
#include "vfio-memory.h"
#include "vfio-nvme.h"

#define SLOT 4
#define NVME_SLOT 5

#define DIMM_SLOT 0
#define DIMM_ADDR (4 * GiB)
#define DIMM_SIZE (128 * MiB)

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
    g_assert_nonnull(strstr(err, "256 MiB have to be locked"));
    g_assert_nonnull(strstr(err, "RLIMIT_MEMLOCK is 64 MiB"));
    g_assert_nonnull(strstr(err, "ulimit -l"));
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

    limit_memlock(m->pid, ENOUGH_FOR_ONE);
    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
    vfio_machine_stop(m);
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
                                "384 MiB have to be locked, and "
                                "RLIMIT_MEMLOCK is 320 MiB");
}

static void cont_in_vain(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
    wait_dimm_error(m);
}

/* A machine that is stopped because devices cannot reach its DIMM */
static VFIOMachine *start_and_stop_by_dimm(void)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + DIMM_SIZE / 2);
    m = vfio_machine_start("-m slots=1,maxmem=1G "
                           "-device %s,addr=%d,id=edu0 "
                           "-device %s,addr=%d,id=nvme0",
                           vfio_rig_device("EDU0"), SLOT,
                           vfio_rig_device("NVME0"), NVME_SLOT);
    limit_memlock(0, RLIM_INFINITY);

    check_dma(m);
    vfio_machine_check_run_state(m, "running");
    plug_dimm(m);
    wait_dimm_error(m);
    check_dma(m);
    cont_in_vain(m);
    cont_in_vain(m);
    return m;
}

static void test_cont_maps_with_limit_raised(void)
{
    VFIOMachine *m = start_and_stop_by_dimm();

    limit_memlock(m->pid, VFIO_MACHINE_MEMORY + 2 * DIMM_SIZE);
    vfio_machine_cont(m);
    check_dma(m);
    check_dma_to_dimm(m);
    vfio_machine_stop(m);
}

/* Memory that is gone need not be mapped. */
static void test_cont_works_without_dimm(void)
{
    VFIOMachine *m = start_and_stop_by_dimm();

    g_assert_null(vfio_memory_ask_back(m, DIMM_SLOT));
    vfio_memory_eject(m, DIMM_SLOT);
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

    g_assert_nonnull(strstr(err, "256 MiB have to be locked"));
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
    g_assert_null(vfio_machine_qmp_error(m, "object-del", "id=late"));
    vfio_machine_stop(m);
    close(iommu);
}

/* KiB that the kernel counts as locked by the process itself */
static long locked_kib(VFIOMachine *m)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/status", m->pid);
    g_autofree char *text = NULL;
    const char *line;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    line = strstr(text, "VmLck:");
    g_assert_nonnull(line);
    return atol(line + strlen("VmLck:"));
}

static long locked_with(const char *accounting)
{
    VFIOMachine *m =
        vfio_machine_start("-object iommufd,id=chosen%s "
                           "-device vfio-pci,host=%s,iommufd=chosen,addr=%d",
                           accounting, vfio_rig_address("EDU0"), SLOT);
    long kib = locked_kib(m);

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

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "memlock");
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);
    limit_memlock(0, RLIM_INFINITY);

    vfio_rig_add("start-says-how-much", VFIO_RIG_IOMMUFD_ONLY,
                 test_start_says_how_much);
    vfio_rig_add("plug-works-with-limit-raised", VFIO_RIG_IOMMUFD_ONLY,
                 test_plug_works_with_limit_raised);
    vfio_rig_add("cont-maps-with-limit-raised", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_maps_with_limit_raised);
    vfio_rig_add("cont-works-without-dimm", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_works_without_dimm);
    vfio_rig_add("cont-works-without-devices", VFIO_RIG_IOMMUFD_ONLY,
                 test_cont_works_without_devices);
    vfio_rig_add("memory-that-can-be-locked-is-plugged", VFIO_RIG_BOTH,
                 test_memory_that_can_be_locked_is_plugged);
    vfio_rig_add("ordinary-user", VFIO_RIG_IOMMUFD_ONLY, test_ordinary_user);
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

    return g_test_run();
}
