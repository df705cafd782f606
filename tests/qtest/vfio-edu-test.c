/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what one passed-through device can do
 *
 * The device is an edu of the rig; see vfio-rig.h.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "hw/pci-host/pam.h"
#include "qapi/qmp/qdict.h"
#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qstring.h"
#include "vfio-edu.h"

#define SLOT    4

/* The PIIX3's interrupt routing, and the IRQ to which this routes every pin */
#define PIIX3_DEVFN     QPCI_DEVFN(1, 0)
#define PIIX3_PIRQ      0x60
#define INTX_GSI        11

/* The i440fx's register for the memory at 0xd0000 and 0xd4000. */
#define I440FX_PAM3     0x5c
#define PAM3_BASE       0xd0000

static VFIOEdu *start_with(const char *device)
{
    return vfio_edu_new(vfio_machine_start("-device %s,id=edu0,addr=%d",
                                           device, SLOT), SLOT);
}

static VFIOEdu *start(void)
{
    return start_with(vfio_rig_device("EDU0"));
}

static void stop(VFIOEdu *edu)
{
    VFIOMachine *m = edu->machine;

    vfio_edu_free(edu);
    vfio_machine_stop(m);
}

static void check_small_dma(VFIOEdu *edu)
{
    vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
}

/* Registers */

static void check_bar(const char *properties, bool trapped)
{
    g_autofree char *device = g_strdup_printf("%s%s", vfio_rig_device("EDU0"),
                                              properties);
    VFIOEdu *edu = start_with(device);
    g_auto(GStrv) trace = NULL;
    bool reads, writes;

    vfio_edu_check_registers(edu);
    trace = vfio_machine_trace(edu->machine);
    reads = vfio_trace_count(trace, "vfio_region_read");
    writes = vfio_trace_count(trace, "vfio_region_write");
    g_assert_cmpint(reads, ==, trapped);
    g_assert_cmpint(writes, ==, trapped);
    stop(edu);
}

static void test_bar_mapped(void)
{
    check_bar("", false);
}

static void test_bar_trapped(void)
{
    check_bar(",x-no-mmap=on", true);
}

/* DMA */

static void test_dma_both_ways(void)
{
    static const struct {
        uint32_t src, dst, size;
    } copies[] = {
        { 0x100000, 0x200000, 1 },
        { 0x100000, 0x200001, 16 },
        { 0x100003, 0x200ffd, 7 },                      /* over a page's end */
        { 0x300000, 0x400000, EDU_DMA_MAX },
        { 0x300801, 0x400fff, EDU_DMA_MAX },
        { 0x000000, 0x001000, 2048 },                   /* at address 0 */
        { 0x001000, 0x000000, 2048 },
        { 0x07f000, 0x09f000, 2048 },                   /* below 640 KiB */
        { 0x100000, 0x1ff800, EDU_DMA_MAX },            /* over 2 MiB */
        { 0x7ff800, 0x5000000, EDU_DMA_MAX },
        { 0x200000, VFIO_MACHINE_MEMORY - 4000, 4000 }, /* to the last byte */
        { VFIO_MACHINE_MEMORY - 4000, 0x200000, 4000 },
    };
    VFIOEdu *edu = start();

    for (int i = 0; i < ARRAY_SIZE(copies); i++) {
        vfio_edu_check_copy(edu, copies[i].src, copies[i].dst, copies[i].size);
    }
    stop(edu);
}

static void test_dma_with_trapped_bar(void)
{
    g_autofree char *device = g_strdup_printf("%s,x-no-mmap=on",
                                              vfio_rig_device("EDU0"));
    VFIOEdu *edu = start_with(device);

    check_small_dma(edu);
    stop(edu);
}

static void test_dma_by_sysfsdev(void)
{
    g_autofree char *device =
        g_strdup_printf("vfio-pci,sysfsdev=/sys/bus/pci/devices/%s%s",
                        vfio_rig_address("EDU0"),
                        vfio_rig_iommufd() ? ",iommufd=" VFIO_RIG_IOMMUFD : "");
    VFIOEdu *edu = start_with(device);

    check_small_dma(edu);
    stop(edu);
}

/* Let the guest see memory at PAM3_BASE, or what is there otherwise. */
static void set_pam3(VFIOEdu *edu, uint8_t attributes)
{
    QPCIDevice *host = qpci_device_find(edu->machine->pci, 0);

    qpci_config_writeb(host, I440FX_PAM3, attributes << 4 | attributes);
    g_free(host);
}

static void check_device_reads_what_guest_reads(VFIOEdu *edu, uint32_t addr)
{
    QTestState *qts = edu->machine->qts;
    uint8_t guest[512], device[512];

    qtest_bufread(qts, addr, guest, sizeof(guest));
    vfio_edu_dma(edu, EDU_DMA_FROM_MEMORY, addr, sizeof(device));
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, 0x100000, sizeof(device));
    qtest_bufread(qts, 0x100000, device, sizeof(device));
    g_assert_cmpmem(device, sizeof(device), guest, sizeof(guest));
}

/*
 * At PAM3_BASE a PC has ROM.  The guest's firmware replaces it by memory, and
 * may switch back: this maps and unmaps while the machine runs.
 */
static void test_dma_follows_memory_map(void)
{
    VFIOEdu *edu = start();

    check_device_reads_what_guest_reads(edu, PAM3_BASE);

    for (int i = 0; i < 2; i++) {
        set_pam3(edu, PAM_ATTR_RE | PAM_ATTR_WE);
        vfio_edu_check_copy(edu, 0x200000, PAM3_BASE + 0x100, 1024);
        check_device_reads_what_guest_reads(edu, PAM3_BASE);

        set_pam3(edu, 0);
        check_device_reads_what_guest_reads(edu, PAM3_BASE);
    }
    check_small_dma(edu);
    stop(edu);
}

/* Interrupts */

static void test_msi_delivered(void)
{
    const uint32_t addr = 0x300000;
    VFIOEdu *edu = start();

    qtest_writel(edu->machine->qts, addr, 0);
    vfio_edu_enable_msi(edu, addr, 0x4d53);

    for (int i = 0; i < 3; i++) {
        vfio_edu_write(edu, EDU_REG_IRQ_RAISE, 1 << i);
        vfio_edu_check_msi(edu, addr, 0x4d53);
        g_assert_cmphex(vfio_edu_read(edu, EDU_REG_IRQ_STATUS), ==, 1 << i);
        vfio_edu_write(edu, EDU_REG_IRQ_ACK, 1 << i);
    }
    g_assert_cmphex(qtest_readl(edu->machine->qts, addr), ==, 0);
    stop(edu);
}

static void test_msi_follows_dma(void)
{
    const uint32_t addr = 0x300000, dst = 0x200000;
    VFIOEdu *edu = start();
    QTestState *qts = edu->machine->qts;

    qtest_writel(qts, addr, 0);
    vfio_edu_enable_msi(edu, addr, 0x4d54);

    qtest_writel(qts, 0x100000, 0x600dda7a);
    vfio_edu_dma(edu, EDU_DMA_FROM_MEMORY, 0x100000, 4);
    qtest_writel(qts, dst, 0);
    vfio_edu_dma_start(edu, EDU_DMA_TO_MEMORY, dst, 4, true);
    vfio_edu_check_msi(edu, addr, 0x4d54);

    g_assert_cmphex(qtest_readl(qts, dst), ==, 0x600dda7a);
    g_assert_cmphex(vfio_edu_read(edu, EDU_REG_IRQ_STATUS), ==, EDU_IRQ_DMA);
    stop(edu);
}

static void intercept_intx(VFIOEdu *edu)
{
    QPCIDevice *piix3 = qpci_device_find(edu->machine->pci, PIIX3_DEVFN);

    qtest_irq_intercept_in(edu->machine->qts, "ioapic");
    qpci_config_writel(piix3, PIIX3_PIRQ, INTX_GSI * 0x01010101);
    g_free(piix3);
}

static bool intx_level(VFIOEdu *edu)
{
    return qtest_get_irq(edu->machine->qts, INTX_GSI);
}

static void test_intx_delivered(void)
{
    VFIOEdu *edu = start();

    intercept_intx(edu);
    for (int i = 0; i < 3; i++) {
        g_assert_false(intx_level(edu));
        vfio_edu_write(edu, EDU_REG_IRQ_RAISE, 0x100);
        g_assert_true(vfio_rig_wait(intx_level(edu)));

        /*
         * Any access counts as the end of the interrupt.  The device still
         * asserts its line, so the interrupt comes again.
         */
        g_assert_cmphex(vfio_edu_read(edu, EDU_REG_IRQ_STATUS), ==, 0x100);
        g_assert_true(vfio_rig_wait(intx_level(edu)));

        vfio_edu_write(edu, EDU_REG_IRQ_ACK, 0x100);
        g_assert_true(vfio_rig_wait(!intx_level(edu)));
    }
    stop(edu);
}

/* Reset */

static bool can_be_reset(const char *name)
{
    g_autofree char *path = vfio_rig_sysfs(name, "reset_method");
    g_autofree char *methods = NULL;

    g_file_get_contents(path, &methods, NULL, NULL);
    return methods && *g_strstrip(methods);
}

/* Make the device write to memory, which must fail. */
static void check_dma_is_stopped(VFIOEdu *edu)
{
    QTestState *qts = edu->machine->qts;

    vfio_edu_enable(edu, PCI_COMMAND_MEMORY);
    qtest_memset(qts, 0x200000, 0x5a, 4);
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, 0x200000, 4);
    g_assert_cmphex(qtest_readl(qts, 0x200000), ==, 0x5a5a5a5a);
}

/* How often the kernel's VFIO_DEVICE_RESET succeeded */
static int count_device_resets(VFIOEdu *edu)
{
    g_auto(GStrv) trace = vfio_machine_trace(edu->machine);

    return vfio_trace_count(trace, "vfio_pci_reset_flr");
}

static void check_reset(const char *name)
{
    VFIOEdu *edu = start_with(vfio_rig_device(name));
    int resets = count_device_resets(edu);

    check_small_dma(edu);
    g_assert_true(vfio_rig_command(name) & PCI_COMMAND_MASTER);

    vfio_machine_reset(edu->machine);
    g_assert_cmpint(count_device_resets(edu), ==, resets + can_be_reset(name));
    g_assert_cmphex(qpci_config_readw(edu->pci, PCI_COMMAND), ==, 0);
    g_assert_cmphex(qpci_config_readl(edu->pci, PCI_BASE_ADDRESS_0), ==, 0);
    g_assert_false(vfio_rig_command(name) & PCI_COMMAND_MASTER);
    check_dma_is_stopped(edu);

    vfio_edu_enable(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    vfio_edu_check_registers(edu);
    check_small_dma(edu);
    stop(edu);
}

/*
 * By iommufd, the kernel has reset it when QEMU bound it.  From then on it is
 * reset each time.
 */
static void test_start_resets_once(void)
{
    VFIOEdu *edu = start_with(vfio_rig_device("EDU0"));
    int resets = count_device_resets(edu);

    g_assert_cmpint(resets, ==, vfio_rig_iommufd() ? 0 : 1);
    check_small_dma(edu);
    for (int i = 0; i < 2; i++) {
        vfio_machine_reset(edu->machine);
        resets++;
        g_assert_cmpint(count_device_resets(edu), ==, resets);
    }
    stop(edu);
}

static void test_reset_stops_dma(void)
{
    check_reset("EDU0");
}

static void test_reset_without_method(void)
{
    if (can_be_reset("EDU2")) {
        g_test_skip("the kernel has a way to reset EDU2");
        return;
    }
    check_reset("EDU2");
}

static void test_reset_returns_to_intx(void)
{
    const uint32_t addr = 0x300000;
    VFIOEdu *edu = start();

    vfio_edu_enable_msi(edu, addr, 0x4d55);
    vfio_machine_reset(edu->machine);
    qtest_writel(edu->machine->qts, addr, 0);

    intercept_intx(edu);
    vfio_edu_enable(edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    vfio_edu_write(edu, EDU_REG_IRQ_RAISE, 1);
    g_assert_true(vfio_rig_wait(intx_level(edu)));
    g_assert_cmphex(qtest_readl(edu->machine->qts, addr), ==, 0);
    vfio_edu_write(edu, EDU_REG_IRQ_ACK, 1);

    vfio_edu_enable_msi(edu, addr, 0x4d56);
    vfio_edu_write(edu, EDU_REG_IRQ_RAISE, 2);
    vfio_edu_check_msi(edu, addr, 0x4d56);
    stop(edu);
}

/* Monitor */

static bool is_migration_reason(const char *text)
{
    return g_strrstr(text, "VFIO") && g_strrstr(text, "migration");
}

static void check_query_migrate(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{'execute': 'query-migrate'}");
    QList *reasons = qdict_get_qlist(qdict_get_qdict(reply, "return"),
                                     "blocked-reasons");

    g_assert_nonnull(reasons);
    g_assert_cmpint(qlist_size(reasons), ==, 1);
    g_assert_true(is_migration_reason(
        qstring_get_str(qobject_to(QString, qlist_peek(reasons)))));
    qobject_unref(reply);
}

static void test_migration_blocked(void)
{
    VFIOEdu *edu = start();
    g_autofree char *error =
        vfio_machine_qmp_error(edu->machine, "migrate", "uri=exec:cat");

    g_assert_nonnull(error);
    g_assert_true(is_migration_reason(error));
    check_query_migrate(edu->machine);
    stop(edu);
}

static void test_object_in_use_stays(void)
{
    VFIOEdu *edu = start();
    VFIOMachine *m = edu->machine;
    g_autofree char *error =
        vfio_machine_qmp_error(m, "object-del", "id=" VFIO_RIG_IOMMUFD);

    g_assert_nonnull(error);
    g_assert_nonnull(g_strrstr(error, VFIO_RIG_IOMMUFD));
    g_assert_nonnull(g_strrstr(error, "in use"));
    check_small_dma(edu);

    vfio_machine_device_del(m, "edu0", SLOT);
    vfio_edu_free(edu);
    g_assert_true(vfio_rig_wait(!vfio_machine_qmp_error(
        m, "object-del", "id=" VFIO_RIG_IOMMUFD)));
    vfio_machine_stop(m);
}

/* With an object that is given /dev/iommu and does not open it */
static void test_dma_by_passed_iommu(void)
{
    int fd = open("/dev/iommu", O_RDWR);
    VFIOEdu *edu;

    g_assert_cmpint(fd, >=, 0);
    edu = vfio_edu_new(
        vfio_machine_start("-object iommufd,id=passed,fd=%d "
                           "-device vfio-pci,host=%s,iommufd=passed,addr=%d",
                           fd, vfio_rig_address("EDU0"), SLOT), SLOT);
    close(fd);
    check_small_dma(edu);
    stop(edu);
}

static void test_dma_by_sent_iommu(void)
{
    VFIOMachine *m = vfio_machine_start("%s", "");
    int fd = open("/dev/iommu", O_RDWR);
    g_autofree char *device = NULL;
    VFIOEdu *edu;

    g_assert_cmpint(fd, >=, 0);
    qobject_unref(qtest_qmp_fds(m->qts, &fd, 1, "{ 'execute': 'getfd',"
                                " 'arguments': { 'fdname': 'iommu' } }"));
    close(fd);
    g_assert_null(vfio_machine_qmp_error(m, "object-add",
                                         "qom-type=iommufd,id=sent,fd=iommu"));
    device = g_strdup_printf("vfio-pci,host=%s,iommufd=sent,addr=%d",
                             vfio_rig_address("EDU0"), SLOT);
    g_assert_null(vfio_machine_device_add(m, device));

    edu = vfio_edu_new(m, SLOT);
    check_small_dma(edu);
    stop(edu);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "edu");

    vfio_rig_add("bar-mapped", VFIO_RIG_BOTH, test_bar_mapped);
    vfio_rig_add("bar-trapped", VFIO_RIG_BOTH, test_bar_trapped);
    vfio_rig_add("dma-both-ways", VFIO_RIG_BOTH, test_dma_both_ways);
    vfio_rig_add("dma-with-trapped-bar", VFIO_RIG_BOTH,
                 test_dma_with_trapped_bar);
    vfio_rig_add("dma-by-sysfsdev", VFIO_RIG_BOTH, test_dma_by_sysfsdev);
    vfio_rig_add("dma-follows-memory-map", VFIO_RIG_BOTH,
                 test_dma_follows_memory_map);
    vfio_rig_add("dma-by-passed-iommu", VFIO_RIG_IOMMUFD_ONLY,
                 test_dma_by_passed_iommu);
    vfio_rig_add("dma-by-sent-iommu", VFIO_RIG_IOMMUFD_ONLY,
                 test_dma_by_sent_iommu);
    vfio_rig_add("msi-delivered", VFIO_RIG_BOTH, test_msi_delivered);
    vfio_rig_add("msi-follows-dma", VFIO_RIG_BOTH, test_msi_follows_dma);
    vfio_rig_add("intx-delivered", VFIO_RIG_BOTH, test_intx_delivered);
    vfio_rig_add("start-resets-once", VFIO_RIG_BOTH, test_start_resets_once);
    vfio_rig_add("reset-stops-dma", VFIO_RIG_BOTH, test_reset_stops_dma);
    vfio_rig_add("reset-returns-to-intx", VFIO_RIG_BOTH,
                 test_reset_returns_to_intx);
    vfio_rig_add("reset-without-method", VFIO_RIG_BOTH,
                 test_reset_without_method);
    vfio_rig_add("migration-blocked", VFIO_RIG_BOTH, test_migration_blocked);
    vfio_rig_add("object-in-use-stays", VFIO_RIG_IOMMUFD_ONLY,
                 test_object_in_use_stays);

    return g_test_run();
}
