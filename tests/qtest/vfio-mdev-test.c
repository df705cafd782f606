/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a mediated device, alone and beside physical ones
 *
 * The mdev is the kernel's mtty sample; see vfio-mtty.h.  The physical devices
 * are edus of the rig; see vfio-rig.h.
 */
#include "qemu/osdep.h"

#include "vfio-edu.h"
#include "vfio-mtty.h"

#define MDEV "8bc5a6e8-4b0b-4bb2-8a1a-3a7b6d0c5c1f"
#define MDEV_SYSFS "/sys/bus/mdev/devices/" MDEV

#define MDEV_SLOT   4
#define EDU_SLOT(i) (5 + (i))

static void create_mdev(void)
{
    vfio_mtty_create(MDEV);
}

static void remove_mdev(void)
{
    vfio_mtty_remove(MDEV);
}

/* Options */

static const char *mdev_option(void)
{
    g_autofree char *option =
        g_strdup_printf("vfio-pci,sysfsdev=" MDEV_SYSFS "%s,id=mdev,addr=%d",
                        vfio_rig_iommufd() ? ",iommufd=" VFIO_RIG_IOMMUFD : "",
                        MDEV_SLOT);

    return g_intern_string(option);
}

static const char *edu_option(int i)
{
    g_autofree char *name = g_strdup_printf("EDU%d", i);
    g_autofree char *option =
        g_strdup_printf("%s,id=edu%d,addr=%d", vfio_rig_device(name), i,
                        EDU_SLOT(i));

    return g_intern_string(option);
}

/* EDU1, in a container of its own */
static const char *apart_option(void)
{
    g_autofree char *option =
        g_strdup_printf("vfio-pci,host=%s,id=edu1,addr=%d,iommufd=apart",
                        vfio_rig_address("EDU1"), EDU_SLOT(1));

    return g_intern_string(option);
}

static void check_mdev(VFIOMachine *m)
{
    VFIOMtty *mtty = vfio_mtty_new(m, MDEV_SLOT);

    vfio_mtty_check(mtty);
    vfio_mtty_free(mtty);
}

static void check_edu(VFIOMachine *m, int i)
{
    VFIOEdu *edu = vfio_edu_new(m, EDU_SLOT(i));

    vfio_edu_check_copy(edu, 0x100000, 0x200000, 1000);
    vfio_edu_free(edu);
}

static void enable_bar(VFIOMachine *m, int i)
{
    vfio_edu_free(vfio_edu_new(m, EDU_SLOT(i)));
}

/* Tests */

/* The devices are attached to one IOAS, and @that_pin of them pin there. */
static void check_attached(VFIOMachine *m, int devices, int that_pin)
{
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int pins = 0;

    g_assert_cmpint(vfio_trace_count(trace, "iommufd_backend_alloc_ioas"), ==,
                    1);
    g_assert_cmpint(vfio_trace_count(trace, "vfio_cdev_attach"), ==, devices);
    for (char **line = trace; *line; line++) {
        pins += vfio_trace_is(*line, "vfio_cdev_attach") &&
                vfio_trace_value(*line, "pt") !=
                vfio_trace_value(*line, "ioas");
    }
    g_assert_cmpint(pins, ==, that_pin);
}

static void test_ports_loop_back(void)
{
    VFIOMachine *m;

    create_mdev();
    m = vfio_machine_start("-device %s", mdev_option());
    if (vfio_rig_iommufd()) {
        check_attached(m, 1, 0);
        g_assert_cmpint(vfio_machine_holds(m, "/dev/iommu"), ==, 1);
    }
    check_mdev(m);
    vfio_machine_reset(m);
    check_mdev(m);
    vfio_machine_stop(m);
    remove_mdev();
}

static void check_both(const char *first, const char *second)
{
    VFIOMachine *m;

    create_mdev();
    m = vfio_machine_start("-device %s -device %s", first, second);
    if (vfio_rig_iommufd()) {
        check_attached(m, 2, 1);
    }
    check_mdev(m);
    check_edu(m, 0);
    check_mdev(m);
    vfio_machine_stop(m);
    remove_mdev();
}

static void test_before_physical(void)
{
    check_both(mdev_option(), edu_option(0));
}

static void test_after_physical(void)
{
    check_both(edu_option(0), mdev_option());
}

/* The mdev's node, as vfio_rig_cdev_node() returns it for other devices */
static char *mdev_node(void)
{
    g_autofree char *group = g_file_read_link(MDEV_SYSFS "/iommu_group", NULL);
    g_autofree char *number = g_path_get_basename(group ?: "none");
    g_autoptr(GDir) dir = g_dir_open(MDEV_SYSFS "/vfio-dev", 0, NULL);

    g_assert_nonnull(dir);
    return vfio_rig_iommufd() ?
           g_strdup_printf("/dev/vfio/devices/%s", g_dir_read_name(dir)) :
           g_strdup_printf("/dev/vfio/%s", number);
}

/* Unplug, and wait until QEMU holds nothing of the device any more. */
static void unplug(VFIOMachine *m, const char *id, int slot, const char *node)
{
    g_assert_cmpint(vfio_machine_holds(m, node), ==, 1);
    vfio_machine_device_del(m, id, slot);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
}

static void unplug_edu(VFIOMachine *m)
{
    g_autofree char *node = vfio_rig_iommufd() ? vfio_rig_cdev_node("EDU0")
                                               : vfio_rig_group_node("EDU0");

    unplug(m, "edu0", EDU_SLOT(0), node);
}

static void unplug_mdev(VFIOMachine *m)
{
    g_autofree char *node = mdev_node();

    unplug(m, "mdev", MDEV_SLOT, node);
}

static void test_physical_goes_and_comes(void)
{
    VFIOMachine *m;

    create_mdev();
    m = vfio_machine_start("-device %s -device %s", edu_option(0),
                           mdev_option());
    for (int i = 0; i < 3; i++) {
        check_edu(m, 0);
        unplug_edu(m);
        check_mdev(m);
        g_assert_null(vfio_machine_device_add(m, edu_option(0)));
    }
    check_edu(m, 0);
    check_mdev(m);
    vfio_machine_stop(m);
    remove_mdev();
}

static void test_mdev_goes_and_comes(void)
{
    VFIOMachine *m;

    create_mdev();
    m = vfio_machine_start("-device %s -device %s", mdev_option(),
                           edu_option(0));
    for (int i = 0; i < 3; i++) {
        check_mdev(m);
        unplug_mdev(m);
        check_edu(m, 0);
        g_assert_null(vfio_machine_device_add(m, mdev_option()));
    }
    check_mdev(m);
    check_edu(m, 0);
    vfio_machine_stop(m);
    remove_mdev();
}

/*
 * A BAR of EDU1 appears while nothing in the mdev's IOAS pins.  If it were
 * mapped there, EDU0 could not be attached.
 */
static void plug_after_bar(VFIOMachine *m)
{
    enable_bar(m, 1);
    g_assert_null(vfio_machine_device_add(m, edu_option(0)));
}

static void check_all(VFIOMachine *m)
{
    check_edu(m, 0);
    check_edu(m, 1);
    check_mdev(m);
}

static void test_bar_after_physical_went(void)
{
    VFIOMachine *m;

    create_mdev();
    m = vfio_machine_start("-object iommufd,id=apart "
                           "-device %s -device %s -device %s", edu_option(0),
                           mdev_option(), apart_option());
    unplug_edu(m);
    plug_after_bar(m);
    check_all(m);
    vfio_machine_stop(m);
    remove_mdev();
}

/* It has no DMA, so that nothing is too far for it. */
static void test_behind_wide_iommu(void)
{
    g_autofree char *option =
        g_strdup_printf("vfio-pci,sysfsdev=" MDEV_SYSFS "%s,bus=bridge",
                        vfio_rig_iommufd() ? ",iommufd=" VFIO_RIG_IOMMUFD : "");
    g_autofree char *edu = g_strdup_printf("%s,bus=bridge,addr=2",
                                           vfio_rig_device("EDU0"));
    g_autofree char *error = NULL;
    VFIOMachine *m;

    create_mdev();
    m = vfio_machine_start("-machine q35 -device intel-iommu,caching-mode=on,"
                           "aw-bits=48 -device pcie-pci-bridge,id=bridge "
                           "-device %s,addr=1", option);
    error = vfio_machine_device_add(m, edu);
    if (vfio_rig_iommufd()) {
        g_assert_nonnull(error);
        g_assert_nonnull(strstr(error, vfio_rig_address("EDU0")));
        g_assert_nonnull(strstr(error, "aw-bits=48"));
    } else {
        g_assert_null(error);
    }
    vfio_machine_stop(m);
    remove_mdev();
}

static int count_told(const char *path)
{
    g_autofree char *text = NULL;
    const char *rest;
    int count = 0;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    for (rest = text; (rest = strstr(rest, "peer-to-peer")); rest++) {
        count++;
    }
    return count;
}

/* If BARs cannot be reached QEMU says so, once two devices could try to. */
static void test_bar_before_physical(void)
{
    const int lines = !vfio_rig_reaches_bars();
    g_autofree char *path = NULL;
    VFIOMachine *m;

    create_mdev();
    close(g_file_open_tmp("vfio-stderr-XXXXXX", &path, NULL));
    m = vfio_machine_start("-object iommufd,id=apart "
                           "-device %s -device %s 2>%s", mdev_option(),
                           apart_option(), path);
    plug_after_bar(m);
    g_assert_cmpint(count_told(path), ==, 0);
    g_assert_null(vfio_machine_device_add(m, vfio_rig_device("NVME1")));
    g_assert_cmpint(count_told(path), ==, lines);
    check_all(m);
    g_assert_cmpint(count_told(path), ==, lines);
    vfio_machine_stop(m);
    unlink(path);
    remove_mdev();
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "mdev");

    vfio_rig_add("ports-loop-back", VFIO_RIG_BOTH, test_ports_loop_back);
    vfio_rig_add("before-physical", VFIO_RIG_BOTH, test_before_physical);
    vfio_rig_add("after-physical", VFIO_RIG_BOTH, test_after_physical);
    vfio_rig_add("physical-goes-and-comes", VFIO_RIG_BOTH,
                 test_physical_goes_and_comes);
    vfio_rig_add("mdev-goes-and-comes", VFIO_RIG_BOTH,
                 test_mdev_goes_and_comes);
    vfio_rig_add("behind-wide-iommu", VFIO_RIG_BOTH, test_behind_wide_iommu);
    vfio_rig_add("bar-after-physical-went", VFIO_RIG_IOMMUFD_ONLY,
                 test_bar_after_physical_went);
    vfio_rig_add("bar-before-physical", VFIO_RIG_IOMMUFD_ONLY,
                 test_bar_before_physical);

    return g_test_run();
}
