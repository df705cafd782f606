#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests that the legacy path asks the kernel for the same as it did: the same ioctls, in
# the same order, with the same arguments.
#
#     ioctls.sh start|boot|unplug base|stock
#
# base    compares with the base without this project's patches
# stock   compares the modules of iommufd-dkms with Debian's own, on Debian's kernel
#
# start   QEMU starts with the device and ends; its guest never runs
# boot    a guest boots, reads the disk and switches the machine off
# unplug  the device is taken from a running guest, then QEMU ends

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh
. /rig/stock.sh

VFIO_TEST_MODE=legacy
scenario=$1
device=$VFIO_TEST_NVME0

scenario_start()
{
    guest_command -S "$(vfio_arguments "$device")"
    guest_start boot
    guest_execute quit
}

scenario_boot()
{
    guest_command "$(vfio_arguments "$device")"
    guest_start boot
}

scenario_unplug()
{
    guest_command "-device pcie-root-port,id=port1,chassis=1" \
        "$(vfio_arguments "$device" ,bus=port1)"
    guest_start wait
    await 120 guest_has_said ready
    guest_execute device_del '"id": "dev0"'
    await 120 guest_had_event DEVICE_DELETED
    await 20 guest_let_go
    let_go=$?
    guest_execute quit
}

# record NAME: records the ioctls of the scenario.
record()
{
    : >"/tmp/ioctls.$1"
    export IOCTL_LOG="/tmp/ioctls.$1" LD_PRELOAD=/rig/tests/libioctl-log.so
    "scenario_$scenario"
    unset LD_PRELOAD
    guest_end
    check "with $1, QEMU ends with status 0" [ "$GUEST_STATUS" = 0 ]
}

# vfio_from FOLDER: puts its modules in the place of those that are loaded.
vfio_from()
{
    unload_vfio && load_vfio "$1" && bind_all
}

record_base()
{
    before=base after=qemu
    QEMU=/opt/base/bin/qemu-system-x86_64
    record $before
    QEMU=/opt/qemu/bin/qemu-system-x86_64
    record $after
}

record_stock()
{
    before=debian after=package
    check "Debian's own modules take the package's place" \
        eval 'vfio_from /boot/debian && [ ! -e /dev/iommu ]'
    record $before
    check "... and give it back" eval 'vfio_from /boot && [ -e /dev/iommu ]'
    record $after
}

tests=4
[ "$scenario" != unplug ] || tests=$((tests + 1))
[ "$2" != stock ] || tests=$((tests + 2))
plan $tests
"record_$2"
check "there is something to compare" \
    [ "$(wc -l <"/tmp/ioctls.$before")" -gt 40 ]
[ "$scenario" != unplug ] ||
    check "an unplugged device is let go of" [ "$let_go" = 0 ]
diff -U 5 "/tmp/ioctls.$before" "/tmp/ioctls.$after" >/tmp/ioctls.diff
check "the ioctls are the same" [ ! -s /tmp/ioctls.diff ]
show /tmp/ioctls.diff
cat "/tmp/ioctls.$before" >&2
finish
