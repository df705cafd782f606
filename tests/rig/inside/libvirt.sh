#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's libvirtd runs a guest under KVM that has an NVMe disk passed through: as
# the user libvirt-qemu, in a control group and a namespace of its own, under
# AppArmor. The domain is the one in the manual.
#
#     libvirt.sh short|long
#
# short   start, read, unplug, plug, destroy
# long    also reset, shutdown, managed save; the same disk by <hostdev>; and with
#         each setting of the host left out

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh

export PATH=/usr/sbin:$PATH

NAME=passthrough
EMULATOR=/usr/lib/qemu-iommufd/bin/qemu-system-x86_64
IMAGES=/var/lib/libvirt/images
LOCAL=/etc/apparmor.d/local
GUEST_LOG=/var/log/libvirt/qemu/$NAME-console.log
QEMU_LOG=/var/log/libvirt/qemu/$NAME.log
SAID=/tmp/virsh.said

disk=$VFIO_TEST_NVME0
node=/dev/vfio/devices/$(cdev_of "$disk")
want=$(cat /rig/nvme0.img.sha256)

# --- the host -------------------------------------------------------------

# prepare_host: does what systemd does when a Debian boots, as far as libvirt needs
# it, and puts the package in its place.
prepare_host()
{
    mount -o remount,rw /
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mount -t securityfs securityfs /sys/kernel/security
    mkdir -p /run/lock
    [ -e $EMULATOR ] || cp -r /opt/qemu /usr/lib/qemu-iommufd
    chgrp kvm /dev/kvm && chmod 660 /dev/kvm
    cp /rig/bzImage $IMAGES/vmlinuz
    cp /rig/guest.cpio $IMAGES/initrd.img
}

# The settings that a user makes; the long test leaves out each of them once

set_apparmor_libvirtd()
{
    cp /rig/tests/libvirtd $LOCAL/usr.sbin.libvirtd
    apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd
}

set_apparmor_guest()
{
    cp /rig/tests/libvirt-qemu $LOCAL/abstractions/libvirt-qemu
}

# set_device_acl NODE...: allows the nodes, and those that libvirt allows by default
set_device_acl()
{
    {
        echo 'security_driver = "apparmor"'
        echo 'cgroup_device_acl = ['
        for item in null full zero random urandom ptmx kvm; do
            echo "    \"/dev/$item\","
        done
        for item; do
            echo "    \"$item\","
        done
        echo ']'
    } >/etc/libvirt/qemu.conf
}

# set_permission NODE: does what the udev rule does
set_permission()
{
    chgrp kvm "$1" && chmod 660 "$1"
}

# start_libvirtd and stop_libvirtd: qemu.conf is read at the start.
start_libvirtd()
{
    [ -e /run/virtlogd.pid ] || virtlogd -d
    libvirtd -d --timeout 0 2>/tmp/libvirtd.errors
}

stop_libvirtd()
{
    kill "$(cat /run/libvirtd.pid)"
    while [ -e /run/libvirtd.pid ]; do usleep 100000; done
}

# --- the domain ----------------------------------------------------------

# domain: the manual's, with the disk's address and a kernel that does its task.
# xsave is off: see guest_command.
domain()
{
    sed -e "s/0000:01:00.0/$disk/" \
        -e "s|<cmdline>.*<|<cmdline>console=ttyS0 quiet panic=-1 8250.nr_uarts=1 task=hotplug<|" \
        -e "s|<cpu mode='host-passthrough'/>|<cpu mode='host-passthrough'><feature policy='disable' name='xsave'/></cpu>|" \
        /rig/tests/vfio-iommufd-domain.xml
}

# legacy_domain: the same, with the disk as a <hostdev>
legacy_domain()
{
    slot=${disk##*:}
    bus=${disk%:*}
    hostdev="<hostdev mode='subsystem' type='pci' managed='no'><source><address \
bus='0x${bus#*:}' slot='0x${slot%.*}' function='0'/></source></hostdev>"
    domain | sed -e '/<qemu:commandline>/,/<\/qemu:commandline>/d' \
        -e '/<memtune>/,/<\/memtune>/d' \
        -e "s|^  </devices>|$hostdev&|"
}

# virsh_says COMMAND...: runs virsh, and keeps what it says in SAID
virsh_says()
{
    virsh "$@" >$SAID 2>&1
    status=$?
    sed 's/^/virsh| /' $SAID >&2
    return $status
}

# start DOMAIN: starts a new guest with the domain that the function DOMAIN prints
start()
{
    rm -f $GUEST_LOG
    : >$QEMU_LOG
    virsh undefine $NAME >/dev/null 2>&1
    "$1" >/tmp/domain.xml
    virsh_says define --validate /tmp/domain.xml && virsh_says start $NAME &&
        guest_pid=$(cat /run/libvirt/qemu/$NAME.pid)
}

destroyed()
{
    virsh_says destroy $NAME && [ ! -e "/proc/$guest_pid" ]
}

# refused WORDS [DOMAIN]: whether the domain does not start, and virsh says WORDS
refused()
{
    ! start "${2:-domain}" || { destroyed; return 1; }
    tr '\n' ' ' <$SAID | grep -qE "$1"
}

# monitor COMMAND [ARGUMENTS]: runs a command of QEMU's monitor, through virsh
monitor()
{
    virsh_says qemu-monitor-command $NAME "{\"execute\": \"$1\", \"arguments\": {$2}}" &&
        ! grep -q '"error"' $SAID
}

# has_read TIMES: whether the guest has read the disk TIMES times since its creation
has_read()
{
    [ "$(guest_said 'data [0-9]*' | grep -cx "$want")" = "$1" ]
}

guest_reads()
{
    await 120 has_read "$1"
}

# unplug NUMBER
unplug()
{
    monitor device_del '"id": "ua-device0"' &&
        await 60 guest_has_said "gone $1" &&
        await 20 guest_let_go
}

plug()
{
    monitor device_add "\"driver\": \"vfio-pci\", \"id\": \"ua-device0\",
        \"host\": \"$disk\", \"iommufd\": \"iommufd0\", \"bus\": \"pci.1\""
}

# as_user USER: whether QEMU runs as USER
as_user()
{
    [ "$(stat -c %U "/proc/$guest_pid")" = "$1" ]
}

# limited: whether QEMU may lock and use what <hard_limit> says, 768 MiB, and locked
# nothing before the device did
limited()
{
    limit=$((768 << 20))
    group=$(sed -n 's/^0:://p' "/proc/$guest_pid/cgroup")

    # a thread's group is below the one that has the limit
    until [ -z "$group" ] || [ "$(cat "/sys/fs/cgroup$group/memory.max")" = $limit ]; do
        group=${group%/*}
    done
    [ -n "$group" ] &&
        grep -q "^Max locked memory  *$limit " "/proc/$guest_pid/limits" &&
        grep -q '^VmLck:[[:space:]]*0 kB' "/proc/$guest_pid/status"
}

# confined: whether AppArmor holds QEMU to a profile of its own
confined()
{
    grep -q '^libvirt-.*(enforce)' "/proc/$guest_pid/attr/current"
}

# --- the tests ------------------------------------------------------------

check_life()
{
    check "a domain with iommufd= starts" start domain
    [ "$TAP_FAILED" = 0 ] || finish
    check "QEMU is the process of libvirt-qemu" as_user libvirt-qemu
    check "AppArmor confines it" confined
    check "it may lock and use what the domain says, and locks nothing itself" limited
    check "the guest reads what is on the disk" guest_reads 1
    check "the disk can be unplugged" unplug 1
    check "and plugged" plug
    check "the guest reads it again" guest_reads 2
}

resets()
{
    virsh_says reset $NAME && guest_reads 3
}

save_refused()
{
    ! virsh_says managedsave $NAME && grep -q "migrat" $SAID
}

# shuts_down: shuts the guest down through its agent
shuts_down()
{
    virsh_says shutdown --mode agent $NAME && await 60 guest_has_said shutdown
    n=0
    while [ -e "/proc/$guest_pid" ] && [ $n -lt 300 ]; do
        usleep 100000
        n=$((n + 1))
    done
    [ "$(virsh domstate $NAME)" = "shut off" ]
}

check_commands()
{
    check "virsh reset restarts the guest, which reads the disk" resets
    check "managed save is refused, with the reason" save_refused
    check "virsh shutdown ends the guest" shuts_down
    check "a domain with <hostdev> starts" start legacy_domain
    check "its guest reads what is on the disk" guest_reads 1
    check "and it can be destroyed" destroyed
}

unlimited_domain()
{
    domain | sed '/<memtune>/,/<\/memtune>/d'
}

# own_domain: with a user of its own
own_domain()
{
    domain | sed "s|^  <devices>|<seclabel type='static' model='dac' relabel='yes'>\
<label>vm1:kvm</label></seclabel>&|"
}

# check_own_user: gives the device to one domain's user alone
check_own_user()
{
    adduser --system --group --no-create-home vm1 >&2
    adduser vm1 libvirt-qemu >&2
    chown vm1 "$node" && chmod 600 "$node"
    check "no other domain gets a device that is vm1's" \
        refused "cannot open $node: Permission denied"
    check "vm1's own domain does" start own_domain
    check "QEMU is the process of vm1" as_user vm1
    check "its guest reads what is on the disk" guest_reads 1
    check "it can be destroyed" destroyed
    chown root "$node"
    set_permission "$node"
}

# plain_domain: with the device in plain form instead of JSON
plain_domain()
{
    domain | sed "/\"driver\":/s/value='.*'/value='vfio-pci,host=$disk,iommufd=iommufd0,bus=pci.1'/"
}

# with_acl NODE...: restarts libvirtd with these nodes in its list
with_acl()
{
    stop_libvirtd
    set_device_acl "$@"
    start_libvirtd
}

# without_rule PATH: sets AppArmor's rules for the guest without those for PATH
without_rule()
{
    grep -v "^$1" /rig/tests/libvirt-qemu >$LOCAL/abstractions/libvirt-qemu
}

# check_settings: leaves out each in turn, and restores all of them at the end
check_settings()
{
    check "without <hard_limit>: the limit" \
        refused 'have to be locked' unlimited_domain
    check "a device that is not JSON: no such bus" \
        refused "Bus 'pci.1' not found" plain_domain

    chmod 600 /dev/iommu
    check "without permission for /dev/iommu" \
        refused 'cannot open /dev/iommu: Permission denied'
    set_permission /dev/iommu
    chmod 600 "$node"
    check "without permission for the device" \
        refused "cannot open $node: Permission denied"
    set_permission "$node"

    without_rule /usr/lib/qemu-iommufd/bin
    check "without AppArmor's rule for QEMU" \
        refused "cannot execute binary $EMULATOR: Permission denied"
    without_rule /dev/iommu
    check "without that for /dev/iommu" \
        refused 'cannot open /dev/iommu: Permission denied'
    without_rule /dev/vfio
    check "without that for the device" \
        refused "cannot open $node: Permission denied"
    without_rule /sys
    check "without that for /sys" \
        refused 'Error opening directory .*/vfio-dev.*: Permission denied'
    set_apparmor_guest

    # libvirtd itself runs QEMU only to ask for its features, and remembers them
    : >$LOCAL/usr.sbin.libvirtd
    apparmor_parser -r /etc/apparmor.d/usr.sbin.libvirtd
    stop_libvirtd
    rm -rf /var/cache/libvirt/qemu/capabilities
    start_libvirtd
    check "without AppArmor's rule for libvirtd" \
        refused "$EMULATOR.*Permission denied"
    set_apparmor_libvirtd

    with_acl "$node"
    check "without /dev/iommu in cgroup_device_acl" \
        refused 'cannot open /dev/iommu: No such file or directory'
    with_acl /dev/iommu
    check "without the device in cgroup_device_acl" \
        refused "cannot open $node: No such file or directory"
    echo 'namespaces = []' >>/etc/libvirt/qemu.conf
    stop_libvirtd
    start_libvirtd
    check "and without a namespace" \
        refused "cannot open $node: Operation not permitted"
    with_acl /dev/iommu "$node"
    check "with all of them it starts again" start domain
}

prepare_host
set_apparmor_libvirtd
set_apparmor_guest
set_device_acl /dev/iommu "$node"
set_permission /dev/iommu
set_permission "$node"
start_libvirtd

case $1 in
short)
    plan 9
    check_life
    check "the domain can be destroyed" destroyed
    ;;
long)
    plan 33
    check_life
    check_commands
    check_settings
    check "the domain can be destroyed" destroyed
    check_own_user
    ;;
esac
finish
