/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where devices of one container reach BARs: see p2p.h */
#include "qemu/osdep.h"

#include "dma-buf.h"
#include "iommufd.h"
#include "p2p.h"

/* [@map.iova, @last] is of no other */
typedef struct Node {
    VFIOP2PMap map;
    hwaddr last;
    bool dead;
} Node;

static QLIST_HEAD(AllP2P, VFIOP2P) all_p2p = QLIST_HEAD_INITIALIZER(all_p2p);

/* Those that overlap are the same to the tree: it has one of them. */
static int compare(const void *first, const void *second, void *unused)
{
    const Node *a = first, *b = second;

    return a->last < b->map.iova ? -1 : a->map.iova > b->last;
}

void vfio_p2p_init(VFIOP2P *p2p, VFIOIOMMUFDContainer *container)
{
    p2p->container = container;
    p2p->tree = g_tree_new_full(compare, NULL, g_free, NULL);
    QLIST_INSERT_HEAD(&all_p2p, p2p, next);
}

void vfio_p2p_destroy(VFIOP2P *p2p)
{
    QLIST_REMOVE(p2p, next);
    g_tree_destroy(p2p->tree);
}

bool vfio_p2p_has_peer(const VFIOP2P *p2p, VFIODevice *owner)
{
    bool own = owner->container == &p2p->container->base && owner->pins;

    return p2p->container->pinning > own;
}

/*
 * The guest's IOMMU counts what it has asked for.  What is mapped or dead is
 * counted in VFIOMaps, which has it as well.
 */
static void count(VFIOP2P *p2p, const VFIOP2PMap *map, int sign)
{
    if (map->guest && map->waits) {
        p2p->container->maps.guest_count += sign;
    }
}

static void drop(VFIOP2P *p2p, Node *node)
{
    count(p2p, &node->map, -1);
    g_tree_remove(p2p->tree, node);
}

void vfio_p2p_remove(VFIOP2P *p2p, Range *range)
{
    Node wanted = { .map.iova = range_lob(range), .last = range_upb(range) };
    Node *node;

    while ((node = g_tree_lookup(p2p->tree, &wanted))) {
        drop(p2p, node);
    }
}

void vfio_p2p_add(VFIOP2P *p2p, const VFIOP2PMap *map)
{
    Node *node = g_new(Node, 1);
    Range range;

    *node = (Node) {
        .map = *map,
        .last = map->iova + map->size - 1,
    };
    range_set_bounds(&range, map->iova, node->last);
    vfio_p2p_remove(p2p, &range);
    g_tree_insert(p2p->tree, node, node);
    count(p2p, map, 1);
}

/* Copies of some nodes of a tree: the nodes themselves may go meanwhile. */

typedef struct Search {
    const VFIOP2P *p2p;
    VFIODevice *owner;      /* of it alone; NULL: of any */
    bool (*matches)(const VFIOP2P *p2p, const Node *node);
    GArray *found;
} Search;

static gboolean look_at(void *key, void *value, void *opaque)
{
    Search *search = opaque;
    Node *node = value;

    if ((!search->owner || node->map.owner == search->owner) &&
        search->matches(search->p2p, node)) {
        g_array_append_val(search->found, *node);
    }
    return false;
}

static GArray *find(const VFIOP2P *p2p, VFIODevice *owner,
                    bool (*matches)(const VFIOP2P *p2p, const Node *node))
{
    Search search = {
        .p2p = p2p,
        .owner = owner,
        .matches = matches,
        .found = g_array_new(false, false, sizeof(Node)),
    };

    g_tree_foreach(p2p->tree, look_at, &search);
    return search.found;
}

/* The @i-th that was found; NULL if it has gone since then */
static Node *found_node(const VFIOP2P *p2p, GArray *found, unsigned i)
{
    return g_tree_lookup(p2p->tree, &g_array_index(found, Node, i));
}

static bool any(const VFIOP2P *p2p, const Node *node)
{
    return true;
}

static bool is_mapped(const VFIOP2P *p2p, const Node *node)
{
    return !node->map.waits;
}

static bool has_peer(const VFIOP2P *p2p, const Node *node)
{
    return vfio_p2p_has_peer(p2p, node->map.owner);
}

static bool can_be_mapped(const VFIOP2P *p2p, const Node *node)
{
    return node->dead || (node->map.waits && has_peer(p2p, node));
}

static bool has(const VFIOP2P *p2p, VFIODevice *owner,
                bool (*matches)(const VFIOP2P *p2p, const Node *node))
{
    g_autoptr(GArray) found = find(p2p, owner, matches);

    return found->len;
}

bool vfio_p2p_is_used(VFIOP2P *p2p)
{
    return has(p2p, NULL, is_mapped);
}

bool vfio_p2p_is_reached(VFIODevice *owner)
{
    VFIOP2P *p2p;

    QLIST_FOREACH(p2p, &all_p2p, next) {
        if (has(p2p, owner, has_peer)) {
            return true;
        }
    }
    return false;
}

/*
 * Mapping it adds another node.  If an unmap has failed, what is in its way is
 * cleared, which may take other nodes away.
 */
static void map_anew(VFIOP2P *p2p, Node *node)
{
    VFIOContainer *base = &p2p->container->base;
    VFIOP2PMap map = node->map;
    int ret;

    drop(p2p, node);
    base->ops->dma_unmap(base, map.iova, map.size, NULL);
    ret = (map.guest ? base->ops->dma_map_guest : base->ops->dma_map_bar)
          (base, map.iova, map.size, map.vaddr, map.readonly);
    if (ret) {
        base->ops->map_refused(base, map.iova, map.size, map.vaddr, ret);
    }
}

static void map_what_can_be(VFIOP2P *p2p, VFIODevice *owner)
{
    g_autoptr(GArray) found = find(p2p, owner, can_be_mapped);

    for (unsigned i = 0; i < found->len; i++) {
        Node *node = found_node(p2p, found, i);

        if (node) {
            map_anew(p2p, node);
        }
    }
}

void vfio_p2p_join(VFIOP2P *p2p)
{
    map_what_can_be(p2p, NULL);
}

void vfio_p2p_revive(VFIODevice *owner)
{
    VFIOP2P *p2p;

    QLIST_FOREACH(p2p, &all_p2p, next) {
        map_what_can_be(p2p, owner);
    }
}

void vfio_p2p_revoked(VFIODevice *owner)
{
    VFIOP2P *p2p;

    QLIST_FOREACH(p2p, &all_p2p, next) {
        g_autoptr(GArray) found = find(p2p, owner, is_mapped);

        for (unsigned i = 0; i < found->len; i++) {
            found_node(p2p, found, i)->dead = true;
        }
    }
}

void vfio_p2p_leave(VFIODevice *owner)
{
    VFIOP2P *p2p;

    QLIST_FOREACH(p2p, &all_p2p, next) {
        g_autoptr(GArray) found = find(p2p, owner, any);

        for (unsigned i = 0; i < found->len; i++) {
            drop(p2p, found_node(p2p, found, i));
        }
    }
    vfio_dma_buf_close(owner);
}
