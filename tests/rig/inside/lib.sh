# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the programs in the rig know about its devices.

DEVICES=/rig/devices

# device_rows: prints the rows of the table: name, address, driver, the rest.
device_rows()
{
    sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$DEVICES"
}

# address_of NAME
address_of()
{
    device_rows | awk -v name="$1" '$1 == name { print "0000:" $2 }'
}

# is_bound ADDRESS DRIVER. Needs no new process: one costs some milliseconds here,
# and this runs at each boot.
is_bound()
{
    [ -e "/sys/bus/pci/drivers/$2/$1" ]
}

# link_name PATH: the last part of a link's target; nothing if there is no link.
link_name()
{
    link=$(readlink "$1") && echo "${link##*/}"
}

# driver_of ADDRESS: the driver that has the device now; nothing if none has.
driver_of()
{
    link_name "/sys/bus/pci/devices/$1/driver"
}

# group_of ADDRESS
group_of()
{
    link_name "/sys/bus/pci/devices/$1/iommu_group"
}

# cdev_of ADDRESS: vfioN; nothing if there is none. On a kernel without
# VFIO_DEVICE_CDEV the folder is there, but its "dev" file is missing.
cdev_of()
{
    for node in "/sys/bus/pci/devices/$1/vfio-dev"/*/dev; do
        node=${node%/dev}
        [ ! -e "$node/dev" ] || echo "${node##*/}"
    done
}

# has_open PID PATTERN: whether the process has a file open whose path matches.
has_open()
{
    for fd in "/proc/$1/fd"/*; do
        # shellcheck disable=SC2254 # a pattern is what it is
        case $(readlink "$fd") in
        $2) return 0 ;;
        esac
    done
    return 1
}

# create_mdev TYPE: creates a device of the kernel's mtty sample, mtty-1 or mtty-2,
# and prints its folder in sysfs.
create_mdev()
{
    uuid=$(cat /proc/sys/kernel/random/uuid)
    echo "$uuid" \
        >"/sys/devices/virtual/mtty/mtty/mdev_supported_types/$1/create"
    echo "/sys/bus/mdev/devices/$uuid"
}

# bind_driver ADDRESS DRIVER: moves the device to DRIVER.
bind_driver()
{
    device=/sys/bus/pci/devices/$1

    ! is_bound "$1" "$2" || return 0
    [ ! -e "$device/driver" ] || echo "$1" >"$device/driver/unbind"
    echo "$2" >"$device/driver_override"
    echo "$1" >/sys/bus/pci/drivers_probe
    is_bound "$1" "$2" || {
        echo "$1 could not be bound to $2" >&2
        return 1
    }
}

# bind_all: gives each device the driver that the table says. All at the same time,
# since drivers take a while to let go of a device.
bind_all()
{
    device_rows | {
        while read -r _ address driver _; do
            [ "$driver" != vfio-pci ] || bind_driver "0000:$address" vfio-pci &
        done
        wait
    }
}

# export_devices: sets VFIO_TEST_<NAME> for each device that is for passing through.
export_devices()
{
    eval "$(device_rows | awk '$3 != "-" {
        print "export VFIO_TEST_" toupper($1) "=0000:" $2 }')"
}

# device_table: prints the devices that are for passing through, as they are now.
device_table()
{
    printf '  %-6s  %-13s %-9s %-6s %s\n' name address driver group node
    device_rows | while read -r name address driver _; do
        [ "$driver" != - ] || continue
        address=0000:$address
        node=$(cdev_of "$address")
        printf '  %-6s  %-13s %-9s %-6s %s\n' "$name" "$address" \
            "$(driver_of "$address")" "$(group_of "$address")" \
            "${node:+/dev/vfio/devices/$node}"
    done
}
