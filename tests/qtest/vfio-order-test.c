/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: objects, descriptors and devices that come and go at random
 *
 * A model of what QEMU and the kernel have says whether a step must succeed,
 * and if not, what the error must contain.  After each step QEMU has the
 * objects, the devices and the descriptors of the model and no others, and some
 * of the devices that are there do DMA: all new ones, and others at random.
 *
 * VFIO_TEST_SEED repeats a walk, VFIO_TEST_STEPS makes it longer or shorter.
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "vfio-acpi.h"
#include "vfio-descriptor.h"
#include "vfio-edu.h"

#define STEPS           100
#define STEPS_SLOW      2000

#define FIRST_SLOT      4
#define TWIN_SLOT       20

/* A number that is no descriptor of QEMU's */
#define CLOSED_FD       "987"

/* Each device has a BAR and memory for its DMA of its own. */
#define BAR_STEP        (2 * MiB)
#define DMA_SRC         (16 * MiB)
#define DMA_DST         (32 * MiB)
#define DMA_STEP        (64 * KiB)
#define DMA_SIZE        512

#define OBJECTS         3
#define DEVICES         5
#define NAMES           3

/* A file that was opened once; each descriptor of it is a reference. */
typedef struct WalkFile {
    int refs;
    char *path;             /* NULL if that does not matter */
    int device;             /* whose character device it is, or -1 */
    unsigned context;       /* the iommufd that it is, or is bound to, or 0 */
} WalkFile;

typedef struct WalkObject {
    const char *id;
    bool exists;
    WalkFile *given;        /* with fd= */
    unsigned context;       /* its iommufd, while it has users */
    int users;
} WalkObject;

typedef struct WalkDevice {
    const char *name;       /* in the rig, and its id */
    int group;              /* the same number for devices that share one */
    bool is_edu;
    char *cdev_node;
    char *group_node;

    bool present;
    bool pending;           /* the guest was asked to let it go */
    WalkObject *object;     /* NULL: it is used by its group */
    WalkFile *file;         /* NULL: likewise */
    int cost[2];            /* its other descriptors: by group, by iommufd */
    VFIOEdu *edu;           /* NULL until it is used, and after a reset */
} WalkDevice;

typedef struct Walk {
    VFIOMachine *machine;
    GRand *rand;
    uint64_t bars;
    WalkObject objects[OBJECTS];
    WalkDevice devices[DEVICES];
    WalkFile *names[NAMES]; /* the monitor's, by getfd */
    unsigned contexts;      /* how many there have been so far */
    bool stopped;
    int lines;              /* of the state, when nothing is there */
    bool tell;              /* say what is not as it should be */
    int refused;
} Walk;

static const char *const fd_names[NAMES] = { "fd-a", "fd-b", "fd-c" };

/* What a step must lead to: success, or an error that contains both strings */
typedef struct Outcome {
    const char *who;
    const char *why;
} Outcome;

static const Outcome success;

static void check_outcome(Walk *w, Outcome expected, char *error)
{
    g_autofree char *text = error;

    if (!expected.who) {
        g_assert_cmpstr(text, ==, NULL);
        return;
    }
    if (!text || !strstr(text, expected.who) || !strstr(text, expected.why)) {
        g_error("'%s' and '%s' are not in: %s", expected.who, expected.why,
                text ?: "(success)");
    }
    w->refused++;
}

/* Chance */

static int below(Walk *w, int end)
{
    return g_rand_int_range(w->rand, 0, end);
}

/* Mostly one that exists, or does not exist, as the step wants it */

static WalkObject *any_object(Walk *w, bool exists)
{
    int tries = below(w, 8);
    WalkObject *o;

    do {
        o = &w->objects[below(w, OBJECTS)];
    } while (o->exists != exists && tries--);
    return o;
}

static WalkObject *any_object_or_none(Walk *w)
{
    return below(w, 6) ? any_object(w, true) : NULL;
}

static WalkDevice *any_device(Walk *w, bool present)
{
    int tries = below(w, 8);
    WalkDevice *d;

    do {
        d = &w->devices[below(w, DEVICES)];
    } while (d->present != present && tries--);
    return d;
}

/* Mostly a name for which the monitor has something */
static int any_name(Walk *w)
{
    int tries = below(w, 8);
    int n;

    do {
        n = below(w, NAMES);
    } while (!w->names[n] && tries--);
    return n;
}

/* Files */

static WalkFile *file_new(const char *path, int device, unsigned context)
{
    WalkFile *file = g_new0(WalkFile, 1);

    file->refs = 1;
    file->path = g_strdup(path);
    file->device = device;
    file->context = context;
    return file;
}

static WalkFile *file_ref(WalkFile *file)
{
    file->refs++;
    return file;
}

static void file_unref(WalkFile *file)
{
    if (--file->refs == 0) {
        g_free(file->path);
        g_free(file);
    }
}

G_DEFINE_AUTOPTR_CLEANUP_FUNC(WalkFile, file_unref)

static bool file_is_iommu(WalkFile *file)
{
    return file->device < 0 && file->context;
}

/* QEMU has the name from now on; what it stood for before is closed. */
static void pass_file(Walk *w, int n, int fd, WalkFile *file)
{
    vfio_descriptor_pass(w->machine->qts, fd, fd_names[n]);
    g_clear_pointer(&w->names[n], file_unref);
    w->names[n] = file;
}

/* The kernel's rules */

static bool group_is_open(Walk *w, int group)
{
    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *d = &w->devices[i];

        if (d->present && !d->object && d->group == group) {
            return true;
        }
    }
    return false;
}

/* The next file after *@i that is bound, of a device in @group; or NULL */
static WalkFile *next_bound(Walk *w, int group, int *i)
{
    while (*i < NAMES + DEVICES) {
        WalkFile *file = *i < NAMES ? w->names[*i]
                                    : w->devices[*i - NAMES].file;

        (*i)++;
        if (file && file->device >= 0 && file->context &&
            w->devices[file->device].group == group) {
            return file;
        }
    }
    return NULL;
}

static Outcome open_group(Walk *w, WalkDevice *d)
{
    int i = 0;

    return next_bound(w, d->group, &i)
           ? (Outcome) { vfio_rig_address(d->name), "resource busy" }
           : success;
}

static Outcome bind_device(Walk *w, WalkDevice *d, unsigned context)
{
    const char *who = vfio_rig_address(d->name);
    Outcome outcome = success;
    WalkFile *file;
    int i = 0;

    if (group_is_open(w, d->group)) {
        return (Outcome) { who, "group is open" };
    }
    while ((file = next_bound(w, d->group, &i))) {
        if (&w->devices[file->device] == d) {
            return (Outcome) { who, "bound already" };
        }
        if (file->context != context) {
            outcome = (Outcome) { who, "of its IOMMU group" };
        }
    }
    return outcome;
}

/* A group has one page table, and so its devices have one object. */
static Outcome attach_device(Walk *w, WalkDevice *d, WalkObject *o)
{
    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *other = &w->devices[i];

        if (other->present && other->group == d->group && other->object != o) {
            return (Outcome) { vfio_rig_address(d->name), "cannot attach" };
        }
    }
    return success;
}

/* Objects */

static void add_object(Walk *w)
{
    WalkObject *o = any_object(w, false);
    g_autofree char *arguments = g_strdup_printf("qom-type=iommufd,id=%s",
                                                 o->id);

    check_outcome(w, o->exists ? (Outcome) { o->id, "duplicate" } : success,
                  vfio_machine_qmp_error(w->machine, "object-add", arguments));
    o->exists = true;
}

static Outcome object_takes(WalkObject *o, const char *fd, WalkFile *file)
{
    if (!file) {
        return (Outcome) { fd, "has not been found" };
    }
    if (!file_is_iommu(file)) {
        return (Outcome) { fd, "is not an iommufd" };
    }
    return o->exists ? (Outcome) { o->id, "duplicate" } : success;
}

/* The name is used up, whatever follows. */
static void add_object_by_name(Walk *w)
{
    WalkObject *o = any_object(w, false);
    int n = any_name(w);
    g_autoptr(WalkFile) file = g_steal_pointer(&w->names[n]);
    Outcome expected = object_takes(o, fd_names[n], file);
    g_autofree char *arguments =
        g_strdup_printf("qom-type=iommufd,id=%s,fd=%s", o->id, fd_names[n]);

    check_outcome(w, expected, vfio_machine_qmp_error(w->machine, "object-add",
                                                      arguments));
    if (!expected.who) {
        o->exists = true;
        o->given = g_steal_pointer(&file);
    }
}

static bool is_named(Walk *w, const char *path)
{
    for (int n = 0; n < NAMES; n++) {
        if (w->names[n] && !g_strcmp0(w->names[n]->path, path)) {
            return true;
        }
    }
    return false;
}

/* The number under which an object or a device has @path, or a closed one */
static char *number_of(Walk *w, const char *path)
{
    char *number = is_named(w, path) ? NULL
                                     : vfio_machine_number(w->machine, path);

    return number ?: g_strdup(CLOSED_FD);
}

/* Refused: the number is another object's, or closed; it stays what it is. */
static void add_object_by_number(Walk *w)
{
    g_autofree char *number = number_of(w, "/dev/iommu");
    bool closed = g_str_equal(number, CLOSED_FD);
    g_autofree char *arguments = g_strdup_printf("qom-type=iommufd,id=more,"
                                                 "fd=%s", number);

    check_outcome(w, (Outcome) { number, closed ? "is not an iommufd"
                                                : "already" },
                  vfio_machine_qmp_error(w->machine, "object-add", arguments));
}

static void delete_object(Walk *w)
{
    WalkObject *o = any_object(w, true);
    Outcome expected = !o->exists ? (Outcome) { o->id, "not found" } :
                       o->users ? (Outcome) { o->id, "in use" } : success;
    g_autofree char *arguments = g_strdup_printf("id=%s", o->id);

    check_outcome(w, expected, vfio_machine_qmp_error(w->machine, "object-del",
                                                      arguments));
    if (!expected.who) {
        o->exists = false;
        g_clear_pointer(&o->given, file_unref);
    }
}

static void set_object(Walk *w)
{
    WalkObject *o = any_object(w, true);
    int threads = below(w, 3);
    g_autofree char *path = g_strdup_printf("/objects/%s", o->id);
    Outcome expected = !o->exists ? (Outcome) { o->id, "not found" } :
                       o->users ? (Outcome) { o->id, "map-threads stays" } :
                       !threads ? (Outcome) { "map-threads=0", "between" } :
                       success;
    QDict *reply;

    g_test_message("qom-set %s map-threads=%d", o->id, threads);
    reply = qtest_qmp(w->machine->qts, "{ 'execute': 'qom-set', 'arguments':"
                      " { 'path': %s, 'property': 'map-threads',"
                      "   'value': %d } }", path, threads);
    check_outcome(w, expected, vfio_reply_error(reply));
}

/* Devices */

static char *device_add(Walk *w, const char *option, const char *value,
                        WalkDevice *d, WalkObject *o, bool twin)
{
    g_autofree char *device =
        g_strdup_printf("vfio-pci,%s=%s%s%s,id=%s,addr=%x", option, value,
                        o ? ",iommufd=" : "", o ? o->id : "",
                        twin ? "twin" : d->name,
                        twin ? TWIN_SLOT : FIRST_SLOT + (int)(d - w->devices));

    return vfio_machine_device_add(w->machine, device);
}

/* What is checked before the device itself */
static Outcome device_may(WalkDevice *d, WalkObject *o)
{
    if (d->present) {
        return (Outcome) { d->name, "Duplicate device ID" };
    }
    return o && !o->exists ? (Outcome) { o->id, "there is no object" }
                           : success;
}

static unsigned object_context(Walk *w, WalkObject *o)
{
    return o->given ? o->given->context : o->users ? o->context
                                                   : ++w->contexts;
}

/* The device has @file afterwards; NULL: it is used by its group */
static void device_is_there(WalkDevice *d, WalkObject *o, WalkFile *file,
                            unsigned context)
{
    d->present = true;
    d->object = o;
    d->file = file;
    if (o) {
        o->users++;
        o->context = context;
        file->context = context;
    }
}

static void add_device(Walk *w)
{
    WalkDevice *d = any_device(w, false);
    WalkObject *o = any_object_or_none(w);
    unsigned context = o ? object_context(w, o) : 0;
    Outcome expected = device_may(d, o);

    if (!expected.who) {
        expected = o ? bind_device(w, d, context) : open_group(w, d);
    }
    if (!expected.who && o) {
        expected = attach_device(w, d, o);
    }
    check_outcome(w, expected,
                  device_add(w, "host", vfio_rig_address(d->name), d, o,
                             false));
    if (!expected.who) {
        device_is_there(d, o, o ? file_new(d->cdev_node, d - w->devices, 0)
                                : NULL, context);
    }
}

/* The name is used up as soon as the device looks at it. */
static void add_device_by_name(Walk *w)
{
    int n = any_name(w);
    WalkFile *named = w->names[n];
    WalkDevice *d = named && named->device >= 0 ? &w->devices[named->device]
                                                : any_device(w, false);
    WalkObject *o = any_object_or_none(w);
    unsigned context = o ? object_context(w, o) : 0;
    Outcome expected = device_may(d, o);
    g_autoptr(WalkFile) file = NULL;

    if (!expected.who && !o) {
        expected = (Outcome) { fd_names[n], "fd= needs iommufd=" };
    }
    if (!expected.who) {
        file = g_steal_pointer(&w->names[n]);
        expected = !file ? (Outcome) { fd_names[n], "has not been found" } :
                   file->device < 0 ? (Outcome) { fd_names[n],
                                                  "not of a VFIO device" } :
                   success;
    }
    if (!expected.who) {
        g_assert(file);
        expected = file->context
                   ? (Outcome) { vfio_rig_address(d->name), "bound already" }
                   : bind_device(w, d, context);
    }
    if (!expected.who) {
        g_assert(file);
        expected = attach_device(w, d, o);
        file->context = context;
    }

    check_outcome(w, expected, device_add(w, "fd", fd_names[n], d, o, false));
    if (!expected.who) {
        device_is_there(d, o, g_steal_pointer(&file), context);
    }
}

/* A device that is there already, under another id */
static void add_twin(Walk *w)
{
    WalkDevice *d = any_device(w, true);
    WalkObject *o = any_object_or_none(w);
    const char *who = vfio_rig_address(d->name);
    Outcome expected = o && !o->exists
                       ? (Outcome) { o->id, "there is no object" } :
                       !o && d->object ? (Outcome) { who, "resource busy" } :
                       (Outcome) { who, "already attached" };

    if (d->present) {
        check_outcome(w, expected, device_add(w, "host", who, d, o, true));
    }
}

static void add_twin_by_number(Walk *w)
{
    WalkDevice *d = any_device(w, true);
    WalkObject *o = any_object(w, true);
    g_autofree char *number = number_of(w, d->cdev_node);
    Outcome expected =
        !o->exists ? (Outcome) { o->id, "there is no object" } :
        g_str_equal(number, CLOSED_FD) ? (Outcome) { number, "not open" } :
        (Outcome) { vfio_rig_address(d->name), "already attached" };

    check_outcome(w, expected, device_add(w, "fd", number, d, o, true));
}

static void device_is_gone(WalkDevice *d)
{
    if (d->object) {
        d->object->users--;
    }
    d->present = false;
    d->pending = false;
    d->object = NULL;
    g_clear_pointer(&d->file, file_unref);
    g_clear_pointer(&d->edu, vfio_edu_free);
}

static void eject(Walk *w, WalkDevice *d)
{
    vfio_acpi_eject(w->machine, FIRST_SLOT + (d - w->devices));
    qtest_qmp_eventwait(w->machine->qts, "DEVICE_DELETED");
    device_is_gone(d);
}

/* The guest lets it go at once, or later, or when the machine is reset. */
static void delete_device(Walk *w)
{
    WalkDevice *d = any_device(w, true);
    Outcome expected =
        !d->present ? (Outcome) { d->name, "not found" } :
        d->pending ? (Outcome) { d->name, "in the process of unplug" } :
        success;
    g_autofree char *arguments = g_strdup_printf("id=%s", d->name);

    check_outcome(w, expected, vfio_machine_qmp_error(w->machine, "device_del",
                                                      arguments));
    d->pending = d->present;
    if (d->pending && below(w, 4)) {
        eject(w, d);
    }
}

/* Descriptors */

/* Sometimes it gets two names. */
static void get_file(Walk *w)
{
    int n = below(w, NAMES), other = (n + 1) % NAMES;
    WalkDevice *d = any_device(w, false);
    bool iommu = below(w, 3) == 0;
    bool twice = below(w, 5) == 0;
    const char *path = iommu ? "/dev/iommu" : d->cdev_node;
    int fd = vfio_rig_open(path, O_RDWR | O_CLOEXEC);

    g_test_message("getfd %s%s%s: %s", fd_names[n], twice ? ", " : "",
                   twice ? fd_names[other] : "", path);
    pass_file(w, n, fd, iommu ? file_new(path, -1, ++w->contexts)
                              : file_new(path, d - w->devices, 0));
    if (twice) {
        pass_file(w, other, fd, file_ref(w->names[n]));
    }
    close(fd);
}

static void get_foreign_file(Walk *w)
{
    int n = below(w, NAMES);
    const VFIODescriptor *foreign = vfio_foreign_descriptors;
    int fd;

    for (int i = below(w, 16); i && foreign[1].name; i--) {
        foreign++;
    }
    g_test_message("getfd %s: %s", fd_names[n], foreign->name);
    fd = vfio_descriptor_open(foreign);
    pass_file(w, n, fd, file_new(foreign->path, -1, 0));
    close(fd);
}

static void close_file(Walk *w)
{
    int n = any_name(w);
    Outcome expected = w->names[n] ? success
                                   : (Outcome) { fd_names[n], "not found" };
    g_autofree char *arguments = g_strdup_printf("fdname=%s", fd_names[n]);

    check_outcome(w, expected, vfio_machine_qmp_error(w->machine, "closefd",
                                                      arguments));
    g_clear_pointer(&w->names[n], file_unref);
}

/* The machine */

static void reset(Walk *w)
{
    g_test_message("system_reset");
    vfio_machine_reset(w->machine);
    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *d = &w->devices[i];

        g_clear_pointer(&d->edu, vfio_edu_free);
        if (d->pending) {
            qtest_qmp_eventwait(w->machine->qts, "DEVICE_DELETED");
            device_is_gone(d);
        }
    }
}

static void stop_or_cont(Walk *w)
{
    w->stopped = below(w, 2);
    g_test_message("%s", w->stopped ? "stop" : "cont");
    qtest_qmp_assert_success(w->machine->qts, "{ 'execute': %s }",
                             w->stopped ? "stop" : "cont");
}

static void query(Walk *w)
{
    static const char *const commands[] = {
        "query-status", "query-pci", "query-memdev", "query-block",
        "query-memory-size-summary", "query-hotpluggable-cpus",
    };
    const char *command = commands[below(w, ARRAY_SIZE(commands))];
    QDict *reply = qtest_qmp(w->machine->qts, "{ 'execute': %s }", command);

    g_test_message("%s", command);
    g_assert_true(qdict_haskey(reply, "return"));
    if (g_str_equal(command, "query-status")) {
        g_assert_cmpint(qdict_get_bool(qdict_get_qdict(reply, "return"),
                                       "running"), ==, !w->stopped);
    }
    qobject_unref(reply);
}

/* What must hold after each step */

static int count_lines(const char *text, const char *line)
{
    g_auto(GStrv) lines = g_strsplit(text, "\n", -1);
    int count = 0;

    for (char **l = lines; *l; l++) {
        count += !line || g_str_equal(*l, line);
    }
    return count;
}

static int named_files(Walk *w, const char *path)
{
    int count = 0;

    for (int n = 0; n < NAMES; n++) {
        count += w->names[n] &&
                 (!path || !g_strcmp0(w->names[n]->path, path));
    }
    return count;
}

static bool object_is_open(WalkObject *o)
{
    return o->given || o->users;
}

static bool line_is(Walk *w, const char *state, const char *line, int expected)
{
    int count = count_lines(state, line);

    if (w->tell && count != expected) {
        g_test_message("%s: %d times, not %d", line, count, expected);
    }
    return count == expected;
}

static int count_open(Walk *w)
{
    int count = 0;

    for (int i = 0; i < OBJECTS; i++) {
        count += object_is_open(&w->objects[i]);
    }
    return count;
}

static bool objects_are(Walk *w, const char *state)
{
    bool same = line_is(w, state, "/dev/iommu",
                        named_files(w, "/dev/iommu") + count_open(w));

    for (int i = 0; i < OBJECTS; i++) {
        g_autofree char *line = g_strdup_printf("/objects/%s",
                                                w->objects[i].id);

        same &= line_is(w, state, line, w->objects[i].exists);
    }
    return same;
}

static bool devices_are(Walk *w, const char *state)
{
    bool same = true;

    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *d = &w->devices[i];
        g_autofree char *line = g_strdup_printf("/machine/peripheral/%s",
                                                d->name);

        same &= line_is(w, state, line, d->present);
        same &= line_is(w, state, d->group_node, group_is_open(w, d->group));
        same &= line_is(w, state, d->cdev_node,
                        named_files(w, d->cdev_node) + !!d->file);
    }
    return same;
}

/* Lines that the model accounts for, without the devices' other descriptors */
static int known_lines(Walk *w)
{
    int lines = w->lines + named_files(w, NULL) + count_open(w);
    bool container = false;

    for (int i = 0; i < OBJECTS; i++) {
        lines += w->objects[i].exists;
    }
    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *d = &w->devices[i];
        bool sibling = i && w->devices[i - 1].group == d->group;

        lines += d->present + !!d->file;
        lines += !sibling && group_is_open(w, d->group);
        container |= d->present && !d->object;
    }
    return lines + container;
}

/* The devices' other descriptors: their number is learned the first time. */
static bool costs_are(Walk *w, const char *state)
{
    int lines = known_lines(w);
    int *unknown = NULL;

    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *d = &w->devices[i];
        int *cost = &d->cost[!!d->object];

        if (d->present && *cost < 0) {
            unknown = cost;
        } else if (d->present) {
            lines += *cost;
        }
    }
    if (unknown) {
        *unknown = count_lines(state, NULL) - lines;
        g_assert_cmpint(*unknown, >=, 0);
        return true;
    }
    if (w->tell && count_lines(state, NULL) != lines) {
        g_test_message("%d lines and not %d in: %s", count_lines(state, NULL),
                       lines, state);
    }
    return count_lines(state, NULL) == lines;
}

static bool state_is_models(Walk *w)
{
    g_autofree char *state = vfio_machine_state(w->machine);

    return objects_are(w, state) && devices_are(w, state) &&
           costs_are(w, state);
}

/* Some of what a step leaves goes away only in the next RCU callback. */
static void check_state(Walk *w)
{
    w->tell = !vfio_rig_wait(state_is_models(w));
    g_assert_true(state_is_models(w));
}

/* Whether to try the device: always if it is new or was reset */
static bool is_tried(Walk *w, int i)
{
    WalkDevice *d = &w->devices[i];

    if (!d->present || !d->is_edu) {
        return false;
    }
    if (d->edu) {
        return below(w, 3) == 0;
    }
    w->machine->pci->mmio_alloc_ptr = w->bars + i * BAR_STEP;
    d->edu = vfio_edu_new(w->machine, FIRST_SLOT + i);
    return true;
}

static void copy_in(Walk *w, int i, const uint8_t *data)
{
    qtest_bufwrite(w->machine->qts, DMA_SRC + i * DMA_STEP, data, DMA_SIZE);
    vfio_edu_dma_start(w->devices[i].edu, EDU_DMA_FROM_MEMORY,
                       DMA_SRC + i * DMA_STEP, DMA_SIZE, false);
}

static void copy_out(Walk *w, int i)
{
    vfio_edu_dma_wait(w->devices[i].edu);
    vfio_edu_dma_start(w->devices[i].edu, EDU_DMA_TO_MEMORY,
                       DMA_DST + i * DMA_STEP, DMA_SIZE, false);
}

static void check_copy(Walk *w, int i, const uint8_t *expected)
{
    uint8_t data[DMA_SIZE];

    vfio_edu_dma_wait(w->devices[i].edu);
    qtest_bufread(w->machine->qts, DMA_DST + i * DMA_STEP, data, DMA_SIZE);
    g_assert_cmpmem(data, DMA_SIZE, expected, DMA_SIZE);
}

/* All at the same time, since one transfer takes an edu a tenth of a second */
static void check_dma(Walk *w)
{
    uint8_t data[DEVICES][DMA_SIZE];
    bool tried[DEVICES];

    for (int i = 0; i < sizeof(data); i++) {
        ((uint8_t *)data)[i] = g_test_rand_int();
    }
    for (int i = 0; i < DEVICES; i++) {
        tried[i] = is_tried(w, i);
        if (tried[i]) {
            copy_in(w, i, data[i]);
        }
    }
    for (int i = 0; i < DEVICES; i++) {
        if (tried[i]) {
            copy_out(w, i);
        }
    }
    for (int i = 0; i < DEVICES; i++) {
        if (tried[i]) {
            check_copy(w, i, data[i]);
        }
    }
}

/* The walk */

static const struct {
    void (*step)(Walk *w);
    int weight;
} steps[] = {
    { add_object, 5 },
    { add_object_by_name, 8 },
    { add_object_by_number, 6 },
    { delete_object, 8 },
    { set_object, 4 },
    { add_device, 22 },
    { add_device_by_name, 16 },
    { add_twin, 6 },
    { add_twin_by_number, 6 },
    { delete_device, 25 },
    { get_file, 25 },
    { get_foreign_file, 7 },
    { close_file, 6 },
    { reset, 3 },
    { stop_or_cont, 3 },
    { query, 2 },
};

static void take_step(Walk *w)
{
    int total = 0, chosen, i;

    for (i = 0; i < ARRAY_SIZE(steps); i++) {
        total += steps[i].weight;
    }
    chosen = below(w, total);
    for (i = 0; chosen >= steps[i].weight; i++) {
        chosen -= steps[i].weight;
    }
    steps[i].step(w);
}

static void start(Walk *w, uint32_t seed)
{
    static const WalkObject objects[OBJECTS] = {
        { .id = VFIO_RIG_IOMMUFD, .exists = true },
        { .id = "iommufd1" },
        { .id = "iommufd2" },
    };
    static const WalkDevice devices[DEVICES] = {
        { .name = "PAIR0", .group = 0, .is_edu = true, .cost = { -1, -1 } },
        { .name = "PAIR1", .group = 0, .is_edu = true, .cost = { -1, -1 } },
        { .name = "EDU0", .group = 1, .is_edu = true, .cost = { -1, -1 } },
        { .name = "EDU2", .group = 2, .is_edu = true, .cost = { -1, -1 } },
        { .name = "NVME0", .group = 3, .cost = { -1, -1 } },
    };
    g_autofree char *state = NULL;

    *w = (Walk) {
        .machine = vfio_machine_start("-m 64M"),
        .rand = g_rand_new_with_seed(seed),
    };
    memcpy(w->objects, objects, sizeof(objects));
    memcpy(w->devices, devices, sizeof(devices));
    for (int i = 0; i < DEVICES; i++) {
        w->devices[i].cdev_node = vfio_rig_cdev_node(devices[i].name);
        w->devices[i].group_node = vfio_rig_group_node(devices[i].name);
    }
    w->bars = w->machine->pci->mmio_alloc_ptr;
    state = vfio_machine_state(w->machine);
    w->lines = count_lines(state, NULL) - 1;    /* without the object */
}

/* Everything that is there goes. */
static void finish(Walk *w)
{
    for (int i = 0; i < DEVICES; i++) {
        WalkDevice *d = &w->devices[i];

        if (d->present && !d->pending) {
            qtest_qmp_device_del_send(w->machine->qts, d->name);
        }
        if (d->present) {
            eject(w, d);
        }
    }
    for (int n = 0; n < NAMES; n++) {
        g_autofree char *arguments = g_strdup_printf("fdname=%s", fd_names[n]);

        g_free(vfio_machine_qmp_error(w->machine, "closefd", arguments));
        g_clear_pointer(&w->names[n], file_unref);
    }
    for (int i = 0; i < OBJECTS; i++) {
        WalkObject *o = &w->objects[i];
        g_autofree char *arguments = g_strdup_printf("id=%s", o->id);

        g_free(vfio_machine_qmp_error(w->machine, "object-del", arguments));
        o->exists = false;
        g_clear_pointer(&o->given, file_unref);
    }
    check_state(w);
}

/* While QEMU still runs: if it had anything, unbinding would wait forever. */
static void give_back(Walk *w)
{
    for (int i = 0; i < DEVICES; i++) {
        vfio_rig_bind(w->devices[i].name, "vfio-pci");
        g_free(w->devices[i].cdev_node);
        g_free(w->devices[i].group_node);
    }
    vfio_rig_bind("NVME0", "nvme");
    vfio_rig_check_nvme_reads("NVME0");
    vfio_rig_bind("NVME0", "vfio-pci");
}

static uint32_t number_or(const char *variable, uint32_t otherwise)
{
    const char *text = g_getenv(variable);

    return text ? g_ascii_strtoull(text, NULL, 0) : otherwise;
}

static void test_walk(void)
{
    uint32_t seed = number_or("VFIO_TEST_SEED", g_random_int());
    int count = number_or("VFIO_TEST_STEPS",
                          g_test_slow() ? STEPS_SLOW : STEPS);
    Walk w;

    g_test_message("VFIO_TEST_SEED=%u VFIO_TEST_STEPS=%d", seed, count);
    start(&w, seed);
    for (int i = 0; i < count; i++) {
        take_step(&w);
        check_state(&w);
        check_dma(&w);
    }
    g_test_message("%d of %d steps were refused", w.refused, count);

    finish(&w);
    give_back(&w);
    g_rand_free(w.rand);
    vfio_machine_stop(w.machine);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "order");

    vfio_rig_add("random", VFIO_RIG_IOMMUFD_ONLY, test_walk);

    return g_test_run();
}
