/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what libvirt 12.1 and newer send for <hostdev>s with
 * <driver iommufd='yes'/>
 *
 * A domain has one object, which comes with the first device and goes with the
 * last one.  At start QEMU inherits descriptors, which are given by number;
 * later they are passed with getfd, and given by the name that they got there.
 * libvirt keeps none of them.
 */
#include "qemu/osdep.h"

#include <sys/resource.h>

#include "qapi/qmp/qlist.h"
#include "vfio-domain.h"

#define IOMMU "/dev/iommu"

/* The devices of hostdev0 and hostdev1 */
static const char *const disks[] = { "NVME0", "NVME1" };

static void check_accepted(QDict *reply)
{
    g_autofree char *error = vfio_reply_error(reply);

    g_assert_cmpstr(error, ==, NULL);
}

static void check_refused(QDict *reply, const char *word)
{
    g_autofree char *error = vfio_reply_error(reply);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, word));
}

/* On the command line */

static void define_object(VFIODomain *d)
{
    vfio_domain_argument(d, "-object");
    vfio_domain_argument(d, "{\"qom-type\":\"iommufd\",\"id\":\"iommufd0\","
                         "\"fd\":\"%d\"}",
                         vfio_domain_give(d, vfio_domain_open_iommu()));
}

static void define_device(VFIODomain *d, int number)
{
    int fd = vfio_domain_give(d, vfio_domain_open_device(disks[number]));

    vfio_domain_argument(d, "-device");
    vfio_domain_argument(d, "{\"driver\":\"vfio-pci\",\"id\":\"hostdev%d\","
                         "\"iommufd\":\"iommufd0\",\"fd\":\"%d\","
                         "\"bus\":\"pci.%d\",\"addr\":\"0x0\"}",
                         number, fd, number + 1);
}

/* Through the monitor */

static void pass(VFIODomain *d, int fd, const char *name)
{
    check_accepted(vfio_domain_qmp(d, fd, "{ 'execute': 'getfd',"
                                   " 'arguments': { 'fdname': %s } }", name));
}

static void add_object(VFIODomain *d)
{
    pass(d, vfio_domain_open_iommu(), "iommufd0");
    check_accepted(vfio_domain_qmp(d, -1, "{ 'execute': 'object-add',"
                                   " 'arguments': { 'qom-type': 'iommufd',"
                                   " 'id': 'iommufd0', 'fd': 'iommufd0' } }"));
}

static void delete_object(VFIODomain *d)
{
    check_accepted(vfio_domain_qmp(d, -1, "{ 'execute': 'object-del',"
                                   " 'arguments': { 'id': 'iommufd0' } }"));
}

/* Into port @bus, with a descriptor that has the device's name */
static QDict *add_device(VFIODomain *d, int number, int bus)
{
    g_autofree char *id = g_strdup_printf("hostdev%d", number);
    g_autofree char *port = g_strdup_printf("pci.%d", bus);

    pass(d, vfio_domain_open_device(disks[number]), id);
    return vfio_domain_qmp(d, -1, "{ 'execute': 'device_add', 'arguments':"
                           " { 'driver': 'vfio-pci', 'id': %s,"
                           "   'iommufd': 'iommufd0', 'fd': %s,"
                           "   'bus': %s, 'addr': '0x0' } }", id, id, port);
}

static QDict *close_name(VFIODomain *d, const char *name)
{
    return vfio_domain_qmp(d, -1, "{ 'execute': 'closefd',"
                           " 'arguments': { 'fdname': %s } }", name);
}

/* What is promised */

static bool comes_to_hold(VFIODomain *d, const char *path, int count)
{
    return vfio_rig_wait(vfio_rig_holds(d->pid, path) == count);
}

/* The guest reads the right data from disk @number, for the @time-th time. */
static void check_read(VFIODomain *d, int number, int time)
{
    g_autofree char *path = g_strdup_printf("/rig/nvme%d.img.sha256", number);
    g_autofree char *key = g_strdup_printf("data%d %d ", number, time);
    g_autofree char *told = vfio_domain_wait_told(d, key);
    g_autofree char *want = NULL;

    g_assert_true(g_file_get_contents(path, &want, NULL, NULL));
    g_assert_cmpstr(told, ==, g_strstrip(want));
}

/* The guest lets go of disk @number for the @time-th time, and so does QEMU. */
static void unplug(VFIODomain *d, int number, int time)
{
    g_autofree char *node = vfio_rig_cdev_node(disks[number]);
    g_autofree char *id = g_strdup_printf("hostdev%d", number);
    g_autofree char *key = g_strdup_printf("gone%d %d", number, time);

    check_accepted(vfio_domain_qmp(d, -1, "{ 'execute': 'device_del',"
                                   " 'arguments': { 'id': %s } }", id));
    g_free(vfio_domain_wait_told(d, key));
    vfio_domain_wait_event(d, "DEVICE_DELETED", id);
    g_assert_true(comes_to_hold(d, node, 0));
}

static uint64_t locked_kib(VFIODomain *d)
{
    g_autofree char *text = vfio_domain_status(d, "VmLck");

    return g_ascii_strtoull(text, NULL, 10);
}

static void check_status(VFIODomain *d, const char *key, const char *want)
{
    g_autofree char *value = vfio_domain_status(d, key);

    g_assert_cmpstr(value, ==, want);
}

static bool finds(VFIODomain *d, const char *node)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/root%s", d->pid, node);

    return g_file_test(path, G_FILE_TEST_EXISTS);
}

/* The process itself could not have opened what it was given. */
static void check_confined(VFIODomain *d)
{
    static const char *const capabilities[] = {
        "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
    };

    check_status(d, "Uid", "1000\t1000\t1000\t1000");
    check_status(d, "Gid", "1000\t1000\t1000\t1000");
    check_status(d, "Groups", "");
    for (int i = 0; i < ARRAY_SIZE(capabilities); i++) {
        check_status(d, capabilities[i], "0000000000000000");
    }
    check_status(d, "NoNewPrivs", "1");
    check_status(d, "Seccomp", "2");
    g_assert_true(finds(d, "/dev/kvm"));
    g_assert_false(finds(d, IOMMU));
    g_assert_false(finds(d, "/dev/vfio"));
}

/* Only QEMU has each of them open. */
static void check_given(VFIODomain *d, int number)
{
    g_autofree char *node = vfio_rig_cdev_node(disks[number]);

    g_assert_cmpint(vfio_rig_holds(d->pid, IOMMU), ==, 1);
    g_assert_cmpint(vfio_rig_holds(d->pid, node), ==, 1);
    g_assert_cmpint(vfio_rig_holds(getpid(), IOMMU), ==, 0);
    g_assert_cmpint(vfio_rig_holds(getpid(), node), ==, 0);
}

static bool has_child(VFIODomain *d, const char *path, const char *name)
{
    QDict *reply = vfio_domain_qmp(d, -1, "{ 'execute': 'qom-list',"
                                   " 'arguments': { 'path': %s } }", path);
    bool found = false;
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *child = qobject_to(QDict, qlist_entry_obj(entry));

        found |= g_str_equal(qdict_get_str(child, "name"), name);
    }
    qobject_unref(reply);
    return found;
}

static void check_nothing_left(VFIODomain *d)
{
    g_assert_false(has_child(d, "/objects", "iommufd0"));
    g_assert_cmpint(vfio_rig_holds(d->pid, IOMMU), ==, 0);
    for (int i = 0; i < ARRAY_SIZE(disks); i++) {
        g_autofree char *id = g_strdup_printf("hostdev%d", i);
        g_autofree char *node = vfio_rig_cdev_node(disks[i]);

        g_assert_false(has_child(d, "/machine/peripheral", id));
        g_assert_cmpint(vfio_rig_holds(d->pid, node), ==, 0);
    }
    g_assert_cmpuint(locked_kib(d), ==, 0);
}

/* Domains */

static void check_run_state(VFIODomain *d, const char *state)
{
    QDict *reply = vfio_domain_qmp(d, -1, "{ 'execute': 'query-status' }");

    g_assert_cmpstr(qdict_get_str(qdict_get_qdict(reply, "return"), "status"),
                    ==, state);
    qobject_unref(reply);
}

/* The second device uses the first one's object, and locks no more memory. */
static void share_object(VFIODomain *d)
{
    uint64_t locked = locked_kib(d);

    g_assert_cmpuint(locked, >=, VFIO_DOMAIN_MEMORY / KiB);
    check_accepted(add_device(d, 1, 2));
    check_given(d, 1);
    check_read(d, 1, 1);
    g_assert_cmpuint(locked_kib(d), ==, locked);
    unplug(d, 1, 1);
}

static void test_guest(void)
{
    VFIODomain *d = vfio_domain_new("disks");

    define_object(d);
    define_device(d, 0);
    vfio_domain_start(d);
    check_run_state(d, "prelaunch");
    check_confined(d);
    check_given(d, 0);
    check_accepted(vfio_domain_qmp(d, -1, "{ 'execute': 'cont' }"));
    check_read(d, 0, 1);

    share_object(d);
    unplug(d, 0, 1);
    delete_object(d);
    check_nothing_left(d);

    add_object(d);
    check_accepted(add_device(d, 0, 1));
    check_given(d, 0);
    check_read(d, 0, 2);
    unplug(d, 0, 2);
    delete_object(d);
    check_nothing_left(d);
    vfio_domain_stop(d);
}

static void test_two_at_start(void)
{
    VFIODomain *d = vfio_domain_new(NULL);

    define_object(d);
    define_device(d, 0);
    define_device(d, 1);
    vfio_domain_start(d);
    check_confined(d);
    check_given(d, 0);
    check_given(d, 1);
    g_assert_cmpuint(locked_kib(d), >=, VFIO_DOMAIN_MEMORY / KiB);
    vfio_domain_stop(d);
}

static void limit_memlock(VFIODomain *d, rlim_t bytes)
{
    struct rlimit limit;

    g_assert_cmpint(prlimit(d->pid, RLIMIT_MEMLOCK, NULL, &limit), ==, 0);
    limit.rlim_cur = MIN(bytes, limit.rlim_max);
    g_assert_cmpint(prlimit(d->pid, RLIMIT_MEMLOCK, &limit, NULL), ==, 0);
}

/*
 * Whatever made device_add fail, the device's name is closed and the object is
 * deleted.  The name may be used up already; libvirt does not mind.
 */
static void test_rolled_back(void)
{
    VFIODomain *d = vfio_domain_new(NULL);

    vfio_domain_start(d);
    add_object(d);
    check_refused(add_device(d, 0, 9), "pci.9");
    check_accepted(close_name(d, "hostdev0"));
    delete_object(d);
    check_nothing_left(d);

    add_object(d);
    limit_memlock(d, MiB);
    check_refused(add_device(d, 0, 1), "RLIMIT_MEMLOCK");
    check_refused(close_name(d, "hostdev0"), "hostdev0");
    delete_object(d);
    check_nothing_left(d);

    add_object(d);
    limit_memlock(d, RLIM_INFINITY);
    check_accepted(add_device(d, 0, 1));
    check_given(d, 0);
    vfio_domain_stop(d);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "libvirt");

    vfio_rig_add("two-at-start", VFIO_RIG_BOTH, test_two_at_start);
    vfio_rig_add("rolled-back", VFIO_RIG_BOTH, test_rolled_back);
    vfio_rig_add("guest", VFIO_RIG_BOTH, test_guest);

    return g_test_run();
}
