/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a network device that goes before its guest is migrated
 *
 * It is the primary of a virtio-net with failover=on, and the rig's NET0.  It
 * cannot be stopped, and nothing tells what it writes to: all memory counts as
 * long as the guest has it.  Beside it is an edu that is migrated.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_ids.h"
#include "hw/pci/pci_regs.h"
#include "qemu/units.h"
#include "vfio-memory.h"
#include "vfio-mig-edu.h"

#define STANDBY_SLOT    5
#define PORT_SLOT       6
#define PRIMARY_DEVFN   QPCI_DEVFN(1 << 5, 0)

/* docs/specs/acpi_pci_hotplug.rst; the only port's bus is selected, and slot 0 */
#define PCI_EJECT       0xcc8

/* Memory, by megabytes; in the longest downtime it cannot be sent by half */
#define MEMORY          64
#define BANDWIDTH       (MEMORY / 2 * MiB)

/* By the port itself instead of by ACPI */
#define PORTS_OWN "-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off "

typedef struct Pair {
    VFIOMigSide side;       /* only its machine */
    VFIOVirtio *standby;
    QPCIDevice *primary;
} Pair;

/* The slot has power, and an indicator of it. */
static void set_indicator(Pair *p, uint16_t indicator)
{
    QPCIDevice *port = qpci_device_find(p->side.machine->pci,
                                        QPCI_DEVFN(PORT_SLOT, 0));
    uint8_t at = qpci_find_capability(port, PCI_CAP_ID_EXP, 0);

    g_assert_cmpint(at, !=, 0);
    qpci_config_writew(port, at + PCI_EXP_SLTCTL, indicator);
    g_free(port);
}

static Pair *pair_new(const char *options)
{
    static const VFIOMigEduKind kind = { VFIO_MIG_LOG, true, true };
    Pair *p = g_new0(Pair, 1);

    vfio_rig_bind("NET0", "vfio-pci");
    vfio_mig_edu_bind("EDU0", &kind, 0);
    p->side.machine = vfio_machine_start(
        "-machine q35 -m %dM %s -device pcie-root-port,id=root0,addr=%d,chassis=1 "
        "-device virtio-net-pci,id=standby,failover=on,addr=%d "
        "-device %s,enable-migration=on,addr=%d "
        "-device %s,id=primary,failover_pair_id=standby,bus=root0",
        MEMORY, options, PORT_SLOT, STANDBY_SLOT, vfio_rig_device("EDU0"),
        VFIO_MIG_SLOT(0), vfio_rig_device("NET0"));
    g_assert_cmpint(qpci_secondary_buses_init(p->side.machine->pci), ==, 1);
    p->standby = vfio_virtio_new(p->side.machine, STANDBY_SLOT, 2);
    qtest_qmp_eventwait(p->side.machine->qts, "FAILOVER_NEGOTIATED");
    set_indicator(p, PCI_EXP_SLTCTL_PWR_IND_ON);
    p->primary = qpci_device_find(p->side.machine->pci, PRIMARY_DEVFN);
    g_assert_nonnull(p->primary);
    vfio_mig_set_capability(&p->side, "events", true);
    vfio_mig_set(&p->side, "max-bandwidth", BANDWIDTH);
    return p;
}

static void pair_free(Pair *p)
{
    g_free(p->primary);
    vfio_virtio_free(p->standby);
    vfio_machine_stop(p->side.machine);
    g_free(p);
    vfio_mig_edu_unbind("EDU0");
    vfio_rig_bind("NET0", "e1000e");
}

static bool has_primary(Pair *p)
{
    return qpci_config_readw(p->primary, PCI_VENDOR_ID) == PCI_VENDOR_ID_INTEL;
}

static void let_go(Pair *p)
{
    qtest_qmp_eventwait(p->side.machine->qts, "UNPLUG_PRIMARY");
    vfio_mig_wait(&p->side, "wait-unplug");
    g_assert_true(has_primary(p));
    qtest_outl(p->side.machine->qts, PCI_EJECT, 1);
    g_assert_true(vfio_rig_wait(!has_primary(p)));
}

/* It is attached still, and what it may write to does not count. */
static void test_lets_go(void)
{
    Pair *p = pair_new("");

    vfio_mig_begin_saving(&p->side, "/dev/null");
    let_go(p);
    vfio_mig_wait(&p->side, "completed");
    pair_free(p);
}

static void test_has_it_again(void)
{
    Pair *p = pair_new("");

    vfio_mig_edu_hold("EDU0");
    vfio_mig_begin_saving(&p->side, "/dev/null");
    let_go(p);
    vfio_mig_wait(&p->side, "active");
    vfio_mig_cancel(&p->side);
    vfio_mig_edu_release("EDU0");
    g_assert_true(vfio_rig_wait(has_primary(p)));

    vfio_mig_begin_saving(&p->side, "/dev/null");
    let_go(p);
    vfio_mig_wait(&p->side, "completed");
    pair_free(p);
}

/*
 * A slot whose indicator blinks lets nothing be unplugged.  The guest keeps the
 * device, and all memory counts for it.
 */
static void test_does_not_let_go(void)
{
    Pair *p = pair_new(PORTS_OWN);

    set_indicator(p, PCI_EXP_SLTCTL_PWR_IND_BLINK);
    vfio_mig_begin_saving(&p->side, "/dev/null");
    g_assert_true(vfio_rig_wait_for(
        120, vfio_mig_ram(&p->side, "dirty-sync-count") >= 5));
    g_assert_true(has_primary(p));
    vfio_mig_wait(&p->side, "active");
    vfio_mig_set(&p->side, "downtime-limit", 1000 * 1000);
    vfio_mig_wait(&p->side, "completed");
    g_assert_true(has_primary(p));
    pair_free(p);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "failover");

    vfio_rig_add("guest-lets-go", VFIO_RIG_BOTH, test_lets_go);
    vfio_rig_add("guest-has-it-again", VFIO_RIG_BOTH, test_has_it_again);
    vfio_rig_add("guest-does-not-let-go", VFIO_RIG_BOTH, test_does_not_let_go);
    return g_test_run();
}
