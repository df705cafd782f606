/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A random walk of two machines, one with its device by the group and one by
 * iommufd
 */
#include "qemu/osdep.h"

#include <sched.h>
#include <glib/gstdio.h>

#include "vfio-query.h"
#include "vfio-walk.h"

/* How many of the last steps are shown if there is a difference */
#define TOLD_STEPS  12

/* After this many steps the test says how far it is. */
#define PROGRESS    500

typedef struct Side {
    const char *mode;
    VFIOWalker walker;
    char *errors;       /* the file that QEMU's messages go to */
    char *said;         /* what the last step said */
} Side;

typedef struct Way {
    const VFIOWalk *walk;
    Side sides[2];
    GRand *rand;
    uint32_t seed;
    unsigned step;
    unsigned looked;
    unsigned changed;   /* looks that found something else mapped */
    GQueue *told;       /* what the last steps said */
} Way;

/* A failure */

static void tell_lines(const char *text)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);

    for (char **line = lines; *line; line++) {
        g_test_message("%s", *line);
    }
}

static void G_NORETURN fail(Way *way, const char *difference)
{
    g_test_message("The last steps:");
    for (GList *l = way->told->head; l; l = l->next) {
        tell_lines(l->data);
    }
    g_test_message("Then:");
    tell_lines(difference);
    g_error("VFIO_TEST_SEED=%" PRIu32 ", step %u: there is a difference",
            way->seed, way->step);
}

static void check(Way *way, char *difference)
{
    g_autofree char *wrong = difference;

    if (wrong) {
        fail(way, wrong);
    }
}

/* Comparisons */

static char *text_difference(const char *what, const char *legacy,
                             const char *iommufd)
{
    g_autofree char *lines = NULL;

    if (g_str_equal(legacy, iommufd)) {
        return NULL;
    }
    lines = vfio_lines_difference(legacy, iommufd);
    return g_strdup_printf("%s, -: by the group, +: by iommufd\n%s", what,
                           lines);
}

static char *said_difference(Way *way)
{
    return text_difference("What was done", way->sides[0].said,
                           way->sides[1].said);
}

static char *mapped_text(Side *side)
{
    g_autoptr(GArray) ranges = vfio_mapped_ranges(side->walker.scene.pages);

    return vfio_ranges_text(ranges);
}

static char *mapped_difference(Way *way)
{
    g_autofree char *legacy = mapped_text(&way->sides[0]);
    g_autofree char *iommufd = mapped_text(&way->sides[1]);

    return text_difference("What is mapped", legacy, iommufd);
}

/* The memory behind the maps: pages are compared with it. */
static char *behind_difference(Way *way)
{
    g_autofree char *legacy =
        vfio_regions_text(way->sides[0].walker.scene.regions);
    g_autofree char *iommufd =
        vfio_regions_text(way->sides[1].walker.scene.regions);

    return text_difference("What is behind it", legacy, iommufd);
}

/* @pages may be NULL. */
static uint64_t mapped_bytes(GArray *pages)
{
    uint64_t sum = 0;

    for (int i = 0; pages && i < pages->len; i++) {
        sum += g_array_index(pages, VFIOMappedPage, i).size;
    }
    return sum;
}

/* What QEMU tells of that is what the kernel has. */
static char *told_difference(Side *side)
{
    VFIOWalker *walker = &side->walker;
    uint64_t mapped = mapped_bytes(walker->scene.pages) +
                      mapped_bytes(walker->other.pages);

    return vfio_rig_iommufd() ? vfio_query_wrong(walker->scene.machine, mapped)
                              : NULL;
}

/* On a slow host QEMU tells how far a map is. */
static char *without_progress(const char *text)
{
    g_autoptr(GRegex) progress = g_regex_new("^.*: mapped \\d+ of .*\n",
                                             G_REGEX_MULTILINE, 0, NULL);

    return g_regex_replace_literal(progress, text, -1, 0, "", 0, NULL);
}

static void check_nothing_said(Way *way, Side *side)
{
    g_autofree char *text = NULL;
    g_autofree char *said = NULL;

    g_assert_true(g_file_get_contents(side->errors, &text, NULL, NULL));
    said = without_progress(text);
    check(way, text_difference("What QEMU said", "", said));
}

/* What a page table of one device has, and no other device has pinned more */
static char *pinned_twice(VFIOWalker *walker)
{
    uint64_t pinned = vfio_machine_status(walker->scene.machine, "VmPin");
    uint64_t mapped = mapped_bytes(walker->scene.pages) / KiB;

    return pinned <= mapped + VFIO_SAME_TWICE / KiB ? NULL :
           g_strdup_printf("%" PRIu64 " KiB are mapped, and %" PRIu64 " pinned",
                           mapped, pinned);
}

static void look_at_other(Way *way, VFIOWalker *walker)
{
    VFIOScene *other = &walker->other;

    if (way->walk->has_other) {
        other->vmem = walker->scene.vmem;
        check(way, vfio_scene_wrong(other, way->walk->regions(walker)));
        check(way, vfio_rig_iommufd() ? pinned_twice(walker) : NULL);
    }
}

static void wait_until_mapped(Way *way, Side *side)
{
    if (way->walk->later && vfio_rig_iommufd()) {
        g_assert_true(vfio_rig_wait(
            !vfio_query_background(side->walker.scene.machine)));
    }
}

/* Returns whether something else is mapped than before. */
static bool look(Way *way)
{
    bool changed = false;

    for (int i = 0; i < ARRAY_SIZE(way->sides); i++) {
        VFIOWalker *walker = &way->sides[i].walker;
        g_autoptr(GArray) before = g_steal_pointer(&walker->scene.pages);

        vfio_rig_use(way->sides[i].mode);
        wait_until_mapped(way, &way->sides[i]);
        check(way, vfio_scene_wrong(&walker->scene,
                                    way->walk->regions(walker)));
        look_at_other(way, walker);
        check(way, told_difference(&way->sides[i]));
        check_nothing_said(way, &way->sides[i]);
        changed = !before || !vfio_mapped_same(before, walker->scene.pages);
    }
    check(way, mapped_difference(way));
    check(way, behind_difference(way));
    return changed;
}

/* Steps */

unsigned vfio_walk_draw(VFIOWalker *walker, unsigned end)
{
    return g_rand_int_range(walker->rand, 0, end);
}

static const VFIOWalkStep *draw_step(const VFIOWalk *walk, GRand *rand)
{
    const VFIOWalkStep *step;
    unsigned sum = 0, n;

    for (step = walk->steps; step->take; step++) {
        sum += step->weight;
    }
    n = g_rand_int_range(rand, 0, sum);
    for (step = walk->steps; n >= step->weight; step++) {
        n -= step->weight;
    }
    return step;
}

/* Remembers what the step on the first machine said. */
static void remember(Way *way)
{
    g_queue_push_tail(way->told, g_strdup_printf("%u: %s", way->step,
                                                  way->sides[0].said));
    if (way->told->length > TOLD_STEPS) {
        g_free(g_queue_pop_head(way->told));
    }
}

static void take_step(Way *way)
{
    const VFIOWalkStep *step = draw_step(way->walk, way->rand);
    uint32_t seed = g_rand_int(way->rand);

    way->step++;
    for (int i = 0; i < ARRAY_SIZE(way->sides); i++) {
        Side *side = &way->sides[i];

        vfio_rig_use(side->mode);
        g_rand_set_seed(side->walker.rand, seed);
        g_free(side->said);
        side->said = step->take(&side->walker);
        if (g_test_verbose()) {
            tell_lines(side->said);
        }
    }
    remember(way);
    check(way, said_difference(way));
    if (!way->walk->later || g_rand_int_range(way->rand, 0, 4) == 0) {
        way->looked++;
        way->changed += look(way);
    }
}

/* The walk */

char *vfio_walk_other_device(const char *name)
{
    return g_strdup_printf("%s,x-no-mmap=on,id=other,addr=%d",
                           vfio_rig_device(name), VFIO_WALK_OTHER_SLOT);
}

/* Traces are off: they would fill the disk. */
static char *walk_options(const VFIOWalk *walk, const char *other)
{
    g_autofree char *device = vfio_walk_other_device(other);

    return g_strdup_printf("-trace enable=-vfio_* -trace enable=-iommufd_* "
                           "%s%s%s", walk->options,
                           walk->has_other ? " -device " : "",
                           walk->has_other ? device : "");
}

static void start(Way *way, Side *side, const char *mode, const char *device,
                  const char *other)
{
    VFIOWalker *walker = &side->walker;
    g_autofree char *options = NULL;

    close(g_file_open_tmp("vfio-stderr-XXXXXX", &side->errors, NULL));
    side->mode = mode;
    vfio_rig_use(mode);
    options = walk_options(way->walk, other);
    walker->rand = g_rand_new();
    walker->scene = (VFIOScene) {
        .device = device,
        .machine = vfio_scene_machine(device, options, side->errors),
        .record = g_string_new(NULL),
    };
    walker->other = (VFIOScene) {
        .device = way->walk->has_other ? other : NULL,
        .machine = walker->scene.machine,
    };
    if (way->walk->start) {
        way->walk->start(walker);
    }
}

static void stop(Way *way, Side *side)
{
    if (way->walk->stop) {
        way->walk->stop(&side->walker);
    }
    g_clear_pointer(&side->walker.other.pages, g_array_unref);
    g_clear_pointer(&side->walker.other.regions, g_array_unref);
    g_free(vfio_scene_stop(&side->walker.scene));
    check_nothing_said(way, side);
    g_unlink(side->errors);
    g_free(side->errors);
    g_free(side->said);
    g_rand_free(side->walker.rand);
}

/*
 * One of them always waits for the other.  That is fastest on one processor:
 * the rig's second one would have to be woken each time.
 */
static void stay_on_one_processor(void)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(0, &one);
    g_assert_cmpint(sched_setaffinity(0, sizeof(one), &one), ==, 0);
}

static void go(Way *way, unsigned steps)
{
    int64_t began = g_get_monotonic_time();

    look(way);
    while (way->step < steps) {
        take_step(way);
        if (way->step % PROGRESS == 0 || way->step == steps) {
            g_test_message("%u steps in %.1f s, %u of %u looks found something"
                           " else mapped", way->step,
                           (g_get_monotonic_time() - began) / 1e6,
                           way->changed, way->looked);
        }
    }
    /* Steps that do nothing promise nothing. */
    g_assert_cmpuint(way->changed, >, way->looked / 4);
}

void vfio_walk(const VFIOWalk *walk)
{
    Way way = {
        .walk = walk,
        .seed = vfio_rig_number("VFIO_TEST_SEED", g_test_rand_int()),
        .told = g_queue_new(),
    };

    g_test_message("VFIO_TEST_SEED=%" PRIu32, way.seed);
    way.rand = g_rand_new_with_seed(way.seed);
    stay_on_one_processor();
    start(&way, &way.sides[0], "legacy", "EDU0", "NVME0");
    start(&way, &way.sides[1], "iommufd", "EDU1", "NVME1");
    go(&way, vfio_rig_number("VFIO_TEST_STEPS", walk->default_steps));
    stop(&way, &way.sides[1]);
    stop(&way, &way.sides[0]);
    g_queue_free_full(way.told, g_free);
    g_rand_free(way.rand);
}
