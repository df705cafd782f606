/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What query-iommufd tells, and what the kernel and the traces say of the same
 */
#include "qemu/osdep.h"

#include "qapi/qmp/qlist.h"
#include "qapi/qmp/qnum.h"
#include "vfio-query.h"

/* The answer */

QDict *vfio_query(VFIOMachine *m, const char *id)
{
    QDict *reply = qtest_qmp(m->qts, "{ 'execute': 'query-iommufd' }");
    QDict *found = NULL;
    QListEntry *entry;

    g_assert_true(qdict_haskey(reply, "return"));
    QLIST_FOREACH_ENTRY(qdict_get_qlist(reply, "return"), entry) {
        QDict *info = qobject_to(QDict, qlist_entry_obj(entry));

        if (g_str_equal(qdict_get_str(info, "id"), id)) {
            g_assert_null(found);
            found = qobject_ref(info);
        }
    }
    g_assert_nonnull(found);
    qobject_unref(reply);
    return found;
}

uint64_t vfio_query_number(QDict *dict, const char *name)
{
    return qnum_get_uint(qobject_to(QNum, qdict_get(dict, name)));
}

static QList *spaces(QDict *info)
{
    return qdict_get_qlist(info, "address-spaces");
}

int vfio_query_count_spaces(QDict *info)
{
    return qlist_size(spaces(info));
}

QDict *vfio_query_nth_space(QDict *info, int n)
{
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(spaces(info), entry) {
        if (n-- == 0) {
            return qobject_to(QDict, qlist_entry_obj(entry));
        }
    }
    g_assert_not_reached();
}

QDict *vfio_query_space(QDict *info)
{
    g_assert_cmpint(vfio_query_count_spaces(info), ==, 1);
    return vfio_query_nth_space(info, 0);
}

uint64_t vfio_query_mapped(QDict *info)
{
    uint64_t sum = 0;

    for (int i = 0; i < vfio_query_count_spaces(info); i++) {
        sum += vfio_query_number(vfio_query_nth_space(info, i),
                                 "mapped-bytes");
    }
    return sum;
}

/* The kernel */

uint64_t vfio_query_background(VFIOMachine *m)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    uint64_t bytes = 0;

    for (int i = 0; i < vfio_query_count_spaces(info); i++) {
        QDict *space = vfio_query_nth_space(info, i);

        if (qdict_haskey(space, "background-bytes")) {
            bytes += vfio_query_number(space, "background-bytes");
        }
    }
    qobject_unref(info);
    return bytes;
}

uint64_t vfio_machine_pinned(VFIOMachine *m)
{
    return vfio_machine_status(m, "VmPin") * KiB;
}

char *vfio_query_wrong(VFIOMachine *m, uint64_t mapped)
{
    QDict *info = vfio_query(m, VFIO_RIG_IOMMUFD);
    uint64_t told = vfio_query_mapped(info);
    uint64_t pinned = vfio_machine_pinned(m);
    uint64_t least = vfio_query_count_spaces(info) > 1 ? 0 :
                     mapped - MIN(mapped, VFIO_SAME_TWICE);

    qobject_unref(info);
    if (told == mapped && pinned <= mapped && pinned >= least) {
        return NULL;
    }
    return g_strdup_printf("0x%" PRIx64 " bytes are mapped and 0x%" PRIx64
                           " are pinned, and query-iommufd tells of 0x%" PRIx64
                           "\n", mapped, pinned, told);
}

/* The traces */

typedef struct Map {
    uint64_t ioas;
    uint64_t iova;
    uint64_t size;
} Map;

/* What follows from the calls of one kind */
typedef struct Calls {
    uint64_t calls;
    uint64_t failures;
    uint64_t bytes;
} Calls;

typedef struct Traced {
    GArray *maps;       /* Maps that are still there */
    Calls map;
    Calls unmap;
} Traced;

static Map parse_map(const char *line)
{
    return (Map) {
        .ioas = vfio_trace_value(line, "ioas"),
        .iova = vfio_trace_value(line, "iova"),
        .size = vfio_trace_value(line, "size"),
    };
}

/* The result stands last, in brackets. */
static int parse_result(const char *line)
{
    return atoi(strrchr(line, '(') + 1);
}

/* A copy is a map, too. */
static void replay_map(Traced *traced, const char *line)
{
    Map map = parse_map(line);

    traced->map.calls++;
    if (parse_result(line)) {
        traced->map.failures++;
        return;
    }
    traced->map.bytes += map.size;
    g_array_append_val(traced->maps, map);
}

static void replay_unmap(Traced *traced, const char *line)
{
    Map range = parse_map(line);
    int result = parse_result(line);

    traced->unmap.calls++;
    traced->unmap.failures += result && result != -ENOENT;
    for (int i = traced->maps->len; !result && i-- > 0;) {
        Map *map = &g_array_index(traced->maps, Map, i);

        if (map->ioas == range.ioas && map->iova >= range.iova &&
            map->iova + map->size - 1 <= range.iova + range.size - 1) {
            traced->unmap.bytes += map->size;
            g_array_remove_index(traced->maps, i);
        }
    }
}

/* All that is mapped goes with the address space, without a call. */
static void replay_destroy(Traced *traced, const char *line)
{
    uint64_t id = vfio_trace_value(line, "id");

    for (int i = traced->maps->len; i-- > 0;) {
        if (g_array_index(traced->maps, Map, i).ioas == id) {
            g_array_remove_index(traced->maps, i);
        }
    }
}

static void replay(Traced *traced, char **lines)
{
    for (char **line = lines; *line; line++) {
        if (vfio_trace_is(*line, "iommufd_backend_map_dma") ||
            vfio_trace_is(*line, "iommufd_backend_map_file") ||
            vfio_trace_is(*line, "iommufd_backend_copy_dma")) {
            replay_map(traced, *line);
        } else if (vfio_trace_is(*line, "iommufd_backend_unmap_dma")) {
            replay_unmap(traced, *line);
        } else if (vfio_trace_is(*line, "iommufd_backend_destroy_id")) {
            replay_destroy(traced, *line);
        }
    }
}

static void check_calls(QDict *told, const Calls *calls)
{
    g_assert_cmpuint(vfio_query_number(told, "calls"), ==, calls->calls);
    g_assert_cmpuint(vfio_query_number(told, "failures"), ==,
                     calls->failures);
    g_assert_cmphex(vfio_query_number(told, "bytes"), ==, calls->bytes);
}

static void check_maps(QDict *space, const Traced *traced)
{
    uint64_t ioas = vfio_query_number(space, "ioas-id");
    uint64_t count = 0, bytes = 0;

    for (int i = 0; i < traced->maps->len; i++) {
        const Map *map = &g_array_index(traced->maps, Map, i);

        if (map->ioas == ioas) {
            count++;
            bytes += map->size;
        }
    }
    g_assert_cmpuint(vfio_query_number(space, "maps"), ==, count);
    g_assert_cmphex(vfio_query_number(space, "mapped-bytes"), ==, bytes);
}

void vfio_query_check_trace(VFIOMachine *m, QDict *info)
{
    g_auto(GStrv) lines = vfio_machine_trace(m);
    Traced traced = {
        .maps = g_array_new(false, false, sizeof(Map)),
    };

    replay(&traced, lines);
    check_calls(qdict_get_qdict(info, "map"), &traced.map);
    check_calls(qdict_get_qdict(info, "unmap"), &traced.unmap);
    for (int i = 0; i < vfio_query_count_spaces(info); i++) {
        check_maps(vfio_query_nth_space(info, i), &traced);
    }
    g_array_unref(traced.maps);
}
