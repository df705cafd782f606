/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VFIO device that is given by a descriptor: fd=
 *
 * A management program opens the character device, and QEMU need not even see
 * its node.  The descriptor's device number says which device it is: the link
 * of that number in /sys/dev/char leads to vfio-dev/vfioN in the device's own
 * folder.  If /sys is not visible, nothing is known but the descriptor, and the
 * device's name where /proc tells it.
 *
 * hw/vfio/vfio-device.h says who closes the descriptor.
 */
#include "qemu/osdep.h"
#include <sys/sysmacros.h>

#include "hw/vfio/vfio-common.h"
#include "monitor/monitor.h"
#include "qapi/error.h"
#include "qemu/ctype.h"
#include "sysemu/iommufd.h"

/*
 * The monitor owns a descriptor with a getfd name until it is taken, but not
 * one that is given by number.
 */
static bool fd_is_name(const char *param)
{
    return !qemu_isdigit(param[0]);
}

static bool fd_check_options(VFIODevice *vbasedev, const char *other,
                             Error **errp)
{
    ERRP_GUARD();

    if (vbasedev->sysfsdev) {
        other = "sysfsdev=";
    }
    if (other) {
        error_setg(errp, "%s names a device, and so does fd=", other);
        iommufd_error_append_remedy(errp, "give one of the two");
        return false;
    }

    if (!vbasedev->iommufd) {
        error_setg(errp, "fd= needs iommufd=");
        iommufd_error_append_remedy(errp, "create an object (-object iommufd,"
                                    "id=iommufd0) and give iommufd=iommufd0, "
                                    "or name the device by host= or sysfsdev=");
        return false;
    }
    return true;
}

/* What @fd is a descriptor of: "/dev/kvm", "socket:[123]"; to be freed */
static char *fd_target(int fd)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);

    return g_file_read_link(link, NULL) ?: g_strdup("something else");
}

static bool fd_is_of_group(const char *path)
{
    return g_str_has_prefix(path, "/sys/devices/virtual/vfio/");
}

static void fd_explain_other(int fd, const char *path, Error **errp)
{
    ERRP_GUARD();
    g_autofree char *target = fd_target(fd);

    if (path && fd_is_of_group(path)) {
        error_setg(errp, "it is of the VFIO group %s and not of a device",
                   target);
    } else {
        error_setg(errp, "it is of %s and not of a VFIO device", target);
    }
    iommufd_error_append_remedy(errp, "it must be a descriptor of "
                                "/dev/vfio/devices/vfioN, open for reading and "
                                "writing");
    error_append_hint(errp, "vfioN is in the folder vfio-dev of the device's "
                      "folder in sysfs.\n");
}

/*
 * Set *@sysfsdev to the device's folder, to be freed, or to NULL if sysfs does
 * not show it; then only the kernel can tell whether it is a VFIO device.
 */
static bool fd_identify(int fd, char **sysfsdev, Error **errp)
{
    g_autofree char *link = NULL;
    g_autofree char *cdev = NULL;
    g_autofree char *folder = NULL;
    struct stat st;
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fstat(fd, &st) < 0) {
        error_setg_errno(errp, errno, "it is not open");
        return false;
    }

    if (!S_ISCHR(st.st_mode)) {
        fd_explain_other(fd, NULL, errp);
        return false;
    }

    if ((flags & O_ACCMODE) != O_RDWR) {
        error_setg(errp, "it is not open for reading and writing");
        return false;
    }

    link = g_strdup_printf("/sys/dev/char/%u:%u", major(st.st_rdev),
                           minor(st.st_rdev));
    cdev = realpath(link, NULL);
    if (!cdev) {
        *sysfsdev = NULL;
        return true;
    }

    folder = g_path_get_dirname(cdev);
    if (!g_str_has_suffix(folder, "/vfio-dev")) {
        fd_explain_other(fd, cdev, errp);
        return false;
    }

    *sysfsdev = g_path_get_dirname(folder);
    return true;
}

static bool fd_take(VFIODevice *vbasedev, Error **errp)
{
    const char *param = vbasedev->fd_param;
    char *sysfsdev;
    int fd = monitor_fd_param(monitor_cur(), param, errp);

    if (fd < 0) {
        return false;
    }

    if (!fd_identify(fd, &sysfsdev, errp)) {
        if (fd_is_name(param)) {
            close(fd);
        }
        return false;
    }

    qemu_set_cloexec(fd);
    vbasedev->fd = fd;
    vbasedev->fd_given = true;
    vbasedev->fd_lent = !fd_is_name(param);
    vbasedev->sysfsdev = sysfsdev;
    return true;
}

bool vfio_device_take_fd(VFIODevice *vbasedev, const char *other, Error **errp)
{
    ERRP_GUARD();

    if (!vbasedev->fd_param) {
        return true;
    }

    if (!fd_check_options(vbasedev, other, errp) || !fd_take(vbasedev, errp)) {
        error_prepend(errp, "vfio fd=%s: ", vbasedev->fd_param);
        return false;
    }
    return true;
}

/*
 * The folder's name as /proc tells it, since Linux 6.18; NULL if it does not.
 * To be freed.
 */
static char *fd_proc_name(int fd)
{
    static const char key[] = "vfio-device-syspath:";
    g_autofree char *path = g_strdup_printf("/proc/self/fdinfo/%d", fd);
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;

    if (!g_file_get_contents(path, &text, NULL, NULL)) {
        return NULL;
    }

    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, key)) {
            return g_path_get_basename(*line + strlen(key));
        }
    }
    return NULL;
}

char *vfio_device_kernel_name(VFIODevice *vbasedev)
{
    char *name;

    if (vbasedev->sysfsdev) {
        return g_path_get_basename(vbasedev->sysfsdev);
    }

    name = fd_proc_name(vbasedev->fd);
    return name ?: g_strdup_printf("fd=%s", vbasedev->fd_param);
}
