/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The iommufd object: QEMU's side of /dev/iommu
 *
 * Creating the object opens nothing, so a configuration can have one on a host
 * without iommufd; the first user opens /dev/iommu.  A descriptor given with
 * fd= is checked when it is given, while there is somebody to report an error
 * to.
 *
 * One function for each ioctl, each with its trace event; the contracts are
 * in include/sysemu/iommufd.h.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/iommufd.h>

#include "hw/boards.h"
#include "hw/mem/memory-device.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qapi/qapi-types-qom.h"
#include "qapi/visitor.h"
#include "qemu/ctype.h"
#include "qom/object_interfaces.h"
#include "sysemu/iommufd.h"
#include "trace.h"

#define IOMMUFD_DEV_PATH "/dev/iommu"

/* More threads only compete for the kernel's locks and memory bandwidth. */
#define MAP_THREADS_DEFAULT_MAX 16

/* What type1 allows a container, whatever the guest's size */
#define GUEST_MAPS_LEAST 65535

const char *iommufd_backend_id(IOMMUFDBackend *be)
{
    return object_get_canonical_path_component(OBJECT(be));
}

/* -errno rather than errno, which the trace event may change */
static int iommufd_ioctl(int fd, unsigned long request, void *arg)
{
    return ioctl(fd, request, arg) ? -errno : 0;
}

/*
 * No object has id 0, so an iommufd answers ENOENT when asked to destroy it.
 * Nothing else understands this ioctl.
 */
static bool iommufd_fd_check(int fd, const char *fd_str, Error **errp)
{
    ERRP_GUARD();
    struct iommu_destroy probe = {
        .size = sizeof(probe),
    };
    int ret = iommufd_ioctl(fd, IOMMU_DESTROY, &probe);

    trace_iommufd_backend_check_fd(fd, ret);
    if (ret == -ENOENT) {
        return true;
    }

    error_setg_errno(errp, -ret, "iommufd: fd=%s is not an iommufd", fd_str);
    iommufd_error_append_remedy(errp, "it must be a descriptor of "
                                IOMMUFD_DEV_PATH ", open for reading and "
                                "writing");
    return false;
}

typedef struct IOMMUFDOwner {
    const IOMMUFDBackend *asks;
    int fd;
    IOMMUFDBackend *owner;
} IOMMUFDOwner;

static int iommufd_find_owner(Object *obj, void *opaque)
{
    IOMMUFDOwner *find = opaque;
    IOMMUFDBackend *be = (IOMMUFDBackend *)
        object_dynamic_cast(obj, TYPE_IOMMUFD_BACKEND);

    if (be && be != find->asks && be->fd == find->fd) {
        find->owner = be;
        return 1;
    }
    return 0;
}

/* If two objects owned one descriptor, both would close it. */
static bool iommufd_fd_is_free(IOMMUFDBackend *be, int fd, const char *fd_str,
                               Error **errp)
{
    IOMMUFDOwner find = {
        .asks = be,
        .fd = fd,
    };

    object_child_foreach(object_get_objects_root(), iommufd_find_owner, &find);
    if (find.owner) {
        error_setg(errp, "iommufd: fd=%s is the iommufd object '%s''s already",
                   fd_str, iommufd_backend_id(find.owner));
    }
    return !find.owner;
}

static int iommufd_open(const char *id, Error **errp)
{
    ERRP_GUARD();
    int fd = qemu_open_old(IOMMUFD_DEV_PATH, O_RDWR);
    int err = errno;

    if (fd >= 0) {
        return fd;
    }

    error_setg_errno(errp, err, "iommufd object '%s': cannot open %s", id,
                     IOMMUFD_DEV_PATH);
    switch (err) {
    case ENOENT:
    case ENXIO:
    case ENODEV:
        iommufd_error_append_remedy(errp, "the host needs Linux 6.6 or newer "
                                    "with CONFIG_IOMMUFD, loaded with modprobe "
                                    "iommufd if it is a module");
        error_append_hint(errp, "Without iommufd= the device uses its VFIO "
                          "group instead.\n");
        break;
    case EACCES:
    case EPERM:
        iommufd_error_append_remedy(errp, "give the user that QEMU runs as "
                                    "access to it, for reading and writing, or "
                                    "pass a descriptor with fd=");
        break;
    }
    return -1;
}

static int iommufd_option(int fd, uint16_t op, uint32_t option,
                          uint32_t object, uint64_t *value)
{
    struct iommu_option arg = {
        .size = sizeof(arg),
        .option_id = option,
        .op = op,
        .object_id = object,
        .val64 = *value,
    };
    int ret = iommufd_ioctl(fd, IOMMU_OPTION, &arg);

    trace_iommufd_backend_option(fd, op == IOMMU_OPTION_OP_SET ? "set" : "get",
                                 option, object, arg.val64, ret);
    *value = arg.val64;
    return ret;
}

/*
 * Get it first, which needs no privilege: whoever opened the descriptor for us
 * may have set it already, and we may not be allowed to.
 */
static bool iommufd_set_accounting(IOMMUFDBackend *be, Error **errp)
{
    ERRP_GUARD();
    const char *name =
        IommufdMemlockAccounting_str(be->memlock_accounting);
    uint64_t wanted =
        be->memlock_accounting == IOMMUFD_MEMLOCK_ACCOUNTING_PROCESS;
    uint64_t value = 0;
    int ret;

    ret = iommufd_option(be->fd, IOMMU_OPTION_OP_GET, IOMMU_OPTION_RLIMIT_MODE,
                         0, &value);
    if (!ret && value == wanted) {
        return true;
    }

    ret = iommufd_option(be->fd, IOMMU_OPTION_OP_SET, IOMMU_OPTION_RLIMIT_MODE,
                         0, &wanted);
    if (!ret) {
        return true;
    }

    error_setg_errno(errp, -ret, "iommufd object '%s': cannot set "
                     "memlock-accounting=%s", iommufd_backend_id(be), name);
    switch (-ret) {
    case EPERM:
        iommufd_error_append_remedy(errp, "this needs CAP_SYS_RESOURCE, or a "
                                    "privileged program that sets it and "
                                    "passes the descriptor with fd=");
        error_append_hint(errp, "The program opens %s and sets "
                          "IOMMU_OPTION_RLIMIT_MODE, as libvirt does.\n",
                          IOMMUFD_DEV_PATH);
        break;
    case EBUSY:
        iommufd_error_append_remedy(errp, "the descriptor given with fd= is in "
                                    "use already, set this before");
        break;
    }
    return false;
}

int iommufd_backend_accounting(IOMMUFDBackend *be)
{
    uint64_t process = 0;

    if (be->fd < 0 || iommufd_option(be->fd, IOMMU_OPTION_OP_GET,
                                     IOMMU_OPTION_RLIMIT_MODE, 0, &process)) {
        return be->memlock_accounting;
    }
    return process ? IOMMUFD_MEMLOCK_ACCOUNTING_PROCESS
                   : IOMMUFD_MEMLOCK_ACCOUNTING_USER;
}

static unsigned iommufd_map_threads(IOMMUFDBackend *be)
{
    return be->map_threads ?:
           MIN(iommufd_processors(), MAP_THREADS_DEFAULT_MAX);
}

/*
 * A guest that maps all of its memory page by page has as many as it has pages.
 * The rest is for pages that it maps more than once, as the halves of a page
 * that hold two network packets.
 */
static uint64_t iommufd_guest_pages(void)
{
    uint64_t plugged = get_plugged_memory_size();

    if (plugged == UINT64_MAX) {    /* machines that can have none */
        plugged = 0;
    }
    return (current_machine->ram_size + plugged) / (4 * KiB);
}

uint64_t iommufd_backend_max_guest_maps(IOMMUFDBackend *be)
{
    return be->max_guest_maps ?: GUEST_MAPS_LEAST + iommufd_guest_pages();
}

static void iommufd_backend_stop(IOMMUFDBackend *be)
{
    if (!be->fd_given) {
        close(be->fd);
        be->fd = -1;
    }
}

static bool iommufd_backend_start(IOMMUFDBackend *be, Error **errp)
{
    if (be->fd < 0) {
        be->fd = iommufd_open(iommufd_backend_id(be), errp);
        if (be->fd < 0) {
            return false;
        }
    }

    be->threads = iommufd_map_threads(be);
    if (be->memlock_accounting >= 0 && !iommufd_set_accounting(be, errp)) {
        iommufd_backend_stop(be);
        return false;
    }
    return true;
}

bool iommufd_backend_connect(IOMMUFDBackend *be, Error **errp)
{
    if (!be->users && !iommufd_backend_start(be, errp)) {
        return false;
    }

    object_ref(OBJECT(be));
    be->users++;
    trace_iommufd_backend_connect(be->fd, be->fd_given, be->users);
    return true;
}

void iommufd_backend_disconnect(IOMMUFDBackend *be)
{
    assert(be->users);
    be->users--;
    trace_iommufd_backend_disconnect(be->fd, be->users);

    if (!be->users) {
        iommufd_backend_stop(be);
    }
    object_unref(OBJECT(be));
}

static bool iommufd_set_huge_pages(IOMMUFDBackend *be, uint32_t ioas_id,
                                   Error **errp)
{
    uint64_t on = be->huge_pages == ON_OFF_AUTO_ON;
    int ret = iommufd_option(be->fd, IOMMU_OPTION_OP_SET,
                             IOMMU_OPTION_HUGE_PAGES, ioas_id, &on);

    if (ret) {
        error_setg_errno(errp, -ret, "iommufd object '%s': cannot set "
                         "huge-pages=%s for I/O address space %u",
                         iommufd_backend_id(be), on ? "on" : "off", ioas_id);
    }
    return !ret;
}

bool iommufd_backend_alloc_ioas(IOMMUFDBackend *be, uint32_t *ioas_id,
                                Error **errp)
{
    struct iommu_ioas_alloc alloc = {
        .size = sizeof(alloc),
    };
    int ret = iommufd_ioctl(be->fd, IOMMU_IOAS_ALLOC, &alloc);

    trace_iommufd_backend_alloc_ioas(be->fd, alloc.out_ioas_id, ret);
    if (ret) {
        error_setg_errno(errp, -ret, "iommufd object '%s': cannot allocate an "
                         "I/O address space", iommufd_backend_id(be));
        return false;
    }

    if (be->huge_pages != ON_OFF_AUTO_AUTO &&
        !iommufd_set_huge_pages(be, alloc.out_ioas_id, errp)) {
        iommufd_backend_destroy_id(be, alloc.out_ioas_id, NULL);
        return false;
    }

    *ioas_id = alloc.out_ioas_id;
    return true;
}

bool iommufd_backend_destroy_id(IOMMUFDBackend *be, uint32_t id, Error **errp)
{
    struct iommu_destroy destroy = {
        .size = sizeof(destroy),
        .id = id,
    };
    int ret = iommufd_ioctl(be->fd, IOMMU_DESTROY, &destroy);

    trace_iommufd_backend_destroy_id(be->fd, id, ret);
    if (ret) {
        error_setg_errno(errp, -ret, "iommufd object '%s': cannot destroy the "
                         "kernel's object %u", iommufd_backend_id(be), id);
    }
    return !ret;
}

int iommufd_backend_get_hw_info(IOMMUFDBackend *be, uint32_t devid,
                                IOMMUFDHwInfo *info)
{
    struct iommu_hw_info query = {
        .size = sizeof(query),
        .dev_id = devid,
        .data_len = info ? sizeof(info->data) : 0,
        .data_uptr = info ? (uintptr_t)info->data : 0,
    };
    int ret = iommufd_ioctl(be->fd, IOMMU_GET_HW_INFO, &query);

    trace_iommufd_backend_get_hw_info(be->fd, devid, query.out_data_type, ret);
    if (!ret && info) {
        info->type = query.out_data_type;
        info->capabilities = query.out_capabilities;
    }
    return ret;
}

bool iommufd_backend_iova_ranges(IOMMUFDBackend *be, uint32_t ioas_id,
                                 Range **ranges, uint32_t *num_ranges,
                                 uint64_t *alignment, Error **errp)
{
    g_autofree struct iommu_iova_range *allowed = NULL;
    struct iommu_ioas_iova_ranges query = {
        .size = sizeof(query),
        .ioas_id = ioas_id,
    };
    uint32_t i;
    int ret;

    /* EMSGSIZE says how many there are; they change only with the devices. */
    ret = iommufd_ioctl(be->fd, IOMMU_IOAS_IOVA_RANGES, &query);
    if (ret == -EMSGSIZE) {
        allowed = g_new0(struct iommu_iova_range, query.num_iovas);
        query.allowed_iovas = (uintptr_t)allowed;
        ret = iommufd_ioctl(be->fd, IOMMU_IOAS_IOVA_RANGES, &query);
    }

    trace_iommufd_backend_iova_ranges(be->fd, ioas_id, query.num_iovas,
                                      query.out_iova_alignment, ret);
    if (ret) {
        error_setg_errno(errp, -ret, "iommufd object '%s': cannot get the "
                         "ranges of I/O address space %u",
                         iommufd_backend_id(be), ioas_id);
        return false;
    }

    *ranges = g_new(Range, query.num_iovas);
    for (i = 0; i < query.num_iovas; i++) {
        range_set_bounds(*ranges + i, allowed[i].start, allowed[i].last);
    }
    *num_ranges = query.num_iovas;
    *alignment = query.out_iova_alignment;
    return true;
}

/*
 * Properties.  What is read is what counts, whether the user has set it or not.
 * The descriptor's number would say nothing to whoever reads it.
 */

static bool iommufd_backend_may_change(IOMMUFDBackend *be, const char *what,
                                       Error **errp)
{
    if (be->users) {
        error_setg(errp, "iommufd object '%s' is in use, its %s stays",
                   iommufd_backend_id(be), what);
    }
    return !be->users;
}

/*
 * A name was given by the monitor's getfd; taking the descriptor makes it ours,
 * whatever follows.  A number is a descriptor that QEMU inherited; it becomes
 * ours when it is accepted.
 */
static void iommufd_backend_set_fd(Object *obj, const char *str, Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);
    Error *err = NULL;
    int fd;

    if (!iommufd_backend_may_change(be, "fd", errp)) {
        return;
    }

    fd = monitor_fd_param(monitor_cur(), str, &err);
    if (err) {
        error_propagate_prepend(errp, err, "iommufd: ");
        return;
    }

    if (!iommufd_fd_is_free(be, fd, str, errp) ||
        !iommufd_fd_check(fd, str, errp)) {
        if (!qemu_isdigit(str[0])) {
            close(fd);
        }
        return;
    }

    if (be->fd_given && be->fd != fd) {
        close(be->fd);
    }
    qemu_set_cloexec(fd);
    be->fd = fd;
    be->fd_given = true;
    trace_iommufd_backend_set_fd(fd);
}

static int iommufd_backend_get_accounting(Object *obj, Error **errp)
{
    ERRP_GUARD();
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);
    int accounting = iommufd_backend_accounting(be);

    if (accounting < 0) {
        error_setg(errp, "iommufd object '%s': memlock-accounting is not set, "
                   "and the kernel's own is not known yet",
                   iommufd_backend_id(be));
        iommufd_error_append_remedy(errp, "read it while a device uses the "
                                    "object");
    }
    return accounting;
}

static void iommufd_backend_set_accounting(Object *obj, int value,
                                           Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);

    if (iommufd_backend_may_change(be, "memlock-accounting", errp)) {
        be->memlock_accounting = value;
    }
}

/* If it is not set, they are on in the kernel. */
static bool iommufd_backend_get_huge_pages(Object *obj, Error **errp)
{
    return IOMMUFD_BACKEND(obj)->huge_pages != ON_OFF_AUTO_OFF;
}

static void iommufd_backend_set_huge_pages(Object *obj, bool on, Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);

    if (iommufd_backend_may_change(be, "huge-pages", errp)) {
        be->huge_pages = on ? ON_OFF_AUTO_ON : ON_OFF_AUTO_OFF;
    }
}

static void iommufd_backend_get_map_threads(Object *obj, Visitor *v,
                                            const char *name, void *opaque,
                                            Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);
    uint32_t value = be->users ? be->threads : iommufd_map_threads(be);

    visit_type_uint32(v, name, &value, errp);
}

static void iommufd_backend_set_map_threads(Object *obj, Visitor *v,
                                            const char *name, void *opaque,
                                            Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);
    uint32_t value;

    if (!iommufd_backend_may_change(be, name, errp) ||
        !visit_type_uint32(v, name, &value, errp)) {
        return;
    }

    if (value < 1 || value > IOMMUFD_MAP_THREADS_MAX) {
        error_setg(errp, "iommufd: map-threads=%u is not between 1 and %d",
                   value, IOMMUFD_MAP_THREADS_MAX);
        return;
    }
    be->map_threads = value;
}

/* The default of a guest with 16 TiB does not fit into 32 bits. */
static void iommufd_backend_get_max_guest_maps(Object *obj, Visitor *v,
                                               const char *name, void *opaque,
                                               Error **errp)
{
    uint64_t value = iommufd_backend_max_guest_maps(IOMMUFD_BACKEND(obj));

    visit_type_uint64(v, name, &value, errp);
}

/* Looked at for each map, so it may change at any time. */
static void iommufd_backend_set_max_guest_maps(Object *obj, Visitor *v,
                                               const char *name, void *opaque,
                                               Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);
    uint32_t value;

    if (!visit_type_uint32(v, name, &value, errp)) {
        return;
    }

    if (!value) {
        error_setg(errp, "iommufd: max-guest-maps=0 is not at least 1");
        return;
    }
    be->max_guest_maps = value;
}

static bool iommufd_backend_get_map_in_background(Object *obj, Error **errp)
{
    return IOMMUFD_BACKEND(obj)->map_in_background;
}

/* Looked at when a device is attached. */
static void iommufd_backend_set_map_in_background(Object *obj, bool on,
                                                  Error **errp)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);

    if (iommufd_backend_may_change(be, "map-in-background", errp)) {
        be->map_in_background = on;
    }
}

static bool iommufd_backend_can_be_deleted(UserCreatable *uc)
{
    return !IOMMUFD_BACKEND(uc)->users;
}

static void iommufd_backend_init(Object *obj)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);

    be->fd = -1;
    be->memlock_accounting = -1;
    be->huge_pages = ON_OFF_AUTO_AUTO;
}

static void iommufd_backend_finalize(Object *obj)
{
    IOMMUFDBackend *be = IOMMUFD_BACKEND(obj);

    if (be->fd_given) {
        close(be->fd);
    }
}

static void iommufd_backend_class_init(ObjectClass *oc, void *data)
{
    UserCreatableClass *ucc = USER_CREATABLE_CLASS(oc);

    ucc->can_be_deleted = iommufd_backend_can_be_deleted;

    object_class_property_add_str(oc, "fd", NULL, iommufd_backend_set_fd);
    object_class_property_set_description(oc, "fd",
        "descriptor of /dev/iommu: a number, or a name given by getfd "
        "(default: open /dev/iommu when it is needed)");

    object_class_property_add_enum(oc, "memlock-accounting",
                                   "IommufdMemlockAccounting",
                                   &IommufdMemlockAccounting_lookup,
                                   iommufd_backend_get_accounting,
                                   iommufd_backend_set_accounting);
    object_class_property_set_description(oc, "memlock-accounting",
        "whose locked memory counts against RLIMIT_MEMLOCK: all of the "
        "user's, or this process's (default: as it is; user in Linux)");

    object_class_property_add_bool(oc, "huge-pages",
                                   iommufd_backend_get_huge_pages,
                                   iommufd_backend_set_huge_pages);
    object_class_property_set_description(oc, "huge-pages",
        "whether the host's IOMMU may map contiguous pages by one large one "
        "(default: as it is; on in Linux)");

    object_class_property_add(oc, "map-threads", "uint32",
                              iommufd_backend_get_map_threads,
                              iommufd_backend_set_map_threads, NULL, NULL);
    object_class_property_set_description(oc, "map-threads",
        "how many threads map and unmap large ranges (default: as many as "
        "there are processors for QEMU, at most 16)");

    object_class_property_add_bool(oc, "map-in-background",
                                   iommufd_backend_get_map_in_background,
                                   iommufd_backend_set_map_in_background);
    object_class_property_set_description(oc, "map-in-background",
        "whether memory is mapped while the guest starts, which then waits "
        "when it lets a device use DMA (default: off)");

    object_class_property_add(oc, "max-guest-maps", "uint32",
                              iommufd_backend_get_max_guest_maps,
                              iommufd_backend_set_max_guest_maps, NULL, NULL);
    object_class_property_set_description(oc, "max-guest-maps",
        "how many maps a guest's IOMMU may have at a time in one address "
        "space (default: 65535, and one for each 4 KiB of the guest's memory)");
}

static const TypeInfo iommufd_backend_info = {
    .name = TYPE_IOMMUFD_BACKEND,
    .parent = TYPE_OBJECT,
    .instance_size = sizeof(IOMMUFDBackend),
    .instance_init = iommufd_backend_init,
    .instance_finalize = iommufd_backend_finalize,
    .class_init = iommufd_backend_class_init,
    .interfaces = (InterfaceInfo[]) {
        { TYPE_USER_CREATABLE },
        { }
    },
};

static void register_types(void)
{
    type_register_static(&iommufd_backend_info);
}

type_init(register_types)
