/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: devices that are given by descriptor, fd=
 *
 * The test opens /dev/iommu and the device's character device, as a management
 * program does, and gives them to QEMU by number or by name.
 *
 * A device stays bound as long as anybody has the file that was bound.  So the
 * test keeps each file open only as long as it needs it.
 */
#include "qemu/osdep.h"

#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <linux/capability.h>

#include "qapi/qmp/qdict.h"
#include "vfio-descriptor.h"
#include "vfio-edu.h"
#include "vfio-mtty.h"

#define SLOT 4

/* The object that has a descriptor; VFIO_RIG_IOMMUFD opens its own. */
#define GIVEN "given"

/* A number that is neither a descriptor of the test's nor of QEMU's */
#define CLOSED_FD "987"

#define MTTY "/sys/devices/virtual/mtty/mtty/"
#define MDEV "83b8f4f2-509f-382f-3c1e-e6bfe0fa1001"

/* Descriptors that a QEMU inherits, under the same numbers */
typedef struct Given {
    char *node;
    int iommu;
    int cdev;
} Given;

static Given give(const char *name)
{
    Given given = {
        .node = vfio_rig_cdev_node(name),
        .iommu = vfio_rig_open("/dev/iommu", O_RDWR),
    };

    given.cdev = vfio_rig_open(given.node, O_RDWR);
    return given;
}

static void close_given(Given *given)
{
    close(given->iommu);
    close(given->cdev);
    given->iommu = -1;
    given->cdev = -1;
}

static void free_given(Given *given)
{
    close_given(given);
    g_free(given->node);
}

/* Nodes that QEMU cannot find */

static void hide_nodes(const Given *given)
{
    vfio_rig_hide("/dev/iommu");
    vfio_rig_hide(given->node);
}

static void show_nodes(const Given *given)
{
    vfio_rig_show("/dev/iommu");
    vfio_rig_show(given->node);
}

/* QEMUs and devices */

static VFIOMachine *start_with_object(const Given *given)
{
    return vfio_machine_start("-object iommufd,id=" GIVEN ",fd=%d",
                              given->iommu);
}

static VFIOMachine *start_with_device(const Given *given)
{
    return vfio_machine_start("-object iommufd,id=" GIVEN ",fd=%d "
                              "-device vfio-pci,fd=%d,iommufd=" GIVEN
                              ",id=dev0,addr=%d", given->iommu, given->cdev,
                              SLOT);
}

static char *add_device(VFIOMachine *m, const char *fd, const char *iommufd)
{
    g_autofree char *device =
        g_strdup_printf("vfio-pci,fd=%s,iommufd=%s,id=dev0,addr=%d", fd,
                        iommufd, SLOT);

    return vfio_machine_device_add(m, device);
}

static char *add_device_number(VFIOMachine *m, int fd, const char *iommufd)
{
    g_autofree char *number = g_strdup_printf("%d", fd);

    return add_device(m, number, iommufd);
}

/* Opened for this, and afterwards only QEMU has it */
static char *add_device_name(VFIOMachine *m, const char *node,
                             const char *iommufd)
{
    int fd = vfio_rig_open(node, O_RDWR | O_CLOEXEC);

    vfio_descriptor_pass(m->qts, fd, "hostdev0");
    close(fd);
    return add_device(m, "hostdev0", iommufd);
}

static void remove_device(VFIOMachine *m)
{
    vfio_machine_device_del(m, "dev0", SLOT);
}

static void check_dma(VFIOMachine *m)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    vfio_edu_check_registers(edu);
    vfio_edu_check_copy(edu, 0x1000000, 0x2000000, EDU_DMA_MAX);
    vfio_edu_free(edu);
}

static void check_has(const char *text, const char *word)
{
    if (!text || !strstr(text, word)) {
        g_test_message("'%s' is not in: %s", word, text ?: "(nothing)");
        g_test_fail();
    }
}

/* What messages and traces call the device */
static void check_called(VFIOMachine *m, const char *name)
{
    g_autofree char *prefix = g_strdup_printf("vfio_cdev_bind %s: ", name);
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int named = 0;

    for (char **line = trace; *line; line++) {
        named += g_str_has_prefix(*line, prefix);
    }
    g_assert_cmpint(named, ==, 1);
}

static bool has_number(VFIOMachine *m, int fd)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/fd/%d", m->pid, fd);

    return g_file_test(path, G_FILE_TEST_IS_SYMLINK);
}

static bool comes_to_hold(VFIOMachine *m, const char *path, int count)
{
    return vfio_rig_wait(vfio_machine_holds(m, path) == count);
}

/* How they are given */

static void test_by_number(void)
{
    Given given = give("EDU0");
    VFIOMachine *m;

    hide_nodes(&given);
    m = start_with_device(&given);
    show_nodes(&given);

    check_dma(m);
    check_called(m, vfio_rig_address("EDU0"));
    vfio_machine_stop(m);
    free_given(&given);
}

/* Names can be used again. */
static void test_by_name(void)
{
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    VFIOMachine *m = vfio_machine_start(" ");

    for (int i = 0; i < 3; i++) {
        int iommu = vfio_rig_open("/dev/iommu", O_RDWR | O_CLOEXEC);

        vfio_descriptor_pass(m->qts, iommu, "iommu");
        close(iommu);
        g_assert_null(vfio_machine_qmp_error(m, "object-add",
                                             "qom-type=iommufd,id=" GIVEN
                                             ",fd=iommu"));
        g_assert_null(add_device_name(m, node, GIVEN));
        check_dma(m);
        remove_device(m);
        g_assert_true(comes_to_hold(m, node, 0));
        g_assert_null(vfio_machine_qmp_error(m, "object-del", "id=" GIVEN));
        g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 0);
    }
    vfio_machine_stop(m);
}

static void test_two_devices(void)
{
    Given first = give("EDU0");
    Given second = give("EDU1");
    VFIOMachine *m =
        vfio_machine_start("-object iommufd,id=" GIVEN ",fd=%d "
                           "-device vfio-pci,fd=%d,iommufd=" GIVEN ",addr=%d "
                           "-device vfio-pci,fd=%d,iommufd=" GIVEN ",addr=%d",
                           first.iommu, first.cdev, SLOT + 1, second.cdev,
                           SLOT);
    g_auto(GStrv) trace = vfio_machine_trace(m);

    g_assert_cmpint(vfio_trace_count(trace, "iommufd_backend_alloc_ioas"), ==,
                    1);
    check_dma(m);
    vfio_machine_stop(m);
    free_given(&first);
    free_given(&second);
}

static void test_ordinary_user(void)
{
    Given given = give("EDU0");
    VFIOMachine *m;

    vfio_rig_be_ordinary();
    m = start_with_device(&given);
    vfio_rig_be_root();

    check_dma(m);
    vfio_machine_stop(m);
    free_given(&given);
}

/* When sysfs is not visible */

static VFIOMachine *start_without_sysfs(const Given *given,
                                        VFIOMachine *(*start)(const Given *))
{
    int ns = vfio_rig_open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC);
    VFIOMachine *m;

    g_assert_cmpint(unshare(CLONE_NEWNS), ==, 0);
    g_assert_cmpint(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), ==, 0);
    g_assert_cmpint(umount2("/sys", MNT_DETACH), ==, 0);
    m = start(given);
    g_assert_cmpint(setns(ns, CLONE_NEWNS), ==, 0);
    close(ns);
    return m;
}

/* Newer kernels tell in /proc which device a descriptor is of. */
static void test_without_sysfs(void)
{
    Given given = give("EDU0");
    VFIOMachine *m = start_without_sysfs(&given, start_with_device);
    g_autofree char *name = g_strdup_printf("fd=%d", given.cdev);

    check_dma(m);
    check_called(m, vfio_rig_linux_since(6, 18) ? vfio_rig_address("EDU0")
                                                : name);
    vfio_machine_stop(m);
    free_given(&given);
}

/* The name of a descriptor says nothing of the device. */
static void test_one_name_for_two(void)
{
    Given given = give("EDU0");
    g_autofree char *other = vfio_rig_cdev_node("EDU1");
    int fd = vfio_rig_open(other, O_RDWR);
    VFIOMachine *m = start_without_sysfs(&given, start_with_object);
    g_autofree char *twice = NULL;

    vfio_descriptor_pass(m->qts, given.cdev, "hostdev0");
    g_assert_null(add_device(m, "hostdev0", GIVEN));
    vfio_descriptor_pass(m->qts, fd, "hostdev0");
    g_assert_null(vfio_machine_device_add(m, "vfio-pci,fd=hostdev0,iommufd="
                                          GIVEN));
    vfio_descriptor_pass(m->qts, given.cdev, "hostdev1");
    twice = vfio_machine_device_add(m, "vfio-pci,fd=hostdev1,iommufd=" GIVEN);
    check_has(twice, "already attached");
    check_dma(m);
    vfio_machine_stop(m);
    close(fd);
    free_given(&given);
}

/* Then the kernel says that the descriptor is not a device's. */
static void test_foreign_without_sysfs(void)
{
    Given given = give("EDU0");
    int null = vfio_rig_open("/dev/null", O_RDWR);
    VFIOMachine *m = start_without_sysfs(&given, start_with_object);
    g_autofree char *error = add_device_number(m, null, GIVEN);

    check_has(error, "not of a VFIO device");
    check_has(error, "must be a descriptor of /dev/vfio/devices/vfioN");
    g_assert_true(has_number(m, null));
    g_assert_null(add_device_number(m, given.cdev, GIVEN));
    check_dma(m);
    vfio_machine_stop(m);
    close(null);
    free_given(&given);
}

/* A mediated device, recognized as one, so that x-balloon-allowed is allowed */

static char *mdev_node(void)
{
    g_autoptr(GDir) dir = g_dir_open(MTTY MDEV "/vfio-dev", 0, NULL);

    g_assert_nonnull(dir);
    return g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(dir));
}

static void test_mdev(void)
{
    g_autofree char *node = NULL;
    g_autofree char *error = NULL;
    VFIOMachine *m;

    vfio_mtty_create(MDEV);
    node = mdev_node();
    m = vfio_machine_start(" ");
    error = add_device_name(m, node,
                            VFIO_RIG_IOMMUFD ",x-balloon-allowed=true");
    g_assert_cmpstr(error, ==, NULL);
    check_called(m, MDEV);

    remove_device(m);
    g_assert_true(comes_to_hold(m, node, 0));
    vfio_machine_stop(m);
    vfio_mtty_remove(MDEV);
}

/* What is refused */

static int make_group(void)
{
    g_autofree char *node = vfio_rig_group_node("EDU1");

    return vfio_rig_open(node, O_RDWR);
}

static int make_readonly(void)
{
    g_autofree char *node = vfio_rig_cdev_node("EDU0");

    return vfio_rig_open(node, O_RDONLY);
}

static int make_path(void)
{
    g_autofree char *node = vfio_rig_cdev_node("EDU0");

    return vfio_rig_open(node, O_PATH);
}

static int make_iommu(void)
{
    return vfio_rig_open("/dev/iommu", O_RDWR);
}

static const VFIODescriptor unfit[] = {
    { "group", .make = make_group },
    { "iommu", .make = make_iommu },
    { "read-only", .make = make_readonly },
    { "path", .make = make_path },
};

static const char *word_for(const VFIODescriptor *descriptor)
{
    if (g_str_equal(descriptor->name, "group")) {
        return "it is of the VFIO group /dev/vfio/";
    }
    if (g_str_equal(descriptor->name, "read-only") ||
        g_str_equal(descriptor->name, "path")) {
        return "not open for reading and writing";
    }
    return "and not of a VFIO device";
}

static void check_refused_at_start(const VFIODescriptor *descriptor, int fd)
{
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -object iommufd,id=" GIVEN
                        " -device vfio-pci,fd=%d,iommufd=" GIVEN, fd);
    g_autofree char *text = NULL;
    int status = vfio_rig_run_qemu(options, NULL, &text);

    vfio_rig_check_refusal(status, text);
    check_has(text, word_for(descriptor));
    check_has(text, "fd=");
}

/*
 * A descriptor given by number stays open, for whoever gave it.  One given by
 * name is closed, since nobody could name it any more.  Nothing else changes.
 */
static void check_refused(VFIOMachine *m, const VFIODescriptor *descriptor,
                          int fd)
{
    g_autofree char *before = vfio_machine_state(m);
    g_autofree char *number = add_device_number(m, fd, VFIO_RIG_IOMMUFD);
    g_autofree char *name = NULL;
    g_autofree char *after = NULL;

    check_has(number, word_for(descriptor));
    check_has(number, "open for reading and writing");
    g_assert_true(has_number(m, fd));

    vfio_descriptor_pass(m->qts, fd, "passed");
    name = add_device(m, "passed", VFIO_RIG_IOMMUFD);
    check_has(name, word_for(descriptor));
    check_has(name, "fd=passed");

    after = vfio_machine_state(m);
    g_assert_cmpstr(after, ==, before);
}

static void test_refused(const void *data)
{
    const VFIODescriptor *descriptor = data;
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    int fd = vfio_descriptor_open(descriptor);
    VFIOMachine *m;

    g_assert_cmpint(fd, >=, 0);
    check_refused_at_start(descriptor, fd);

    m = vfio_machine_start(" ");
    check_refused(m, descriptor, fd);
    close(fd);
    g_assert_null(add_device_name(m, node, VFIO_RIG_IOMMUFD));
    check_dma(m);
    vfio_machine_stop(m);
}

/* A device without an IOMMU, which has a character device since Linux 7.3 */

static void check_no_iommu(const char *text)
{
    check_has(text, vfio_rig_address("EDU0"));
    check_has(text, "no IOMMU stands between this device and the host's "
              "memory");
    check_has(text, "switch the host's IOMMU on");
}

/* @device: an option of -device */
static void check_no_iommu_at_start(const char *device)
{
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -object iommufd,id="
                        VFIO_RIG_IOMMUFD " -device %s", device);
    g_autofree char *text = NULL;
    int status = vfio_rig_run_qemu(options, NULL, &text);

    vfio_rig_check_refusal(status, text);
    check_no_iommu(text);
    check_has(text, "enable_unsafe_noiommu_mode");
}

static void test_without_iommu_by_fd(void)
{
    Given given = give("EDU0");
    g_autofree char *device = g_strdup_printf("vfio-pci,fd=%d,iommufd="
                                              VFIO_RIG_IOMMUFD, given.cdev);

    check_no_iommu_at_start(device);
    free_given(&given);
}

static void test_without_iommu_by_host(void)
{
    check_no_iommu_at_start(vfio_rig_device("EDU0"));
}

/* QEMU has nothing of the device then, which the next one can try. */
static void test_without_iommu_by_device_add(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *node = vfio_rig_cdev_node("EDU0");
    g_autofree char *device = g_strdup_printf("%s,addr=%d",
                                              vfio_rig_device("EDU0"), SLOT);
    g_autofree char *before = vfio_machine_state(m);
    g_autofree char *by_name = add_device_name(m, node, VFIO_RIG_IOMMUFD);
    g_autofree char *by_host = vfio_machine_device_add(m, device);
    g_autofree char *after = vfio_machine_state(m);

    check_no_iommu(by_name);
    check_no_iommu(by_host);
    g_assert_cmpstr(after, ==, before);
    vfio_machine_stop(m);
}

static void check_device_error(VFIOMachine *m, const char *device,
                               const char *word)
{
    g_autofree char *error = vfio_machine_device_add(m, device);

    check_has(error, word);
}

static void test_nothing_behind(void)
{
    VFIOMachine *m = vfio_machine_start(" ");

    check_device_error(m, "vfio-pci,iommufd=" VFIO_RIG_IOMMUFD
                       ",fd=" CLOSED_FD, "Bad file descriptor");
    check_device_error(m, "vfio-pci,iommufd=" VFIO_RIG_IOMMUFD ",fd=nobody",
                       "named 'nobody' has not been found");
    vfio_machine_stop(m);
}

static void test_options_that_conflict(void)
{
    Given given = give("EDU0");
    VFIOMachine *m = start_with_object(&given);
    g_autofree char *alone = g_strdup_printf("vfio-pci,fd=%d", given.cdev);
    g_autofree char *with_object = g_strdup_printf("%s,iommufd=" GIVEN, alone);
    g_autofree char *with_host =
        g_strdup_printf("%s,host=%s", with_object, vfio_rig_address("EDU0"));
    g_autofree char *folder = vfio_rig_sysfs("EDU0", "");
    g_autofree char *with_sysfsdev =
        g_strdup_printf("%s,sysfsdev=%s", with_object, folder);

    check_device_error(m, alone, "fd= needs iommufd=; create an object");
    check_device_error(m, with_host, "host= names a device, and so does fd=; "
                       "give one of the two");
    check_device_error(m, with_sysfsdev, "sysfsdev= names a device");
    g_assert_null(add_device_number(m, given.cdev, GIVEN));
    check_dma(m);
    vfio_machine_stop(m);
    free_given(&given);
}

/* The first device goes on as if nothing had happened. */
static void test_given_twice(void)
{
    Given given = give("EDU0");
    VFIOMachine *m = start_with_device(&given);
    g_autofree char *again =
        g_strdup_printf("vfio-pci,fd=%d,iommufd=" GIVEN, given.cdev);
    g_autofree char *name = NULL;

    check_device_error(m, again, "already attached");
    name = add_device_name(m, given.node, GIVEN);
    check_has(name, "dev0");
    vfio_descriptor_pass(m->qts, given.cdev, "passed");
    check_device_error(m, "vfio-pci,fd=passed,iommufd=" GIVEN,
                       "already attached");
    check_dma(m);
    vfio_machine_stop(m);
    free_given(&given);
}

/* Who closes it */

static void test_closed_with_device(void)
{
    Given given = give("EDU0");
    VFIOMachine *m = start_with_device(&given);

    g_assert_cmpint(vfio_machine_holds(m, given.node), ==, 1);
    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 1);
    remove_device(m);
    g_assert_true(comes_to_hold(m, given.node, 0));
    g_assert_false(has_number(m, given.cdev));

    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 1);
    g_assert_null(vfio_machine_qmp_error(m, "object-del", "id=" GIVEN));
    g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 0);
    vfio_machine_stop(m);
    free_given(&given);
}

/* VFIO_RIG_IOMMUFD has to open /dev/iommu, and cannot. */
static void test_failure_before_bind(void)
{
    Given given = give("EDU0");
    VFIOMachine *m = start_with_object(&given);
    g_autofree char *number = NULL;
    g_autofree char *name = NULL;

    vfio_rig_hide("/dev/iommu");
    number = add_device_number(m, given.cdev, VFIO_RIG_IOMMUFD);
    name = add_device_name(m, given.node, VFIO_RIG_IOMMUFD);
    vfio_rig_show("/dev/iommu");

    check_has(number, "/dev/iommu");
    check_has(name, "/dev/iommu");
    g_assert_cmpint(vfio_machine_holds(m, given.node), ==, 1);
    g_assert_true(has_number(m, given.cdev));

    g_assert_null(add_device_number(m, given.cdev, VFIO_RIG_IOMMUFD));
    check_dma(m);
    vfio_machine_stop(m);
    free_given(&given);
}

static void limit_memlock(pid_t pid, rlim_t bytes)
{
    struct rlimit limit = { bytes, RLIM_INFINITY };

    g_assert_cmpint(prlimit(pid, RLIMIT_MEMLOCK, &limit, NULL), ==, 0);
}

/* The guest's memory cannot be mapped.  Only closing undoes the bind. */
static void test_failure_after_bind(void)
{
    Given given = give("EDU0");
    VFIOMachine *m = start_with_object(&given);
    g_autofree char *number = NULL;
    g_autofree char *name = NULL;

    limit_memlock(m->pid, MiB);
    number = add_device_number(m, given.cdev, GIVEN);
    check_has(number, "RLIMIT_MEMLOCK");
    g_assert_false(has_number(m, given.cdev));

    close_given(&given);
    name = add_device_name(m, given.node, GIVEN);
    check_has(name, "RLIMIT_MEMLOCK");
    g_assert_cmpint(vfio_machine_holds(m, given.node), ==, 0);

    limit_memlock(m->pid, RLIM_INFINITY);
    g_assert_null(add_device_name(m, given.node, GIVEN));
    check_dma(m);
    vfio_machine_stop(m);
    free_given(&given);
}

static void add_refusals(void)
{
    const VFIODescriptor *foreign;

    for (foreign = vfio_foreign_descriptors; foreign->name; foreign++) {
        g_autofree char *name = g_strdup_printf("refused/%s", foreign->name);

        vfio_rig_add_data(name, VFIO_RIG_IOMMUFD_ONLY, test_refused, foreign);
    }
    for (int i = 0; i < ARRAY_SIZE(unfit); i++) {
        g_autofree char *name = g_strdup_printf("refused/%s", unfit[i].name);

        vfio_rig_add_data(name, VFIO_RIG_IOMMUFD_ONLY, test_refused, &unfit[i]);
    }
}

static void add(const char *name, void (*fn)(void))
{
    vfio_rig_add(name, VFIO_RIG_IOMMUFD_ONLY, fn);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "fd");

    /* So that the kernel counts what the QEMUs lock */
    prctl(PR_CAPBSET_DROP, CAP_IPC_LOCK);
    limit_memlock(0, RLIM_INFINITY);

    if (vfio_rig_kernel_is("noiommu")) {
        add("refused/without-iommu/at-start/fd", test_without_iommu_by_fd);
        add("refused/without-iommu/at-start/host", test_without_iommu_by_host);
        add("refused/without-iommu/by-device-add",
            test_without_iommu_by_device_add);
        add("given/mdev", test_mdev);
        return g_test_run();
    }

    add("given/by-number", test_by_number);
    add("given/by-name", test_by_name);
    add("given/two-devices", test_two_devices);
    add("given/to-ordinary-user", test_ordinary_user);
    add("given/without-sysfs", test_without_sysfs);
    add("given/one-name-for-two", test_one_name_for_two);
    add("given/mdev", test_mdev);

    add("refused/foreign-without-sysfs", test_foreign_without_sysfs);
    add("refused/nothing-behind", test_nothing_behind);
    add("refused/options-that-conflict", test_options_that_conflict);
    add("refused/given-twice", test_given_twice);
    add_refusals();

    add("closed/with-device", test_closed_with_device);
    add("closed/failure-before-bind", test_failure_before_bind);
    add("closed/failure-after-bind", test_failure_after_bind);

    return g_test_run();
}
