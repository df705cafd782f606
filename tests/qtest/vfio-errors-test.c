/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what cannot work says why, and leaves QEMU as it was
 *
 * Each cause is tried twice: with -device, where QEMU ends with status 1 and
 * one message; and with device_add, where the machine goes on unchanged and
 * the same device works once the cause is gone.  What to do is in the message
 * both times: programs, which use QMP, do not see hints.
 */
#include "qemu/osdep.h"

#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <linux/capability.h>
#include <glib/gstdio.h>

#include "hw/vfio/vfio-abi.h"
#include "qapi/qmp/qdict.h"
#include "vfio-edu.h"

#define SLOT 4

#define UNSAFE_INTERRUPTS \
    "/sys/module/iommufd/parameters/allow_unsafe_interrupts"

typedef struct Cause {
    const char *name;

    /* What the message contains; empty: not in this mode, or nothing to do */
    const char *legacy[3];
    const char *iommufd[3];
    const char *remedy;         /* what to do, in the message as well */
    const char *legacy_remedy;
    const char *hint;           /* shown at start only, QMP has no hints */

    const char *kernel;         /* VFIO_TEST_KERNEL, "plain" by default */
    const char *victim;         /* device of the rig, EDU0 by default */
    const char *device;         /* for -device, instead of the victim */
    const char *iommufd_id;     /* instead of VFIO_RIG_IOMMUFD */

    /*
     * Make the cause, and remove it.  If the cause is what the user wrote, it
     * is gone when the user writes the victim's vfio_rig_device().
     */
    void (*make)(const char *victim);
    void (*unmake)(const char *victim, VFIOMachine *m);
} Cause;

static void hide_iommu(const char *victim);
static void show_iommu(const char *victim, VFIOMachine *m);
static void deny_iommu(const char *victim);
static void allow_iommu(const char *victim, VFIOMachine *m);
static void hide_cdev(const char *victim);
static void show_cdev(const char *victim, VFIOMachine *m);
static void deny_cdev(const char *victim);
static void allow_cdev(const char *victim, VFIOMachine *m);
static void unbind(const char *victim);
static void give_to_nvme(const char *victim);
static void give_to_vfio(const char *victim, VFIOMachine *m);
static void hold_group(const char *victim);
static void bind_to_iommufd(const char *victim);
static void bind_sibling(const char *victim);
static void let_go(const char *victim, VFIOMachine *m);
static void let_go_and_put_back(const char *victim, VFIOMachine *m);
static void forbid_unsafe_interrupts(const char *victim);
static void allow_unsafe_interrupts(const char *victim, VFIOMachine *m);
static void create_absent(const char *victim, VFIOMachine *m);
static void expect_no_container(const char *victim);

static const Cause causes[] = {
    {
        .name = "object-absent",
        .iommufd = { "iommufd=absent", "no object" },
        .remedy = "create it before the device, with -object iommufd,"
                  "id=absent",
        .iommufd_id = "absent",
        .unmake = create_absent,
    }, {
        .name = "object-of-another-type",
        .iommufd = { "iommufd=other", "rng-builtin" },
        .iommufd_id = "other",
    }, {
        .name = "iommu-missing",
        .iommufd = { VFIO_RIG_IOMMUFD, "/dev/iommu", "No such file" },
        .remedy = "with CONFIG_IOMMUFD, loaded with modprobe iommufd",
        .make = hide_iommu,
        .unmake = show_iommu,
    }, {
        .name = "iommu-denied",
        .iommufd = { VFIO_RIG_IOMMUFD, "/dev/iommu", "Permission denied" },
        .remedy = "access to it, for reading and writing, or pass a "
                  "descriptor with fd=",
        .make = deny_iommu,
        .unmake = allow_iommu,
    }, {
        .name = "no-such-device",
        .legacy = { "0000:ff:1f.7", "no such host device" },
        .iommufd = { "0000:ff:1f.7", "no such host device" },
        .device = "vfio-pci,host=0000:ff:1f.7",
    }, {
        .name = "no-driver",
        .legacy = { "/dev/vfio/", "No such file" },
        .iommufd = { "not bound", "VFIO driver" },
        .remedy = "give it to vfio-pci, by driver_override",
        .hint = "/sys/bus/pci/drivers_probe",
        .make = unbind,
        .unmake = give_to_vfio,
    }, {
        .name = "another-driver",
        .victim = "NVME0",
        .legacy = { "/dev/vfio/", "No such file" },
        .iommufd = { "'nvme'", "VFIO driver" },
        .remedy = "give it to vfio-pci, by driver_override",
        .hint = "/sys/bus/pci/drivers_probe",
        .make = give_to_nvme,
        .unmake = give_to_vfio,
    }, {
        .name = "cdev-missing",
        .iommufd = { "/dev/vfio/devices/vfio", "No such file" },
        .remedy = "its node must be made visible",
        .make = hide_cdev,
        .unmake = show_cdev,
    }, {
        .name = "cdev-denied",
        .iommufd = { "/dev/vfio/devices/vfio", "Permission denied" },
        .remedy = "access to it, for reading and writing",
        .make = deny_cdev,
        .unmake = allow_cdev,
    }, {
        .name = "group-held",
        .legacy = { "/dev/vfio/", "busy" },
        .iommufd = { "bind", VFIO_RIG_IOMMUFD, "group is open" },
        .remedy = "in one of the two ways at a time",
        .make = hold_group,
        .unmake = let_go,
    }, {
        .name = "bound-already",
        .iommufd = { "bind", VFIO_RIG_IOMMUFD, "bound already" },
        .remedy = "see whether another process uses it",
        .make = bind_to_iommufd,
        .unmake = let_go,
    }, {
        /* That interrupts are not remapped is not the reason, if allowed. */
        .name = "group-of-another-process",
        .victim = "PAIR1",
        .iommufd = { "bind", VFIO_RIG_IOMMUFD,
                     "another process uses a device of its IOMMU group" },
        .remedy = "give all devices of a group to one process",
        .make = bind_sibling,
        .unmake = let_go_and_put_back,
    }, {
        .name = "kernel-without-cdev",
        .kernel = "nocdev",
        .iommufd = { "character device" },
        .remedy = "needs Linux 6.6 or newer on the host, with "
                  "CONFIG_VFIO_DEVICE_CDEV",
    }, {
        .name = "kernel-without-groups",
        .kernel = "nogroup",
        .legacy = { "/dev/vfio/", "No such file" },
        .legacy_remedy = "use -object iommufd,id=iommufd0 and iommufd=iommufd0",
        .make = expect_no_container,
    }, {
        .name = "no-interrupt-remapping",
        .kernel = "noremap",
        .iommufd = { "bind", "interrupt remapping", "allow_unsafe_interrupts" },
        .remedy = "write 1 to " UNSAFE_INTERRUPTS,
        .hint = "iommufd.allow_unsafe_interrupts=1",
        .make = forbid_unsafe_interrupts,
        .unmake = allow_unsafe_interrupts,
    },
};

/* Descriptors that this program holds, so that QEMU cannot get the device */
static int held[2] = { -1, -1 };

static void hold_group(const char *victim)
{
    g_autofree char *node = vfio_rig_group_node(victim);

    held[0] = vfio_rig_open(node, O_RDWR | O_CLOEXEC);
}

static void bind_to_iommufd(const char *victim)
{
    g_autofree char *node = vfio_rig_cdev_node(victim);
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
    };

    held[0] = vfio_rig_open("/dev/iommu", O_RDWR | O_CLOEXEC);
    held[1] = vfio_rig_open(node, O_RDWR | O_CLOEXEC);
    bind.iommufd = held[0];
    g_assert_cmpint(ioctl(held[1], VFIO_DEVICE_BIND_IOMMUFD, &bind), ==, 0);
}

static void let_go(const char *victim, VFIOMachine *m)
{
    for (int i = 0; i < ARRAY_SIZE(held); i++) {
        if (held[i] >= 0) {
            close(held[i]);
            held[i] = -1;
        }
    }
}

static char *unsafe_before;

static void bind_sibling(const char *victim)
{
    g_free(unsafe_before);
    g_assert_true(g_file_get_contents(UNSAFE_INTERRUPTS, &unsafe_before, NULL,
                                      NULL));
    vfio_rig_write(UNSAFE_INTERRUPTS, "1");
    bind_to_iommufd("PAIR0");
}

static void let_go_and_put_back(const char *victim, VFIOMachine *m)
{
    let_go("PAIR0", m);
    vfio_rig_write(UNSAFE_INTERRUPTS, unsafe_before);
}

/* Nodes */

static void hide_iommu(const char *victim)
{
    vfio_rig_hide("/dev/iommu");
}

static void show_iommu(const char *victim, VFIOMachine *m)
{
    vfio_rig_show("/dev/iommu");
}

static void deny_iommu(const char *victim)
{
    g_assert_cmpint(g_chmod("/dev/iommu", 0), ==, 0);
}

static void allow_iommu(const char *victim, VFIOMachine *m)
{
    g_assert_cmpint(g_chmod("/dev/iommu", 0660), ==, 0);
}

static void hide_cdev(const char *victim)
{
    g_autofree char *node = vfio_rig_cdev_node(victim);

    vfio_rig_hide(node);
}

static void show_cdev(const char *victim, VFIOMachine *m)
{
    g_autofree char *node = vfio_rig_cdev_node(victim);

    vfio_rig_show(node);
}

static void deny_cdev(const char *victim)
{
    g_autofree char *node = vfio_rig_cdev_node(victim);

    g_assert_cmpint(g_chmod(node, 0), ==, 0);
}

static void allow_cdev(const char *victim, VFIOMachine *m)
{
    g_autofree char *node = vfio_rig_cdev_node(victim);

    g_assert_cmpint(g_chmod(node, 0600), ==, 0);
}

/* Changes through sysfs */

static void unbind(const char *victim)
{
    vfio_rig_unbind(victim);
}

static void give_to_nvme(const char *victim)
{
    vfio_rig_bind(victim, "nvme");
}

static void give_to_vfio(const char *victim, VFIOMachine *m)
{
    vfio_rig_bind(victim, "vfio-pci");
}

static void forbid_unsafe_interrupts(const char *victim)
{
    vfio_rig_write(UNSAFE_INTERRUPTS, "0");
}

static void allow_unsafe_interrupts(const char *victim, VFIOMachine *m)
{
    vfio_rig_write(UNSAFE_INTERRUPTS, "1");
}

static void create_absent(const char *victim, VFIOMachine *m)
{
    if (m) {
        g_assert_null(vfio_machine_qmp_error(m, "object-add",
                                             "qom-type=iommufd,id=absent"));
    }
}

static void expect_no_container(const char *victim)
{
    g_assert_false(g_file_test("/dev/vfio/vfio", G_FILE_TEST_EXISTS));
}

/* The two tries */

static const char *victim_of(const Cause *cause)
{
    return cause->victim ?: "EDU0";
}

static const char *const *words_of(const Cause *cause)
{
    return vfio_rig_iommufd() ? cause->iommufd : cause->legacy;
}

static const char *remedy_of(const Cause *cause)
{
    return vfio_rig_iommufd() ? cause->remedy : cause->legacy_remedy;
}

/* The device that cannot work, as written for -device and device_add */
static char *bad_device(const Cause *cause)
{
    g_autofree char *device =
        cause->device ? g_strdup(cause->device)
                      : g_strdup_printf("vfio-pci,host=%s",
                                        vfio_rig_address(victim_of(cause)));

    return g_strdup_printf("%s%s%s,id=victim,addr=%d", device,
                           vfio_rig_iommufd() ? ",iommufd=" : "",
                           vfio_rig_iommufd() ?
                           cause->iommufd_id ?: VFIO_RIG_IOMMUFD : "", SLOT);
}

/* By the other mode's path, for a kernel that will never have this mode's */
static char *other_way(const Cause *cause, VFIOMachine *m)
{
    if (!vfio_rig_iommufd()) {
        g_assert_null(vfio_machine_qmp_error(m, "object-add", "qom-type=iommufd"
                                             ",id=" VFIO_RIG_IOMMUFD));
    }
    return g_strdup_printf("vfio-pci,host=%s,id=victim,addr=%d%s",
                           vfio_rig_address(victim_of(cause)), SLOT,
                           vfio_rig_iommufd() ? "" :
                           ",iommufd=" VFIO_RIG_IOMMUFD);
}

/* A device that works as soon as the cause is gone */
static char *good_device(const Cause *cause, VFIOMachine *m)
{
    if (cause->unmake) {
        return bad_device(cause);
    }
    if (cause->kernel) {
        return other_way(cause, m);
    }
    return g_strdup_printf("%s,id=victim,addr=%d",
                           vfio_rig_device(victim_of(cause)), SLOT);
}

static void make(const Cause *cause)
{
    if (cause->make) {
        cause->make(victim_of(cause));
    }
}

static void unmake(const Cause *cause, VFIOMachine *m)
{
    if (cause->unmake) {
        cause->unmake(victim_of(cause), m);
    }
}

static void check_text_has(const char *text, const char *word)
{
    if (!strstr(text, word)) {
        g_test_message("'%s' is not in: %s", word, text);
        g_test_fail();
    }
}

static void check_message(const Cause *cause, const char *text)
{
    for (int i = 0; i < 3 && words_of(cause)[i]; i++) {
        check_text_has(text, words_of(cause)[i]);
    }

    if (remedy_of(cause)) {
        check_text_has(text, remedy_of(cause));
    }

    /* If the message is about the device, it says which one. */
    if (!cause->device && !cause->iommufd_id) {
        check_text_has(text, vfio_rig_address(victim_of(cause)));
    }
}

static void test_at_start(const void *data)
{
    const Cause *cause = data;
    g_autofree char *device = bad_device(cause);
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -object rng-builtin,id=other "
                        "%s -device %s", vfio_rig_iommufd() ?
                        "-object iommufd,id=" VFIO_RIG_IOMMUFD : "", device);
    g_autofree char *text = NULL;
    int status;

    make(cause);
    status = vfio_rig_run_qemu(options, NULL, &text);
    unmake(cause, NULL);

    vfio_rig_check_refusal(status, text);
    check_message(cause, text);
    if (vfio_rig_iommufd() && cause->hint) {
        check_text_has(text, cause->hint);
    }
}

static bool state_is(VFIOMachine *m, const char *state)
{
    g_autofree char *now = vfio_machine_state(m);

    return g_str_equal(now, state);
}

/*
 * The machine's state when it is @state again, or else after a while.  Some of
 * what an attempt leaves goes away only in the next RCU callback.
 */
static char *settle(VFIOMachine *m, const char *state)
{
    vfio_rig_wait(state_is(m, state));
    return vfio_machine_state(m);
}

static void check_device_works(const Cause *cause, VFIOMachine *m)
{
    VFIOEdu *edu;

    if (g_str_has_prefix(victim_of(cause), "EDU")) {
        edu = vfio_edu_new(m, SLOT);
        vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
        vfio_edu_free(edu);
    }
}

/* Refused twice: the first time must leave the machine as it was. */
static void test_by_device_add(const void *data)
{
    const Cause *cause = data;
    VFIOMachine *m = vfio_machine_start("-object rng-builtin,id=other");
    g_autofree char *bad = bad_device(cause);
    g_autofree char *good = NULL;
    g_autofree char *before = vfio_machine_state(m);
    g_autofree char *first = NULL;
    g_autofree char *second = NULL;
    g_autofree char *after = NULL;

    make(cause);
    first = vfio_machine_device_add(m, bad);
    second = vfio_machine_device_add(m, bad);
    after = settle(m, before);
    unmake(cause, m);

    g_assert_nonnull(first);
    g_assert_cmpstr(second, ==, first);
    check_message(cause, first);
    g_assert_cmpstr(after, ==, before);

    good = good_device(cause, m);
    g_assert_null(vfio_machine_device_add(m, good));
    check_device_works(cause, m);
    vfio_machine_stop(m);
}

/* Two QEMUs that want one device at the same time */

#define RACES 8

static void send_device_add(VFIOMachine *m)
{
    QDict *device = qdict_new();

    qdict_put_str(device, "driver", "vfio-pci");
    qdict_put_str(device, "host", vfio_rig_address("EDU0"));
    qdict_put_str(device, "id", "victim");
    qdict_put_str(device, "addr", stringify(SLOT));
    if (vfio_rig_iommufd()) {
        qdict_put_str(device, "iommufd", VFIO_RIG_IOMMUFD);
    }
    qtest_qmp_send(m->qts, "{ 'execute': 'device_add', 'arguments': %p }",
                   device);
}

/* One gets it, the other is told, and has nothing of it. */
static void check_race(VFIOMachine *machines[2], char *states[2])
{
    g_autofree char *node = vfio_rig_iommufd() ? vfio_rig_cdev_node("EDU0")
                                               : vfio_rig_group_node("EDU0");
    g_autofree char *after = NULL;
    char *errors[2];
    VFIOEdu *edu;
    int winner;

    send_device_add(machines[0]);
    send_device_add(machines[1]);
    for (int i = 0; i < 2; i++) {
        errors[i] = vfio_reply_error(qtest_qmp_receive(machines[i]->qts));
    }

    winner = errors[0] ? 1 : 0;
    g_assert_null(errors[winner]);
    g_assert_nonnull(errors[!winner]);
    g_test_message("%d got it; the other: %s", winner, errors[!winner]);
    check_text_has(errors[!winner], vfio_rig_address("EDU0"));
    check_text_has(errors[!winner],
                   vfio_rig_iommufd() ? "bound already" : "busy");
    after = settle(machines[!winner], states[!winner]);
    g_assert_cmpstr(after, ==, states[!winner]);

    edu = vfio_edu_new(machines[winner], SLOT);
    vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
    vfio_edu_free(edu);
    vfio_machine_device_del(machines[winner], "victim", SLOT);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(machines[winner],
                                                   node) == 0));

    for (int i = 0; i < 2; i++) {
        g_free(errors[i]);
    }
}

static void test_two_qemus_race(void)
{
    VFIOMachine *machines[2];
    char *states[2];

    for (int i = 0; i < 2; i++) {
        machines[i] = vfio_machine_start(" ");
        states[i] = vfio_machine_state(machines[i]);
    }
    for (int i = 0; i < RACES; i++) {
        check_race(machines, states);
    }
    for (int i = 0; i < 2; i++) {
        g_free(states[i]);
        vfio_machine_stop(machines[i]);
    }
}

static void add_cause(const Cause *cause)
{
    g_autofree char *at_start = g_strconcat(cause->name, "/at-start", NULL);
    g_autofree char *by_device_add = g_strconcat(cause->name, "/by-device-add",
                                                 NULL);

    if (vfio_rig_kernel_is(cause->kernel ?: "plain") && words_of(cause)[0]) {
        vfio_rig_add_data(at_start, VFIO_RIG_BOTH, test_at_start, cause);
        vfio_rig_add_data(by_device_add, VFIO_RIG_BOTH, test_by_device_add,
                          cause);
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "errors");

    /* So that QEMUs that run as root are refused a node of mode 0, too */
    prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE);

    for (int i = 0; i < ARRAY_SIZE(causes); i++) {
        add_cause(&causes[i]);
    }
    if (vfio_rig_kernel_is("plain")) {
        vfio_rig_add("two-qemus-race", VFIO_RIG_BOTH, test_two_qemus_race);
    }

    return g_test_run();
}
