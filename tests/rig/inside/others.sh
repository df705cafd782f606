#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's own kernel: drivers that use vfio besides vfio-pci. Those in iommufd-dkms
# load with its vfio; Debian's kvmgt, which is built for Debian's, must not, and the
# package says so before it is installed. TAP.

. /rig/lib.sh
. /rig/tap.sh
. /rig/stock.sh

# refused MODULE: whether the kernel refuses it, since it was built for another vfio
refused()
{
    dmesg -c >/dev/null
    ! insmod "/boot/others/$1.ko" && [ ! -e "/sys/module/$1" ] &&
        dmesg | grep -q "$1: disagrees about version of symbol .*vfio" ||
        { dmesg | tail -n 5 | sed 's/^/# /'; return 1; }
}

loads()
{
    insmod "/boot/others/$1.ko" && [ -e "/sys/module/$(echo "$1" | tr - _)" ]
}

# load_needs: what the drivers need of the kernel, where it is not there yet
load_needs()
{
    while read -r file; do
        name=$(echo "${file%.ko}" | tr - _)
        case $name in
        kvmgt|mlx5_vfio_pci|virtio_vfio_pci) ;;
        *) [ -e "/sys/module/$name" ] || insmod "/boot/others/$file" || return ;;
        esac
    done </boot/others/order
}

# before_install: what the package says before anything is changed, on this machine
before_install()
{
    sh /boot/package/preinst install 2>&1
}

# lacks OPTION...: whether the kernel was built without each of them
lacks()
{
    for option; do
        grep -qx "# CONFIG_$option is not set" "/boot/config-$(uname -r)" || return
    done
}

plan 10
check "the kernel has none of the devices for which pds and qat are left out" \
    lacks PDS_CORE CRYPTO_DEV_QAT_4XXX CRYPTO_DEV_QAT_420XX
check "what the drivers need is there" load_needs
for driver in mlx5-vfio-pci virtio-vfio-pci; do
    check "$driver loads" loads $driver
    check "... and unloads" rmmod $driver
done
check "kvmgt is refused beside the package's vfio" refused kvmgt
check "... of which nothing is said where it is not in use" [ -z "$(before_install)" ]
unload_vfio && load_vfio /boot/debian
check "beside Debian's own vfio it loads" loads kvmgt
check "... and it is told that it will not, before the package is installed" \
    eval 'before_install | grep -q "kvmgt is in use here"'
finish
