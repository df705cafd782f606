#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest under KVM uses a virtual function of an NVMe device, whose physical
# function stays with the rig's own driver: both see the same disk.
#
#     VFIO_TEST_MODE=legacy|iommufd guest-vf.sh

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh

pf=$VFIO_TEST_PF0
vf=${pf%.0}.1
folder=/sys/bus/pci/devices/$pf

want=$(cat /rig/pf0.img.sha256)

# virt_mgmt CONTROLLER ACTION [RESOURCE COUNT]: NVMe's Virtualization
# Management; RESOURCE 0 is queues, 1 is interrupts.
virt_mgmt()
{
    nvme virt-mgmt "/dev/$(ls "$folder/nvme")" --cntlid="$1" --act="$2" \
        --rt="${3:-0}" --nr="${4:-0}" >&2
}

# vf_online: makes the physical function give away its flexible resources, which
# its reset makes effective; then the first virtual one gets as much as it needs.
vf_online()
{
    virt_mgmt 0 1 1 0 && virt_mgmt 0 1 0 0 &&
        echo 1 >"$folder/reset" &&
        echo 0 >"$folder/sriov_drivers_autoprobe" &&
        echo 2 >"$folder/sriov_numvfs" &&
        virt_mgmt 1 8 1 1 && virt_mgmt 1 8 0 2 && virt_mgmt 1 9
}

# pf_sum FIRST COUNT: the sum of blocks of 1 MiB, read by the physical function.
pf_sum()
{
    dd if="/dev/$(ls "$folder/nvme")n1" bs=1M skip="$1" count="$2" \
        iflag=direct 2>/dev/null | sha256sum | cut -d' ' -f1
}

plan 7
check "a virtual function goes online" vf_online
check "vfio-pci takes it" bind_driver "$vf" vfio-pci
guest_command "$(vfio_arguments "$vf")"
guest_start disk
guest_end
check "the guest ends by itself with status 0" [ "$GUEST_STATUS" = 0 ]
check "the guest reads what is on the disk" [ "$(guest_said data)" = "$want" ]
check "and again after a reboot" [ "$(guest_said data-again)" = "$want" ]
check "the physical function reads what the guest wrote" \
    [ "$(pf_sum 24 4)" = "$(guest_said written)" ]
check "QEMU said nothing on its standard error" [ ! -s "$GUEST_ERRORS" ]
finish
