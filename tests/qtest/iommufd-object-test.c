/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for the iommufd object: its life, without a device
 *
 * Needs no /dev/iommu, and gives the same results if there is one. The tests
 * that do need one are skipped without it.
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qjson.h"
#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qstring.h"
#include "vfio-descriptor.h"
#include "vfio-rig.h"

/* A number that is neither a descriptor of the test's nor of QEMU's */
#define CLOSED_FD "987"

/* A device that no machine has: the last function of the last bus */
#define NO_DEVICE "0000:ff:1f.7"

static QTestState *start(const char *options)
{
    return qtest_initf("-machine pc -nodefaults %s", options);
}

static char *object_add(QTestState *qts, const char *id)
{
    return vfio_reply_error(
        qtest_qmp(qts, "{ 'execute': 'object-add', 'arguments':"
                  " { 'qom-type': 'iommufd', 'id': %s } }", id));
}

static char *object_add_fd(QTestState *qts, const char *id, const char *fd)
{
    return vfio_reply_error(
        qtest_qmp(qts, "{ 'execute': 'object-add', 'arguments':"
                  " { 'qom-type': 'iommufd', 'id': %s, 'fd': %s } }", id, fd));
}

static char *object_del(QTestState *qts, const char *id)
{
    return vfio_reply_error(qtest_qmp(qts, "{ 'execute': 'object-del',"
                                      " 'arguments': { 'id': %s } }", id));
}

/* Whether an entry of @list has @value for @key */
static QDict *find_entry(QList *list, const char *key, const char *value)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(list, entry) {
        QDict *dict = qobject_to(QDict, qlist_entry_obj(entry));

        if (!g_strcmp0(qdict_get_try_str(dict, key), value)) {
            return dict;
        }
    }
    return NULL;
}

static bool has_object(QTestState *qts, const char *id)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'qom-list',"
                             " 'arguments': { 'path': '/objects' } }");
    QDict *found = find_entry(qdict_get_qlist(reply, "return"), "name", id);
    bool is_iommufd = found && g_str_equal(qdict_get_str(found, "type"),
                                           "child<iommufd>");

    qobject_unref(reply);
    return is_iommufd;
}

static void check_has(const char *text, const char *word)
{
    if (!text || !strstr(text, word)) {
        g_test_message("'%s' is not in: %s", word, text ?: "(nothing)");
        g_test_fail();
    }
}

/* The error of a QEMU with @options, which refuses to start; to be freed */
static char *refusal_of(const char *options)
{
    char *text;
    int status = vfio_rig_run_qemu(options, NULL, &text);

    vfio_rig_check_refusal(status, text);
    return text;
}

/* Life */

static void test_command_line(void)
{
    QTestState *qts = start("-object iommufd,id=a -object iommufd,id=b");

    g_assert_true(has_object(qts, "a"));
    g_assert_true(has_object(qts, "b"));
    qtest_quit(qts);
}

static void test_command_line_json(void)
{
    QTestState *qts =
        start("-object '{\"qom-type\":\"iommufd\",\"id\":\"a\"}'");

    g_assert_true(has_object(qts, "a"));
    qtest_quit(qts);
}

static void test_qmp(void)
{
    QTestState *qts = start("");

    for (int i = 0; i < 2; i++) {
        g_assert_null(object_add(qts, "a"));
        g_assert_true(has_object(qts, "a"));
        g_assert_null(object_del(qts, "a"));
        g_assert_false(has_object(qts, "a"));
    }
    qtest_quit(qts);
}

static void hmp_silent(QTestState *qts, const char *command)
{
    g_autofree char *output = qtest_hmp(qts, "%s", command);

    g_assert_cmpstr(output, ==, "");
}

static void test_hmp(void)
{
    QTestState *qts = start("");

    for (int i = 0; i < 2; i++) {
        hmp_silent(qts, "object_add iommufd,id=a");
        g_assert_true(has_object(qts, "a"));
        hmp_silent(qts, "object_del a");
        g_assert_false(has_object(qts, "a"));
    }
    qtest_quit(qts);
}

static void test_duplicate_id(void)
{
    g_autofree char *text =
        refusal_of("-machine none -object iommufd,id=twice"
                   " -object iommufd,id=twice");
    QTestState *qts = start("-object iommufd,id=a");
    g_autofree char *error = object_add(qts, "a");

    check_has(text, "twice");
    check_has(error, "'a'");
    g_assert_true(has_object(qts, "a"));
    qtest_quit(qts);
}

static void test_unknown_property(void)
{
    g_autofree char *text =
        refusal_of("-machine none -object iommufd,id=a,colour=1");

    check_has(text, "colour");
}

/* A device that is refused keeps no reference on its object. */
static void test_refused_device(void)
{
    QTestState *qts = start("-object iommufd,id=a");
    g_autofree char *error = vfio_reply_error(
        qtest_qmp(qts, "{ 'execute': 'device_add', 'arguments':"
                  " { 'driver': 'vfio-pci', 'id': 'dev0',"
                  "   'host': '" NO_DEVICE "', 'iommufd': 'a' } }"));

    check_has(error, NO_DEVICE);
    g_assert_null(object_del(qts, "a"));
    qtest_quit(qts);
}

/* Introspection: what libvirt asks for; the answers are those of newer QEMUs */

static bool lists_type(QTestState *qts, const char *implements, bool abstract,
                       const char *name)
{
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'qom-list-types', 'arguments':"
                             " { 'implements': %s, 'abstract': %i } }",
                             implements, abstract);
    QDict *found = find_entry(qdict_get_qlist(reply, "return"), "name", name);
    bool listed = found && !qdict_haskey(found, "abstract");

    qobject_unref(reply);
    return listed;
}

static void test_qom_list_types(void)
{
    QTestState *qts = start("");
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'qom-list-types' }");
    QDict *type = find_entry(qdict_get_qlist(reply, "return"), "name",
                             "iommufd");

    g_assert_nonnull(type);
    g_assert_cmpstr(qdict_get_str(type, "parent"), ==, "object");
    qobject_unref(reply);

    g_assert_true(lists_type(qts, "user-creatable", false, "iommufd"));
    g_assert_true(lists_type(qts, "user-creatable", true, "iommufd"));
    g_assert_true(lists_type(qts, "object", false, "iommufd"));
    g_assert_false(lists_type(qts, "device", true, "iommufd"));
    g_assert_true(lists_type(qts, "device", false, "vfio-pci"));
    qtest_quit(qts);
}

static void check_property(QList *properties, const char *name,
                           const char *type)
{
    QDict *property = find_entry(properties, "name", name);

    g_assert_nonnull(property);
    g_assert_cmpstr(qdict_get_str(property, "type"), ==, type);
}

static void test_qom_list_properties(void)
{
    QTestState *qts = start("");
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'qom-list-properties',"
                             " 'arguments': { 'typename': 'iommufd' } }");
    QList *properties = qdict_get_qlist(reply, "return");

    check_property(properties, "type", "string");
    check_property(properties, "fd", "string");
    check_property(properties, "memlock-accounting",
                   "IommufdMemlockAccounting");
    check_property(properties, "huge-pages", "bool");
    check_property(properties, "map-threads", "uint32");
    check_property(properties, "max-guest-maps", "uint32");
    check_property(properties, "map-in-background", "bool");
    g_assert_cmpuint(qlist_size(properties), ==, 7);
    qobject_unref(reply);
    qtest_quit(qts);
}

static QDict *qom_get(QTestState *qts, const char *id, const char *name)
{
    g_autofree char *path = g_strdup_printf("/objects/%s", id);

    return qtest_qmp(qts, "{ 'execute': 'qom-get', 'arguments':"
                     " { 'path': %s, 'property': %s } }", path, name);
}

/* @expected is JSON. */
static void check_reads(QTestState *qts, const char *id, const char *name,
                        const char *expected)
{
    QDict *reply = qom_get(qts, id, name);
    GString *text = qobject_to_json(QOBJECT(reply));
    g_autofree char *answer = g_strdup_printf("{\"return\": %s}", expected);

    g_assert_cmpstr(text->str, ==, answer);
    g_string_free(text, true);
    qobject_unref(reply);
}

static void test_what_is_set_can_be_read(void)
{
    QTestState *qts = start("-object iommufd,id=a,memlock-accounting=process,"
                            "huge-pages=off,map-threads=3,max-guest-maps=7,"
                            "map-in-background=on");

    check_reads(qts, "a", "memlock-accounting", "\"process\"");
    check_reads(qts, "a", "huge-pages", "false");
    check_reads(qts, "a", "map-threads", "3");
    check_reads(qts, "a", "max-guest-maps", "7");
    check_reads(qts, "a", "map-in-background", "true");
    qtest_qmp_assert_success(qts, "{ 'execute': 'qom-set', 'arguments':"
                             " { 'path': '/objects/a',"
                             "   'property': 'max-guest-maps', 'value': 9 } }");
    check_reads(qts, "a", "max-guest-maps", "9");
    qtest_quit(qts);
}

/* 64 MiB, and 64 MiB of a DIMM: 32768 pages */
static void test_defaults_can_be_read(void)
{
    QTestState *qts =
        start("-m 64M,slots=1,maxmem=1G -object iommufd,id=a "
              "-object memory-backend-ram,id=mem,size=64M "
              "-device pc-dimm,memdev=mem");
    g_autofree char *threads = g_strdup_printf("%u",
                                               MIN(g_get_num_processors(), 16));
    g_autofree char *error = vfio_reply_error(qom_get(qts, "a",
                                                      "memlock-accounting"));

    check_has(error, "'a'");
    check_has(error, "memlock-accounting is not set");
    check_has(error, "while a device uses");
    check_reads(qts, "a", "huge-pages", "true");
    check_reads(qts, "a", "map-threads", threads);
    check_reads(qts, "a", "max-guest-maps", "98303");
    qtest_quit(qts);
}

static void test_device_list_properties(void)
{
    QTestState *qts = start("");
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'device-list-properties',"
                             " 'arguments': { 'typename': 'vfio-pci' } }");
    QList *properties = qdict_get_qlist(reply, "return");

    check_property(properties, "iommufd", "link<iommufd>");
    check_property(properties, "fd", "str");
    check_property(properties, "vf-token", "str");
    check_property(properties, "map-in-background", "OnOffAuto");
    check_property(properties, "host", "str");
    check_property(properties, "sysfsdev", "str");
    qobject_unref(reply);
    qtest_quit(qts);
}

/* The schema's entry for the type that @entry has as @key */
static QDict *type_of(QList *schema, QDict *entry, const char *key)
{
    QDict *type;

    g_assert_nonnull(entry);
    type = find_entry(schema, "name", qdict_get_str(entry, key));
    g_assert_nonnull(type);
    return type;
}

/* Object type @type has member @name, which is optional or not. */
static void check_member(QList *schema, QDict *type, const char *name,
                         bool optional, const char *json_type)
{
    QDict *member = find_entry(qdict_get_qlist(type, "members"), "name", name);
    QDict *value = type_of(schema, member, "type");

    g_assert_cmpint(qdict_haskey(member, "default"), ==, optional);
    g_assert_cmpstr(qdict_get_try_str(value, "json-type") ?:
                    qdict_get_str(value, "meta-type"), ==, json_type);
}

/* object-add's argument has a variant for iommufd, which has members. */
static void check_object_add(QList *schema)
{
    QDict *argument = type_of(schema, find_entry(schema, "name", "object-add"),
                              "arg-type");
    QDict *qom_type = find_entry(qdict_get_qlist(argument, "members"), "name",
                                 "qom-type");
    QDict *values = type_of(schema, qom_type, "type");
    QDict *variant = find_entry(qdict_get_qlist(argument, "variants"), "case",
                                "iommufd");
    QDict *properties = type_of(schema, variant, "type");

    g_assert_cmpstr(qdict_get_str(argument, "tag"), ==, "qom-type");
    g_assert_nonnull(find_entry(qdict_get_qlist(values, "members"), "name",
                                "iommufd"));
    check_member(schema, properties, "fd", true, "string");
    check_member(schema, properties, "memlock-accounting", true, "enum");
    check_member(schema, properties, "huge-pages", true, "boolean");
    check_member(schema, properties, "map-threads", true, "int");
    check_member(schema, properties, "max-guest-maps", true, "int");
    check_member(schema, properties, "map-in-background", true, "boolean");
}

static void check_event(QList *schema)
{
    QDict *event = find_entry(schema, "name", "IOMMUFD_MAP_ERROR");
    QDict *data = type_of(schema, event, "arg-type");

    g_assert_cmpstr(qdict_get_str(event, "meta-type"), ==, "event");
    check_member(schema, data, "id", false, "string");
    check_member(schema, data, "iova", false, "int");
    check_member(schema, data, "size", false, "int");
    check_member(schema, data, "last", false, "int");
    check_member(schema, data, "memory", false, "string");
    check_member(schema, data, "qom-path", true, "string");
    check_member(schema, data, "reason", false, "string");
}

/* By this libvirt knows that -device takes JSON and can unplug such devices. */
static void check_json_devices(QList *schema)
{
    QDict *command = find_entry(schema, "name", "device_add");
    QList *features = qdict_get_qlist(command, "features");
    bool cli = false, hotplug = false;
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(features, entry) {
        const char *feature =
            qstring_get_str(qobject_to(QString, qlist_entry_obj(entry)));

        cli |= g_str_equal(feature, "json-cli");
        hotplug |= g_str_equal(feature, "json-cli-hotplug");
    }
    g_assert_true(cli && hotplug);
}

static void test_qmp_schema(void)
{
    QTestState *qts = start("");
    QDict *reply = qtest_qmp(qts, "{ 'execute': 'query-qmp-schema' }");
    QList *schema = qdict_get_qlist(reply, "return");

    check_object_add(schema);
    check_event(schema);
    check_json_devices(schema);
    qobject_unref(reply);
    qtest_quit(qts);
}

/* Both options exist; the schema (see above) says what they accept. */
static void test_command_line_options(void)
{
    static const char *const options[] = { "object", "device" };
    QTestState *qts = start("");

    for (int i = 0; i < ARRAY_SIZE(options); i++) {
        QDict *reply = qtest_qmp(qts, "{ 'execute':"
                                 " 'query-command-line-options',"
                                 " 'arguments': { 'option': %s } }",
                                 options[i]);
        QDict *option = find_entry(qdict_get_qlist(reply, "return"), "option",
                                   options[i]);

        g_assert_nonnull(option);
        g_assert_true(qlist_empty(qdict_get_qlist(option, "parameters")));
        qobject_unref(reply);
    }
    qtest_quit(qts);
}

static void check_help(const char *options, const char *line)
{
    g_autofree char *output = NULL;

    g_assert_cmpint(vfio_rig_run_qemu(options, &output, NULL), ==, 0);
    check_has(output, line);
}

static void test_help(void)
{
    check_help("-object help", "\n  iommufd\n");
    check_help("-object iommufd,help", "  fd=");
    check_help("-object iommufd,help", "  memlock-accounting=");
    check_help("-object iommufd,help", "  huge-pages=");
    check_help("-device vfio-pci,help", "  iommufd=");
    check_help("-device vfio-pci,help", "  fd=");
}

/* Descriptors */

static const VFIODescriptor iommu = { "iommu", .path = "/dev/iommu" };

/* Returns -1 if the host has no such thing. */
static int open_or_skip(const VFIODescriptor *descriptor)
{
    int fd = vfio_descriptor_open(descriptor);

    if (fd < 0) {
        g_autofree char *reason = g_strdup_printf("%s: %s", descriptor->name,
                                                  g_strerror(errno));

        g_test_skip(reason);
    }
    return fd;
}

/* Given by number at start, and by name afterwards */
static void test_foreign_descriptor(const void *descriptor)
{
    int fd = open_or_skip(descriptor);
    g_autofree char *options = g_strdup_printf("-machine none"
                                               " -object iommufd,id=a,fd=%d",
                                               fd);
    g_autofree char *text = NULL;
    g_autofree char *error = NULL;
    QTestState *qts;

    if (fd < 0) {
        return;
    }

    text = refusal_of(options);
    check_has(text, "not an iommufd");

    qts = start("");
    vfio_descriptor_pass(qts, fd, "passed");
    error = object_add_fd(qts, "a", "passed");
    check_has(error, "not an iommufd");
    check_has(error, "must be a descriptor of /dev/iommu");
    check_has(error, "passed");
    g_assert_false(has_object(qts, "a"));
    g_assert_null(object_add(qts, "a"));
    qtest_quit(qts);
    close(fd);
}

static void test_closed_descriptor(void)
{
    g_autofree char *text =
        refusal_of("-machine none -object iommufd,id=a,fd=" CLOSED_FD);
    QTestState *qts = start("");
    g_autofree char *error = object_add_fd(qts, "a", CLOSED_FD);

    check_has(text, CLOSED_FD);
    check_has(text, "Bad file descriptor");
    check_has(error, CLOSED_FD);
    g_assert_false(has_object(qts, "a"));
    qtest_quit(qts);
}

static void test_unknown_descriptor(void)
{
    g_autofree char *text =
        refusal_of("-machine none -object iommufd,id=a,fd=nobody");
    QTestState *qts = start("");
    g_autofree char *error = object_add_fd(qts, "a", "nobody");

    check_has(text, "nobody");
    check_has(error, "nobody");
    g_assert_false(has_object(qts, "a"));
    qtest_quit(qts);
}

static void test_iommu_by_number(void)
{
    int fd = open_or_skip(&iommu);
    g_autofree char *options = g_strdup_printf("-object iommufd,id=a,fd=%d",
                                               fd);
    QTestState *qts;

    if (fd < 0) {
        return;
    }

    qts = start(options);
    g_assert_true(has_object(qts, "a"));
    qtest_quit(qts);
    close(fd);
}

/* The name is used up, and the object owns the descriptor. */
static void test_iommu_by_name(void)
{
    int fd = open_or_skip(&iommu);
    g_autofree char *error = NULL;
    QTestState *qts;

    if (fd < 0) {
        return;
    }

    qts = start("");
    vfio_descriptor_pass(qts, fd, "iommu");
    close(fd);
    g_assert_null(object_add_fd(qts, "a", "iommu"));
    g_assert_true(has_object(qts, "a"));

    error = object_add_fd(qts, "b", "iommu");
    check_has(error, "iommu");
    g_assert_null(object_del(qts, "a"));
    qtest_quit(qts);
}

static void add_descriptors(void)
{
    const VFIODescriptor *foreign;

    for (foreign = vfio_foreign_descriptors; foreign->name; foreign++) {
        g_autofree char *path =
            g_strdup_printf("/iommufd/fd/foreign-refused/%s", foreign->name);

        qtest_add_data_func(path, foreign, test_foreign_descriptor);
    }
    qtest_add_func("/iommufd/fd/closed-refused", test_closed_descriptor);
    qtest_add_func("/iommufd/fd/unknown-refused", test_unknown_descriptor);
    qtest_add_func("/iommufd/fd/iommu-by-number", test_iommu_by_number);
    qtest_add_func("/iommufd/fd/iommu-by-name", test_iommu_by_name);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);

    qtest_add_func("/iommufd/life/command-line", test_command_line);
    qtest_add_func("/iommufd/life/command-line-json", test_command_line_json);
    qtest_add_func("/iommufd/life/qmp", test_qmp);
    qtest_add_func("/iommufd/life/hmp", test_hmp);
    qtest_add_func("/iommufd/life/duplicate-id-refused", test_duplicate_id);
    qtest_add_func("/iommufd/life/unknown-property-refused",
                   test_unknown_property);
    qtest_add_func("/iommufd/life/refused-device-keeps-nothing",
                   test_refused_device);

    qtest_add_func("/iommufd/shown/qom-list-types", test_qom_list_types);
    qtest_add_func("/iommufd/shown/qom-list-properties",
                   test_qom_list_properties);
    qtest_add_func("/iommufd/shown/what-is-set", test_what_is_set_can_be_read);
    qtest_add_func("/iommufd/shown/defaults", test_defaults_can_be_read);
    qtest_add_func("/iommufd/shown/device-list-properties",
                   test_device_list_properties);
    qtest_add_func("/iommufd/shown/qmp-schema", test_qmp_schema);
    qtest_add_func("/iommufd/shown/query-command-line-options",
                   test_command_line_options);
    qtest_add_func("/iommufd/shown/help", test_help);
    add_descriptors();

    return g_test_run();
}
