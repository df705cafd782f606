#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The Debian package in a Debian 12 with Debian's own QEMU: the demonstration
# runs with the packaged QEMU, and nothing is left of it afterwards. TAP.
#
#     VFIO_TEST_MODE=legacy|iommufd guest-package.sh

. /rig/lib.sh
. /rig/tap.sh
. /rig/packages.sh

NAME=qemu-system-x86-iommufd
export QEMU=/usr/bin/qemu-system-x86_64-iommufd
export PATH="$PATH:/usr/sbin:/sbin"

# debian_is_whole: whether Debian's own QEMU is as it was packed, and runs.
debian_is_whole()
{
    $DPKG --verify qemu-system-x86 qemu-system-common seabios ipxe-qemu >/tmp/verify &&
        [ ! -s /tmp/verify ] && qemu-system-x86_64 --version >/tmp/version &&
        ! grep -q iommufd /tmp/version
    status=$?
    show /tmp/verify
    return $status
}

host_is_found_fit()
{
    qemu-iommufd-host-check "$VFIO_TEST_NVME0" >/tmp/host-check
    status=$?
    [ $status = 0 ] || show /tmp/host-check
    return $status
}

demonstration_runs()
{
    /rig/demo.sh >/tmp/demo
    status=$?
    show /tmp/demo
    return $status
}

# is_gone: whether all files of the package are gone, except those that others own.
is_gone()
{
    $DPKG --listfiles $NAME | grep -vx /. >/tmp/files
    $DPKG --purge $NAME >/tmp/purge 2>&1 || { show /tmp/purge; return 1; }
    while read -r file; do
        [ ! -e "$file" ] && [ ! -L "$file" ] || $DPKG -S "$file" >/dev/null 2>&1 ||
            echo "$file"
    done </tmp/files >/tmp/left
    show /tmp/left
    [ -s /tmp/files ] && [ ! -s /tmp/left ] && [ ! -e /usr/lib/qemu-iommufd ]
}

plan 6
check "only packages are there" leave_only_packages
check "Debian's own QEMU is whole beside it" debian_is_whole
check "the host check finds nothing wrong" host_is_found_fit
check "the demonstration runs" demonstration_runs
check "purged, it leaves nothing" is_gone
check "Debian's own QEMU is whole without it" debian_is_whole
finish
