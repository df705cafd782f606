/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device's character device: find, open, bind, attach
 *
 * The device's sysfs folder holds vfio-dev/vfioN, and in it "dev" with the
 * number of /dev/vfio/devices/vfioN.  The numbers are compared after opening,
 * so that a stale /dev cannot give the guest somebody else's device.
 */
#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include "cdev.h"
#include "hw/vfio/vfio-abi.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "trace.h"

#define VFIO_CDEV_DIR "/dev/vfio/devices"

/* For so long it is tried to attach a device that is busy. */
#define VFIO_CDEV_BUSY_SECONDS 2

static int vfio_cdev_ioctl(VFIODevice *vbasedev, unsigned long request,
                           void *arg)
{
    return ioctl(vbasedev->fd, request, arg) ? -errno : 0;
}

/* Missing, as opposed to unreadable, for which glib explains the reason. */
static bool vfio_cdev_is_absent(const GError *err)
{
    return !err || g_error_matches(err, G_FILE_ERROR, G_FILE_ERROR_NOENT);
}

/* "vfioN", to be freed */
static char *vfio_cdev_find_name(const char *sysfsdev, Error **errp)
{
    g_autofree char *folder = g_strdup_printf("%s/vfio-dev", sysfsdev);
    g_autoptr(GError) err = NULL;
    g_autoptr(GDir) dir = g_dir_open(folder, 0, &err);
    const char *entry;

    while (dir && (entry = g_dir_read_name(dir))) {
        if (g_str_has_prefix(entry, "vfio")) {
            return g_strdup(entry);
        }
        if (g_str_has_prefix(entry, "noiommu-vfio")) {
            vfio_cdev_explain_no_iommu(errp);
            return NULL;
        }
    }

    if (vfio_cdev_is_absent(err)) {
        vfio_cdev_explain_no_folder(sysfsdev, errp);
    } else {
        error_setg(errp, "%s", err->message);
    }
    return NULL;
}

static bool vfio_cdev_find_number(const char *sysfsdev, const char *name,
                                  dev_t *number, Error **errp)
{
    g_autofree char *path = g_strdup_printf("%s/vfio-dev/%s/dev", sysfsdev,
                                            name);
    g_autofree char *text = NULL;
    g_autoptr(GError) err = NULL;
    unsigned major, minor;

    g_file_get_contents(path, &text, NULL, &err);
    if (!vfio_cdev_is_absent(err)) {
        error_setg(errp, "%s", err->message);
        return false;
    }

    if (!text || sscanf(text, "%u:%u", &major, &minor) != 2) {
        vfio_cdev_explain_no_cdev(sysfsdev, errp);
        return false;
    }

    *number = makedev(major, minor);
    return true;
}

static bool vfio_cdev_has_number(int fd, dev_t number, const char *path,
                                 Error **errp)
{
    ERRP_GUARD();
    struct stat st;

    if (fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "cannot stat %s", path);
        return false;
    }

    if (!S_ISCHR(st.st_mode) || st.st_rdev != number) {
        error_setg(errp, "%s is not the character device %u:%u that sysfs "
                   "names", path, major(number), minor(number));
        iommufd_error_append_remedy(errp, "the nodes in " VFIO_CDEV_DIR
                                    " are out of date, udev or devtmpfs keeps "
                                    "them");
        return false;
    }

    return true;
}

bool vfio_cdev_open(VFIODevice *vbasedev, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *name = NULL;
    g_autofree char *path = NULL;
    dev_t number;
    int fd, err;

    if (vbasedev->fd_given) {
        trace_vfio_cdev_open(vbasedev->name, "given", vbasedev->fd);
        return true;
    }

    if (!vbasedev->sysfsdev) {
        error_setg(errp, "no host device: sysfsdev= is missing");
        return false;
    }

    name = vfio_cdev_find_name(vbasedev->sysfsdev, errp);
    if (!name ||
        !vfio_cdev_find_number(vbasedev->sysfsdev, name, &number, errp)) {
        return false;
    }

    path = g_strdup_printf(VFIO_CDEV_DIR "/%s", name);
    fd = qemu_open_old(path, O_RDWR);
    err = errno;
    trace_vfio_cdev_open(vbasedev->name, path, fd);
    if (fd < 0) {
        error_setg_errno(errp, err, "cannot open %s", path);
        vfio_cdev_explain_open(err, errp);
        return false;
    }

    if (!vfio_cdev_has_number(fd, number, path, errp)) {
        close(fd);
        return false;
    }

    vbasedev->fd = fd;
    return true;
}

void vfio_cdev_close(VFIODevice *vbasedev)
{
    trace_vfio_cdev_close(vbasedev->name, vbasedev->fd);
    if (!vbasedev->fd_lent) {
        close(vbasedev->fd);
    }
    vbasedev->fd = -1;
    vbasedev->fd_given = false;
    vbasedev->fd_lent = false;
}

static int vfio_cdev_try_bind(VFIODevice *vbasedev, IOMMUFDBackend *be,
                              uint32_t flags, QemuUUID *token)
{
    struct vfio_device_bind_iommufd bind = {
        .argsz = sizeof(bind),
        .flags = flags,
        .iommufd = be->fd,
        .token_uuid_ptr = (uintptr_t)token,
    };
    int ret = vfio_cdev_ioctl(vbasedev, VFIO_DEVICE_BIND_IOMMUFD, &bind);

    trace_vfio_cdev_bind(vbasedev->name, vbasedev->fd, be->fd, flags,
                         bind.out_devid, ret);
    if (!ret) {
        vbasedev->devid = bind.out_devid;
        vbasedev->fd_lent = false;
    }
    return ret;
}

/*
 * EINVAL has two meanings: the kernel does not know the flag, or it does and
 * the device takes no token.  Only a kernel that knows it looks for a token
 * where there is no memory (Linux 6.17, vfio_df_check_token()).
 */
static bool vfio_cdev_knows_tokens(VFIODevice *vbasedev, IOMMUFDBackend *be)
{
    return vfio_cdev_try_bind(vbasedev, be, VFIO_DEVICE_BIND_FLAG_TOKEN,
                              NULL) == -EFAULT;
}

/*
 * A kernel that does not know tokens here asks for none either.  Then the
 * device is bound as if vf-token= were not given, and the user is told.
 */
static int vfio_cdev_try_bind_token(VFIODevice *vbasedev, IOMMUFDBackend *be)
{
    int ret = vfio_cdev_try_bind(vbasedev, be, VFIO_DEVICE_BIND_FLAG_TOKEN,
                                 &vbasedev->vf_token);

    if (ret != -EINVAL || vfio_cdev_knows_tokens(vbasedev, be)) {
        return ret;
    }

    ret = vfio_cdev_try_bind(vbasedev, be, 0, NULL);
    if (!ret) {
        warn_report("vfio %s: the host's kernel takes no VF token with "
                    "iommufd=, newer ones do; vf-token= is without effect",
                    vbasedev->name);
    }
    return ret;
}

int vfio_cdev_bind_ahead(VFIODevice *vbasedev, IOMMUFDBackend *be)
{
    return vfio_cdev_try_bind(vbasedev, be, 0, NULL);
}

bool vfio_cdev_bind(VFIODevice *vbasedev, IOMMUFDBackend *be, Error **errp)
{
    ERRP_GUARD();
    int ret = qemu_uuid_is_null(&vbasedev->vf_token)
              ? vfio_cdev_try_bind(vbasedev, be, 0, NULL)
              : vfio_cdev_try_bind_token(vbasedev, be);

    if (ret) {
        error_setg(errp, "%s", strerror(-ret));
        vfio_cdev_explain_bind(vbasedev, -ret, errp);
        error_prepend(errp, "cannot bind the device to iommufd object '%s': ",
                      iommufd_backend_id(be));
    }
    return !ret;
}

bool vfio_cdev_check_iommu(VFIODevice *vbasedev, IOMMUFDBackend *be,
                           Error **errp)
{
    int ret = iommufd_backend_get_hw_info(be, vbasedev->devid, NULL);

    switch (-ret) {
    case 0:
    case ENOENT:
        return true;
    case EOPNOTSUPP:
        vfio_cdev_explain_no_iommu(errp);
        return false;
    default:
        error_setg_errno(errp, -ret, "cannot find out whether an IOMMU stands "
                         "between the device and the host's memory");
        return false;
    }
}

static int vfio_cdev_try_attach(VFIODevice *vbasedev, uint32_t *pt_id)
{
    struct vfio_device_attach_iommufd_pt attach = {
        .argsz = sizeof(attach),
        .pt_id = *pt_id,
    };
    int ret = vfio_cdev_ioctl(vbasedev, VFIO_DEVICE_ATTACH_IOMMUFD_PT,
                              &attach);

    trace_vfio_cdev_attach(vbasedev->name, vbasedev->fd, *pt_id, attach.pt_id,
                           ret);
    if (!ret) {
        *pt_id = attach.pt_id;
    }
    return ret;
}

/*
 * @pt_id becomes the page table that the kernel made or found, if any.  While a
 * device of the group is reset, which takes less than a second as a rule, newer
 * kernels answer EBUSY (Linux 7.2, __iommu_group_set_domain_internal()).  A
 * device whose group has another user is refused by the bind.
 */
static int vfio_cdev_attach(VFIODevice *vbasedev, uint32_t *pt_id)
{
    int64_t end = g_get_monotonic_time() +
                  VFIO_CDEV_BUSY_SECONDS * G_USEC_PER_SEC;
    int ret;

    while ((ret = vfio_cdev_try_attach(vbasedev, pt_id)) == -EBUSY &&
           g_get_monotonic_time() < end) {
        g_usleep(10 * 1000);
    }
    return ret;
}

bool vfio_cdev_attach_ioas(VFIODevice *vbasedev, uint32_t ioas_id,
                           VFIOContainer *base, Error **errp)
{
    ERRP_GUARD();
    uint32_t pt_id = ioas_id;
    int ret = vfio_cdev_attach(vbasedev, &pt_id);

    if (ret) {
        error_setg(errp, "%s", strerror(-ret));
        vfio_cdev_explain_attach(vbasedev, base, -ret, errp);
        error_prepend(errp, "cannot attach the device to I/O address space "
                      "%u: ", ioas_id);
        return false;
    }

    vbasedev->pt_id = pt_id;
    vbasedev->pins = pt_id != ioas_id;
    return true;
}

int vfio_cdev_attach_hwpt(VFIODevice *vbasedev, uint32_t hwpt_id)
{
    uint32_t pt_id = hwpt_id;
    int ret = vfio_cdev_attach(vbasedev, &pt_id);

    if (!ret) {
        vbasedev->pt_id = hwpt_id;
        vbasedev->pins = true;
    }
    return ret;
}

bool vfio_cdev_detach_ioas(VFIODevice *vbasedev, Error **errp)
{
    struct vfio_device_detach_iommufd_pt detach = {
        .argsz = sizeof(detach),
    };
    int ret = vfio_cdev_ioctl(vbasedev, VFIO_DEVICE_DETACH_IOMMUFD_PT,
                              &detach);

    trace_vfio_cdev_detach(vbasedev->name, vbasedev->fd, ret);
    if (ret) {
        error_setg_errno(errp, -ret, "cannot detach the device from its I/O "
                         "address space");
    }
    return !ret;
}

bool vfio_cdev_get_info(VFIODevice *vbasedev, Error **errp)
{
    struct vfio_device_info info = {
        .argsz = sizeof(info),
    };
    int ret = vfio_cdev_ioctl(vbasedev, VFIO_DEVICE_GET_INFO, &info);

    trace_vfio_cdev_get_info(vbasedev->name, info.flags, info.num_regions,
                             info.num_irqs, ret);
    if (ret) {
        error_setg_errno(errp, -ret, "error getting device info");
        return false;
    }

    vbasedev->flags = info.flags;
    vbasedev->num_regions = info.num_regions;
    vbasedev->num_irqs = info.num_irqs;
    vbasedev->reset_works = !!(info.flags & VFIO_DEVICE_FLAGS_RESET);
    vbasedev->fresh = vbasedev->reset_works;
    return true;
}

bool vfio_cdev_is_fresh(VFIODevice *vbasedev)
{
    bool is_fresh = vbasedev->fresh && vbasedev->pins;

    trace_vfio_cdev_is_fresh(vbasedev->name, is_fresh);
    return is_fresh;
}
