/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * DEFINE_PROP_IOMMUFD: a device's property that names an iommufd object
 *
 * Introspection shows the type of the link that newer QEMU releases have.  This
 * is not a link, because a link says "Device 'x' not found" when the name is
 * wrong.  A path through it (qom-list) does not resolve.
 */
#include "qemu/osdep.h"

#include "qapi/error.h"
#include "qapi/visitor.h"
#include "sysemu/iommufd.h"

static IOMMUFDBackend *iommufd_resolve(const char *path, Error **errp)
{
    ERRP_GUARD();
    bool ambiguous = false;
    Object *found;

    found = object_resolve_path_type(path, TYPE_IOMMUFD_BACKEND, &ambiguous);
    if (found) {
        return IOMMUFD_BACKEND(found);
    }

    if (ambiguous) {
        error_setg(errp, "iommufd=%s names more than one object", path);
        return NULL;
    }

    found = object_resolve_path(path, NULL);
    if (found) {
        error_setg(errp, "iommufd=%s names an object of type '%s', not '%s'",
                   path, object_get_typename(found), TYPE_IOMMUFD_BACKEND);
    } else {
        error_setg(errp, "iommufd=%s: there is no object '%s'", path, path);
        iommufd_error_append_remedy(errp, "create it before the device, with "
                                    "-object " TYPE_IOMMUFD_BACKEND ",id=%s",
                                    path);
    }
    return NULL;
}

static void iommufd_prop_get(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    IOMMUFDBackend **be = object_field_prop_ptr(obj, opaque);
    g_autofree char *path = *be ? object_get_canonical_path(OBJECT(*be))
                                : g_strdup("");

    visit_type_str(v, name, &path, errp);
}

static void iommufd_prop_put(IOMMUFDBackend **be)
{
    if (*be) {
        object_unref(OBJECT(*be));
        *be = NULL;
    }
}

static void iommufd_prop_set(Object *obj, Visitor *v, const char *name,
                             void *opaque, Error **errp)
{
    IOMMUFDBackend **be = object_field_prop_ptr(obj, opaque);
    IOMMUFDBackend *named = NULL;
    g_autofree char *path = NULL;

    if (!visit_type_str(v, name, &path, errp)) {
        return;
    }

    if (*path) {
        named = iommufd_resolve(path, errp);
        if (!named) {
            return;
        }
        object_ref(OBJECT(named));
    }

    iommufd_prop_put(be);
    *be = named;
}

/*
 * Runs before the device's own instance_finalize.  A device that still uses the
 * object then has its own reference, from iommufd_backend_connect().
 */
static void iommufd_prop_release(Object *obj, const char *name, void *opaque)
{
    iommufd_prop_put(object_field_prop_ptr(obj, opaque));
}

const PropertyInfo qdev_prop_iommufd = {
    .name = "link<" TYPE_IOMMUFD_BACKEND ">",
    .description = "ID of an iommufd object",
    .get = iommufd_prop_get,
    .set = iommufd_prop_set,
    .release = iommufd_prop_release,
};
