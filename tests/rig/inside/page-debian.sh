#!/bin/sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Follows the page vfio-iommufd-debian word by word, in a Debian 12 with its own kernel:
# types what it has behind # and $, and compares what it has below with what is answered.
# Both packages are there: tests/package/installed typed that step when the machine was
# made, and tests/package/purge types the last one.
#
# udev has loaded the drivers, as at each boot; its device is with the host's, and no
# module of vfio's is loaded. Two things are not as on a real host: there is no boot
# loader, and udevd runs without systemd.

. /rig/lib.sh
. /rig/tap.sh
. /rig/page.sh
. /rig/packages.sh

export PATH=/usr/sbin:/usr/bin:$PATH

PAGE=/rig/tests/vfio-iommufd-debian.rst
CONSOLE=/tmp/console
device=$VFIO_TEST_NVME0

# as_root STEP: types it in a shell that root logged in to, and ends with the
# status of the first command that fails.
as_root()
{
    typed "$1" '#' >/tmp/typed
    [ -s /tmp/typed ] && su - -c 'bash -e /tmp/typed' >$CONSOLE 2>&1 </dev/null ||
        { show $CONSOLE; return 1; }
}

# same_numbers: an input with each number as N
same_numbers()
{
    sed 's/[0-9][0-9]*/N/g'
}

# answered STEP: whether that is what the page has, but for numbers.
answered()
{
    answers "$1" | same_numbers >/tmp/expected
    same_numbers <$CONSOLE >/tmp/answered
    [ -s /tmp/expected ] && diff /tmp/expected /tmp/answered ||
        { show $CONSOLE; return 1; }
}

# prepare: a host as it was installed, with alice. The rig has loaded vfio-pci, and bound
# the device to it before.
prepare()
{
    leave_only_packages
    echo "$device" >"/sys/bus/pci/devices/$device/driver/unbind"
    echo >"/sys/bus/pci/devices/$device/driver_override"
    # by its path: busybox has one, which its shell prefers
    /usr/sbin/modprobe -r vfio-pci vfio_iommu_type1 iommufd
    echo "$device" >/sys/bus/pci/drivers_probe
    udevadm settle
    adduser --quiet --disabled-password --gecos '' alice
    first_bytes "/sys/bus/pci/devices/$device/nvme"/nvme*/nvme*n1 >/tmp/first-bytes
    guest_disk >/home/alice/guest.img
    truncate -s 1M /home/alice/guest.img
    chown alice: /home/alice/guest.img
} >&2

# first_bytes FOLDER: 16 of the disk of that folder in sysfs, in hexadecimal digits
first_bytes()
{
    od -An -v -tx1 -N16 "/dev/${1##*/}" | tr -d ' ' | tr a-f A-F
}

# guest_disk: its first sector, a system that reads the other disk's first sector
# to 0:8000 by the firmware, and prints 16 bytes of it.
guest_disk()
{
    # xor ax,ax; mov ds,ax; mov ah,42h; xor dl,1; mov si,7C36h; int 13h; jc $
    printf '\061\300\216\330\264\102\200\362\001\276\066\174\315\023\162\376'
    # mov si,8000h; mov cx,16; next: lodsb; push ax; shr al,4; call digit
    printf '\276\000\200\271\020\000\254\120\300\350\004\350\013\000'
    # pop ax; and al,15; call digit; loop next; jmp $; nop
    printf '\130\044\017\350\005\000\342\360\353\376\220'
    # digit: cmp al,10; sbb al,69h; das; mov ah,0Eh; mov bx,7; int 10h; ret
    printf '\074\012\034\151\057\264\016\273\007\000\315\020\303'
    # at 7C36h: read one sector to 0:8000, from 0 on
    printf '\020\000\001\000\000\200\000\000'
    dd if=/dev/zero bs=1 count=$((510 - 62)) 2>/dev/null
    printf '\125\252'
}

# start: types it as alice, with a pipe for the keyboard
start()
{
    typed start '$' >/tmp/typed
    mkfifo /tmp/keys
    (su - alice -c 'bash -e /tmp/typed' </tmp/keys >$CONSOLE 2>&1) &
    shell=$!
    exec 7>/tmp/keys
    trap '' PIPE  # what is typed when it is gone
}

# within SECONDS COMMAND...: whether it succeeds until then, while QEMU's shell lives
within()
{
    n=$1
    shift
    while [ "$n" -gt 0 ] && kill -0 $shell 2>/dev/null; do
        ! "$@" || return 0
        sleep 1
        n=$((n - 1))
    done
    show $CONSOLE
    return 1
}

# holds_device: whether a QEMU of alice's has the nodes
holds_device()
{
    pid=$(pidof qemu-system-x86_64-iommufd) &&
        [ "$(stat -c %U "/proc/$pid")" = alice ] &&
        has_open "$pid" "/dev/vfio/devices/$(cdev_of "$device")" &&
        has_open "$pid" /dev/iommu
}

# guest_has_read: whether it printed what the host found on the disk
guest_has_read()
{
    [ -s /tmp/first-bytes ] && grep -qf /tmp/first-bytes $CONSOLE
}

# packages_are_there STEP: whether those that the step names are installed
packages_are_there()
{
    typed "$1" '#' | grep -oE '[a-z0-9]+(-[a-z0-9.]+)+' | grep -vx apt-get >/tmp/named
    [ -s /tmp/named ] && xargs "$DPKG" -s </tmp/named >/tmp/status 2>&1 &&
        [ "$(grep -cx 'Status: install ok installed' /tmp/status)" = "$(wc -l </tmp/named)" ] ||
        { show /tmp/named; show /tmp/status; return 1; }
}

# mode_of NODE: its owner, its group and its mode
mode_of()
{
    stat -c %U:%G:%a "$1"
}

# nodes_are_kvms: whether udev has given iommufd's nodes to the group
nodes_are_kvms()
{
    udevadm settle
    for node in /dev/iommu "/dev/vfio/devices/$(cdev_of "$device")"; do
        [ "$(mode_of "$node")" = root:kvm:660 ] || { ls -l "$node"; return 1; }
    done
}

plan 13
prepare
check "the kernel that the page names is here" packages_are_there kernel
check "both packages are" packages_are_there packages
check "the module is loaded" eval "as_root load && udevadm settle"
check "the host check says what is missing, as the page has it" eval "as_root before && answered before"
check "the device is given to vfio-pci" as_root device
check "udev gives the nodes to the group kvm" nodes_are_kvms
check "alice comes into that group" as_root permission
check "the limit is raised" as_root limit
check "the host check passes" as_root after
check "... as the page has it" answered after
start
check "alice's guest has the device" within 60 holds_device
check "... and reads its disk" within 120 guest_has_read
printf '\001x' >&7
check "... and ends" wait "$shell"
finish
