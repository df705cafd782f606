/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: devices behind an IOMMU of the guest's
 *
 * The IOMMU is a virtio-iommu that lets nothing pass by default, or an
 * intel-iommu where it does what no other does; the devices are edus.  The
 * effect of each map and unmap is looked up in the page table of the rig's own
 * IOMMU, and tried by DMA of the device.
 */
#include "qemu/osdep.h"

#include "hw/pci/pci_regs.h"
#include "qapi/qmp/qdict.h"
#include "qemu/bitmap.h"
#include "vfio-edu.h"
#include "vfio-fault.h"
#include "vfio-mapped.h"
#include "vfio-viommu.h"
#include "vfio-vtd.h"

#define VIOMMU_SLOT     3
#define EDU0_SLOT       4
#define EDU1_SLOT       5

#define DOMAIN          1
#define RW              (VIOMMU_READ | VIOMMU_WRITE)

/* An edu's DMA reaches this far. */
#define EDU_IOVA_END    (256 * MiB)

/* The guest's memory that is mapped; the driver itself does not use it */
#define DATA            (32 * MiB)

/* These tests map only below this. */
#define VIOMMU_IOVA_END (2 * GiB)

#define PAGES(n)        ((uint64_t)(n) * VIOMMU_PAGE)

typedef struct Fixture {
    VFIOMachine *machine;
    VIOMMU *viommu;
    VFIOEdu *edu;
    char *errors;               /* what QEMU writes to its standard error */
    unsigned long *expected;    /* which pages the edu shall reach */
} Fixture;

/* A machine whose @options have an IOMMU, and an edu behind it */
static Fixture *start_machine(const char *options)
{
    Fixture *f = g_new0(Fixture, 1);

    f->errors = vfio_rig_log_new();
    f->machine = vfio_machine_start("%s 2>>%s", options, f->errors);
    f->edu = vfio_edu_new(f->machine, EDU0_SLOT);
    f->expected = bitmap_new(VIOMMU_IOVA_END / VIOMMU_PAGE);
    return f;
}

/* A virtio-iommu, and the edu in no domain */
static Fixture *start_with(uint64_t bytes, const char *object,
                           const char *device)
{
    g_autofree char *options = g_strdup_printf(
        "-m %" PRIu64 "B -device virtio-iommu-pci,addr=%d,boot-bypass=off "
        "%s -device %s,id=edu0,addr=%d", bytes, VIOMMU_SLOT, object, device,
        EDU0_SLOT);
    Fixture *f = start_machine(options);

    f->viommu = viommu_new(f->machine, VIOMMU_SLOT);
    return f;
}

static Fixture *start_with_memory(uint64_t bytes)
{
    return start_with(bytes, "", vfio_rig_device("EDU0"));
}

static void attach(Fixture *f, int slot)
{
    g_assert_cmpint(viommu_attach(f->viommu, DOMAIN, VIOMMU_ENDPOINT(slot), 0),
                    ==, VIRTIO_IOMMU_S_OK);
}

static void detach(Fixture *f, int slot)
{
    g_assert_cmpint(viommu_detach(f->viommu, DOMAIN, VIOMMU_ENDPOINT(slot)),
                    ==, VIRTIO_IOMMU_S_OK);
}

static Fixture *start(void)
{
    Fixture *f = start_with_memory(VFIO_MACHINE_MEMORY);

    attach(f, EDU0_SLOT);
    return f;
}

/*
 * With type1, which reports page sizes one by one, QEMU warns that a plugged
 * device has other page sizes than the guest was told.  On a busy machine a
 * large map may take so long that QEMU reports its progress.
 */
static bool is_expected(const char *line)
{
    return vfio_rig_iommufd() ? strstr(line, "info: iommufd object")
                              : strstr(line, "warning: virtio-iommu page mask");
}

static void check_nothing_said(const char *path)
{
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(path, &text, NULL, NULL));
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (**line && !is_expected(*line)) {
            g_error("QEMU said: %s", *line);
        }
    }
}

static void stop(Fixture *f)
{
    vfio_edu_free(f->edu);
    if (f->viommu) {
        viommu_free(f->viommu);
    }
    vfio_machine_stop(f->machine);
    check_nothing_said(f->errors);
    vfio_rig_log_free(f->errors);
    g_free(f->expected);
    g_free(f);
}

/* What is mapped */

/* A bit for each page for which the rig's IOMMU permits all of @flags */
static unsigned long *mapped_bits(const char *name, uint32_t flags)
{
    unsigned long *bits = bitmap_new(VIOMMU_IOVA_END / VIOMMU_PAGE);
    g_autoptr(GArray) pages = vfio_mapped_pages(name);

    for (int i = 0; i < pages->len; i++) {
        VFIOMappedPage *page = &g_array_index(pages, VFIOMappedPage, i);

        g_assert_cmphex(page->iova + page->size, <=, VIOMMU_IOVA_END);
        if (page->writable || !(flags & VIOMMU_WRITE)) {
            bitmap_set(bits, page->iova / VIOMMU_PAGE,
                       page->size / VIOMMU_PAGE);
        }
    }
    return bits;
}

static void check_permits(const char *name, uint32_t flags,
                          const unsigned long *expected)
{
    g_autofree unsigned long *mapped = mapped_bits(name, flags);

    if (bitmap_equal(mapped, expected, VIOMMU_IOVA_END / VIOMMU_PAGE)) {
        return;
    }
    for (uint64_t i = 0; i < VIOMMU_IOVA_END / VIOMMU_PAGE; i++) {
        if (test_bit(i, mapped) != test_bit(i, expected)) {
            g_error("%s: IOVA 0x%" PRIx64 " is %s", name, PAGES(i),
                    test_bit(i, mapped) ? "mapped" : "not mapped");
        }
    }
}

static void check_mapped(const char *name, const unsigned long *expected)
{
    check_permits(name, VIOMMU_READ, expected);
}

static void check_edu0(Fixture *f)
{
    check_mapped("EDU0", f->expected);
}

static void check_nothing_mapped(const char *name)
{
    g_autofree unsigned long *none = bitmap_new(VIOMMU_IOVA_END / VIOMMU_PAGE);

    check_mapped(name, none);
}

static void map(Fixture *f, uint64_t iova, uint64_t addr, uint64_t size)
{
    g_assert_cmpint(viommu_map(f->viommu, DOMAIN, iova, addr, size, RW), ==,
                    VIRTIO_IOMMU_S_OK);
    bitmap_set(f->expected, iova / VIOMMU_PAGE, size / VIOMMU_PAGE);
}

static void unmap(Fixture *f, uint64_t iova, uint64_t size)
{
    g_assert_cmpint(viommu_unmap(f->viommu, DOMAIN, iova, size), ==,
                    VIRTIO_IOMMU_S_OK);
    bitmap_clear(f->expected, iova / VIOMMU_PAGE, size / VIOMMU_PAGE);
}

/*
 * The device copies from somewhere in what is mapped at @iova to the end of it,
 * and there the guest finds the data.
 */
static void check_dma(VFIOEdu *edu, uint64_t iova, uint64_t addr, uint64_t size)
{
    QTestState *qts = edu->machine->qts;
    uint32_t page = g_test_rand_int_range(0, size / VIOMMU_PAGE);
    uint64_t from = PAGES(page), to = size - 64;
    uint8_t sent[32], received[32];

    for (int i = 0; i < sizeof(sent); i++) {
        sent[i] = g_test_rand_int();
    }
    qtest_bufwrite(qts, addr + from, sent, sizeof(sent));
    vfio_edu_dma(edu, EDU_DMA_FROM_MEMORY, iova + from, sizeof(sent));
    vfio_edu_dma(edu, EDU_DMA_TO_MEMORY, iova + to, sizeof(sent));
    qtest_bufread(qts, addr + to, received, sizeof(received));
    g_assert_cmpmem(received, sizeof(received), sent, sizeof(sent));
}

static void check_size(Fixture *f, uint64_t iova, uint64_t size)
{
    g_test_message("0x%" PRIx64 " bytes at 0x%" PRIx64, size, iova);
    map(f, iova, DATA, size);
    check_edu0(f);
    check_dma(f->edu, iova, DATA, size);
    unmap(f, iova, size);
    check_edu0(f);
}

static void test_every_power_of_two(void)
{
    Fixture *f = start();

    for (int order = 0; PAGES(1 << order) <= EDU_IOVA_END / 2; order++) {
        check_size(f, 64 * MiB, PAGES(1 << order));
    }
    stop(f);
}

/* A range that is not aligned to its size is mapped in many pieces. */
static void test_odd_sizes(void)
{
    static const uint32_t pages[] = {
        1, 2, 3, 5, 7, 511, 512, 513, 1023, 1025, 4097,
    };
    Fixture *f = start();

    for (int i = 0; i < ARRAY_SIZE(pages); i++) {
        check_size(f, 64 * MiB, PAGES(pages[i]));
        check_size(f, PAGES(7), PAGES(pages[i]));
    }
    stop(f);
}

/* This is more than an edu reaches, so only the first part is tried by DMA. */
static void test_one_gibibyte(void)
{
    Fixture *f = start_with_memory(2 * DATA + GiB);

    attach(f, EDU0_SLOT);
    map(f, 0, DATA, GiB);
    check_edu0(f);
    check_dma(f->edu, 0, DATA, EDU_IOVA_END);
    unmap(f, 0, GiB);
    check_edu0(f);
    stop(f);
}

static void test_read_only(void)
{
    Fixture *f = start();
    QTestState *qts = f->machine->qts;

    g_assert_cmpint(viommu_map(f->viommu, DOMAIN, MiB, DATA, VIOMMU_PAGE,
                               VIOMMU_READ), ==, VIRTIO_IOMMU_S_OK);
    map(f, 2 * MiB, DATA + MiB, VIOMMU_PAGE);
    check_permits("EDU0", RW, f->expected);
    bitmap_set(f->expected, MiB / VIOMMU_PAGE, 1);
    check_edu0(f);

    qtest_writel(qts, DATA, 0x600dda7a);
    vfio_edu_dma(f->edu, EDU_DMA_FROM_MEMORY, MiB, 4);
    vfio_edu_dma(f->edu, EDU_DMA_TO_MEMORY, 2 * MiB, 4);
    g_assert_cmphex(qtest_readl(qts, DATA + MiB), ==, 0x600dda7a);
    stop(f);
}

/* Unmap more than was mapped, and what was never mapped, and again. */
static void test_unmap_more_than_mapped(void)
{
    Fixture *f = start();

    unmap(f, 0, EDU_IOVA_END);
    for (int i = 0; i < 16; i++) {
        map(f, 16 * MiB + PAGES(3 * i), DATA + PAGES(i), PAGES(1 + i % 2));
    }
    check_edu0(f);
    unmap(f, 16 * MiB + PAGES(9), PAGES(18));
    check_edu0(f);
    unmap(f, 16 * MiB + PAGES(9), PAGES(18));
    check_dma(f->edu, 16 * MiB, DATA, PAGES(1));
    unmap(f, 8 * MiB, 16 * MiB);
    unmap(f, 0, EDU_IOVA_END);
    check_edu0(f);
    stop(f);
}

/* An unmap that would cut a map in two is refused, and the map stays. */
static void test_unmap_does_not_cut(void)
{
    static const struct {
        uint64_t iova, size;
    } cuts[] = {
        { 16 * MiB, PAGES(1) },
        { 16 * MiB + PAGES(1), PAGES(1) },
        { 18 * MiB - PAGES(1), PAGES(1) },
        { 17 * MiB, 8 * MiB },
    };
    Fixture *f = start();

    map(f, 16 * MiB, DATA, 2 * MiB);
    for (int i = 0; i < ARRAY_SIZE(cuts); i++) {
        g_assert_cmpint(viommu_unmap(f->viommu, DOMAIN, cuts[i].iova,
                                     cuts[i].size), ==, VIRTIO_IOMMU_S_RANGE);
        check_edu0(f);
    }
    check_dma(f->edu, 16 * MiB, DATA, 2 * MiB);
    unmap(f, 16 * MiB, 2 * MiB);
    check_edu0(f);
    stop(f);
}

/* 2^64 bytes, whose number is 0 as QEMU's functions count them */
static void test_all_addresses_at_once(void)
{
    Fixture *f = start();
    g_autofree char *text = NULL;

    map(f, 16 * MiB, DATA, PAGES(3));
    g_assert_cmpint(viommu_unmap(f->viommu, DOMAIN, 0, 0), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmpint(viommu_map(f->viommu, DOMAIN, 0, DATA, 0, VIOMMU_READ), ==,
                    VIRTIO_IOMMU_S_OK);
    g_assert_cmpint(viommu_unmap(f->viommu, DOMAIN, 0, 0), ==,
                    VIRTIO_IOMMU_S_OK);
    map(f, 16 * MiB, DATA, PAGES(3));
    check_edu0(f);

    text = vfio_rig_log_take(f->errors);
    g_assert_nonnull(strstr(text, "cannot map memory for DMA at IOVA 0x0 to "
                            "0xffffffffffffffff"));
    g_assert_null(strstr(text, "cannot unmap"));
    stop(f);
}

/* Requests that nobody expects of a guest, in an order that nobody expects */
static void test_random(void)
{
    const uint64_t blocks = 64, block = PAGES(600);
    uint64_t sizes[64] = { 0 };
    Fixture *f = start();

    for (int i = 0; i < 160; i++) {
        int n = g_test_rand_int_range(0, blocks);
        uint64_t iova = MiB + n * block;

        if (sizes[n]) {
            unmap(f, iova, g_test_rand_bit() ? sizes[n] : block);
            sizes[n] = 0;
        } else {
            uint64_t page = g_test_rand_int_range(0, 600);

            sizes[n] = PAGES(g_test_rand_int_range(1, 601));
            map(f, iova, DATA + PAGES(page), sizes[n]);
        }
        if (i % 40 == 39) {
            check_edu0(f);
        }
    }
    unmap(f, 0, EDU_IOVA_END);
    check_edu0(f);
    stop(f);
}

/* A bound on what the guest maps */

#define BOUND 8

static Fixture *start_bounded(void)
{
    g_autofree char *device = g_strdup_printf("vfio-pci,host=%s,"
                                              "iommufd=bounded",
                                              vfio_rig_address("EDU0"));
    Fixture *f = start_with(VFIO_MACHINE_MEMORY,
                            "-object iommufd,id=bounded,max-guest-maps="
                            stringify(BOUND), device);

    attach(f, EDU0_SLOT);
    return f;
}

/* Map pages from @first on, one by one, every second one: @fit of them fit. */
static void fill(Fixture *f, int first, int count, int fit)
{
    for (int i = 0; i < count; i++) {
        uint64_t iova = 16 * MiB + PAGES(first + 2 * i);

        g_assert_cmpint(viommu_map(f->viommu, DOMAIN, iova, DATA, PAGES(1),
                                   RW), ==, VIRTIO_IOMMU_S_OK);
        if (i < fit) {
            bitmap_set(f->expected, iova / VIOMMU_PAGE, 1);
        }
    }
    check_edu0(f);
}

static void empty(Fixture *f)
{
    unmap(f, 0, EDU_IOVA_END);
    check_edu0(f);
}

static void test_bound_is_kept(void)
{
    Fixture *f = start_bounded();
    int64_t begin = g_get_monotonic_time();
    g_autofree char *text = NULL;
    int seconds;

    fill(f, 0, BOUND + 40, BOUND);
    seconds = (g_get_monotonic_time() - begin) / G_USEC_PER_SEC;
    check_dma(f->edu, 16 * MiB, DATA, PAGES(1));
    text = vfio_rig_log_take(f->errors);
    g_assert_nonnull(strstr(text, "object 'bounded': cannot map memory for DMA "
                            "at IOVA 0x1010000 to 0x1010fff"));
    g_assert_nonnull(strstr(text, "has 8 maps for"));
    g_assert_nonnull(strstr(text, vfio_rig_address("EDU0")));
    g_assert_nonnull(strstr(text, "max-guest-maps="));
    g_assert_nonnull(strstr(text, g_strerror(ENOSPC)));
    g_assert_cmpint(vfio_rig_count_lines(text), >=, 1);
    g_assert_cmpint(vfio_rig_count_lines(text), <=, 1 + seconds);

    /* As many as go may come. */
    empty(f);
    fill(f, 0, BOUND, BOUND);
    qtest_qmp_assert_success(f->machine->qts, "{ 'execute': 'qom-set',"
                             " 'arguments': { 'path': '/objects/bounded',"
                             " 'property': 'max-guest-maps', 'value': %d } }",
                             BOUND + 2);
    fill(f, 100, 3, 2);
    g_free(vfio_rig_log_take(f->errors));
    stop(f);
}

/* What one request takes away counts as what it was, one by one. */
static void test_bound_counts_what_goes(void)
{
    Fixture *f = start_bounded();

    fill(f, 0, BOUND, BOUND);
    unmap(f, 16 * MiB, PAGES(5));   /* three of them, and the holes */
    fill(f, 100, 4, 3);
    unmap(f, 16 * MiB, PAGES(5));   /* nothing */
    unmap(f, 64 * MiB, PAGES(5));
    fill(f, 200, 1, 0);

    detach(f, EDU0_SLOT);
    bitmap_zero(f->expected, VIOMMU_IOVA_END / VIOMMU_PAGE);
    attach(f, EDU0_SLOT);
    fill(f, 0, BOUND + 1, BOUND);

    vfio_machine_reset(f->machine);
    bitmap_zero(f->expected, VIOMMU_IOVA_END / VIOMMU_PAGE);
    viommu_restart(f->viommu);
    attach(f, EDU0_SLOT);
    fill(f, 0, BOUND + 1, BOUND);
    g_free(vfio_rig_log_take(f->errors));
    stop(f);
}

/* A map that fails is none, and memory is none that no guest has mapped. */
static void test_bound_counts_maps_alone(void)
{
    Fixture *f = start_bounded();

    for (int i = 0; i < 2 * BOUND; i++) {
        g_assert_cmpint(viommu_map(f->viommu, DOMAIN, PAGES(i) + 1024 * GiB,
                                   DATA, PAGES(1), RW), ==,
                        VIRTIO_IOMMU_S_OK);
    }
    fill(f, 0, BOUND, BOUND);
    empty(f);
    g_assert_cmpint(viommu_attach(f->viommu, DOMAIN + 1,
                                  VIOMMU_ENDPOINT(EDU0_SLOT),
                                  VIRTIO_IOMMU_ATTACH_F_BYPASS), ==,
                    VIRTIO_IOMMU_S_OK);
    attach(f, EDU0_SLOT);
    fill(f, 0, BOUND + 1, BOUND);
    g_free(vfio_rig_log_take(f->errors));
    stop(f);
}

#define SMALL_MEMORY    (64 * MiB)
#define SMALL_BOUND     (65535 + SMALL_MEMORY / VIOMMU_PAGE)

/* The same few pages again and again, until all but one of the maps fit */
static void test_bound_by_default(void)
{
    Fixture *f = start_with_memory(SMALL_MEMORY);
    g_autofree char *said = NULL;
    uint64_t count;

    attach(f, EDU0_SLOT);
    for (count = 0; count <= SMALL_BOUND; count += VIOMMU_BATCH) {
        check_nothing_said(f->errors);
        viommu_map_batch(f->viommu, DOMAIN, MiB + PAGES(count), DATA);
    }
    g_assert_cmpint(count, ==, SMALL_BOUND + 1);

    bitmap_set(f->expected, MiB / VIOMMU_PAGE, SMALL_BOUND);
    check_edu0(f);
    said = vfio_rig_log_take(f->errors);
    g_assert_nonnull(strstr(said, "has 81919 maps"));
    g_assert_cmpint(vfio_rig_count_lines(said), ==, 1);
    stop(f);
}

/* Unmaps that do not do what they should */

/* The kernel says twice that nothing is there: it gives way to what comes. */
static void test_unmap_that_finds_nothing_is_remembered(void)
{
    Fixture *f = start();

    map(f, 64 * MiB, DATA, PAGES(1));
    vfio_fault_arm_row(1, 2, ENOENT);
    unmap(f, 64 * MiB, PAGES(1));
    g_assert_cmpint(vfio_fault_disarm(), ==, 2);

    map(f, 64 * MiB, DATA + PAGES(1), PAGES(1));
    check_edu0(f);
    check_dma(f->edu, 64 * MiB, DATA + PAGES(1), PAGES(1));
    empty(f);
    stop(f);
}

/* What an unmap has left gives way as a whole to what is mapped in a part. */
static void test_leftover_gives_way_to_a_part(void)
{
    Fixture *f = start();
    g_autofree char *text = NULL;

    map(f, 16 * MiB, DATA, 2 * MiB);
    vfio_fault_arm(1, EBUSY);
    g_assert_cmpint(viommu_unmap(f->viommu, DOMAIN, 16 * MiB, 2 * MiB), ==,
                    VIRTIO_IOMMU_S_OK);
    vfio_fault_disarm();
    check_edu0(f);
    bitmap_zero(f->expected, VIOMMU_IOVA_END / VIOMMU_PAGE);

    map(f, 16 * MiB + PAGES(3), DATA + 4 * MiB, PAGES(2));
    check_edu0(f);
    check_dma(f->edu, 16 * MiB + PAGES(3), DATA + 4 * MiB, PAGES(2));
    empty(f);
    text = vfio_rig_log_take(f->errors);
    g_assert_nonnull(strstr(text, "cannot unmap IOVA 0x1000000 to 0x11fffff"));
    g_assert_null(strstr(text, "cannot map"));
    stop(f);
}

/* An intel-iommu */

static Fixture *start_intel(void)
{
    g_autofree char *options = g_strdup_printf(
        "-machine q35 -device intel-iommu,caching-mode=on "
        "-object iommufd,id=bounded,max-guest-maps=%d "
        "-device vfio-pci,host=%s,iommufd=bounded,addr=%d", (int)VTD_PAGES,
        vfio_rig_address("EDU0"), EDU0_SLOT);
    Fixture *f = start_machine(options);

    vtd_start(f->machine, EDU0_SLOT);
    return f;
}

static void set_large(Fixture *f, uint64_t addr)
{
    vtd_set_large(f->machine, addr);
    vtd_flush(f->machine);
    bitmap_set(f->expected, VTD_IOVA / VIOMMU_PAGE, VTD_PAGES);
    check_edu0(f);
    check_dma(f->edu, VTD_IOVA, addr, VTD_LARGE_PAGE);
}

static void set_small(Fixture *f, const uint64_t addrs[VTD_PAGES])
{
    vtd_set_small(f->machine, addrs);
    vtd_flush(f->machine);
    for (int i = 0; i < VTD_PAGES; i++) {
        uint64_t iova = VTD_IOVA + PAGES(i);

        (addrs[i] ? bitmap_set : bitmap_clear)(f->expected,
                                               iova / VIOMMU_PAGE, 1);
    }
    check_edu0(f);
    for (int i = 0; i < VTD_PAGES; i += VTD_PAGES / 8 - 1) {
        if (addrs[i]) {
            check_dma(f->edu, VTD_IOVA + PAGES(i), addrs[i], PAGES(1));
        }
    }
}

/* Pages backwards in memory, and forwards with every third one left out */
static void make_small(uint64_t all[VTD_PAGES], uint64_t some[VTD_PAGES])
{
    for (int i = 0; i < VTD_PAGES; i++) {
        all[i] = DATA + VTD_LARGE_PAGE - PAGES(i + 1);
        some[i] = i % 3 ? DATA + PAGES(i) : 0;
    }
}

/* A guest that does not unmap before it maps something else there */
static void test_large_page_becomes_small_ones(void)
{
    Fixture *f = start_intel();
    uint64_t all[VTD_PAGES], some[VTD_PAGES];

    make_small(all, some);
    for (int i = 0; i < 2; i++) {
        set_large(f, DATA);
        set_small(f, all);
        set_large(f, DATA + VTD_LARGE_PAGE);
        set_small(f, some);
        set_small(f, all);
    }
    stop(f);
}

/* The kernel comes upon something that the range seems to cut. */
static void test_unmap_that_stops_is_done_piece_by_piece(void)
{
    Fixture *f = start_intel();
    uint64_t all[VTD_PAGES], some[VTD_PAGES];

    make_small(all, some);
    for (int i = 0; i < 2; i++) {
        set_small(f, all);
        vfio_fault_arm(1, ENOENT);
        vtd_set_large(f->machine, DATA);
        vtd_flush(f->machine);
        g_assert_cmpint(vfio_fault_disarm(), ==, 1 + VTD_PAGES + 1);
        set_large(f, DATA);
    }
    stop(f);
}

/* Devices and domains */

static void test_detach_unmaps(void)
{
    Fixture *f = start();

    map(f, MiB, DATA, PAGES(3));
    map(f, 4 * MiB, DATA, 2 * MiB);
    check_edu0(f);
    detach(f, EDU0_SLOT);
    check_nothing_mapped("EDU0");

    /* The domain is gone with its last device. */
    bitmap_zero(f->expected, VIOMMU_IOVA_END / VIOMMU_PAGE);
    attach(f, EDU0_SLOT);
    check_edu0(f);
    check_size(f, MiB, PAGES(3));
    stop(f);
}

static void plug(Fixture *f, const char *name, const char *id, int slot)
{
    g_autofree char *device = g_strdup_printf("%s,id=%s,addr=%d",
                                              vfio_rig_device(name), id, slot);

    g_assert_null(vfio_machine_device_add(f->machine, device));
}

/* A second device joins a domain in use: it reaches what the first one does. */
static void test_second_device_joins(void)
{
    Fixture *f = start();
    VFIOEdu *second;

    map(f, MiB, DATA, PAGES(3));
    map(f, 4 * MiB, DATA + 4 * MiB, 2 * MiB);
    plug(f, "EDU1", "edu1", EDU1_SLOT);
    check_nothing_mapped("EDU1");

    attach(f, EDU1_SLOT);
    check_mapped("EDU1", f->expected);
    second = vfio_edu_new(f->machine, EDU1_SLOT);
    check_dma(second, 4 * MiB, DATA + 4 * MiB, 2 * MiB);
    map(f, 8 * MiB, DATA + 8 * MiB, PAGES(5));
    check_edu0(f);
    check_mapped("EDU1", f->expected);

    detach(f, EDU0_SLOT);
    check_nothing_mapped("EDU0");
    check_mapped("EDU1", f->expected);
    check_dma(second, 8 * MiB, DATA + 8 * MiB, PAGES(5));
    unmap(f, 0, EDU_IOVA_END);
    check_mapped("EDU1", f->expected);
    vfio_edu_free(second);
    stop(f);
}

/* A device is plugged for which the IOMMU already has a domain. */
static void test_replay_at_plug(void)
{
    Fixture *f = start();

    map(f, MiB, DATA, PAGES(3));
    map(f, 4 * MiB, DATA + 4 * MiB, 2 * MiB);
    vfio_machine_device_del(f->machine, "edu0", EDU0_SLOT);
    check_nothing_mapped("EDU0");

    plug(f, "EDU0", "edu0", EDU0_SLOT);
    vfio_edu_enable(f->edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
    check_edu0(f);
    check_dma(f->edu, MiB, DATA, PAGES(3));
    check_dma(f->edu, 4 * MiB, DATA + 4 * MiB, 2 * MiB);
    unmap(f, 0, EDU_IOVA_END);
    check_edu0(f);
    stop(f);
}

static void test_reset(void)
{
    Fixture *f = start();

    for (int i = 0; i < 2; i++) {
        map(f, MiB, DATA, PAGES(3));
        map(f, 4 * MiB, DATA, 2 * MiB);
        check_edu0(f);
        vfio_machine_reset(f->machine);
        check_nothing_mapped("EDU0");

        bitmap_zero(f->expected, VIOMMU_IOVA_END / VIOMMU_PAGE);
        viommu_restart(f->viommu);
        vfio_edu_enable(f->edu, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        attach(f, EDU0_SLOT);
        check_size(f, MiB, PAGES(5));
    }
    stop(f);
}

/* From a domain with maps to one that lets everything pass, and back. */
static void test_pass_through_and_back(void)
{
    Fixture *f = start();

    for (int i = 0; i < 2; i++) {
        check_size(f, MiB, PAGES(5));
        map(f, 4 * MiB, DATA, 2 * MiB);
        g_assert_cmpint(viommu_attach(f->viommu, DOMAIN + 1,
                                      VIOMMU_ENDPOINT(EDU0_SLOT),
                                      VIRTIO_IOMMU_ATTACH_F_BYPASS), ==,
                        VIRTIO_IOMMU_S_OK);
        vfio_edu_check_copy(f->edu, 4 * MiB, VFIO_MACHINE_MEMORY - 4000, 4000);

        bitmap_zero(f->expected, VIOMMU_IOVA_END / VIOMMU_PAGE);
        attach(f, EDU0_SLOT);
        check_edu0(f);
    }
    stop(f);
}

/*
 * An IOMMU that does not tell VFIO of its maps, which shows when the guest
 * switches it on.  The second part of its region ends with the last of 2^64
 * addresses.
 */
static void test_iommu_that_does_not_tell_stops_vm(void)
{
    VFIOMachine *m = vfio_machine_start("-machine q35 -device intel-iommu,"
                                        "caching-mode=on,snoop-control=on "
                                        "-device %s,addr=%d",
                                        vfio_rig_device("EDU0"), EDU0_SLOT);
    QDict *data;

    vtd_start(m, EDU0_SLOT);
    for (int i = 0; i < 2; i++) {
        data = vfio_machine_map_error(m);
        g_assert_cmphex(vfio_map_error_number(data, "last"), ==,
                        i ? UINT64_MAX : 0xfedfffff);
        g_assert_nonnull(strstr(qdict_get_str(data, "memory"), "dmar"));
        g_assert_false(qdict_haskey(data, "qom-path"));
        g_assert_nonnull(strstr(qdict_get_str(data, "reason"), "Snoop"));
        qobject_unref(data);
    }
    qtest_qmp_eventwait(m->qts, "STOP");
    vfio_machine_check_run_state(m, "io-error");
    vfio_machine_stop(m);
}

/* Realized after the device, which has another address space by then */
static void test_late_iommu_is_refused(void)
{
    static const char *const iommus[] = {
        "intel-iommu,caching-mode=on", "virtio-iommu-pci,addr=9",
    };

    for (int i = 0; i < ARRAY_SIZE(iommus); i++) {
        g_autofree char *options =
            g_strdup_printf("-machine q35 -nodefaults -m 64 -object iommufd,id="
                            VFIO_RIG_IOMMUFD " -device %s,addr=%d -device %s",
                            vfio_rig_device("EDU0"), EDU0_SLOT, iommus[i]);
        g_autofree char *err = NULL;
        int status = vfio_rig_run_qemu(options, NULL, &err);

        vfio_rig_check_refusal(status, err);
        g_assert_nonnull(strstr(err, vfio_rig_address("EDU0")));
        g_assert_nonnull(strstr(err, "put the IOMMU before the device"));
    }
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "viommu");
    if (vfio_rig_iommufd()) {
        vfio_fault_init();
    }

    vfio_rig_add("every-power-of-two", VFIO_RIG_BOTH, test_every_power_of_two);
    vfio_rig_add("odd-sizes", VFIO_RIG_BOTH, test_odd_sizes);
    vfio_rig_add("one-gibibyte", VFIO_RIG_BOTH, test_one_gibibyte);
    vfio_rig_add("read-only", VFIO_RIG_BOTH, test_read_only);
    vfio_rig_add("unmap-more-than-mapped", VFIO_RIG_BOTH,
                 test_unmap_more_than_mapped);
    vfio_rig_add("unmap-does-not-cut", VFIO_RIG_BOTH,
                 test_unmap_does_not_cut);
    vfio_rig_add("all-addresses-at-once", VFIO_RIG_IOMMUFD_ONLY,
                 test_all_addresses_at_once);
    vfio_rig_add("bound/is-kept", VFIO_RIG_IOMMUFD_ONLY, test_bound_is_kept);
    vfio_rig_add("bound/counts-what-goes", VFIO_RIG_IOMMUFD_ONLY,
                 test_bound_counts_what_goes);
    vfio_rig_add("bound/counts-maps-alone", VFIO_RIG_IOMMUFD_ONLY,
                 test_bound_counts_maps_alone);
    if (g_test_slow()) {
        vfio_rig_add("bound/by-default", VFIO_RIG_IOMMUFD_ONLY,
                     test_bound_by_default);
    }
    vfio_rig_add("unmap-that-stops-is-done-piece-by-piece",
                 VFIO_RIG_IOMMUFD_ONLY,
                 test_unmap_that_stops_is_done_piece_by_piece);
    vfio_rig_add("unmap-that-finds-nothing-is-remembered",
                 VFIO_RIG_IOMMUFD_ONLY,
                 test_unmap_that_finds_nothing_is_remembered);
    vfio_rig_add("leftover-gives-way-to-a-part", VFIO_RIG_IOMMUFD_ONLY,
                 test_leftover_gives_way_to_a_part);
    vfio_rig_add("large-page-becomes-small-ones", VFIO_RIG_IOMMUFD_ONLY,
                 test_large_page_becomes_small_ones);
    vfio_rig_add("late-iommu-is-refused", VFIO_RIG_IOMMUFD_ONLY,
                 test_late_iommu_is_refused);
    vfio_rig_add("iommu-that-does-not-tell-stops-vm", VFIO_RIG_IOMMUFD_ONLY,
                 test_iommu_that_does_not_tell_stops_vm);
    vfio_rig_add("random", VFIO_RIG_BOTH, test_random);
    vfio_rig_add("detach-unmaps", VFIO_RIG_BOTH, test_detach_unmaps);
    vfio_rig_add("second-device-joins", VFIO_RIG_BOTH,
                 test_second_device_joins);
    vfio_rig_add("replay-at-plug", VFIO_RIG_BOTH, test_replay_at_plug);
    vfio_rig_add("reset", VFIO_RIG_BOTH, test_reset);
    vfio_rig_add("pass-through-and-back", VFIO_RIG_BOTH,
                 test_pass_through_and_back);

    return g_test_run();
}
