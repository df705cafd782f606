/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An edu of a guest that moves: it writes to the guest's memory all the while
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "vfio-mig-edu.h"

#define DRIVER "vfio-pci-edu"

/*
 * Each device writes to a part of the memory of its own, so that what it wrote
 * last stays; at the begin of the part is what its buffer gets.
 */
#define PARTS_BEGIN (2 * VFIO_MIG_FREE)

/* Where an interrupt of the device writes to; a page of its own for each */
#define MSI_ADDRESS(slot)   (VFIO_MIG_FREE + (slot) * 0x1000)
#define MSI_DATA(slot)      (0x4d40 + (slot))

#define PAGE        4096

/* The smallest write: so many random bytes are not there already. */
#define LEAST       8

void vfio_mig_edu_set(const char *name, const char *setting, uint64_t value)
{
    g_autofree char *file = g_build_filename("migration", setting, NULL);
    g_autofree char *path = vfio_rig_sysfs(name, file);
    g_autofree char *text = g_strdup_printf("%" PRIu64, value);

    vfio_rig_write(path, text);
}

void vfio_mig_edu_bind(const char *name, const VFIOMigEduKind *kind, int i)
{
    bool log = kind->tracking == VFIO_MIG_LOG ||
               (kind->tracking == VFIO_MIG_MIXED && i == 0);

    vfio_rig_bind(name, DRIVER);
    vfio_mig_edu_set(name, "pre_copy", kind->pre_copy);
    vfio_mig_edu_set(name, "p2p", kind->p2p);
    vfio_mig_edu_set(name, "log", log);
}

void vfio_mig_edu_unbind(const char *name)
{
    vfio_rig_bind(name, "vfio-pci");
}

const char *vfio_mig_edu_properties(const VFIOMigEduKind *kind)
{
    return kind->tracking == VFIO_MIG_NOTHING
           ? "migration-events=on,x-pre-copy-dirty-page-tracking=off"
           : "migration-events=on";
}

void vfio_mig_edu_hold(const char *name)
{
    vfio_mig_edu_set(name, "fail_data_size", EIO);
}

void vfio_mig_edu_release(const char *name)
{
    vfio_mig_edu_set(name, "fail_data_size", 0);
}

static int slot_of(VFIOMigEdu *e)
{
    return e->edu->pci->devfn >> 3;
}

static void set_register(VFIOMigEdu *e)
{
    e->liveness = g_test_rand_int();
    vfio_edu_write(e->edu, EDU_REG_LIVENESS, e->liveness);
}

static void check_register(VFIOMigEdu *e)
{
    g_assert_cmphex(vfio_edu_read(e->edu, EDU_REG_LIVENESS), ==, ~e->liveness);
}

/* The buffer gets what the guest's memory has, which is random. */
static void fill_buffer(VFIOMigEdu *e)
{
    memcpy(e->buffer, e->side->memory + e->part, EDU_DMA_MAX);
    vfio_edu_dma(e->edu, EDU_DMA_FROM_MEMORY, e->part, EDU_DMA_MAX);
}

static void check_buffer(VFIOMigEdu *e)
{
    uint32_t other = e->part + PAGE;

    vfio_edu_dma(e->edu, EDU_DMA_TO_MEMORY, other, EDU_DMA_MAX);
    g_assert_cmpmem(e->side->memory + other, EDU_DMA_MAX, e->buffer,
                    EDU_DMA_MAX);
}

static void check_interrupt(VFIOMigEdu *e)
{
    int slot = slot_of(e);

    g_assert_cmphex(vfio_edu_read(e->edu, EDU_REG_IRQ_STATUS), ==, 0);
    vfio_edu_write(e->edu, EDU_REG_IRQ_RAISE, 1);
    vfio_edu_check_msi(e->edu, MSI_ADDRESS(slot), MSI_DATA(slot));
    vfio_edu_write(e->edu, EDU_REG_IRQ_ACK, 1);
}

void vfio_mig_edu_set_up(VFIOMigEdu *e)
{
    int slot = slot_of(e);

    vfio_edu_enable(e->edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    qtest_writel(e->side->machine->qts, MSI_ADDRESS(slot), 0);
    vfio_edu_enable_msi(e->edu, MSI_ADDRESS(slot), MSI_DATA(slot));
    set_register(e);
    fill_buffer(e);
    vfio_mig_edu_write(e);
    vfio_mig_edu_wrote(e);
    check_interrupt(e);
}

bool vfio_mig_edu_was_reset(VFIOMigEdu *e)
{
    return vfio_edu_read(e->edu, EDU_REG_LIVENESS) != ~e->liveness;
}

VFIOMigEdu *vfio_mig_edu_new(VFIOMigSide *side, int i)
{
    VFIOMigEdu *e = g_new0(VFIOMigEdu, 1);

    e->side = side;
    e->size_of_part = (side->size - PARTS_BEGIN) / VFIO_MIG_MOST;
    e->part = PARTS_BEGIN + i * e->size_of_part;
    e->edu = vfio_edu_new(side->machine, VFIO_MIG_SLOT(i));
    vfio_mig_edu_set_up(e);
    return e;
}

void vfio_mig_edu_free(VFIOMigEdu *e)
{
    vfio_edu_free(e->edu);
    g_free(e);
}

/* Behind what its buffer gets, and what it has given */
static uint32_t written_part(VFIOMigEdu *e)
{
    return e->part + 2 * PAGE;
}

void vfio_mig_edu_write(VFIOMigEdu *e)
{
    e->size = g_test_rand_int_range(LEAST, EDU_DMA_MAX);
    e->offset = g_test_rand_int_range(0, EDU_DMA_MAX - e->size);
    e->iova = g_test_rand_int_range(written_part(e),
                                    e->part + e->size_of_part - e->size);
    vfio_edu_dma_start_from(e->edu, e->offset, e->iova, e->size);
}

void vfio_mig_edu_check_written(VFIOMigEdu *e, VFIOMigSide *side)
{
    g_assert_cmpmem(side->memory + e->iova, e->size, e->buffer + e->offset,
                    e->size);
}

void vfio_mig_edu_wrote(VFIOMigEdu *e)
{
    vfio_edu_dma_wait(e->edu);
    vfio_mig_edu_check_written(e, e->side);
}

/* Each write is from the middle of a page to that of the next. */
void vfio_mig_edu_write_pages(VFIOMigEdu *e, int count)
{
    e->offset = 0;
    e->size = EDU_DMA_MAX;
    for (int i = 0; i < count; i += 2) {
        e->iova = written_part(e) + i * PAGE + PAGE / 2;
        g_assert_cmpuint(e->iova + e->size, <=, e->part + e->size_of_part);
        vfio_edu_dma_start_from(e->edu, e->offset, e->iova, e->size);
        vfio_mig_edu_wrote(e);
    }
}

void vfio_mig_edu_check(VFIOMigEdu *e)
{
    check_buffer(e);
    fill_buffer(e);
    vfio_mig_edu_write(e);
    vfio_mig_edu_wrote(e);
    set_register(e);
    check_register(e);
    check_interrupt(e);
}

/* What only its registers tell */
static void check_last_write(VFIOMigEdu *e)
{
    g_assert_cmphex(vfio_edu_read(e->edu, EDU_REG_DMA_DST), ==, e->iova);
    g_assert_cmphex(vfio_edu_read(e->edu, EDU_REG_DMA_COUNT), ==, e->size);
}

void vfio_mig_edu_moved(VFIOMigEdu *e, VFIOMigSide *to)
{
    e->side = to;
    vfio_edu_moved(e->edu, to->machine);
    check_register(e);
    check_last_write(e);
    check_buffer(e);
    check_interrupt(e);
    vfio_mig_edu_check(e);
}
