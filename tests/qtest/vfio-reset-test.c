/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: resets by function, and of a slot or bus as a whole
 *
 * The devices are the rig's; see vfio-rig.h and tests/rig/devices.  PAIR0 and
 * PAIR1 share a bus and a group, so do MULTI0 and MULTI1; APART0, APART1 (edus)
 * and APART2 (NVMe) share a bus, and each has a group of its own.  POWER0 and
 * POWER1 share a slot and can be reset by power management.
 *
 * An edu cannot be reset by itself.  No register of it is cleared by a reset
 * and not restored by the kernel, except MSI's address while MSI is off.  That
 * is where these tests leave a mark.
 */
#include "qemu/osdep.h"

#include <glib/gstdio.h>

#include "hw/pci/pci_regs.h"
#include "qemu/bswap.h"
#include "vfio-edu.h"
#include "vfio-nvme.h"

#define SLOT(i) (4 + (i))

#define MAX_DEVICES 3
#define MARK 0xfee5a5a0

typedef struct Case Case;

/* What a test works with */
typedef struct Setting {
    const Case *c;
    VFIOMachine *m;
    char *stderr_path;
    VFIOEdu *edus[MAX_DEVICES];     /* NULL if there is no edu (any more) */
    VFIONVMe *nvmes[MAX_DEVICES];
    VFIOMachine *other;
} Setting;

/* A reboot, and what it shall do to the devices of a slot or bus */
struct Case {
    const char *name;
    VFIORigModes modes;

    const char *given[MAX_DEVICES];     /* to the VM */
    const char *first_by;   /* after host=; NULL: as the rig's mode says */
    const char *rest_by;    /* for all but the first */
    const char *options;    /* for QEMU, needed by these */
    const char *others[MAX_DEVICES];    /* of the slot or bus */

    /*
     * Empty: there is a hot reset, and all edus of the slot or bus lose their
     * marks.  Else: there is none, and the message names these devices.
     */
    const char *missing[MAX_DEVICES];

    /* Before QEMU starts, before the reboot, and at the end */
    void (*prepare)(void);
    void (*before)(Setting *s);
    void (*cleanup)(void);
};

static void disable_function_reset(void);
static void enable_function_reset(void);
static void unplug_second(Setting *s);
static void plug_into_other(Setting *s);
static void give_to_host(void);
static void take_from_host(void);

static const Case cases[] = {
    {
        .name = "one-of-one",
        .given = { "EDU0" },
        .prepare = disable_function_reset,
        .cleanup = enable_function_reset,
    }, {
        .name = "both-of-bus",
        .given = { "PAIR0", "PAIR1" },
    }, {
        .name = "both-of-slot",
        .given = { "MULTI0", "MULTI1" },
    }, {
        .name = "all-groups-of-bus",
        .given = { "APART0", "APART1", "APART2" },
    }, {
        .name = "one-of-bus-same-group",
        .given = { "PAIR0" },
        .others = { "PAIR1" },
    }, {
        .name = "one-of-slot-same-group",
        .given = { "MULTI1" },
        .others = { "MULTI0" },
    }, {
        .name = "after-unplug-same-group",
        .given = { "PAIR0", "PAIR1" },
        .before = unplug_second,
    }, {
        .name = "one-of-three-groups",
        .given = { "APART0" },
        .others = { "APART1", "APART2" },
        .missing = { "APART1", "APART2" },
    }, {
        .name = "after-unplug-other-group",
        .given = { "APART0", "APART1", "APART2" },
        .before = unplug_second,
        .missing = { "APART1" },
    }, {
        .name = "held-by-another-vm",
        .given = { "APART0", "APART2" },
        .others = { "APART1" },
        .before = plug_into_other,
        .missing = { "APART1" },
    }, {
        .name = "held-by-host-driver",
        .given = { "APART0", "APART1" },
        .others = { "APART2" },
        .prepare = give_to_host,
        .cleanup = take_from_host,
        .missing = { "APART2" },
    }, {
        .name = "two-objects",
        .modes = VFIO_RIG_IOMMUFD_ONLY,
        .given = { "APART0", "APART1", "APART2" },
        .options = "-object iommufd,id=more",
        .rest_by = ",iommufd=more",
        .missing = { "APART1", "APART2" },
    }, {
        .name = "group-beside-iommufd",
        .modes = VFIO_RIG_IOMMUFD_ONLY,
        .given = { "APART0", "APART1", "APART2" },
        .rest_by = "",
        .missing = { "APART1", "APART2" },
    },
};

/* Devices of the rig */

static bool is_nvme(const char *name)
{
    return g_str_equal(name, "APART2") || g_str_has_prefix(name, "NVME");
}

/* The offset of MSI's address in the configuration space behind @fd */
static uint8_t find_msi_address(int fd)
{
    uint8_t cap[2], next;

    g_assert_cmpint(pread(fd, &next, 1, PCI_CAPABILITY_LIST), ==, 1);
    while (next) {
        g_assert_cmpint(pread(fd, cap, 2, next), ==, 2);
        if (cap[0] == PCI_CAP_ID_MSI) {
            return next + PCI_MSI_ADDRESS_LO;
        }
        next = cap[1];
    }
    g_assert_not_reached();
}

static int open_config(const char *name)
{
    g_autofree char *path = vfio_rig_sysfs(name, "config");
    int fd = open(path, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static bool is_marked(const char *name)
{
    int fd = open_config(name);
    uint32_t value;

    g_assert_cmpint(pread(fd, &value, 4, find_msi_address(fd)), ==, 4);
    close(fd);
    return le32_to_cpu(value) == MARK;
}

static void mark(const char *name)
{
    uint32_t value = cpu_to_le32(MARK);
    int fd = open_config(name);

    g_assert_cmpint(pwrite(fd, &value, 4, find_msi_address(fd)), ==, 4);
    close(fd);
    g_assert_true(is_marked(name));
}

static void set_reset_method(const char *name, const char *method)
{
    g_autofree char *path = vfio_rig_sysfs(name, "reset_method");

    vfio_rig_write(path, method);
}

static void disable_function_reset(void)
{
    set_reset_method("EDU0", "\n");
}

static void enable_function_reset(void)
{
    set_reset_method("EDU0", "default\n");
}

static void give_to_host(void)
{
    vfio_rig_bind("APART2", "nvme");
}

static void take_from_host(void)
{
    vfio_rig_bind("APART2", "vfio-pci");
}

/* The machine */

static VFIOMachine *start_quietly(const char *options, char **stderr_path)
{
    close(g_file_open_tmp("vfio-stderr-XXXXXX", stderr_path, NULL));
    return vfio_machine_start("%s 2>>%s", options, *stderr_path);
}

static char *all_options(const Case *c)
{
    GString *text = g_string_new(c->options);

    for (int i = 0; i < MAX_DEVICES && c->given[i]; i++) {
        const char *by = i ? c->rest_by : c->first_by;

        if (by) {
            g_string_append_printf(text, " -device vfio-pci,host=%s%s",
                                   vfio_rig_address(c->given[i]), by);
        } else {
            g_string_append_printf(text, " -device %s",
                                   vfio_rig_device(c->given[i]));
        }
        g_string_append_printf(text, ",id=dev%d,addr=%d", i, SLOT(i));
    }
    return g_string_free(text, false);
}

static void find_devices(Setting *s)
{
    for (int i = 0; i < MAX_DEVICES && s->c->given[i]; i++) {
        if (is_nvme(s->c->given[i])) {
            s->nvmes[i] = vfio_nvme_new(s->m, SLOT(i));
        } else {
            s->edus[i] = vfio_edu_new(s->m, SLOT(i));
        }
    }
}

static Setting *setting_new(const Case *c)
{
    g_autofree char *options = all_options(c);
    Setting *s = g_new0(Setting, 1);

    s->c = c;
    if (c->prepare) {
        c->prepare();
    }
    s->m = start_quietly(options, &s->stderr_path);
    find_devices(s);
    return s;
}

static void setting_free(Setting *s)
{
    for (int i = 0; i < MAX_DEVICES; i++) {
        if (s->edus[i]) {
            vfio_edu_free(s->edus[i]);
        }
        if (s->nvmes[i]) {
            vfio_nvme_free(s->nvmes[i]);
        }
    }
    vfio_machine_stop(s->m);
    if (s->other) {
        vfio_machine_stop(s->other);
    }
    g_unlink(s->stderr_path);
    g_free(s->stderr_path);
    if (s->c->cleanup) {
        s->c->cleanup();
    }
    g_free(s);
}

static void unplug_second(Setting *s)
{
    vfio_machine_device_del(s->m, "dev1", SLOT(1));
    vfio_edu_free(s->edus[1]);
    s->edus[1] = NULL;
}

static void plug_into_other(Setting *s)
{
    s->other = vfio_machine_start("-device %s",
                                  vfio_rig_device(s->c->others[0]));
}

/* Every device does DMA; after a reset the guest has to enable it first. */
static void check_devices_work(Setting *s)
{
    for (int i = 0; i < MAX_DEVICES; i++) {
        if (s->edus[i]) {
            vfio_edu_enable(s->edus[i], PCI_COMMAND_MEMORY |
                                        PCI_COMMAND_MASTER);
            vfio_edu_check_copy(s->edus[i], 0x100000, 0x200000, 256);
        }
        if (s->nvmes[i]) {
            vfio_nvme_enable(s->nvmes[i]);
            vfio_nvme_check_identify(s->nvmes[i], "rig-apart2");
        }
    }
}

/* Marks */

static void foreach_edu(const Case *c, void (*fn)(const char *name))
{
    for (int i = 0; i < MAX_DEVICES; i++) {
        if (c->given[i] && !is_nvme(c->given[i])) {
            fn(c->given[i]);
        }
        if (c->others[i] && !is_nvme(c->others[i])) {
            fn(c->others[i]);
        }
    }
}

static void check_marked(const char *name)
{
    g_assert_true(is_marked(name));
}

static void check_unmarked(const char *name)
{
    g_assert_false(is_marked(name));
}

/* What QEMU did and said */

static int count_results(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "vfio_pci_hot_reset_result");
}

static int count_function_resets(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "vfio_pci_reset_flr");
}

/* A hot reset has reached one device or several, and has succeeded. */
static void check_last_result(Setting *s)
{
    g_auto(GStrv) trace = vfio_machine_trace(s->m);
    const char *asked = NULL, *asked_last = NULL, *result = NULL;
    bool several = s->c->given[1] && s->c->before != unplug_second;

    for (char **line = trace; *line; line++) {
        if (vfio_trace_is(*line, "vfio_pci_hot_reset")) {
            asked = *line;
        }
        if (vfio_trace_is(*line, "vfio_pci_hot_reset_result")) {
            asked_last = asked;
            result = *line;
        }
    }
    g_assert_true(g_str_has_suffix(result, "hot reset: Success"));
    g_assert_true(g_str_has_suffix(asked_last, several ? "multi" : "one"));
}

static char *what_it_wrote(Setting *s)
{
    char *text;

    g_assert_true(g_file_get_contents(s->stderr_path, &text, NULL, NULL));
    g_test_message("QEMU wrote: %s", text);
    return text;
}

static void check_text_has(const char *text, const char *word)
{
    if (!strstr(text, word)) {
        g_test_message("'%s' is not in: %s", word, text);
        g_test_fail();
    }
}

/* One message for each device; by groups only for one, or twice for the same */
static void check_told(const char *name, const char *text)
{
    g_autofree char *words = g_strdup_printf("Cannot reset device %s",
                                             vfio_rig_address(name));
    const char *found = strstr(text, words);

    if (vfio_rig_iommufd()) {
        g_assert_nonnull(found);
        g_assert_null(strstr(found + 1, words));
    }
}

/* Devices are named by address; of groups, only the first missing is named. */
static void check_names_missing(Setting *s, const char *text)
{
    const Case *c = s->c;

    check_told(c->given[0], text);
    for (int i = 0; i < MAX_DEVICES && c->missing[i]; i++) {
        g_autofree char *node = vfio_rig_group_node(c->missing[i]);
        g_autofree char *group = g_path_get_basename(node);
        g_autofree char *word =
            vfio_rig_iommufd() ?
            g_strdup_printf(" %s", vfio_rig_address(c->missing[i])) :
            g_strdup_printf("depends on group %s which is not owned", group);

        if (vfio_rig_iommufd() || i == 0) {
            check_text_has(text, word);
        }
    }
}

static void check_hot_reset(Setting *s, int results)
{
    g_autofree char *text = what_it_wrote(s);

    g_assert_cmpint(count_results(s->m), ==, results + 1);
    check_last_result(s);
    foreach_edu(s->c, check_unmarked);
    g_assert_null(strstr(text, "Cannot reset"));
}

static void check_no_hot_reset(Setting *s, int results)
{
    g_autofree char *text = what_it_wrote(s);

    g_assert_cmpint(count_results(s->m), ==, results);
    foreach_edu(s->c, check_marked);
    check_names_missing(s, text);
}

/*
 * What counts is the message of the reboot, not that of the start; of one device
 * there is one a second.
 */
static void forget_what_it_wrote(Setting *s)
{
    g_usleep(G_USEC_PER_SEC);
    g_assert_cmpint(truncate(s->stderr_path, 0), ==, 0);
}

static void test_reboot(const void *data)
{
    Setting *s = setting_new(data);
    int results;

    check_devices_work(s);
    if (s->c->before) {
        s->c->before(s);
    }
    foreach_edu(s->c, mark);
    results = count_results(s->m);
    forget_what_it_wrote(s);

    vfio_machine_reset(s->m);
    if (s->c->missing[0]) {
        check_no_hot_reset(s, results);
    } else {
        check_hot_reset(s, results);
    }
    check_devices_work(s);
    setting_free(s);
}

/* By function */

static void test_edu_by_its_bus(void)
{
    static const Case c = { .given = { "EDU0" } };
    Setting *s = setting_new(&c);
    int resets = count_function_resets(s->m);

    mark("EDU0");
    vfio_machine_reset(s->m);
    g_assert_cmpint(count_function_resets(s->m), ==, resets + 1);
    check_unmarked("EDU0");
    check_devices_work(s);
    setting_free(s);
}

static void mark_both(void)
{
    mark("EDU0");
    mark("EDU1");
}

/* QEMU need not reset what the kernel has reset when it was bound. */
static void test_several_are_fresh(void)
{
    static const Case c = {
        .given = { "EDU0", "EDU1" },
        .prepare = mark_both,
    };
    Setting *s = setting_new(&c);

    check_unmarked("EDU0");
    check_unmarked("EDU1");
    g_assert_cmpint(count_function_resets(s->m), ==,
                    vfio_rig_iommufd() ? 0 : 2);
    check_devices_work(s);
    setting_free(s);
}

/* A device that has a function reset of its own does not need the others. */
static void test_function_needs_no_others(void)
{
    static const Case c = { .given = { "APART2" } };
    Setting *s = setting_new(&c);
    int resets = count_function_resets(s->m);
    g_autofree char *text = NULL;

    check_devices_work(s);
    mark("APART0");
    vfio_machine_reset(s->m);

    g_assert_cmpint(count_function_resets(s->m), ==, resets + 1);
    g_assert_cmpint(count_results(s->m), ==, 0);
    check_marked("APART0");
    check_devices_work(s);
    text = what_it_wrote(s);
    g_assert_cmpstr(text, ==, "");
    setting_free(s);
}

static void reset_function(QPCIDevice *pci)
{
    uint8_t cap = qpci_find_capability(pci, PCI_CAP_ID_EXP, 0);
    uint16_t control;

    g_assert_cmphex(cap, !=, 0);
    g_assert_true(qpci_config_readl(pci, cap + PCI_EXP_DEVCAP) &
                  PCI_EXP_DEVCAP_FLR);
    control = qpci_config_readw(pci, cap + PCI_EXP_DEVCTL);
    qpci_config_writew(pci, cap + PCI_EXP_DEVCTL,
                       control | PCI_EXP_DEVCTL_BCR_FLR);
}

static void test_guest_resets_function(void)
{
    VFIOMachine *m = vfio_machine_start("-device %s,addr=%d",
                                        vfio_rig_device("NVME0"), SLOT(0));
    VFIONVMe *nvme = vfio_nvme_new(m, SLOT(0));

    for (int i = 0; i < 3; i++) {
        vfio_nvme_check_identify(nvme, "rig-nvme0");
        g_assert_true(vfio_nvme_is_ready(nvme));

        reset_function(nvme->pci);
        vfio_nvme_enable(nvme);
        g_assert_false(vfio_nvme_is_ready(nvme));
    }
    vfio_nvme_check_identify(nvme, "rig-nvme0");

    vfio_nvme_free(nvme);
    vfio_machine_stop(m);
}

/* By power management, the last of the ways */

static VFIOMachine *start_net(char **stderr_path)
{
    g_autofree char *options = g_strdup_printf("-device %s,addr=%d",
                                               vfio_rig_device("NET0"),
                                               SLOT(0));

    vfio_rig_bind("NET0", "vfio-pci");
    return start_quietly(options, stderr_path);
}

static void stop_net(VFIOMachine *m, const char *stderr_path)
{
    vfio_machine_stop(m);
    g_unlink(stderr_path);
    vfio_rig_bind("NET0", "e1000e");
}

static int count_pm_resets(VFIOMachine *m)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);

    return vfio_trace_count(trace, "vfio_pci_reset_pm");
}

/* What failed before it is nobody's concern. */
static void test_pm_reset_is_enough(void)
{
    g_autofree char *stderr_path = NULL;
    g_autofree char *text = NULL;
    VFIOMachine *m = start_net(&stderr_path);
    int resets = count_pm_resets(m);

    g_assert_cmpint(resets, >, 0);
    vfio_machine_reset(m);
    g_assert_cmpint(count_pm_resets(m), ==, resets + 1);
    g_assert_true(g_file_get_contents(stderr_path, &text, NULL, NULL));
    g_assert_cmpstr(text, ==, "");
    stop_net(m, stderr_path);
}

/* The kernel has no way left, after QEMU was told that it has. */
static void test_all_ways_fail(void)
{
    g_autofree char *words = g_strdup_printf("Cannot reset device %s",
                                             vfio_rig_address("NET0"));
    g_autofree char *stderr_path = NULL;
    g_autofree char *text = NULL;
    VFIOMachine *m = start_net(&stderr_path);
    int resets = count_pm_resets(m);

    set_reset_method("NET0", "\n");
    vfio_machine_reset(m);
    set_reset_method("NET0", "default\n");
    g_assert_cmpint(count_pm_resets(m), ==, resets);
    g_assert_true(g_file_get_contents(stderr_path, &text, NULL, NULL));
    g_test_message("QEMU wrote: %s", text);
    g_assert_nonnull(strstr(text, words));
    g_assert_cmpstr(strchr(text, '\n'), ==, "\n");
    stop_net(m, stderr_path);
}

static void plug_power(VFIOMachine *m, const char *name, int i)
{
    g_autofree char *device = g_strdup_printf("%s,addr=%d",
                                              vfio_rig_device(name), SLOT(i));

    g_assert_null(vfio_machine_device_add(m, device));
}

/*
 * Devices that were plugged are reset one by one first, and then as a slot.
 * When all of that fails, this reset says so and not the next one: once, since
 * it is one slot.
 */
static void test_all_ways_fail_after_plug(void)
{
    static const char *const names[] = { "POWER0", "POWER1" };
    g_autofree char *stderr_path = NULL;
    g_autofree char *text = NULL;
    VFIOMachine *m = start_quietly(" ", &stderr_path);

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        plug_power(m, names[i], i);
        set_reset_method(names[i], "\n");
    }
    vfio_machine_reset(m);
    g_assert_true(g_file_get_contents(stderr_path, &text, NULL, NULL));
    g_test_message("QEMU wrote: %s", text);
    g_assert_nonnull(strstr(text, "Cannot reset device 0000:"));
    g_assert_nonnull(strstr(text, "with its slot or bus"));
    g_assert_cmpint(vfio_rig_count_lines(text), ==, 1);

    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        set_reset_method(names[i], "default\n");
    }
    vfio_machine_stop(m);
    g_unlink(stderr_path);
}

/* On the root bus there is nothing to reset an edu with. */
static void test_no_way_at_all(void)
{
    static const Case c = { .given = { "EDU2" } };
    Setting *s = setting_new(&c);
    g_autofree char *text = NULL;

    forget_what_it_wrote(s);
    vfio_machine_reset(s->m);
    text = what_it_wrote(s);
    check_told("EDU2", text);
    g_assert_nonnull(strstr(text, "no available reset mechanism"));
    check_devices_work(s);
    setting_free(s);
}

/* Objects */

static int open_iommu(void)
{
    int fd = open("/dev/iommu", O_RDWR);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* For the kernel it is one iommufd, which owns all of the devices. */
static void test_two_objects_of_one_iommufd(void)
{
    int fd = open_iommu();
    int same = dup(fd);
    g_autofree char *options =
        g_strdup_printf("-object iommufd,id=one,fd=%d "
                        "-object iommufd,id=same,fd=%d", fd, same);
    Case c = {
        .given = { "APART0", "APART1", "APART2" },
        .options = options,
        .first_by = ",iommufd=one",
        .rest_by = ",iommufd=same",
    };

    test_reboot(&c);
    close(fd);
    close(same);
}

/* A group has one object; the device that cannot join does not hurt others. */
static void test_group_refuses_second_object(void)
{
    static const Case c = {
        .given = { "MULTI0" },
        .others = { "MULTI1" },
        .options = "-object iommufd,id=more",
    };
    Setting *s = setting_new(&c);
    g_autofree char *device =
        g_strdup_printf("vfio-pci,host=%s,iommufd=more,addr=%d",
                        vfio_rig_address("MULTI1"), SLOT(1));
    g_autofree char *error = vfio_machine_device_add(s->m, device);
    int results = count_results(s->m);

    g_assert_nonnull(error);
    g_assert_nonnull(strstr(error, vfio_rig_address("MULTI1")));
    foreach_edu(&c, mark);
    vfio_machine_reset(s->m);
    check_hot_reset(s, results);
    check_devices_work(s);
    setting_free(s);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "reset");

    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        vfio_rig_add_data(cases[i].name, cases[i].modes, test_reboot,
                          &cases[i]);
    }
    vfio_rig_add("edu-by-its-bus", VFIO_RIG_BOTH, test_edu_by_its_bus);
    vfio_rig_add("several-are-fresh", VFIO_RIG_BOTH, test_several_are_fresh);
    vfio_rig_add("function-needs-no-others", VFIO_RIG_BOTH,
                 test_function_needs_no_others);
    vfio_rig_add("guest-resets-function", VFIO_RIG_BOTH,
                 test_guest_resets_function);
    vfio_rig_add("pm-reset-is-enough", VFIO_RIG_BOTH, test_pm_reset_is_enough);
    vfio_rig_add("all-ways-fail", VFIO_RIG_IOMMUFD_ONLY, test_all_ways_fail);
    vfio_rig_add("all-ways-fail-after-plug", VFIO_RIG_IOMMUFD_ONLY,
                 test_all_ways_fail_after_plug);
    vfio_rig_add("no-way-at-all", VFIO_RIG_BOTH, test_no_way_at_all);
    vfio_rig_add("two-objects-of-one-iommufd", VFIO_RIG_IOMMUFD_ONLY,
                 test_two_objects_of_one_iommufd);
    vfio_rig_add("group-refuses-second-object", VFIO_RIG_IOMMUFD_ONLY,
                 test_group_refuses_second_object);

    return g_test_run();
}
