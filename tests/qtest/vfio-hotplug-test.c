/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a device that comes and goes leaves nothing behind
 *
 * The device is an edu of the rig; see vfio-rig.h.  Each test plugs, uses and
 * unplugs it VFIO_TEST_CYCLES times (10 by default), and starts the next cycle
 * as soon as QEMU says that the device is gone.  What QEMU has after a cycle is
 * compared with what it had after the first one.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-acpi.h"
#include "vfio-edu.h"
#include "vfio-footprint.h"

#define DEFAULT_CYCLES 10

/* The number of cycles between comparisons */
#define COMPARE_EACH 5

#define SLOT 4

/* Where q35 has its port, and the number that is given to the port's bus */
#define PORT_DEVFN      QPCI_DEVFN(3, 0)
#define PORT_BUS        1
#define PORT_SLOT       (PORT_BUS * 32)

typedef struct Place {
    const char *name;
    VFIORigModes modes;
    const char *options;    /* for QEMU */
    const char *where;      /* for -device */
    int slot;               /* as for vfio_edu_new() */
    bool object_too;        /* the device's object comes and goes with it */
    bool kvm;

    /* The guest's part; NULL if it has none */
    void (*start)(VFIOMachine *m);
    void (*plugged)(VFIOMachine *m);
    void (*unplug)(VFIOMachine *m);
} Place;

static void acpi_unplug(VFIOMachine *m);
static void pcie_start(VFIOMachine *m);
static void pcie_plugged(VFIOMachine *m);
static void pcie_unplug(VFIOMachine *m);

static const Place places[] = {
    {
        .name = "acpi",
        .options = "",
        .where = "addr=4",
        .slot = SLOT,
        .unplug = acpi_unplug,
    }, {
        .name = "pcie",
        .options = "-machine q35 "
                   "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off "
                   "-device pcie-root-port,id=port0,addr=3,chassis=1",
        .where = "bus=port0,addr=0",
        .slot = PORT_SLOT,
        .start = pcie_start,
        .plugged = pcie_plugged,
        .unplug = pcie_unplug,
    }, {
        .name = "acpi-with-kvm",
        .options = "-accel kvm -S",
        .where = "addr=4",
        .slot = SLOT,
        .kvm = true,
        .unplug = acpi_unplug,
    }, {
        .name = "acpi-and-object",
        .modes = VFIO_RIG_IOMMUFD_ONLY,
        .options = "",
        .where = "addr=4",
        .slot = SLOT,
        .object_too = true,
        .unplug = acpi_unplug,
    },
};

static int cycles(void)
{
    return vfio_rig_number("VFIO_TEST_CYCLES", DEFAULT_CYCLES);
}

/* The guest's part */

static void acpi_unplug(VFIOMachine *m)
{
    vfio_machine_device_del(m, "edu0", SLOT);
}

/* The port's bus gets its number, and a window for the device's BAR. */
static void pcie_start(VFIOMachine *m)
{
    QPCIDevice *port = qpci_device_find(m->pci, PORT_DEVFN);

    qpci_config_writeb(port, PCI_SECONDARY_BUS, PORT_BUS);
    qpci_config_writeb(port, PCI_SUBORDINATE_BUS, PORT_BUS);
    qpci_config_writew(port, PCI_MEMORY_BASE, m->pci->mmio_alloc_ptr >> 16);
    qpci_config_writew(port, PCI_MEMORY_LIMIT, m->pci->mmio_alloc_ptr >> 16);
    qpci_config_writew(port, PCI_COMMAND,
                       PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    g_free(port);
}

/* Acknowledge @events of the port, which must have come, and set its power. */
static void pcie_answer(VFIOMachine *m, uint16_t events, uint16_t power)
{
    QPCIDevice *port = qpci_device_find(m->pci, PORT_DEVFN);
    uint8_t cap = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);
    uint16_t status = qpci_config_readw(port, cap + PCI_EXP_SLTSTA);
    uint16_t control = qpci_config_readw(port, cap + PCI_EXP_SLTCTL);

    g_assert_cmphex(status & events, ==, events);
    qpci_config_writew(port, cap + PCI_EXP_SLTSTA, status);

    control &= ~(PCI_EXP_SLTCTL_PIC | PCI_EXP_SLTCTL_PCC);
    qpci_config_writew(port, cap + PCI_EXP_SLTCTL, control | power);
    g_free(port);
}

static void pcie_plugged(VFIOMachine *m)
{
    pcie_answer(m, PCI_EXP_SLTSTA_PDC | PCI_EXP_SLTSTA_ABP,
                PCI_EXP_SLTCTL_PWR_IND_ON | PCI_EXP_SLTCTL_PWR_ON);
}

static void pcie_unplug(VFIOMachine *m)
{
    qtest_qmp_device_del_send(m->qts, "edu0");
    pcie_answer(m, PCI_EXP_SLTSTA_ABP,
                PCI_EXP_SLTCTL_PWR_IND_OFF | PCI_EXP_SLTCTL_PWR_OFF);
    qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
}

/* QEMU has no node in /dev/vfio, no /dev/iommu and no group's device open. */
static void check_let_go(VFIOMachine *m)
{
    g_autofree char *state = vfio_machine_state(m);

    g_assert_null(strstr(state, "/dev/vfio/"));
    g_assert_null(strstr(state, "/dev/iommu"));
    g_assert_null(strstr(state, "vfio-device"));
}

/* What QEMU asked the kernel for */

/* How many lines are of @event and have @word in them */
static int count_with(char **trace, const char *event, const char *word)
{
    int count = 0;

    for (char **line = trace; *line; line++) {
        count += vfio_trace_is(*line, event) && strstr(*line, word);
    }
    return count;
}

static void check_count(char **trace, const char *event, const char *word,
                        int expected)
{
    g_test_message("%s %s: %d times", event, word, expected);
    g_assert_cmpint(count_with(trace, event, word), ==, expected);
}

/* All events that take something or give it back have succeeded. */
static void check_trace_iommufd(char **trace, int n)
{
    check_count(trace, "iommufd_backend_connect", "", n);
    check_count(trace, "vfio_cdev_open", "", n);
    check_count(trace, "vfio_cdev_bind", "(0)", n);
    check_count(trace, "iommufd_backend_alloc_ioas", "(0)", n);
    check_count(trace, "vfio_cdev_attach", "(0)", n);
    check_count(trace, "vfio_cdev_detach", "(0)", n);
    check_count(trace, "iommufd_backend_destroy_id", "(0)", n);
    check_count(trace, "vfio_cdev_close", "", n);
    check_count(trace, "iommufd_backend_disconnect", "", n);
}

static void check_trace_legacy(char **trace, int n)
{
    check_count(trace, "vfio_get_device", "", n);
    check_count(trace, "vfio_put_base_device", "", n);
    check_count(trace, "vfio_put_group", "", n);
    check_count(trace, "vfio_disconnect_container", "", n);
}

static void check_trace(VFIOMachine *m, const Place *place, int n)
{
    const char *set_attr = "vfio_kvm_device_set_attr";
    g_auto(GStrv) trace = vfio_machine_trace(m);
    int added = vfio_trace_count(trace, "vfio_listener_region_add_ram");

    if (vfio_rig_iommufd()) {
        check_trace_iommufd(trace, n);
    } else {
        check_trace_legacy(trace, n);
    }

    g_assert_cmpint(added, >=, n);
    check_count(trace, "vfio_listener_region_del", "", added);

    check_count(trace, set_attr, "", place->kvm ? 2 * n : 0);
    check_count(trace, set_attr, "attr 1 (0)", place->kvm ? n : 0);
    check_count(trace, set_attr, "attr 2 (0)", place->kvm ? n : 0);
}

/* The tests */

static char *device_option(const Place *place)
{
    if (place->object_too) {
        return g_strdup_printf("vfio-pci,host=%s,iommufd=more,id=edu0,%s",
                               vfio_rig_address("EDU0"), place->where);
    }
    return g_strdup_printf("%s,id=edu0,%s", vfio_rig_device("EDU0"),
                           place->where);
}

static void add_object(const Place *place, VFIOMachine *m)
{
    if (place->object_too) {
        g_assert_null(vfio_machine_qmp_error(m, "object-add",
                                             "qom-type=iommufd,id=more"));
    }
}

static void del_object(const Place *place, VFIOMachine *m)
{
    if (place->object_too) {
        g_assert_null(vfio_machine_qmp_error(m, "object-del", "id=more"));
    }
}

/* The device has the same address in each cycle. */
static void check_use(const Place *place, VFIOMachine *m)
{
    uint64_t next = m->pci->mmio_alloc_ptr;
    VFIOEdu *edu = vfio_edu_new(m, place->slot);

    vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
    vfio_edu_free(edu);
    m->pci->mmio_alloc_ptr = next;
}

static void run_cycle(const Place *place, VFIOMachine *m)
{
    g_autofree char *device = device_option(place);

    add_object(place, m);
    g_assert_null(vfio_machine_device_add(m, device));
    if (place->plugged) {
        place->plugged(m);
    }
    check_use(place, m);
    place->unplug(m);
    check_let_go(m);
    del_object(place, m);
}

static void test_cycles(const void *data)
{
    const Place *place = data;
    VFIOMachine *m = vfio_machine_start("%s", place->options);
    g_autoptr(VFIOFootprint) first = NULL;

    if (place->start) {
        place->start(m);
    }

    run_cycle(place, m);
    first = vfio_footprint_new(m);
    for (int i = 2; i <= cycles(); i++) {
        run_cycle(place, m);
        if (i % COMPARE_EACH == 0 || i == cycles()) {
            vfio_footprint_check(m, first);
        }
    }

    check_trace(m, place, cycles());
    vfio_machine_stop(m);
}

/*
 * Until DEVICE_DELETED comes QEMU still has the device, though the guest has
 * let it go.  So the device may be refused, but then it can be added again.
 */
static void test_add_before_deleted(void)
{
    VFIOMachine *m = vfio_machine_start("%s", "");
    g_autofree char *device = g_strdup_printf("%s,id=edu0,addr=%d",
                                              vfio_rig_device("EDU0"), SLOT);

    g_assert_null(vfio_machine_device_add(m, device));
    for (int i = 0; i < 5; i++) {
        g_autofree char *error = NULL;

        qtest_qmp_device_del_send(m->qts, "edu0");
        vfio_acpi_eject(m, SLOT);
        error = vfio_machine_device_add(m, device);
        qtest_qmp_eventwait(m->qts, "DEVICE_DELETED");
        if (error) {
            g_assert_nonnull(strstr(error, "already attached"));
            g_assert_null(vfio_machine_device_add(m, device));
        }
        check_use(&places[0], m);
    }
    vfio_machine_stop(m);
}

static void test_given_back(void)
{
    VFIOMachine *m = vfio_machine_start("%s", "");
    g_autofree char *device = g_strdup_printf("%s,id=nvme0,addr=%d",
                                              vfio_rig_device("NVME0"), SLOT);

    for (int i = 0; i < 3; i++) {
        g_assert_null(vfio_machine_device_add(m, device));
        vfio_machine_device_del(m, "nvme0", SLOT);
        check_let_go(m);    /* else unbinding would wait forever */
        vfio_rig_bind("NVME0", "nvme");
        vfio_rig_check_nvme_reads("NVME0");
        vfio_rig_bind("NVME0", "vfio-pci");
    }

    g_assert_null(vfio_machine_device_add(m, device));
    vfio_machine_stop(m);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "hotplug");

    for (int i = 0; i < ARRAY_SIZE(places); i++) {
        vfio_rig_add_data(places[i].name, places[i].modes, test_cycles,
                          &places[i]);
    }
    vfio_rig_add("add-before-deleted", VFIO_RIG_BOTH, test_add_before_deleted);
    vfio_rig_add("given-back", VFIO_RIG_BOTH, test_given_back);

    return g_test_run();
}
