/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest for VFIO: a device in the migration stream, word by word, and streams
 * that are refused
 *
 * The device is an mtty with two ports.  It is sent to a file and received from
 * one in which something was changed.
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qdict.h"
#include "qemu/bswap.h"
#include "vfio-mtty.h"

#define MDEV "5d0c7c1a-6f5e-4b3c-8f0a-2c9f6b1e7d42"
#define MDEV_SYSFS "/sys/bus/mdev/devices/" MDEV
#define SLOT 4
#define MEMORY "16M"    /* the device reaches none of it */
#define NAME "\x11" "0000:00:04.0/vfio"

#define END     0xffffffffef100001ULL
#define CONFIG  0xffffffffef100002ULL
#define SETUP   0xffffffffef100003ULL
#define DATA    0xffffffffef100004ULL
#define NEWER   0xffffffffef100005ULL

#define PATIENCE 120    /* seconds that a migration may take */

/* Types of sections, and what ends each */
#define START   1
#define PART    2
#define LAST    3
#define FULL    4
#define FOOTER  0x7e

/* The device's state: a header, and a part for each port */
#define STATE_SIZE (24 + 2 * 36)

typedef struct Stream {
    char *path;
    uint8_t *bytes;
    size_t size;
    uint32_t id;        /* of the device's sections but the FULL one */
    size_t start;       /* where what is in them begins */
    size_t last;
    size_t full;
    uint8_t state[STATE_SIZE];
    size_t state_size;
    size_t state_at;    /* where its first byte is */
} Stream;

static char *device_properties(void)
{
    return g_strdup_printf("vfio-pci,sysfsdev=" MDEV_SYSFS "%s,addr=%d,"
                           "enable-migration=on,"
                           "x-pre-copy-dirty-page-tracking=off",
                           vfio_rig_iommufd() ? ",iommufd=" VFIO_RIG_IOMMUFD
                                              : "", SLOT);
}

static char *device_option(void)
{
    g_autofree char *properties = device_properties();

    return g_strdup_printf("-device %s", properties);
}

/* Sending */

static bool is_done(VFIOMachine *m)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-migrate' }");
    QDict *info = qdict_get_qdict(reply, "return");
    const char *status = qdict_get_try_str(info, "status") ?: "";
    bool done = g_str_equal(status, "completed");

    g_assert_cmpstr(status, !=, "failed");
    qobject_unref(reply);
    return done;
}

/* A stream of a guest whose device has this state; @stands: when it begins */
static void send_to(const char *path, bool stands)
{
    g_autofree char *device = device_option();
    g_autofree char *uri = g_strdup_printf("uri=exec:cat >%s", path);
    VFIOMachine *m = vfio_machine_start("-m " MEMORY " %s", device);

    qtest_qmp_assert_success(m->qts, "{ 'execute': 'migrate-set-parameters', "
                             "'arguments': { 'downtime-limit': 2000000 } }");
    if (stands) {
        qtest_qmp_assert_success(m->qts, "{ 'execute': 'stop' }");
    }
    g_assert_null(vfio_machine_qmp_error(m, "migrate", uri));
    g_assert_true(vfio_rig_wait_for(PATIENCE, is_done(m)));
    vfio_machine_stop(m);
}

/* Finding */

static size_t find(Stream *s, const void *what, size_t size, size_t from)
{
    uint8_t *at = memmem(s->bytes + from, s->size - from, what, size);

    return at ? at - s->bytes : 0;
}

static uint64_t word(Stream *s, size_t at)
{
    g_assert_cmpuint(at + 8, <=, s->size);
    return ldq_be_p(s->bytes + at);
}

/* A section with a name: its type and id before, instance and version after */
static size_t find_named(Stream *s, uint8_t type, size_t from)
{
    size_t at;

    while ((at = find(s, NAME, sizeof(NAME) - 1, from))) {
        from = at + sizeof(NAME) - 1;
        if (s->bytes[at - 5] == type) {
            s->id = type == START ? ldl_be_p(s->bytes + at - 4) : s->id;
            g_assert_cmphex(ldl_be_p(s->bytes + from), ==, 0);
            g_assert_cmphex(ldl_be_p(s->bytes + from + 4), ==, 1);
            return from + 8;
        }
    }
    g_assert_not_reached();
}

/* One without a name that begins with DATA or END */
static size_t find_numbered(Stream *s, uint8_t type, uint64_t first,
                            size_t from)
{
    uint8_t head[5 + 8];
    size_t at;

    head[0] = type;
    stl_be_p(head + 1, s->id);
    stq_be_p(head + 5, first);
    at = find(s, head, sizeof(head), from);
    return at ? at + 5 : 0;
}

/* Records up to END, whose place is returned */
static size_t take_records(Stream *s, size_t at)
{
    while (word(s, at) == DATA) {
        uint64_t size = word(s, at + 8);

        at += 16;
        g_assert_cmpuint(s->state_size + size, <=, STATE_SIZE);
        memcpy(s->state + s->state_size, s->bytes + at, size);
        if (!s->state_size) {
            s->state_at = at;
        }
        s->state_size += size;
        at += size;
    }
    g_assert_cmphex(word(s, at), ==, END);
    return at;
}

static void check_footer(Stream *s, size_t at)
{
    g_assert_cmphex(s->bytes[at], ==, FOOTER);
    g_assert_cmphex(ldl_be_p(s->bytes + at + 1), ==, s->id);
}

static Stream *stream_new(bool stands)
{
    Stream *s = g_new0(Stream, 1);
    size_t at;

    s->path = vfio_rig_log_new();
    send_to(s->path, stands);
    g_assert_true(g_file_get_contents(s->path, (char **)&s->bytes, &s->size,
                                      NULL));
    s->start = find_named(s, START, 0);
    for (at = s->start; (at = find_numbered(s, PART, DATA, at));) {
        at = take_records(s, at);
        check_footer(s, at + 8);
    }
    s->last = find_numbered(s, LAST, DATA, s->start);
    g_assert_cmpuint(s->last, >, 0);
    check_footer(s, take_records(s, s->last) + 8);
    s->full = find_named(s, FULL, s->start);
    return s;
}

static void stream_free(Stream *s)
{
    vfio_rig_log_free(s->path);
    g_free(s->bytes);
    g_free(s);
}

/* What it says of the device is what newer releases send, too. */
static void check_words(Stream *s)
{
    g_assert_cmphex(word(s, s->start), ==, SETUP);
    g_assert_cmphex(word(s, s->start + 8), ==, END);
    check_footer(s, s->start + 16);
    g_assert_cmphex(word(s, s->full), ==, CONFIG);
    g_assert_cmphex(ldl_be_p(s->bytes + s->full + 8), ==, 2);   /* a size */
    g_assert_cmpuint(s->state_size, ==, STATE_SIZE);
    g_assert_cmpuint(s->full, >, s->last);
}

/* Receiving */

/* QEMU's end, with @errors on its standard error */
static int receive(Stream *s, char **errors)
{
    g_autofree char *device = device_option();
    g_autofree char *options =
        g_strdup_printf("-machine pc -m " MEMORY " -nodefaults %s %s "
                        "-incoming 'exec:cat %s'", vfio_rig_iommufd() ?
                        "-object iommufd,id=" VFIO_RIG_IOMMUFD : "", device,
                        s->path);

    g_assert_true(g_file_set_contents(s->path, (char *)s->bytes, s->size,
                                      NULL));
    return vfio_rig_run_qemu(options, NULL, errors);
}

static void check_refused(Stream *s, const char *reason)
{
    g_autofree char *errors = NULL;
    int status = receive(s, &errors);

    g_test_message("status %d: %s", status, errors);
    g_assert_cmpint(status, ==, 1);
    g_assert_nonnull(strstr(errors, MDEV));
    g_assert_nonnull(strstr(errors, reason));
}

/* Tests */

static void test_has_known_words(void)
{
    Stream *s;

    vfio_mtty_create(MDEV);
    s = stream_new(false);
    check_words(s);
    /* PRE_COPY has the header, so it was sent while the guest ran. */
    g_assert_cmpuint(s->state_at, <, s->last);
    stream_free(s);
    vfio_mtty_remove(MDEV);
}

static void test_standing_guest_has_all_in_the_end(void)
{
    Stream *s;

    vfio_mtty_create(MDEV);
    s = stream_new(true);
    check_words(s);
    g_assert_cmpuint(s->state_at, ==, s->last + 16);
    stream_free(s);
    vfio_mtty_remove(MDEV);
}

static void check_change(size_t (*change)(Stream *s), const char *reason)
{
    Stream *s;

    vfio_mtty_create(MDEV);
    s = stream_new(true);
    change(s);
    check_refused(s, reason);
    stream_free(s);
    vfio_mtty_remove(MDEV);
}

static size_t change_word(Stream *s)
{
    stq_be_p(s->bytes + s->last, 0xffffffffef1000ffULL);
    return s->last;
}

static void test_unknown_word_is_refused(void)
{
    check_change(change_word, "unknown word, 0xffffffffef1000ff");
}

static size_t change_to_newer(Stream *s)
{
    stq_be_p(s->bytes + s->last, NEWER);
    return s->last;
}

static void test_switchover_ack_is_refused(void)
{
    check_change(change_to_newer, "switchover-ack");
}

static size_t change_state(Stream *s)
{
    s->bytes[s->state_at] ^= 0xff;
    return s->state_at;
}

static void test_bad_state_is_refused(void)
{
    check_change(change_state, "same kind");
}

/* Where there was one more byte of state, the stream goes on with END. */
static size_t change_size(Stream *s)
{
    stq_be_p(s->bytes + s->state_at - 8, STATE_SIZE - 1);
    memmove(s->bytes + s->state_at + STATE_SIZE - 1,
            s->bytes + s->state_at + STATE_SIZE,
            s->size - s->state_at - STATE_SIZE);
    s->size--;
    return s->state_at;
}

static void test_short_state_is_refused(void)
{
    check_change(change_size, "from RESUMING to STOP");
}

static size_t change_config(Stream *s)
{
    s->bytes[s->full + 12] ^= 0xff;     /* the vendor */
    return s->full;
}

static void test_other_device_is_refused(void)
{
    check_change(change_config, "configuration was refused");
}

static size_t cut_off(Stream *s)
{
    s->size = s->state_at + 10;
    return s->size;
}

static void test_end_within_state_is_refused(void)
{
    check_change(cut_off, "the stream ends within its state");
}

/* While it comes */

/* Where its first section begins: with a type and an id, before its name */
static size_t begin_of_device(Stream *s)
{
    return s->start - 8 - (sizeof(NAME) - 1) - 5;
}

/* QEMU may have had enough of it. */
static void feed(int fd, Stream *s, size_t from, size_t to)
{
    while (from < to) {
        ssize_t size = write(fd, s->bytes + from, to - from);

        if (size < 0) {
            g_assert_cmpint(errno, ==, EPIPE);
            return;
        }
        from += size;
    }
}

static bool has_begun(VFIOMachine *m)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);

    return vfio_trace_count(lines, "loadvm_state_setup") == 1;
}

static void plug_while_it_comes(VFIOMachine *m, Stream *s, const char *fifo)
{
    g_autofree char *device = device_properties();
    g_autofree char *error = NULL;
    size_t at = begin_of_device(s);
    int fd = open(fifo, O_WRONLY | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    qtest_qmp_assert_success(m->qts, "{ 'execute': 'trace-event-set-state', "
                             "'arguments': { 'name': 'loadvm_state_setup', "
                             "'enable': true } }");
    feed(fd, s, 0, at);
    g_assert_true(vfio_rig_wait(has_begun(m)));
    error = vfio_machine_device_add(m, device);
    g_assert_null(error);
    feed(fd, s, at, s->size);
    close(fd);
}

/* The one that sent the stream had no such device when it began. */
static void test_late_device_is_refused(void)
{
    char *fifo = vfio_rig_log_new();
    char *log = vfio_rig_log_new();
    g_autofree char *errors = NULL;
    VFIOMachine *m;
    Stream *s;

    vfio_mtty_create(MDEV);
    s = stream_new(true);
    g_assert_cmpint(unlink(fifo), ==, 0);
    g_assert_cmpint(mkfifo(fifo, 0600), ==, 0);
    signal(SIGPIPE, SIG_IGN);
    m = vfio_machine_start("-m " MEMORY " -incoming 'exec:cat %s' 2>>%s", fifo,
                           log);
    plug_while_it_comes(m, s, fifo);
    g_assert_true(vfio_rig_wait_for(PATIENCE, !qtest_probe_child(m->qts)));
    qtest_set_expected_status(m->qts, EXIT_FAILURE);
    vfio_machine_stop(m);
    signal(SIGPIPE, SIG_DFL);

    errors = vfio_rig_log_take(log);
    g_test_message("%s", errors);
    g_assert_nonnull(strstr(errors, MDEV));
    g_assert_nonnull(strstr(errors, "was not there yet"));
    vfio_rig_log_free(log);
    vfio_rig_log_free(fifo);
    stream_free(s);
    vfio_mtty_remove(MDEV);
}

int main(int argc, char **argv)
{
    vfio_rig_init(&argc, &argv, "mig-stream");

    vfio_rig_add("has-known-words", VFIO_RIG_BOTH, test_has_known_words);
    vfio_rig_add("standing-guest-has-all-in-the-end", VFIO_RIG_BOTH,
                 test_standing_guest_has_all_in_the_end);
    vfio_rig_add("unknown-word-is-refused", VFIO_RIG_BOTH,
                 test_unknown_word_is_refused);
    vfio_rig_add("switchover-ack-is-refused", VFIO_RIG_BOTH,
                 test_switchover_ack_is_refused);
    vfio_rig_add("bad-state-is-refused", VFIO_RIG_BOTH,
                 test_bad_state_is_refused);
    vfio_rig_add("short-state-is-refused", VFIO_RIG_BOTH,
                 test_short_state_is_refused);
    vfio_rig_add("other-device-is-refused", VFIO_RIG_BOTH,
                 test_other_device_is_refused);
    vfio_rig_add("end-within-state-is-refused", VFIO_RIG_BOTH,
                 test_end_within_state_is_refused);
    vfio_rig_add("late-device-is-refused", VFIO_RIG_BOTH,
                 test_late_device_is_refused);

    return g_test_run();
}
