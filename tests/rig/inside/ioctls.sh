#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests that the legacy path asks the kernel for the same as the base without this
# project's patches: the same ioctls, in the same order, with the same arguments.
#
#     ioctls.sh start|boot|unplug
#
# start   QEMU starts with the device and ends; its guest never runs
# boot    a guest boots, reads the disk and switches the machine off
# unplug  the device is taken from a running guest, then QEMU ends

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh

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

# record QEMU LOG: records the ioctls of the scenario.
record()
{
    QEMU=/opt/$1/bin/qemu-system-x86_64
    : >"/tmp/ioctls.$1"
    export IOCTL_LOG="/tmp/ioctls.$1" LD_PRELOAD=/rig/tests/libioctl-log.so
    "scenario_$scenario"
    unset LD_PRELOAD
    guest_end
}

[ "$scenario" = unplug ] && plan 5 || plan 4
record base
check "the base's QEMU ends with status 0" [ "$GUEST_STATUS" = 0 ]
record qemu
check "QEMU ends with status 0" [ "$GUEST_STATUS" = 0 ]
check "there is something to compare" \
    [ "$(wc -l </tmp/ioctls.base)" -gt 40 ]
[ "$scenario" != unplug ] ||
    check "an unplugged device is let go of" [ "$let_go" = 0 ]
diff -U 5 /tmp/ioctls.base /tmp/ioctls.qemu >/tmp/ioctls.diff
check "the ioctls are the same" [ ! -s /tmp/ioctls.diff ]
show /tmp/ioctls.diff
cat /tmp/ioctls.base >&2
finish
