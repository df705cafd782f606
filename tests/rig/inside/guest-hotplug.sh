#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A running guest under KVM is given an NVMe disk, and has it taken away again,
# several times. Then the rig's own driver has it, and then the guest once more.
#
#     VFIO_TEST_MODE=legacy|iommufd guest-hotplug.sh pciehp|acpi
#
# pciehp  a PCIe slot, with the guest's pciehp driver, which waits for 5 seconds
#         before it lets a device go
# acpi    an i440fx, with the guest's ACPI

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh

TIMES=5

nvme=$VFIO_TEST_NVME0
want=$(cat /rig/nvme0.img.sha256)

case $1 in
pciehp) machine="-global ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off
                 -device pcie-root-port,id=port1,chassis=1" bus=port1 ;;
acpi)   machine="-machine pc" bus=pci.0 ;;
esac

properties="\"driver\": \"vfio-pci\", \"id\": \"dev0\", \"bus\": \"$bus\",
            \"host\": \"$nvme\""

plug()
{
    case $VFIO_TEST_MODE in
    legacy)
        guest_execute device_add "$properties" ;;
    iommufd)
        guest_execute object-add '"qom-type": "iommufd", "id": "iommufd0"'
        guest_execute device_add "$properties, \"iommufd\": \"iommufd0\"" ;;
    esac
}

# unplug NUMBER: unplugs the disk for the NUMBERth time.
unplug()
{
    guest_execute device_del '"id": "dev0"'
    await 60 guest_has_said "gone $1" &&
        await 60 guest_had_event DEVICE_DELETED "$1" &&
        await 20 guest_let_go || return
    [ "$VFIO_TEST_MODE" = legacy ] ||
        guest_execute object-del '"id": "iommufd0"'
}

# plug_and_unplug NUMBER: the guest reads the disk in between.
plug_and_unplug()
{
    plug
    await 60 guest_has_said "data $1" && unplug "$1" &&
        [ "$(guest_said "data $1")" = "$want" ]
}

# host_reads: the rig's own driver gets the disk back, reads it, and releases it.
host_reads()
{
    bind_driver "$nvme" nvme || return
    disk=/dev/$(ls "/sys/bus/pci/devices/$nvme/nvme")n1
    n=0
    until [ -e "$disk" ] || [ $n = 500 ]; do
        usleep 20000
        n=$((n + 1))
    done
    sum=$(dd if="$disk" bs=1M count=24 iflag=direct 2>/dev/null | sha256sum)
    [ "${sum%% *}" = "$want" ] && bind_driver "$nvme" vfio-pci
}

plan $((TIMES + 6))
guest_command "$machine"
guest_start hotplug
check "the guest runs without the disk" await 120 guest_has_said ready
for number in $(seq $TIMES); do
    check "the guest reads disk $number and lets it go" plug_and_unplug "$number"
done
check "the rig's own driver reads the disk" host_reads
check "the guest has it once more" plug_and_unplug $((TIMES + 1))
guest_execute quit
guest_end
check "QEMU ends with status 0" [ "$GUEST_STATUS" = 0 ]
check "no command failed" [ -z "$(guest_refusals)" ]
check "QEMU said nothing on its standard error" [ ! -s "$GUEST_ERRORS" ]
finish
