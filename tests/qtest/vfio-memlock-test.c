/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What happens when the kernel does not let QEMU lock the guest's memory
 *
 * All of it is locked for DMA.  The QEMUs here lack CAP_IPC_LOCK, so that the
 * kernel counts what they lock against RLIMIT_MEMLOCK.
 */
#include "qemu/osdep.h"
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>

#include "qapi/qmp/qdict.h"
#include "vfio-edu.h"

#define SLOT 4
#define DIMM_MIB 128

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

static char *run_state(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-status' }");
    char *state =
        g_strdup(qdict_get_str(qdict_get_qdict(reply, "return"), "status"));

    qobject_unref(reply);
    return state;
}

static void check_run_state(VFIOMachine *m, const char *expected)
{
    g_autofree char *state = run_state(m);

    g_assert_cmpstr(state, ==, expected);
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

    limit_memlock(m->pid, VFIO_MACHINE_MEMORY + 64 * MiB);
    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
    vfio_machine_stop(m);
}

static void plug_dimm(VFIOMachine *m)
{
    qtest_qmp_assert_success(m->qts,
        "{ 'execute': 'object-add', 'arguments': { 'id': 'mem', "
        "'qom-type': 'memory-backend-ram', 'size': %" PRId64 " } }",
        (int64_t)DIMM_MIB * MiB);
    qtest_qmp_device_add(m->qts, "pc-dimm", "dimm", "{ 'memdev': 'mem' }");
}

static void test_memory_that_cannot_be_locked_stops_vm(void)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + DIMM_MIB / 2 * MiB);
    m = vfio_machine_start("-m slots=1,maxmem=1G -device %s,addr=%d",
                           vfio_rig_device("EDU0"), SLOT);
    limit_memlock(0, RLIM_INFINITY);

    check_dma(m);
    check_run_state(m, "running");
    plug_dimm(m);
    qtest_qmp_eventwait(m->qts, "STOP");
    check_run_state(m, "io-error");

    qtest_qmp_assert_success(m->qts, "{ 'execute': 'cont' }");
    check_run_state(m, "running");
    check_dma(m);
    vfio_machine_stop(m);
}

static void test_memory_that_can_be_locked_is_plugged(void)
{
    VFIOMachine *m;

    limit_memlock(0, VFIO_MACHINE_MEMORY + 2 * DIMM_MIB * MiB);
    m = vfio_machine_start("-m slots=1,maxmem=1G -device %s,addr=%d",
                           vfio_rig_device("EDU0"), SLOT);
    limit_memlock(0, RLIM_INFINITY);

    plug_dimm(m);
    check_run_state(m, "running");
    check_dma(m);
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "memlock");
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);

    vfio_rig_add("start-says-how-much", VFIO_RIG_IOMMUFD_ONLY,
                 test_start_says_how_much);
    vfio_rig_add("plug-works-with-limit-raised", VFIO_RIG_IOMMUFD_ONLY,
                 test_plug_works_with_limit_raised);
    vfio_rig_add("memory-that-cannot-be-locked-stops-vm",
                 VFIO_RIG_IOMMUFD_ONLY,
                 test_memory_that_cannot_be_locked_stops_vm);
    vfio_rig_add("memory-that-can-be-locked-is-plugged", VFIO_RIG_BOTH,
                 test_memory_that_can_be_locked_is_plugged);

    return g_test_run();
}
