/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A driver for the intel-iommu of a q35, for tests
 *
 * The names are those of Intel's specification of VT-d: "Register Descriptions"
 * and "Translation Structure Formats" in legacy mode.
 */
#include "qemu/osdep.h"

#include "vfio-vtd.h"

#define REGISTERS       0xfed90000ull

#define GCMD            0x18
#define GCMD_TE         (1u << 31)
#define GCMD_SRTP       (1u << 30)
#define GSTS            0x1c
#define RTADDR          0x20
#define CCMD            0x28
#define CCMD_GLOBAL     (1ull << 63 | 1ull << 61)
#define IVA             0xf0
#define IVA_2_MIB       9
#define IOTLB           0xf8
#define IOTLB_GLOBAL    (1ull << 63 | 1ull << 60)
#define IOTLB_PAGES     (1ull << 63 | 3ull << 60)

#define DOMAIN          1
#define PRESENT         0x1
#define RW              0x3
#define LARGE           (1 << 7)
#define THREE_LEVELS    1

/* Each has a page. */
#define ROOT            (VTD_TABLES + 0 * VTD_PAGE)
#define CONTEXT         (VTD_TABLES + 1 * VTD_PAGE)
#define LEVEL3          (VTD_TABLES + 2 * VTD_PAGE)
#define LEVEL2          (VTD_TABLES + 3 * VTD_PAGE)
#define LEVEL1          (VTD_TABLES + 4 * VTD_PAGE)
#define NUM_TABLES      5

static void set_entry(VFIOMachine *m, uint64_t table, int n, uint64_t entry)
{
    qtest_writeq(m->qts, table + n * sizeof(entry), entry);
}

/* The entry of the second level for VTD_IOVA */
static void set_level2(VFIOMachine *m, uint64_t entry)
{
    set_entry(m, LEVEL2, VTD_IOVA / VTD_LARGE_PAGE, entry);
}

static void command(VFIOMachine *m, uint32_t bits)
{
    qtest_writel(m->qts, REGISTERS + GCMD, bits);
    g_assert_cmphex(qtest_readl(m->qts, REGISTERS + GSTS) & bits, ==, bits);
}

static void invalidate(VFIOMachine *m, uint64_t reg, uint64_t value)
{
    qtest_writeq(m->qts, REGISTERS + reg, value);
    g_assert_cmphex(qtest_readq(m->qts, REGISTERS + reg) >> 63, ==, 0);
}

/* The entries of the first two tables have 128 bits. */
static void start(VFIOMachine *m, uint8_t bus, uint8_t devfn)
{
    qtest_memset(m->qts, VTD_TABLES, 0, NUM_TABLES * VTD_PAGE);
    set_entry(m, ROOT, 2 * bus, CONTEXT | PRESENT);
    set_entry(m, CONTEXT, 2 * devfn, LEVEL3 | PRESENT);
    set_entry(m, CONTEXT, 2 * devfn + 1, DOMAIN << 8 | THREE_LEVELS);
    set_entry(m, LEVEL3, 0, LEVEL2 | RW);

    qtest_writeq(m->qts, REGISTERS + RTADDR, ROOT);
    command(m, GCMD_SRTP);
    invalidate(m, CCMD, CCMD_GLOBAL);
    invalidate(m, IOTLB, IOTLB_GLOBAL);
    command(m, GCMD_TE);
}

void vtd_start(VFIOMachine *m, int slot)
{
    start(m, 0, slot << 3);
}

void vtd_start_bridge(VFIOMachine *m, uint8_t bus)
{
    start(m, bus, 0);
}

void vtd_stop(VFIOMachine *m)
{
    qtest_writel(m->qts, REGISTERS + GCMD, 0);
    g_assert_cmphex(qtest_readl(m->qts, REGISTERS + GSTS) & GCMD_TE, ==, 0);
}

void vtd_set_large(VFIOMachine *m, uint64_t addr)
{
    set_level2(m, addr | LARGE | RW);
}

void vtd_set_small(VFIOMachine *m, const uint64_t addrs[VTD_PAGES])
{
    for (int i = 0; i < VTD_PAGES; i++) {
        set_entry(m, LEVEL1, i, addrs[i] ? addrs[i] | RW : 0);
    }
    set_level2(m, LEVEL1 | RW);
}

void vtd_flush(VFIOMachine *m)
{
    qtest_writeq(m->qts, REGISTERS + IVA, VTD_IOVA | IVA_2_MIB);
    invalidate(m, IOTLB, IOTLB_PAGES | (uint64_t)DOMAIN << 32);
}
