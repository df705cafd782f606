#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's own kernel locked down, by its command line or by secure boot. TAP.
#
#     lockdown.sh unsigned|signed
#
# unsigned  it refuses the modules of iommufd-dkms, since nobody whom it knows has
#           signed them, and the host check says what to do
# signed    they are signed with a key that it knows from the firmware, and a guest
#           has a device

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh
. /rig/stock.sh

CHECK=/rig/tests/qemu-iommufd-host-check
disk=$VFIO_TEST_NVME0

# refused MODULE: the words are for a kernel that is locked down by its command line,
# and by secure boot.
refused()
{
    ! insmod "/boot/$1.ko" 2>/tmp/insmod && [ ! -e "/sys/module/$1" ] &&
        grep -qE 'Operation not permitted|Key was rejected by service' /tmp/insmod || { show /tmp/insmod; return 1; }
}

# says_why: whether the kernel has said why; it does not say so each time.
says_why()
{
    dmesg | grep -qE \
        'Lockdown: .*: unsigned module loading is restricted|unsigned module is rejected'
}

# look: what the host check has for /dev/iommu: result, what was found, what to do
look()
{
    $CHECK --json | jq -r '.[] | select(.check == "for access to /dev/iommu") |
        .result, .detail, .advice' >/tmp/look
}

says()
{
    grep -qF "$1" /tmp/look || { show /tmp/look; return 1; }
}

has_group()
{
    [ -c "/dev/vfio/$(group_of "$1")" ]
}

# install: as DKMS has put the modules
install()
{
    modules=/lib/modules/$(uname -r)/updates/dkms
    mount -t tmpfs modules /lib/modules &&
        mkdir -p "$modules" &&
        cp /boot/iommufd.ko /boot/vfio*.ko "$modules"
}

unsigned()
{
    plan 10
    check "the kernel is locked down" grep -q '\[integrity\]' /sys/kernel/security/lockdown
    check "the package's modules are not loaded" [ ! -e /sys/module/iommufd -a ! -e /sys/module/vfio ]
    check "the kernel refuses iommufd" refused iommufd
    check "... and vfio" refused vfio
    check "... since nobody has signed them" says_why
    look
    check "the host check says that there is no /dev/iommu" says FAIL
    check "... why" says "the kernel loads signed modules only"
    check "... and how to enrol the key" says "mokutil --import /var/lib/dkms/mok.pub"
    check "Debian's own vfio is loaded" load_vfio /boot/debian
    bind_all
    check "... and has a device's group" has_group "$disk"
}

signed()
{
    plan 6
    check "the kernel is locked down" grep -q '\[integrity\]' /sys/kernel/security/lockdown
    check "... by secure boot" eval 'dmesg | grep -q "secureboot: Secure boot enabled"'
    check "the package's modules are loaded" \
        [ -e /sys/module/iommufd -a "$(cat /sys/module/iommufd/taint)" = O ]
    check "the host check finds all as it has to be" eval "$CHECK $disk >&2"
    guest_command "$(vfio_arguments "$disk")"
    guest_start disk
    guest_end
    check "a guest reads what is on the disk" \
        [ "$(guest_said data)" = "$(cat /rig/nvme0.img.sha256)" ]
    check "... and ends" [ "$GUEST_STATUS" = 0 ]
}

mount -t securityfs securityfs /sys/kernel/security
install
"$1"
finish
