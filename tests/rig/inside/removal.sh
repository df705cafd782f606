#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's own kernel: iommufd-dkms is removed, or purged, while a guest has a device.
# It says that its modules stay loaded, the guest goes on, and what is loaded next is
# Debian's own. TAP.
#
#     VFIO_TEST_MODE=legacy|iommufd removal.sh remove|purge
#
# The package's scripts run as dpkg would run them. There is no DKMS here: that it
# takes the modules' files away is what package-dkms-kernels tests.

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh
. /rig/stock.sh

device=$VFIO_TEST_NVME0

reads()
{
    guest_said alive | wc -l
}

has_read()
{
    [ "$(reads)" -gt "$1" ]
}

# goes_on: whether the guest reads from its disk as before
goes_on()
{
    await 60 has_read $(($(reads) + 5))
}

# script NAME WORD: runs one of the package's scripts, and keeps what it says.
script()
{
    sh "/boot/package/$1" "$2" >>/tmp/said 2>&1
}

remove()
{
    : >/tmp/said
    script prerm remove &&
        rm /boot/iommufd.ko /boot/mdev.ko /boot/vfio*.ko &&
        script postrm remove || return
    [ "$1" != purge ] || script postrm purge
}

says()
{
    [ "$(grep -c "$1" /tmp/said)" = 1 ] || { show /tmp/said; return 1; }
}

quit()
{
    guest_execute quit
    guest_end
    [ "$GUEST_STATUS" = 0 ]
}

# starts: whether a guest starts that reads from the disk
starts()
{
    guest_command "$(vfio_arguments "$device")"
    guest_start alive
    await 60 guest_has_said 'alive .*' && goes_on
}

plan 10
check "a guest reads from its disk" starts
check "the package is removed" remove "$1"
check "it says that its modules are loaded, and stay so" says "its modules are loaded, and stay so"
check "... once, and how to unload them" says "modprobe -r vfio-pci vfio_iommu_type1"
check "the guest goes on" goes_on
check "its modules are not unloaded under it" eval '! unload_vfio 2>/dev/null && goes_on'
check "it ends" quit
check "then they are unloaded" unload_vfio
check "Debian's own are loaded" eval 'load_vfio /boot/debian && bind_all && [ ! -e /dev/iommu ]'
VFIO_TEST_MODE=legacy
check "... with which a guest reads from its disk" eval 'starts && quit'
finish
