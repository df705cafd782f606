#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's own kernel with the modules of iommufd-dkms: they come and go a hundred
# times, and a device has its nodes after each. TAP.

. /rig/lib.sh
. /rig/tap.sh
. /rig/stock.sh

TIMES=100
device=$VFIO_TEST_EDU0

# slab_kib: memory of the kernel's that is in use, when nothing waits to be freed
slab_kib()
{
    echo 3 >/proc/sys/vm/drop_caches
    sleep 1
    awk '/^(SUnreclaim|VmallocUsed|Percpu):/ { sum += $2 } END { print sum }' /proc/meminfo
}

# nodes_are_there: whether the device has its nodes, of both ways
nodes_are_there()
{
    [ -c /dev/iommu ] && [ -c "/dev/vfio/devices/$(cdev_of "$device")" ] &&
        [ -c "/dev/vfio/$(group_of "$device")" ]
}

nodes_are_gone()
{
    [ ! -e /dev/iommu ] && [ ! -e /dev/vfio ]
}

# round: once each way
round()
{
    unload_vfio && nodes_are_gone && load_vfio /boot && bind_all && nodes_are_there
}

rounds()
{
    n=0
    while [ $n -lt "$1" ]; do
        round || { echo "# in round $n"; return 1; }
        n=$((n + 1))
    done
}

# stays: whether no more than 1 MiB is in use than before
stays()
{
    rounds 10 || return
    before=$(slab_kib)
    rounds $((TIMES - 10)) || return
    after=$(slab_kib)
    echo "# $before KiB, then $after KiB"
    [ $((after - before)) -lt 1024 ]
}

plan 3
check "the modules come and go $TIMES times, and nothing is left of them" stays
check "a device's nodes are there" nodes_are_there
check "nothing complained" eval '! dmesg | grep -E "BUG|Oops|sysfs: cannot create"'
finish
