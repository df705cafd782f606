/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: what a guest can make QEMU report does not fill the log
 *
 * A guest can repeat all of this as often as it likes.  With iommufd= there is
 * one line a second at most, and it says how many were left out.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-viommu.h"

#define VIOMMU_SLOT     3
#define EDU_SLOT        4
#define VMEM_SLOT       5
#define BRIDGE_SLOT     6

#define DOMAIN          1
#define DATA            (32 * MiB)
#define IOVA            (64 * MiB)
#define BAR             0xe0000000

/* Where the guest's memory that can be plugged begins */
#define VMEM_ADDR       (4 * GiB)

/* How often each thing is done */
#define OFTEN           40

#define PAGES(n)        ((uint64_t)(n) * VIOMMU_PAGE)

typedef struct Fixture {
    VFIOMachine *machine;
    VIOMMU *viommu;
    char *log;
    int64_t begin;          /* when the log was last empty, in microseconds */
} Fixture;

static Fixture *fixture_new(const char *options)
{
    Fixture *f = g_new0(Fixture, 1);

    f->log = vfio_rig_log_new();
    f->machine = vfio_machine_start("%s 2>>%s", options, f->log);
    g_free(vfio_rig_log_take(f->log));
    f->begin = g_get_monotonic_time();
    return f;
}

static void fixture_free(Fixture *f)
{
    if (f->viommu) {
        viommu_free(f->viommu);
    }
    vfio_machine_stop(f->machine);
    vfio_rig_log_free(f->log);
    g_free(f);
}

/* Behind an IOMMU, with memory that could be plugged and is not */
static Fixture *fixture_new_with_viommu(void)
{
    g_autofree char *options =
        g_strdup_printf("-m maxmem=8G "
                        "-device virtio-iommu-pci,addr=%d,boot-bypass=off "
                        "-object memory-backend-ram,id=mem0,size=64M "
                        "-device virtio-mem-pci,addr=%d,memdev=mem0,memaddr=%"
                        PRIu64 " -device %s,addr=%d",
                        VIOMMU_SLOT, VMEM_SLOT, VMEM_ADDR,
                        vfio_rig_device("EDU0"), EDU_SLOT);
    Fixture *f = fixture_new(options);

    f->viommu = viommu_new(f->machine, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(f->viommu, DOMAIN, VIOMMU_ENDPOINT(EDU_SLOT),
                                  0), ==, VIRTIO_IOMMU_S_OK);
    return f;
}

static void map(Fixture *f, uint64_t iova, uint64_t addr, uint64_t size)
{
    g_assert_cmpint(viommu_map(f->viommu, DOMAIN, iova, addr, size,
                               VIOMMU_READ), ==, VIRTIO_IOMMU_S_OK);
}

static void unmap(Fixture *f, uint64_t iova, uint64_t size)
{
    g_assert_cmpint(viommu_unmap(f->viommu, DOMAIN, iova, size), ==,
                    VIRTIO_IOMMU_S_OK);
}

static void write_config(Fixture *f, int slot, uint8_t reg, uint16_t value)
{
    g_autofree QPCIDevice *dev = qpci_device_find(f->machine->pci,
                                                  QPCI_DEVFN(slot, 0));

    g_assert_nonnull(dev);
    qpci_config_writew(dev, reg, value);
}

/* Each line has @words; there were not more of them than seconds. */
static void check_log(Fixture *f, const char *words)
{
    int seconds = (g_get_monotonic_time() - f->begin) / G_USEC_PER_SEC;
    g_autofree char *text = vfio_rig_log_take(f->log);
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int count = vfio_rig_count_lines(text);

    g_assert_cmpint(count, >=, 1);
    g_assert_cmpint(count, <=, 1 + seconds);
    for (int i = 0; i < count; i++) {
        g_assert_nonnull(strstr(lines[i], words));
    }
    f->begin = g_get_monotonic_time();
}

/* What comes after a while says how many others there were. */
static void check_next_counts(Fixture *f, void (*again)(Fixture *f))
{
    g_autofree char *text = NULL;

    g_usleep(G_USEC_PER_SEC);
    again(f);
    g_free(vfio_rig_log_take(f->log));
    again(f);
    again(f);
    g_usleep(G_USEC_PER_SEC);
    again(f);
    text = vfio_rig_log_take(f->log);
    g_assert_cmpint(vfio_rig_count_lines(text), ==, 1);
    g_assert_true(g_str_has_suffix(text, " (and 2 others since the last such "
                                   "line)\n"));
}

/* Maps of a guest's IOMMU */

static const struct {
    uint64_t addr, size;
    const char *says;
} not_memory[] = {
    { 3 * GiB, PAGES(1), "iommu map to non memory area" },
    { VMEM_ADDR, PAGES(1), "iommu map to discarded memory (e.g., unplugged via "
                           "virtio-mem)" },
    { VFIO_MACHINE_MEMORY - PAGES(1), PAGES(2),
      "iommu has granularity incompatible with target AS" },
};

static void map_what_is_not_memory(Fixture *f)
{
    map(f, IOVA, 3 * GiB, PAGES(1));
    unmap(f, IOVA, PAGES(1));
}

static void test_maps_of_what_is_not_memory(void)
{
    Fixture *f = fixture_new_with_viommu();

    for (int i = 0; i < ARRAY_SIZE(not_memory); i++) {
        g_usleep(G_USEC_PER_SEC);
        for (int n = 0; n < OFTEN; n++) {
            map(f, IOVA + PAGES(2 * n), not_memory[i].addr, not_memory[i].size);
        }
        check_log(f, not_memory[i].says);
        unmap(f, IOVA, PAGES(2 * OFTEN));
    }
    check_next_counts(f, map_what_is_not_memory);
    fixture_free(f);
}

/* One such map: by the group it is said as ever, by iommufd= also of what. */
static void test_map_of_what_is_not_memory_is_told(void)
{
    Fixture *f = fixture_new_with_viommu();

    for (int i = 0; i < ARRAY_SIZE(not_memory); i++) {
        g_autofree char *legacy = g_strdup_printf(": %s", not_memory[i].says);
        g_autofree char *iommufd =
            g_strdup_printf(": iommufd object '" VFIO_RIG_IOMMUFD "': cannot "
                            "map memory for DMA at IOVA 0x%"PRIx64" to 0x%"
                            PRIx64": %s", IOVA, IOVA + not_memory[i].size - 1,
                            not_memory[i].says);
        g_autofree char *text = NULL;

        g_usleep(G_USEC_PER_SEC);
        map(f, IOVA, not_memory[i].addr, not_memory[i].size);
        text = vfio_rig_log_take(f->log);
        g_assert_cmpint(vfio_rig_count_lines(text), ==, 1);
        g_assert_true(g_str_has_prefix(strchr(text, ':'), vfio_rig_iommufd() ?
                                       iommufd : legacy));
        unmap(f, IOVA, PAGES(2));
    }
    fixture_free(f);
}

static void test_maps_out_of_reach(void)
{
    Fixture *f = fixture_new_with_viommu();

    for (int i = 0; i < OFTEN; i++) {
        map(f, PAGES(i) + 1024 * GiB, DATA, PAGES(1));
    }
    check_log(f, "does not reach it");
    map(f, IOVA, DATA, PAGES(3));
    fixture_free(f);
}

/* Unmaps that the kernel refuses */

static void unmap_in_vain(Fixture *f)
{
    map(f, IOVA, DATA, PAGES(1));
    vfio_fault_arm(1, EBUSY);
    unmap(f, IOVA, PAGES(1));
    vfio_fault_disarm();
}

static void test_unmaps_that_fail(void)
{
    Fixture *f = fixture_new_with_viommu();

    for (int i = 0; i < OFTEN; i++) {
        unmap_in_vain(f);
    }
    check_log(f, "cannot unmap IOVA 0x4000000 to 0x4000fff, devices still "
              "reach memory there: Device or resource busy");
    check_next_counts(f, unmap_in_vain);
    fixture_free(f);
}

/* BARs */

static Fixture *fixture_new_with_edu(void)
{
    g_autofree char *options = g_strdup_printf("-device %s,addr=%d",
                                               vfio_rig_device("EDU0"),
                                               EDU_SLOT);
    g_autofree QPCIDevice *dev = NULL;
    Fixture *f = fixture_new(options);

    dev = qpci_device_find(f->machine->pci, QPCI_DEVFN(EDU_SLOT, 0));
    qpci_config_writel(dev, PCI_BASE_ADDRESS_0, BAR);
    return f;
}

/* Whatever else than EFAULT the kernel says, the next BAR is tried. */
static void show_bar_in_vain(Fixture *f)
{
    vfio_fault_arm(1, ENOMEM);
    write_config(f, EDU_SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY);
    g_assert_cmpint(vfio_fault_disarm(), >=, 1);
    write_config(f, EDU_SLOT, PCI_COMMAND, 0);
}

static void hide_bar_in_vain(Fixture *f)
{
    write_config(f, EDU_SLOT, PCI_COMMAND, PCI_COMMAND_MEMORY);
    vfio_fault_arm(1, EBUSY);
    write_config(f, EDU_SLOT, PCI_COMMAND, 0);
    g_assert_cmpint(vfio_fault_disarm(), >=, 1);
}

static void check_edu_works(Fixture *f)
{
    VFIOEdu *edu = vfio_edu_new(f->machine, EDU_SLOT);

    vfio_edu_check_copy(edu, 0x100000, 0x200000, 256);
    vfio_edu_free(edu);
}

static void test_bars_that_cannot_be_mapped(void)
{
    Fixture *f = fixture_new_with_edu();

    for (int i = 0; i < OFTEN; i++) {
        show_bar_in_vain(f);
    }
    check_log(f, "cannot map memory for DMA at IOVA 0xe0000000");
    check_next_counts(f, show_bar_in_vain);
    check_edu_works(f);
    fixture_free(f);
}

static void test_bars_that_cannot_be_unmapped(void)
{
    Fixture *f = fixture_new_with_edu();

    for (int i = 0; i < OFTEN; i++) {
        hide_bar_in_vain(f);
    }
    check_log(f, "cannot unmap IOVA 0xe0000000");
    check_next_counts(f, hide_bar_in_vain);
    check_edu_works(f);
    fixture_free(f);
}

/* Resets of a device that has no way to be reset */

static void reset_bus(Fixture *f)
{
    write_config(f, BRIDGE_SLOT, PCI_BRIDGE_CONTROL, PCI_BRIDGE_CTL_BUS_RESET);
    write_config(f, BRIDGE_SLOT, PCI_BRIDGE_CONTROL, 0);
}

static void test_resets_that_fail(void)
{
    g_autofree char *options =
        g_strdup_printf("-device pci-bridge,id=bridge,chassis_nr=1,addr=%d "
                        "-device %s,bus=bridge,addr=1", BRIDGE_SLOT,
                        vfio_rig_device("EDU2"));
    Fixture *f = fixture_new(options);

    g_usleep(G_USEC_PER_SEC);
    for (int i = 0; i < OFTEN; i++) {
        reset_bus(f);
    }
    check_log(f, "Cannot reset device");
    check_next_counts(f, reset_bus);
    fixture_free(f);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "guest-log");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }

    vfio_rig_add("map-of-what-is-not-memory-is-told", VFIO_RIG_BOTH,
                 test_map_of_what_is_not_memory_is_told);
    vfio_rig_add("maps-of-what-is-not-memory", VFIO_RIG_IOMMUFD_ONLY,
                 test_maps_of_what_is_not_memory);
    vfio_rig_add("maps-out-of-reach", VFIO_RIG_IOMMUFD_ONLY,
                 test_maps_out_of_reach);
    vfio_rig_add("unmaps-that-fail", VFIO_RIG_IOMMUFD_ONLY,
                 test_unmaps_that_fail);
    vfio_rig_add("bars-that-cannot-be-mapped", VFIO_RIG_IOMMUFD_ONLY,
                 test_bars_that_cannot_be_mapped);
    vfio_rig_add("bars-that-cannot-be-unmapped", VFIO_RIG_IOMMUFD_ONLY,
                 test_bars_that_cannot_be_unmapped);
    vfio_rig_add("resets-that-fail", VFIO_RIG_IOMMUFD_ONLY,
                 test_resets_that_fail);
    return g_test_run();
}
