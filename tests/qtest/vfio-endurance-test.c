/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: nothing grows with time
 *
 * A guest is reset VFIO_TEST_CYCLES times (50 by default), and a guest's IOMMU
 * maps and unmaps a hundred times as many pages.  What QEMU and the kernel have
 * is compared with what they had after the first cycle.  vfio-hotplug-test
 * tests a device that comes and goes.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-edu.h"
#include "vfio-footprint.h"
#include "vfio-viommu.h"

#define DEFAULT_CYCLES  50
#define MAPS_PER_CYCLE  100

#define RESETS_PER_COPY 10

/* The number of comparisons on the way */
#define COMPARISONS     10

#define VIOMMU_SLOT     3
#define EDU_SLOT        4

#define DOMAIN          1
#define DATA            (32 * MiB)
#define IOVAS           (64 * MiB)

typedef struct Machine {
    VFIOMachine *m;
    VFIOEdu *edu;
    VIOMMU *viommu;     /* NULL if there is none */
} Machine;

/* Traces are off: they would fill the disk. */
static Machine start(const char *options)
{
    Machine s = {
        .m = vfio_machine_start("-trace enable=-vfio_* "
                                "-trace enable=-iommufd_* %s "
                                "-device %s,addr=%d", options,
                                vfio_rig_device("EDU0"), EDU_SLOT),
    };

    s.edu = vfio_edu_new(s.m, EDU_SLOT);
    return s;
}

static void stop(Machine *s)
{
    if (s->viommu) {
        viommu_free(s->viommu);
    }
    vfio_edu_free(s->edu);
    vfio_machine_stop(s->m);
}

static void repeat(Machine *s, int cycles, void (*cycle)(Machine *s, int i))
{
    int64_t began = g_get_monotonic_time();
    g_autoptr(VFIOFootprint) first = NULL;
    int each = MAX(cycles / COMPARISONS, 1);

    cycle(s, 0);
    first = vfio_footprint_new(s->m);
    for (int i = 1; i < cycles; i++) {
        cycle(s, i);
        if (i % each == 0 || i == cycles - 1) {
            vfio_footprint_check(s->m, first);
        }
    }
    g_test_message("%d cycles in %.1f s", cycles,
                   (g_get_monotonic_time() - began) / 1e6);
}

static int cycles(void)
{
    return vfio_rig_number("VFIO_TEST_CYCLES", DEFAULT_CYCLES);
}

/* Not every time, since an edu's DMA takes longer than the reset */
static void reset(Machine *s, int i)
{
    vfio_machine_reset(s->m);
    if (i % RESETS_PER_COPY == 0) {
        vfio_edu_enable(s->edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        vfio_edu_check_copy(s->edu, 0x100000, 0x200000, 256);
    }
}

static void test_resets(void)
{
    Machine s = start("");

    repeat(&s, cycles(), reset);
    stop(&s);
}

/* The same memory each time, so that QEMU has it already, but at other IOVAs */
static void map_and_unmap(Machine *s, int i)
{
    const uint64_t size = VIOMMU_BATCH * VIOMMU_PAGE;
    uint64_t iova = IOVAS + i * size % IOVAS;

    viommu_map_batch(s->viommu, DOMAIN, iova, DATA);
    viommu_unmap_batch(s->viommu, DOMAIN, iova);
}

static void test_maps(void)
{
    Machine s = start("-device virtio-iommu-pci,addr=3,boot-bypass=off");

    s.viommu = viommu_new(s.m, VIOMMU_SLOT);
    g_assert_cmpint(viommu_attach(s.viommu, DOMAIN, VIOMMU_ENDPOINT(EDU_SLOT),
                                  0), ==, VIRTIO_IOMMU_S_OK);
    repeat(&s, DIV_ROUND_UP(cycles() * MAPS_PER_CYCLE, VIOMMU_BATCH),
           map_and_unmap);
    stop(&s);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "endurance");
    vfio_rig_add("resets", VFIO_RIG_BOTH, test_resets);
    vfio_rig_add("maps", VFIO_RIG_BOTH, test_maps);
    return g_test_run();
}
