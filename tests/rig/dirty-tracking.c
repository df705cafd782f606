/*
 * Asks iommufd whether the IOMMU tracks what devices write, and has edu0 write. TAP.
 *
 *     dirty-tracking yes|no
 *
 * yes  it says that it does, and tells exactly what was written
 * no   it says that it does not, and makes no page table that does
 *
 * SPDX-License-Identifier: GPL-2.0-or-later
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "raw-vfio.h"

#define IOVA    (64 << 20)
#define PAGES   (2 * LARGE_PAGE / PAGE)

/* One bit for each page from IOVA on */
typedef uint64_t Bitmap[PAGES / 64];

typedef struct Tracked {
    Device edu;
    __u32 ioas;
    __u32 table;
    uint8_t *memory;
} Tracked;

static bool tells_of_tracking(__u32 device)
{
    struct iommu_hw_info info = { .size = sizeof(info), .dev_id = device };

    errno = iommufd_error(IOMMU_GET_HW_INFO, &info);
    must(errno ? -1 : 0, "IOMMU_GET_HW_INFO");
    return info.out_capabilities & IOMMU_HW_CAP_DIRTY_TRACKING;
}

/* page_table: a new one's ID; 0 if there is none, with errno set */
static __u32 page_table(__u32 device, __u32 ioas, __u32 flags)
{
    struct iommu_hwpt_alloc alloc = {
        .size = sizeof(alloc),
        .flags = flags,
        .dev_id = device,
        .pt_id = ioas,
    };

    errno = iommufd_error(IOMMU_HWPT_ALLOC, &alloc);
    return errno ? 0 : alloc.out_hwpt_id;
}

/* tracking_error: of the ioctl that begins to track, or ends it; 0 for none */
static int tracking_error(__u32 page_table, bool on)
{
    struct iommu_hwpt_set_dirty_tracking set = {
        .size = sizeof(set),
        .flags = on ? IOMMU_HWPT_DIRTY_TRACKING_ENABLE : 0,
        .hwpt_id = page_table,
    };

    return iommufd_error(IOMMU_HWPT_SET_DIRTY_TRACKING, &set);
}

/* bitmap_error: of the ioctl that reads what was written; 0 for none */
static int bitmap_error(__u32 page_table, Bitmap bits, __u32 flags)
{
    struct iommu_hwpt_get_dirty_bitmap get = {
        .size = sizeof(get),
        .hwpt_id = page_table,
        .flags = flags,
        .iova = IOVA,
        .length = PAGES * PAGE,
        .page_size = PAGE,
        .data = (uintptr_t)bits,
    };

    memset(bits, 0, sizeof(Bitmap));
    return iommufd_error(IOMMU_HWPT_GET_DIRTY_BITMAP, &get);
}

static void check_refuses(__u32 device, __u32 ioas)
{
    Bitmap bits;
    __u32 table;
    int error;

    check(!tells_of_tracking(device),
          "the IOMMU does not tell that it tracks writes");
    table = page_table(device, ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    check(!table && errno == EOPNOTSUPP,
          "a page table that tracks is refused as not supported");
    table = page_table(device, ioas, 0);
    check(table, "one that does not track can be had");
    check(tracking_error(table, true) == EOPNOTSUPP, "it does not begin to track");
    error = bitmap_error(table, bits, 0);
    check(error == EINVAL || error == EOPNOTSUPP,
          "it does not tell what was written");
}

/* Whether these pages are told to be written, and no others */
static bool are_written(Tracked *t, __u32 flags, int count, const int *pages)
{
    Bitmap expected = {}, bits;

    for (int i = 0; i < count; i++) {
        expected[pages[i] / 64] |= 1ull << pages[i] % 64;
    }
    return bitmap_error(t->table, bits, flags) == 0 &&
           memcmp(bits, expected, sizeof(bits)) == 0;
}

#define WRITTEN(t, flags, ...) are_written(t, flags,                    \
    sizeof((int[]){ __VA_ARGS__ }) / sizeof(int), (int[]){ __VA_ARGS__ })

static void write_page(Tracked *t, int page)
{
    edu_dma(&t->edu, true, IOVA + page * PAGE, 16);
}

static void check_small_pages(Tracked *t)
{
    check(are_written(t, 0, 0, NULL), "nothing is written at first");
    write_page(t, 5);
    write_page(t, 700);
    check(WRITTEN(t, IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR, 5, 700),
          "it is told which pages were written");
    check(WRITTEN(t, 0, 5, 700), "... and again, if that was asked for");
    check(are_written(t, 0, 0, NULL), "... and not again, if it was not");
    write_page(t, 700);
    check(WRITTEN(t, 0, 700), "... until one is written again");
    edu_dma(&t->edu, true, IOVA + 10 * PAGE - 8, 16);
    check(WRITTEN(t, 0, 9, 10), "a write to two pages is one to both");
    edu_dma(&t->edu, false, IOVA + 20 * PAGE, 16);
    check(are_written(t, 0, 0, NULL), "what is read is not written");
    /* its translation is in the IOTLB, as long as nobody asks in between */
    edu_dma(&t->edu, false, IOVA + 21 * PAGE, 16);
    write_page(t, 21);
    check(WRITTEN(t, 0, 21), "what was read, and then written, is written");
}

/* What 512 bits say together is one large page. */
static void check_large_pages(Tracked *t)
{
    Bitmap bits, expected = {};

    memset((char *)expected + sizeof(Bitmap) / 2, 0xff, sizeof(Bitmap) / 2);
    check(are_written(t, 0, 0, NULL), "no large page is written at first");
    write_page(t, PAGES / 2 + 5);
    check(bitmap_error(t->table, bits, 0) == 0 &&
          memcmp(bits, expected, sizeof(bits)) == 0,
          "all of a large page is written where a part of it is");
    check(are_written(t, 0, 0, NULL), "... which is not told again");
    write_page(t, PAGES - 1);
    check(bitmap_error(t->table, bits, 0) == 0 &&
          memcmp(bits, expected, sizeof(bits)) == 0,
          "... until a part of it is written again");
}

static void check_switch(Tracked *t)
{
    write_page(t, 3);
    check(tracking_error(t->table, false) == 0, "it ends to track");
    write_page(t, 4);
    check(tracking_error(t->table, true) == 0, "it begins again");
    check(are_written(t, 0, 0, NULL), "... and nothing is written");
    write_page(t, 4);
    check(WRITTEN(t, 0, 4), "... until it is");
}

/* The first device of a table is attached before it tracks, others may come later. */
static void check_tracks(Tracked *t, bool small)
{
    t->ioas = ioas_alloc();
    if (small) {
        ioas_use_small_pages(t->ioas);
    }
    ioas_map(t->ioas, t->memory, IOVA, PAGES * PAGE);
    t->table = page_table(t->edu.id, t->ioas, IOMMU_HWPT_ALLOC_DIRTY_TRACKING);
    check(t->table, "a page table that tracks can be had");
    device_attach(&t->edu, t->table);
    check(tracking_error(t->table, true) == 0, "it begins to track");
    (small ? check_small_pages : check_large_pages)(t);
    if (small) {
        check_switch(t);
    }
    check(tracking_error(t->table, false) == 0, "it ends");
}

/* What is told is what happened. */
static void check_data(Tracked *t)
{
    memset(t->memory, 0, PAGES * PAGE);
    memset(t->memory + 7 * PAGE, 0x5a, PAGE);
    edu_dma(&t->edu, false, IOVA + 7 * PAGE, 100);
    edu_dma(&t->edu, true, IOVA + 8 * PAGE, 100);
    check(!memcmp(t->memory + 7 * PAGE, t->memory + 8 * PAGE, 100) &&
          !t->memory[8 * PAGE + 100], "the data came through both tables");
}

int main(int argc, char **argv)
{
    bool tracks = argc == 2 && strcmp(argv[1], "yes") == 0;
    Tracked t = { .edu = device_open("edu0") };

    if (!tracks) {
        check_refuses(t.edu.id, ioas_alloc());
        return finish();
    }
    check(tells_of_tracking(t.edu.id), "the IOMMU tells that it tracks writes");
    t.memory = large_pages(PAGES * PAGE);
    edu_enable(&t.edu);
    check_tracks(&t, true);
    check_data(&t);
    check_tracks(&t, false);
    check_data(&t);
    return finish();
}
