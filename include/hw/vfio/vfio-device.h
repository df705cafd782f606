/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * VFIO devices of every kind: their list, and the pair of functions that
 * vfio-pci, vfio-platform, vfio-ap and vfio-ccw use to get and release a device
 *
 * Everything is called with the big lock held.
 */
#ifndef HW_VFIO_VFIO_DEVICE_H
#define HW_VFIO_VFIO_DEVICE_H

#include "exec/memory.h"
#include "qapi/qapi-types-common.h"
#include "qemu/queue.h"

typedef struct IOMMUFDBackend IOMMUFDBackend;
typedef struct VFIODevice VFIODevice;

/* Whether a device can do DMA: see hw/vfio/background.h */
typedef struct VFIODeviceDMA {
    OnOffAuto in_background;    /* map-in-background=; auto: the object's */
    bool is_watched;    /* else it counts as one that can, all the time */
    bool on;
    void (*go_on)(VFIODevice *vbasedev);    /* set while it waits */
} VFIODeviceDMA;

/*
 * All devices that are attached, in the order in which a reset takes them;
 * linked by VFIODevice.global_next.
 */
typedef QLIST_HEAD(VFIODeviceList, VFIODevice) VFIODeviceList;
extern VFIODeviceList vfio_device_list;

/**
 * vfio_device_take_fd: use the descriptor that fd= gives
 *
 * Called first, before anything is known about the device.  Does nothing
 * without fd=.  ->fd_param is the value of fd=: a number, or a name given by
 * the monitor's getfd.
 *
 * @other: another option that names the device, NULL if there is none; giving
 *         both is an error, as is fd= without iommufd=
 *
 * On success ->fd and ->fd_given are set, and ->sysfsdev is the device's folder
 * in sysfs, or NULL if that is not visible.
 *
 * A descriptor given by name belongs to the device from here on, and is closed
 * if this or anything later fails.  A descriptor given by number is only lent
 * (->fd_lent): if something fails before the device is bound, it stays open and
 * belongs to whoever gave it.  Once the device is bound, either kind belongs to
 * the device and is closed with it.
 */
bool vfio_device_take_fd(VFIODevice *vbasedev, const char *other,
                         Error **errp);

/**
 * vfio_device_kernel_name: the name of the device's folder in sysfs, such as
 * "0000:01:00.0"; "fd=FD" if neither sysfs nor /proc tells it.  To be freed.
 */
char *vfio_device_kernel_name(VFIODevice *vbasedev);

/* Whether sysfs says that it is a mediated device */
bool vfio_device_is_mdev(VFIODevice *vbasedev);

/**
 * vfio_device_attach: open the device that the user named, and give it memory
 *
 * @vbasedev: ->name, ->sysfsdev, ->type, ->ops, ->dev and
 *            ->ram_block_discard_allowed are set; ->iommufd and ->vf_token are
 *            set if the user gave an iommufd object or a token
 * @as: where the guest's DMA goes.  The device shares the container of other
 *      devices with the same @as (and the same object) if possible.
 *
 * On success ->fd and what VFIO_DEVICE_GET_INFO says are set.  On failure
 * nothing is left behind, and the caller may try again.
 */
bool vfio_device_attach(VFIODevice *vbasedev, AddressSpace *as, Error **errp);

/**
 * vfio_device_detach: undo vfio_device_attach(); closes ->fd
 *
 * The caller has unmapped the device's regions.  For a device that is not
 * attached, this only lets go of a descriptor that was given.
 */
void vfio_device_detach(VFIODevice *vbasedev);

/* For attach_device() and detach_device() in a container's operations */

/**
 * vfio_device_list_add: record that @vbasedev is attached to ->container
 *
 * @before: the device that a reset takes right after this one; NULL for the one
 *          that was attached last
 */
void vfio_device_list_add(VFIODevice *vbasedev, VFIODevice *before);
void vfio_device_list_remove(VFIODevice *vbasedev);

/**
 * vfio_reset_handler_get: make a reset of the guest reset the devices
 *
 * Each holder of devices calls it before its first device, and
 * vfio_reset_handler_put() after its last.
 */
void vfio_reset_handler_get(void);
void vfio_reset_handler_put(void);

/* For the core of migration */

/**
 * vfio_mig_check_kind: whether devices can be saved in the kind of migration that
 * the capabilities ask for
 *
 * True without devices that can be migrated.  Otherwise *errp names the first of
 * them, and the capability.
 */
bool vfio_mig_check_kind(Error **errp);

#endif /* HW_VFIO_VFIO_DEVICE_H */
