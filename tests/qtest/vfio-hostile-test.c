/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: input that makes no sense, and a host that takes a device
 *
 * Whatever somebody writes or gives, QEMU says what is wrong with it and stays
 * as it was; and the host gets back a device that it wants back.
 */
#include "qemu/osdep.h"

#include <sys/ioctl.h>

#include "hw/vfio/vfio-abi.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qjson.h"
#include "qapi/qmp/qstring.h"
#include "qapi/error.h"
#include "vfio-acpi.h"
#include "vfio-descriptor.h"
#include "vfio-edu.h"

#define SLOT 4

#define LONG_STRING     60000

static void check_has(const char *text, const char *word)
{
    if (!text || !strstr(text, word)) {
        g_test_message("'%s' is not in: %s", word, text ?: "(nothing)");
        g_test_fail();
    }
}

static void check_dma(VFIOMachine *m)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    vfio_edu_check_copy(edu, 0x1000000, 0x2000000, EDU_DMA_MAX);
    vfio_edu_free(edu);
}

static char *device_options(const char *name)
{
    return g_strdup_printf("%s,id=victim,addr=%d", vfio_rig_device(name),
                           SLOT);
}

static void check_device_works(VFIOMachine *m)
{
    g_autofree char *device = device_options("EDU0");

    g_assert_null(vfio_machine_device_add(m, device));
    check_dma(m);
}

static bool state_is(VFIOMachine *m, const char *state)
{
    g_autofree char *now = vfio_machine_state(m);

    return g_str_equal(now, state);
}

/* Some of what an attempt leaves goes away only in the next RCU callback. */
static void check_state(VFIOMachine *m, const char *state)
{
    g_autofree char *after = NULL;

    vfio_rig_wait(state_is(m, state));
    after = vfio_machine_state(m);
    g_assert_cmpstr(after, ==, state);
}

/* Values of properties */

/* As in QMP and -device; NULL is a string of LONG_STRING characters */
static const char *const values[] = {
    "null", "true", "0", "8", "-1", "1.5", "99999999999999999999", "1e300",
    "[]", "{}", "['iommufd0']", "{'id': 'iommufd0'}", "''",
    "'no such thing'", "'%s%n'", "'/'", "'-1'", "' 0'", "'0x8'", "'987'",
    "'99999999999999999999'", NULL
};

typedef struct Property {
    const char *name;
    const char *fits;       /* the only one of the values that is accepted */
} Property;

static QObject *value_new(const char *text)
{
    g_autofree char *string = NULL;

    if (text) {
        return qobject_from_json(text, &error_abort);
    }
    string = g_strnfill(LONG_STRING, 'x');
    return QOBJECT(qstring_from_str(string));
}

static char *qmp_error(VFIOMachine *m, const char *command, QDict *arguments)
{
    return vfio_reply_error(qtest_qmp(m->qts, "{ 'execute': %s,"
                                      " 'arguments': %p }", command,
                                      arguments));
}

/* Values for the object */

static const Property object_properties[] = {
    { "fd" },
    { "map-threads", .fits = "8" },
    { "max-guest-maps", .fits = "8" },
    { "memlock-accounting" },
    { "huge-pages", .fits = "true" },
    { "map-in-background", .fits = "true" },
    { "qom-type" },
};

static char *object_add(VFIOMachine *m, const Property *property,
                        const char *value)
{
    QDict *arguments = qdict_new();

    qdict_put_str(arguments, "qom-type", "iommufd");
    qdict_put_str(arguments, "id", "hostile");
    qdict_put_obj(arguments, property->name, value_new(value));
    return qmp_error(m, "object-add", arguments);
}

static char *object_set(VFIOMachine *m, const Property *property,
                        const char *value)
{
    QDict *arguments = qdict_new();

    qdict_put_str(arguments, "path", "/objects/" VFIO_RIG_IOMMUFD);
    qdict_put_str(arguments, "property", property->name);
    qdict_put_obj(arguments, "value", value_new(value));
    return qmp_error(m, "qom-set", arguments);
}

static void check_object_value(VFIOMachine *m, const Property *property,
                               const char *value)
{
    g_autofree char *added = object_add(m, property, value);
    g_autofree char *set = NULL;

    g_test_message("%s: %s", property->name, value ?: "(long)");
    if (g_strcmp0(property->fits, value) == 0 && value) {
        g_assert_null(added);
        g_assert_null(vfio_machine_qmp_error(m, "object-del", "id=hostile"));
        return;
    }
    check_has(added, g_str_equal(property->name, "qom-type") ? "type"
                                                             : property->name);
    if (!g_str_equal(property->name, "qom-type")) {
        set = object_set(m, property, value);
        g_assert_nonnull(set);
    }
}

static void test_object_values(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *before = vfio_machine_state(m);

    for (int i = 0; i < ARRAY_SIZE(object_properties); i++) {
        for (int j = 0; j < ARRAY_SIZE(values); j++) {
            check_object_value(m, &object_properties[i], values[j]);
        }
    }
    check_state(m, before);
    check_device_works(m);
    vfio_machine_stop(m);
}

/* Ids may be as long as one likes if they are well-formed. */
static void test_object_ids(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *before = vfio_machine_state(m);

    for (int i = 0; i < ARRAY_SIZE(values) - 1; i++) {
        static const Property id = { "id" };
        g_autofree char *error = object_add(m, &id, values[i]);

        check_has(error, "id");
    }
    check_state(m, before);
    vfio_machine_stop(m);
}

/* Values for the device */

static const char *const device_properties[] = {
    "iommufd", "fd", "vf-token", "map-in-background",
};

/* The device has all that it needs, except for the value of @property. */
static QDict *device_arguments(const char *property, const char *value)
{
    QDict *arguments = qdict_new();

    qdict_put_str(arguments, "driver", "vfio-pci");
    qdict_put_str(arguments, "id", "victim");
    qdict_put_str(arguments, "iommufd", VFIO_RIG_IOMMUFD);
    if (!g_str_equal(property, "fd")) {
        qdict_put_str(arguments, "host", vfio_rig_address("EDU0"));
    }
    qdict_put_obj(arguments, property, value_new(value));
    return arguments;
}

/* QEMU 7.2's device_add ignores null, lists and dictionaries. */
static bool is_dropped(const char *value)
{
    return value && (value[0] == '[' || value[0] == '{' || value[0] == 'n');
}

/* An empty name is allowed, and means no object: the group is used. */
static bool is_no_object(const char *property, const char *value)
{
    return g_str_equal(property, "iommufd") && !g_strcmp0(value, "''");
}

/* QEMU 7.2's device_add makes a string of it, "on", which fits. */
static bool is_on(const char *property, const char *value)
{
    return g_str_equal(property, "map-in-background") &&
           !g_strcmp0(value, "true");
}

static void test_device_values(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *before = vfio_machine_state(m);

    for (int i = 0; i < ARRAY_SIZE(device_properties); i++) {
        const char *property = device_properties[i];

        for (int j = 0; j < ARRAY_SIZE(values); j++) {
            g_autofree char *error = NULL;

            if (is_dropped(values[j]) || is_no_object(property, values[j]) ||
                is_on(property, values[j])) {
                continue;
            }
            g_test_message("%s: %s", property, values[j] ?: "(long)");
            error = qmp_error(m, "device_add",
                              device_arguments(property, values[j]));
            check_has(error, property);
        }
    }
    check_state(m, before);
    check_device_works(m);
    vfio_machine_stop(m);
}

static void check_json_refused(const char *property, const char *value)
{
    QDict *arguments = device_arguments(property, value);
    g_autoptr(GString) json = qobject_to_json(QOBJECT(arguments));
    g_autofree char *quoted = g_shell_quote(json->str);
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -object iommufd,id="
                        VFIO_RIG_IOMMUFD " -device %s", quoted);
    g_autofree char *text = NULL;
    int status = vfio_rig_run_qemu(options, NULL, &text);

    vfio_rig_check_refusal(status, text);
    check_has(text, property);
    qobject_unref(arguments);
}

/* -device with JSON does check types. */
static void test_device_json(void)
{
    static const char *const others[] = { "null", "true", "8", "[]", "{}" };

    for (int i = 0; i < ARRAY_SIZE(device_properties); i++) {
        for (int j = 0; j < ARRAY_SIZE(others); j++) {
            check_json_refused(device_properties[i], others[j]);
        }
    }
}

/* What is not JSON, or not text */
static void test_qmp_text(void)
{
    static const struct {
        const char *text;
        const char *word;
    } texts[] = {
        { "'id': 'a\xc1\x81'", "JSON" },
        { "'id': 'a\x80'", "JSON" },
        { "'id': 'a', 'fd': '\xf8\x88\x80\x80\x80'", "JSON" },
        { "'id': '\\ud800'", "JSON" },
        { "'id': '\\u0000'", "'id'" },
        { "'id': '\xc0\x80'", "'id'" },
        { "'id': 'a', 'fd': '\xc3\xa9'", "named '\xc3\xa9'" },
    };
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *before = vfio_machine_state(m);

    for (int i = 0; i < ARRAY_SIZE(texts); i++) {
        g_autofree char *error = NULL;

        qtest_qmp_send_raw(m->qts, "{ 'execute': 'object-add', 'arguments':"
                           " { 'qom-type': 'iommufd', %s } }", texts[i].text);
        error = vfio_reply_error(qtest_qmp_receive(m->qts));
        check_has(error, texts[i].word);
    }
    check_state(m, before);
    check_device_works(m);
    vfio_machine_stop(m);
}

/* Descriptors */

static char *add_object_fd(VFIOMachine *m, const char *fd)
{
    g_autofree char *arguments = g_strdup_printf("qom-type=iommufd,id=more,"
                                                 "fd=%s", fd);

    return vfio_machine_qmp_error(m, "object-add", arguments);
}

static char *add_device_fd(VFIOMachine *m, const char *fd)
{
    g_autofree char *device =
        g_strdup_printf("vfio-pci,fd=%s,iommufd=" VFIO_RIG_IOMMUFD
                        ",id=victim,addr=%d", fd, SLOT);

    return vfio_machine_device_add(m, device);
}

static int make_group(void)
{
    g_autofree char *node = vfio_rig_group_node("EDU1");

    return vfio_rig_open(node, O_RDWR);
}

static int make_cdev(void)
{
    g_autofree char *node = vfio_rig_cdev_node("EDU0");

    return vfio_rig_open(node, O_RDWR);
}

static int make_path(void)
{
    return vfio_rig_open("/dev/iommu", O_PATH);
}

static const VFIODescriptor unfit_for_object[] = {
    { "group", .make = make_group },
    { "cdev", .make = make_cdev },
    { "path", .make = make_path },
};

/* A descriptor given by number stays open, one given by name is closed. */
static void test_object_refuses(const void *data)
{
    int fd = vfio_descriptor_open(data);
    g_autofree char *number = g_strdup_printf("%d", fd);
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *before = vfio_machine_state(m);
    g_autofree char *by_number = add_object_fd(m, number);
    g_autofree char *by_name = NULL;

    check_has(by_number, number);
    check_has(by_number, "not an iommufd");
    vfio_descriptor_pass(m->qts, fd, "passed");
    by_name = add_object_fd(m, "passed");
    check_has(by_name, "fd=passed is not an iommufd");
    close(fd);
    check_state(m, before);
    check_device_works(m);
    vfio_machine_stop(m);
}

/* One number for both the object and the device: it fits only one of them. */
static void test_same_for_both(void)
{
    int iommu = vfio_rig_open("/dev/iommu", O_RDWR);
    int cdev = make_cdev();
    g_autofree char *iommu_number = g_strdup_printf("%d", iommu);
    g_autofree char *cdev_number = g_strdup_printf("%d", cdev);
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *object = add_object_fd(m, cdev_number);
    g_autofree char *device = add_device_fd(m, iommu_number);

    check_has(object, "not an iommufd");
    check_has(device, "and not of a VFIO device");
    g_assert_null(add_object_fd(m, iommu_number));
    g_assert_null(add_device_fd(m, cdev_number));
    close(iommu);
    close(cdev);
    check_dma(m);
    vfio_machine_stop(m);
}

/* What an object has opened itself cannot be given to another. */
static void test_number_of_another(void)
{
    VFIOMachine *m = vfio_machine_start(" ");
    g_autofree char *number = NULL;
    g_autofree char *error = NULL;

    check_device_works(m);
    number = vfio_machine_number(m, "/dev/iommu");
    error = add_object_fd(m, number);
    check_has(error, VFIO_RIG_IOMMUFD);
    check_has(error, "already");
    check_dma(m);
    vfio_machine_device_del(m, "victim", SLOT);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, "/dev/iommu") == 0));
    vfio_machine_stop(m);
}

/* Somebody else uses the device, by the same file or by another */
static void test_bound_elsewhere(void)
{
    int cdev = make_cdev();
    int other = make_cdev();
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .iommufd = vfio_rig_open("/dev/iommu", O_RDWR | O_CLOEXEC),
    };
    int fds[] = { cdev, other };
    VFIOMachine *m;
    g_autofree char *before = NULL;

    g_assert_cmpint(ioctl(cdev, VFIO_DEVICE_BIND_IOMMUFD, &bind), ==, 0);
    fcntl(cdev, F_SETFD, FD_CLOEXEC);
    fcntl(other, F_SETFD, FD_CLOEXEC);
    m = vfio_machine_start(" ");
    before = vfio_machine_state(m);
    for (int i = 0; i < ARRAY_SIZE(fds); i++) {
        g_autofree char *error = NULL;

        vfio_descriptor_pass(m->qts, fds[i], "passed");
        error = add_device_fd(m, "passed");
        check_has(error, vfio_rig_address("EDU0"));
        check_has(error, "bound already");
        check_state(m, before);
    }
    close(cdev);
    close(other);
    close(bind.iommufd);
    check_device_works(m);
    vfio_machine_stop(m);
}

/* The host takes the device while the guest has it */

/* A thread takes it, since that waits until nobody has the device. */
typedef struct Taking {
    char *file;
    const char *text;
    GThread *thread;
} Taking;

static gpointer take(gpointer opaque)
{
    Taking *taking = opaque;

    vfio_rig_write(taking->file, taking->text);
    return NULL;
}

static Taking *taking_start(const char *name, const char *file,
                            const char *text)
{
    Taking *taking = g_new0(Taking, 1);

    taking->file = vfio_rig_sysfs(name, file);
    taking->text = text;
    taking->thread = g_thread_new("taking", take, taking);
    return taking;
}

static void taking_wait(Taking *taking)
{
    g_thread_join(taking->thread);
    g_free(taking->file);
    g_free(taking);
}

static VFIOMachine *start_with_device(const char *name)
{
    g_autofree char *device = device_options(name);

    return vfio_machine_start("-device %s", device);
}

/* Until the guest agrees, the guest has the device, and nobody else. */
static void check_guest_keeps(VFIOMachine *m, const char *name)
{
    g_autofree char *again = g_strdup_printf("%s,id=twin",
                                             vfio_rig_device(name));
    g_autofree char *options =
        g_strdup_printf("-machine pc -nodefaults -object iommufd,id="
                        VFIO_RIG_IOMMUFD " -device %s", vfio_rig_device(name));
    g_autofree char *error = vfio_machine_device_add(m, again);
    g_autofree char *text = NULL;
    int status = vfio_rig_run_qemu(options, NULL, &text);

    check_has(error, "already attached");
    vfio_rig_check_refusal(status, text);
    check_has(text, vfio_rig_address(name));
    check_has(text, "not bound to a VFIO driver");
}

static void guest_agrees(VFIOMachine *m)
{
    vfio_acpi_eject(m, SLOT);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
}

static void check_refused(VFIOMachine *m, const char *name, const char *word)
{
    g_autofree char *device = device_options(name);
    g_autofree char *error = vfio_machine_device_add(m, device);

    check_has(error, vfio_rig_address(name));
    check_has(error, word);
}

static void check_comes_back(VFIOMachine *m, const char *name)
{
    g_autofree char *device = device_options(name);

    vfio_rig_bind(name, "vfio-pci");
    g_assert_null(vfio_machine_device_add(m, device));
    vfio_machine_stop(m);
}

static void test_unbound(void)
{
    VFIOMachine *m = start_with_device("EDU0");
    g_autofree char *driver = vfio_rig_sysfs("EDU0", "driver");
    Taking *taking;

    check_dma(m);
    taking = taking_start("EDU0", "driver/unbind", vfio_rig_address("EDU0"));
    g_assert_true(vfio_rig_wait(vfio_acpi_is_asked(m, SLOT)));
    check_guest_keeps(m, "EDU0");
    check_dma(m);
    guest_agrees(m);
    taking_wait(taking);

    g_assert_false(g_file_test(driver, G_FILE_TEST_EXISTS));
    check_refused(m, "EDU0", "not bound to a VFIO driver");
    check_comes_back(m, "EDU0");
}

/* The guest does not answer, but the end of QEMU gives the device back. */
static void test_unbound_until_end(void)
{
    VFIOMachine *m = start_with_device("EDU0");
    Taking *taking = taking_start("EDU0", "driver/unbind",
                                  vfio_rig_address("EDU0"));

    g_assert_true(vfio_rig_wait(vfio_acpi_is_asked(m, SLOT)));
    vfio_machine_stop(m);
    taking_wait(taking);
    vfio_rig_bind("EDU0", "vfio-pci");
}

/* driver_override matters only for the next driver. */
static void test_another_driver(void)
{
    VFIOMachine *m = start_with_device("NVME0");
    g_autofree char *override = vfio_rig_sysfs("NVME0", "driver_override");
    Taking *taking;

    vfio_rig_write(override, "nvme");
    g_assert_false(vfio_acpi_is_asked(m, SLOT));
    taking = taking_start("NVME0", "driver/unbind", vfio_rig_address("NVME0"));
    g_assert_true(vfio_rig_wait(vfio_acpi_is_asked(m, SLOT)));
    guest_agrees(m);
    taking_wait(taking);

    vfio_rig_write("/sys/bus/pci/drivers_probe", vfio_rig_address("NVME0"));
    vfio_rig_check_nvme_reads("NVME0");
    check_refused(m, "NVME0", "host's driver 'nvme'");
    check_comes_back(m, "NVME0");
}

static void test_removed(void)
{
    VFIOMachine *m = start_with_device("EDU0");
    Taking *taking = taking_start("EDU0", "remove", "1");

    g_assert_true(vfio_rig_wait(vfio_acpi_is_asked(m, SLOT)));
    check_dma(m);
    guest_agrees(m);
    taking_wait(taking);
    check_refused(m, "EDU0", "no such host device");

    vfio_rig_write("/sys/bus/pci/rescan", "1");
    check_comes_back(m, "EDU0");
}

static void add(const char *name, void (*fn)(void))
{
    vfio_rig_add(name, VFIO_RIG_IOMMUFD_ONLY, fn);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "hostile");

    add("value/object", test_object_values);
    add("value/object-id", test_object_ids);
    add("value/device", test_device_values);
    add("value/device-json", test_device_json);
    add("value/qmp-text", test_qmp_text);

    for (int i = 0; i < ARRAY_SIZE(unfit_for_object); i++) {
        g_autofree char *name = g_strdup_printf("descriptor/object-refuses/%s",
                                                unfit_for_object[i].name);

        vfio_rig_add_data(name, VFIO_RIG_IOMMUFD_ONLY, test_object_refuses,
                          &unfit_for_object[i]);
    }
    add("descriptor/same-for-both", test_same_for_both);
    add("descriptor/number-of-another", test_number_of_another);
    add("descriptor/bound-elsewhere", test_bound_elsewhere);

    add("host/unbinds", test_unbound);
    add("host/unbinds-until-end", test_unbound_until_end);
    add("host/gives-to-another-driver", test_another_driver);
    add("host/removes", test_removed);

    return g_test_run();
}
