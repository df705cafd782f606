/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: several devices at the start, which are bound at a time
 *
 * A device that is bound ahead of its turn must end as if it had waited for it:
 * the same devices, the same messages, nothing left behind.
 */
#include "qemu/osdep.h"

#include "hw/vfio/vfio-abi.h"
#include "qemu/uuid.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-rig.h"

#define SLOT(i) (4 + (i))

#define TOKEN       "6f3a1c1e-2f0b-4d6c-9a51-0d9f5a6f2b10"
#define OTHER_TOKEN "0b7c9a44-8a53-4f0e-8a37-5a4a3a0f7c22"

/* Behind ports, on the root bus, and behind a bridge */
static const char *const several[] = { "EDU0", "EDU1", "EDU2", "PAIR0" };

static const VFIOFaultCall bind_call = {
    .name = "ioctl",
    .request = VFIO_DEVICE_BIND_IOMMUFD,
};

static const VFIOFaultCall open_call = {
    .name = "open /dev/vfio/devices",
};

/* "-device ..." for each of @count devices; @more: other options of them */
static char *devices(const char *const *names, int count, const char *more)
{
    GString *options = g_string_new(NULL);

    for (int i = 0; i < count; i++) {
        g_string_append_printf(options, " -device %s,addr=%d%s",
                               vfio_rig_device(names[i]), SLOT(i), more);
    }
    return g_string_free(options, false);
}

static VFIOMachine *start(const char *const *names, int count)
{
    g_autofree char *options = devices(names, count, "");

    return vfio_machine_start("%s", options);
}

static void check_dma(VFIOMachine *m, int count)
{
    for (int i = 0; i < count; i++) {
        VFIOEdu *edu = vfio_edu_new(m, SLOT(i));

        vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
        vfio_edu_free(edu);
    }
}

static int count_traced(VFIOMachine *m, const char *event)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, event);
}

static void check_ahead(VFIOMachine *m, int begun, int taken)
{
    g_assert_cmpint(count_traced(m, "vfio_ahead_begin"), ==, begun);
    g_assert_cmpint(count_traced(m, "vfio_ahead_take"), ==, taken);
}

/* Each is open once. */
static void check_held(VFIOMachine *m, const char *const *names, int count)
{
    for (int i = 0; i < count; i++) {
        g_autofree char *node = vfio_rig_cdev_node(names[i]);

        g_assert_cmpint(vfio_machine_holds(m, node), ==, 1);
    }
}

/* Nobody has them, so another QEMU can. */
static void check_free(const char *const *names, int count)
{
    VFIOMachine *m = start(names, count);

    check_dma(m, count);
    vfio_machine_stop(m);
}

/* What works */

static void test_all_do_dma(void)
{
    VFIOMachine *m = start(several, ARRAY_SIZE(several));

    check_ahead(m, ARRAY_SIZE(several), ARRAY_SIZE(several));
    g_assert_cmpint(count_traced(m, "vfio_cdev_bind"), ==,
                    ARRAY_SIZE(several));
    check_dma(m, ARRAY_SIZE(several));
    vfio_machine_reset(m);
    check_dma(m, ARRAY_SIZE(several));
    vfio_machine_stop(m);
}

/* Each bind is held until as many have begun. */
static void test_all_are_bound_at_a_time(void)
{
    VFIOMachine *m;

    vfio_fault_meet_binds(ARRAY_SIZE(several));
    m = start(several, ARRAY_SIZE(several));
    g_assert_true(vfio_fault_binds_met());
    vfio_fault_meet_binds(0);
    vfio_machine_stop(m);
}

/* One that is plugged has no machine to wait for. */
static void test_one_is_bound_ahead(void)
{
    VFIOMachine *m = start(several, 1);
    g_autofree char *edu = g_strdup_printf("%s,addr=%d",
                                           vfio_rig_device("EDU1"), SLOT(1));

    g_assert_null(vfio_machine_device_add(m, edu));
    check_ahead(m, 1, 1);
    check_dma(m, 2);
    vfio_machine_stop(m);
}

/* What JSON says, and what -global says, is what counts. */
static void test_options_of_any_kind(void)
{
    VFIOMachine *m = vfio_machine_start(
        "-global vfio-pci.iommufd=" VFIO_RIG_IOMMUFD
        " -device vfio-pci,sysfsdev=/sys/bus/pci/devices/%s,addr=%d"
        " -device '{\"driver\":\"vfio-pci\",\"host\":\"%s\",\"addr\":\"%d\"}'",
        vfio_rig_address("EDU0"), SLOT(0), vfio_rig_address("EDU1"), SLOT(1));

    check_ahead(m, 2, 2);
    check_dma(m, 2);
    vfio_machine_stop(m);
}

static void test_descriptors(void)
{
    g_autofree char *one = vfio_rig_cdev_node("EDU0");
    g_autofree char *other = vfio_rig_cdev_node("EDU1");
    int fds[] = { open(one, O_RDWR), open(other, O_RDWR) };
    VFIOMachine *m = vfio_machine_start(
        "-device vfio-pci,fd=%d,iommufd=" VFIO_RIG_IOMMUFD ",addr=%d"
        " -device vfio-pci,fd=%d,iommufd=" VFIO_RIG_IOMMUFD ",addr=%d",
        fds[0], SLOT(0), fds[1], SLOT(1));

    close(fds[0]);
    close(fds[1]);
    check_ahead(m, 2, 2);
    check_dma(m, 2);
    check_held(m, several, 2);
    vfio_machine_stop(m);
    check_free(several, 2);
}

/* It is the host's until the guest wants it. */
static void test_failover_is_left_alone(void)
{
    g_autofree char *edus = devices(several, 2, "");
    g_autofree char *node = NULL;
    VFIOMachine *m;

    vfio_rig_bind("NET0", "vfio-pci");
    node = vfio_rig_cdev_node("NET0");
    m = vfio_machine_start("-device virtio-net-pci,id=standby,failover=on%s "
                           "-device %s,id=primary,failover_pair_id=standby",
                           edus, vfio_rig_device("NET0"));
    check_ahead(m, 2, 2);
    g_assert_cmpint(vfio_machine_holds(m, node), ==, 0);
    vfio_machine_stop(m);
    vfio_rig_bind("NET0", "e1000e");
}

/* What fails ahead of its turn does not fail then. */
static void test_failure_ahead_is_not_told(void)
{
    char *log = vfio_rig_log_new();
    g_autofree char *options = devices(several, ARRAY_SIZE(several), "");
    g_autofree char *text = NULL;
    VFIOMachine *m;

    vfio_fault_arm_only(&bind_call, 2, EPERM);
    m = vfio_machine_start("%s 2>>%s", options, log);
    vfio_fault_disarm();
    check_ahead(m, ARRAY_SIZE(several), ARRAY_SIZE(several) - 1);
    check_held(m, several, ARRAY_SIZE(several));
    check_dma(m, ARRAY_SIZE(several));
    vfio_machine_stop(m);
    text = vfio_rig_log_take(log);
    g_assert_null(strstr(text, "bind"));
    vfio_rig_log_free(log);
}

/* What is refused, with the message that a device alone has */

/* @device: is named by the message, unless NULL */
static void check_refused(const char *options, const char *device,
                          const char *words)
{
    g_autofree char *all =
        g_strdup_printf("-machine pc -nodefaults -object iommufd,id="
                        VFIO_RIG_IOMMUFD " %s", options);
    g_autofree char *text = NULL;
    int status = vfio_rig_run_qemu(all, NULL, &text);

    vfio_rig_check_refusal(status, text);
    g_test_message("%s", text);
    g_assert_true(!device || strstr(text, vfio_rig_address(device)));
    g_assert_nonnull(strstr(text, words));
}

static void test_same_device_twice(void)
{
    static const char *const names[] = { "EDU0", "EDU1", "EDU0" };
    g_autofree char *options = devices(names, ARRAY_SIZE(names), "");

    check_refused(options, "EDU0", "device is already attached");
    check_free(names, 2);
}

/* Which of the two would win, if both were bound? */
static void test_same_descriptor_twice(void)
{
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    int fds[] = { open(node, O_RDWR), open(node, O_RDWR) };
    g_autofree char *options =
        g_strdup_printf("-device vfio-pci,fd=%d,iommufd=" VFIO_RIG_IOMMUFD
                        " -device vfio-pci,fd=%d,iommufd=" VFIO_RIG_IOMMUFD,
                        fds[0], fds[1]);

    vfio_fault_arm_only(&bind_call, 0, 0);
    check_refused(options, "EDU0", "device is already attached");
    g_assert_cmpuint(vfio_fault_disarm(), ==, 1);
    close(fds[0]);
    close(fds[1]);
    check_free(several, 2);
}

/* It may be bound ahead of the first, which is refused then. */
static void test_first_of_group_wins(void)
{
    static const char *const names[] = { "MULTI0", "MULTI1" };
    g_autofree char *options =
        g_strdup_printf("-object iommufd,id=more -device %s "
                        "-device vfio-pci,host=%s,iommufd=more",
                        vfio_rig_device("MULTI0"), vfio_rig_address("MULTI1"));
    g_autofree char *words =
        g_strdup_printf("%s of its IOMMU group uses iommufd object '"
                        VFIO_RIG_IOMMUFD "'", vfio_rig_address("MULTI0"));

    for (int i = 0; i < 2; i++) {
        vfio_fault_arm_only(&bind_call, i, EPERM);
        check_refused(options, "MULTI1", words);
        vfio_fault_disarm();
    }
    check_free(names, 2);
}

/* No stand-in takes the place of its device. */
static void test_boot_order(void)
{
    VFIOMachine *m = vfio_machine_start("-global vfio-pci.bootindex=1 "
                                        "-device %s,addr=%d",
                                        vfio_rig_device("EDU0"), SLOT(0));

    check_ahead(m, 1, 1);
    check_dma(m, 1);
    vfio_machine_stop(m);
}

/* What comes after a device that has its group waits for its turn. */
static void test_group_beside_others(void)
{
    VFIOMachine *m = vfio_machine_start(
        "-device %s,addr=%d -device vfio-pci,host=%s,addr=%d "
        "-device %s,addr=%d", vfio_rig_device("EDU0"), SLOT(0),
        vfio_rig_address("EDU1"), SLOT(1), vfio_rig_device("EDU2"), SLOT(2));

    check_ahead(m, 1, 1);
    g_assert_cmpint(count_traced(m, "vfio_cdev_bind"), ==, 2);
    check_dma(m, 3);
    vfio_machine_stop(m);
}

/* The second is told, though a bind of its descriptor cannot be undone. */
static void test_descriptor_of_group(void)
{
    g_autofree char *node = vfio_rig_cdev_node("MULTI1");
    int fd = open(node, O_RDWR);
    g_autofree char *options =
        g_strdup_printf("-device vfio-pci,host=%s "
                        "-device vfio-pci,fd=%d,iommufd=" VFIO_RIG_IOMMUFD,
                        vfio_rig_address("MULTI0"), fd);
    g_autofree char *words =
        g_strdup_printf("for %s of this VM, which has no iommufd=",
                        vfio_rig_address("MULTI0"));

    check_refused(options, "MULTI1", words);
    close(fd);
    check_free(several, 2);
}

/* Nothing that is bound ahead is in the way of its group. */
static void test_group_comes_before(void)
{
    g_autofree char *options =
        g_strdup_printf("-device %s -device vfio-pci,host=%s -device %s",
                        vfio_rig_device("EDU0"), vfio_rig_address("MULTI0"),
                        vfio_rig_device("MULTI1"));
    g_autofree char *words =
        g_strdup_printf("for %s of this VM, which has no iommufd=",
                        vfio_rig_address("MULTI0"));

    check_refused(options, "MULTI1", words);
    check_free(several, 2);
}

static void test_one_is_in_use(void)
{
    g_autofree char *options = devices(several, ARRAY_SIZE(several), "");
    g_autofree char *node = vfio_rig_group_node("EDU1");
    int group = vfio_rig_open(node, O_RDWR | O_CLOEXEC);

    check_refused(options, "EDU1", "its IOMMU group is open");
    close(group);
    check_free(several, ARRAY_SIZE(several));
}

/* QEMU ends, and gives back what is bound by then. */
static void check_refused_beside_it(const char *format, const char *words)
{
    g_autofree char *edus = devices(several, 2, "");
    g_autofree char *options = g_strdup_printf(format, edus);

    vfio_fault_arm_only(&open_call, 0, 0);
    check_refused(options, NULL, words);
    g_assert_cmpuint(vfio_fault_disarm(), ==, 2);
    check_free(several, ARRAY_SIZE(several));
}

static void test_other_is_refused(void)
{
    g_autofree char *wrong = g_strdup_printf(
        " -device vfio-pci,host=%s,iommufd=none", vfio_rig_address("EDU2"));
    g_autofree char *after = g_strconcat("%s", wrong, NULL);
    g_autofree char *before = g_strconcat(wrong, " %s", NULL);

    check_refused_beside_it(after, "there is no object 'none'");
    check_refused_beside_it(before, "there is no object 'none'");
}

/* No device has its turn. */
static void test_machine_is_refused(void)
{
    check_refused_beside_it("%s -accel qtest -cpu host", "requires KVM");
}

/* Tokens, as newer kernels know them: see vfio-fault.h */

static void set_token(void)
{
    QemuUUID uuid;

    g_assert_cmpint(qemu_uuid_parse(TOKEN, &uuid), ==, 0);
    vfio_fault_tokens(VFIO_FAULT_TOKENS_WANTED, uuid.data);
}

static void test_token_is_asked_for(void)
{
    g_autofree char *without = devices(several, 2, "");
    g_autofree char *wrong = devices(several, 2, ",vf-token=" OTHER_TOKEN);

    set_token();
    check_refused(without, "EDU0", "VF token, which is not given: Permission "
                  "denied; give the same vf-token= to the PF and to its VFs");
    check_refused(wrong, "EDU0", "VF token, which is not this one: "
                  "Permission denied");
    vfio_fault_tokens(VFIO_FAULT_TOKENS_AS_IT_IS, NULL);
    check_free(several, 2);
}

/* One that -global gives counts as much; nothing is bound without it. */
static void test_token_is_given(void)
{
    g_autofree char *options = devices(several, 2, "");
    VFIOMachine *m;

    set_token();
    vfio_fault_arm_only(&bind_call, 0, 0);
    m = vfio_machine_start("-global vfio-pci.vf-token=" TOKEN " %s", options);
    g_assert_cmpuint(vfio_fault_disarm(), ==, 2);
    vfio_fault_tokens(VFIO_FAULT_TOKENS_AS_IT_IS, NULL);
    check_ahead(m, 0, 0);
    check_dma(m, 2);
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "ahead");
    vfio_fault_init();

    vfio_rig_add("all-do-dma", VFIO_RIG_IOMMUFD_ONLY, test_all_do_dma);
    vfio_rig_add("all-are-bound-at-a-time", VFIO_RIG_IOMMUFD_ONLY,
                 test_all_are_bound_at_a_time);
    vfio_rig_add("one-is-bound-ahead", VFIO_RIG_IOMMUFD_ONLY,
                 test_one_is_bound_ahead);
    vfio_rig_add("options-of-any-kind", VFIO_RIG_IOMMUFD_ONLY,
                 test_options_of_any_kind);
    vfio_rig_add("descriptors", VFIO_RIG_IOMMUFD_ONLY, test_descriptors);
    vfio_rig_add("failover-is-left-alone", VFIO_RIG_IOMMUFD_ONLY,
                 test_failover_is_left_alone);
    vfio_rig_add("failure-ahead-is-not-told", VFIO_RIG_IOMMUFD_ONLY,
                 test_failure_ahead_is_not_told);
    vfio_rig_add("same-device-twice", VFIO_RIG_IOMMUFD_ONLY,
                 test_same_device_twice);
    vfio_rig_add("same-descriptor-twice", VFIO_RIG_IOMMUFD_ONLY,
                 test_same_descriptor_twice);
    vfio_rig_add("first-of-group-wins", VFIO_RIG_IOMMUFD_ONLY,
                 test_first_of_group_wins);
    vfio_rig_add("group-comes-before", VFIO_RIG_IOMMUFD_ONLY,
                 test_group_comes_before);
    vfio_rig_add("boot-order", VFIO_RIG_IOMMUFD_ONLY, test_boot_order);
    vfio_rig_add("group-beside-others", VFIO_RIG_IOMMUFD_ONLY,
                 test_group_beside_others);
    vfio_rig_add("descriptor-of-group", VFIO_RIG_IOMMUFD_ONLY,
                 test_descriptor_of_group);
    vfio_rig_add("one-is-in-use", VFIO_RIG_IOMMUFD_ONLY, test_one_is_in_use);
    vfio_rig_add("other-is-refused", VFIO_RIG_IOMMUFD_ONLY,
                 test_other_is_refused);
    vfio_rig_add("machine-is-refused", VFIO_RIG_IOMMUFD_ONLY,
                 test_machine_is_refused);
    vfio_rig_add("token-is-asked-for", VFIO_RIG_IOMMUFD_ONLY,
                 test_token_is_asked_for);
    vfio_rig_add("token-is-given", VFIO_RIG_IOMMUFD_ONLY,
                 test_token_is_given);

    return g_test_run();
}
