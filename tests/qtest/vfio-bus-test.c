/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what happens to a device by way of its bus
 *
 * The rig's own machine makes the bus of a device report errors, resets it
 * behind everybody's back, or loses the device.  By the group or by iommufd is
 * the same: the host mends what it can, the guest does not go on as if nothing
 * were where it cannot, and QEMU lives on.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "qemu/bswap.h"
#include "vfio-edu.h"

#define SLOT 4

static char *device_options(const char *name)
{
    return g_strdup_printf("%s,id=victim,addr=%d", vfio_rig_device(name),
                           SLOT);
}

static void check_dma(VFIOMachine *m)
{
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    vfio_edu_check_copy(edu, 0x1000000, 0x2000000, EDU_DMA_MAX);
    vfio_edu_free(edu);
}

/* The device's node, which QEMU has open */
static char *node_of(const char *name)
{
    return vfio_rig_iommufd() ? vfio_rig_cdev_node(name)
                              : vfio_rig_group_node(name);
}

/* Errors that the device reports (AER) */

static void inject(const char *error)
{
    g_autofree char *node = vfio_rig_monitor_node();
    g_autofree char *command =
        g_strdup_printf("pcie_aer_inject_error aer0 %s\n", error);

    vfio_rig_write(node, command);
}

typedef struct BusError {
    const char *name;
    const char *file;       /* where the port that hears of them has a count */
} BusError;

/* A receiver's, which is mended; an answer that is missing; a packet's form */
static const BusError correctable = { "RCVR", "aer_rootport_total_err_cor" };
static const BusError nonfatal = {
    "COMP_TIME", "aer_rootport_total_err_nonfatal"
};
static const BusError fatal = { "MALF_TLP", "aer_rootport_total_err_fatal" };

/* A file of the port that the device is behind; to be freed */
static char *port_file(const char *name, const char *file)
{
    g_autofree char *link = g_strdup_printf("/sys/bus/pci/devices/%s",
                                            vfio_rig_address(name));
    g_autofree char *folder = realpath(link, NULL);
    g_autofree char *port = g_path_get_dirname(folder);

    return g_build_filename(port, file, NULL);
}

static int count_errors(const BusError *error)
{
    g_autofree char *path = port_file("AER0", error->file);
    g_autofree char *text = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    return atoi(text);
}

static VFIOMachine *start_with_aer0(const char *log)
{
    g_autofree char *device = device_options("AER0");

    return vfio_machine_start("-device %s 2>>%s", device, log);
}

/* It can be plugged again: nothing holds it back. */
static void check_comes_and_goes(VFIOMachine *m)
{
    g_autofree char *device = device_options("AER0");
    g_autofree char *node = node_of("AER0");

    vfio_machine_device_del(m, "victim", SLOT);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    g_assert_null(vfio_machine_device_add(m, device));
}

/* The host's kernel has mended it, and the guest need not know. */
static void test_correctable_error(void)
{
    char *log = vfio_rig_log_new();
    VFIOMachine *m = start_with_aer0(log);
    int before = count_errors(&correctable);
    g_autofree char *text = NULL;

    inject(correctable.name);
    g_assert_true(vfio_rig_wait(count_errors(&correctable) == before + 1));
    vfio_machine_check_run_state(m, "running");
    check_comes_and_goes(m);
    vfio_machine_check_run_state(m, "running");
    vfio_machine_stop(m);

    text = vfio_rig_log_take(log);
    g_assert_cmpstr(text, ==, "");
    vfio_rig_log_free(log);
}

/* The guest may not go on as if nothing were: it stops until it is reset. */
static void check_error_stops_vm(const BusError *error)
{
    char *log = vfio_rig_log_new();
    VFIOMachine *m = start_with_aer0(log);
    int before = count_errors(error);
    g_autofree char *refused = NULL;
    g_autofree char *text = NULL;

    inject(error->name);
    qtest_qmp_eventwait(m->qts, "STOP");
    g_assert_cmpint(count_errors(error), ==, before + 1);
    vfio_machine_check_run_state(m, "internal-error");
    refused = vfio_machine_qmp_error(m, "cont", "");
    g_assert_nonnull(refused);
    g_assert_nonnull(strstr(refused, "Resetting"));

    qtest_qmp_assert_success(m->qts, "{ 'execute': 'system_reset' }");
    qtest_qmp_eventwait(m->qts, "RESET");
    vfio_machine_cont(m);
    check_comes_and_goes(m);
    vfio_machine_stop(m);

    text = vfio_rig_log_take(log);
    g_assert_nonnull(strstr(text, vfio_rig_address("AER0")));
    vfio_rig_log_free(log);
}

static void test_nonfatal_error(void)
{
    check_error_stops_vm(&nonfatal);
}

/* The host's kernel resets the link for it, and with it the device. */
static void test_fatal_error(void)
{
    check_error_stops_vm(&fatal);
}

/* The port that the device is behind */

static int open_port(const char *name)
{
    g_autofree char *config = port_file(name, "config");

    return vfio_rig_open(config, O_RDWR);
}

static uint16_t read_word(int fd, int reg)
{
    uint16_t value;

    g_assert_cmpint(pread(fd, &value, 2, reg), ==, 2);
    return le16_to_cpu(value);
}

static void write_word(int fd, int reg, uint16_t value)
{
    value = cpu_to_le16(value);
    g_assert_cmpint(pwrite(fd, &value, 2, reg), ==, 2);
}

/* Where its registers of PCI Express are */
static int express(int fd)
{
    int cap = read_word(fd, PCI_CAPABILITY_LIST) & 0xff;

    while ((read_word(fd, cap) & 0xff) != PCI_CAP_ID_EXP) {
        cap = read_word(fd, cap) >> 8;
    }
    return cap;
}

/* The link goes down and comes up again; neither kernel nor guest is asked. */
static void reset_link(const char *name)
{
    int fd = open_port(name);
    uint16_t control = read_word(fd, PCI_BRIDGE_CONTROL);

    write_word(fd, PCI_BRIDGE_CONTROL, control | PCI_BRIDGE_CTL_BUS_RESET);
    g_usleep(10 * 1000);
    write_word(fd, PCI_BRIDGE_CONTROL, control);
    close(fd);
    g_assert_cmphex(vfio_rig_command(name) & PCI_COMMAND_MEMORY, ==, 0);
}

/* The device has forgotten everything; a guest that enables it has it again. */
static void test_link_goes_down(void)
{
    g_autofree char *device = device_options("EDU0");
    VFIOMachine *m = vfio_machine_start("-device %s", device);
    VFIOEdu *edu = vfio_edu_new(m, SLOT);

    for (int i = 0; i < 2; i++) {
        vfio_edu_check_copy(edu, 0x300000, 0x400000, 256);
        reset_link("EDU0");
        g_assert_cmphex(vfio_edu_read(edu, EDU_REG_ID), !=, 0x010000ed);
        vfio_machine_check_run_state(m, "running");
        if (i) {
            vfio_machine_reset(m);
        }
        vfio_edu_enable(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        vfio_edu_check_copy(edu, 0x300000, 0x400000, 256);
    }
    vfio_edu_free(edu);
    vfio_machine_stop(m);
}

/*
 * The device is pulled out of its slot.  The rig's machine does that at once to
 * a root port whose power and power indicator are switched off.
 */
static void pull_out(const char *name)
{
    int fd = open_port(name);
    int reg = express(fd) + PCI_EXP_SLTCTL;

    write_word(fd, reg, read_word(fd, reg) | PCI_EXP_SLTCTL_PCC |
                        PCI_EXP_SLTCTL_PIC);
    close(fd);
    g_assert_cmphex(vfio_rig_command(name), ==, UINT16_MAX);
}

/* What is gone is refused; by the group, QEMU does not look. */
static void check_stays_away(VFIOMachine *m, const char *device)
{
    g_autofree char *error = NULL;

    if (vfio_rig_iommufd()) {
        error = vfio_machine_device_add(m, device);
        g_test_message("again: %s", error);
        g_assert_nonnull(error);
    }
}

/*
 * Nothing answers any more, and nobody was asked.  The guest reads what the bus
 * gives, what else it has works on, and what is not there can be unplugged.
 */
static void test_pulled_out(void)
{
    g_autofree char *device = device_options("EDU0");
    g_autofree char *gone = g_strdup_printf("%s,id=gone,addr=%d",
                                            vfio_rig_device("EDU1"), SLOT + 1);
    g_autofree char *node = node_of("EDU1");
    VFIOMachine *m = vfio_machine_start("-device %s", device);
    VFIOEdu *edu;

    g_assert_null(vfio_machine_device_add(m, gone));
    edu = vfio_edu_new(m, SLOT + 1);
    vfio_edu_check_copy(edu, 0x300000, 0x400000, 256);
    pull_out("EDU1");
    g_assert_cmphex(qpci_io_readl(edu->pci, edu->bar, 0), ==, 0);
    check_dma(m);

    vfio_machine_reset(m);
    vfio_machine_check_run_state(m, "running");
    check_dma(m);

    vfio_edu_free(edu);
    vfio_machine_device_del(m, "gone", SLOT + 1);
    g_assert_true(vfio_rig_wait(vfio_machine_holds(m, node) == 0));
    check_stays_away(m, gone);
    check_dma(m);
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "bus");

    vfio_rig_add("correctable-error-is-no-matter", VFIO_RIG_BOTH,
                 test_correctable_error);
    vfio_rig_add("error-stops-vm", VFIO_RIG_BOTH, test_nonfatal_error);
    vfio_rig_add("fatal-error-stops-vm", VFIO_RIG_BOTH, test_fatal_error);
    vfio_rig_add("link-goes-down", VFIO_RIG_BOTH, test_link_goes_down);
    /* The last, as the device does not come back. */
    vfio_rig_add("device-is-pulled-out", VFIO_RIG_BOTH, test_pulled_out);
    return g_test_run();
}
