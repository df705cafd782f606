#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest with an IOMMU of its own uses passed-through NVMe disks behind it:
# each map and unmap of the guest becomes one of the host's.
#
#     VFIO_TEST_MODE=legacy|iommufd guest-viommu.sh KIND SCENARIO
#
# KIND: intel, intel-noremap (without interrupt remapping) or virtio
#
# lives        the disk under load; the machine is reset in the middle of it,
#              then reboots; the IOMMU is on each time
# switch       from translated DMA to DMA that passes through, and back
# passthrough  the same, but the guest boots with DMA that passes through
# plug         disks come and go while the IOMMU is on
# far          the guest maps from the highest address on that it can

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh
. /rig/viommu.sh

kind=$1
scenario=$2
want=$(cat /rig/nvme0.img.sha256)
want1=$(cat /rig/nvme1.img.sha256)
disk=$VFIO_TEST_NVME0

# DMA rather than DMA-FQ: the driver goes on only after an unmap is done.
STRICT="intel_iommu=on iommu.strict=1 iommu.passthrough=0"

# all KEY VALUE TIMES: whether the guest told KEY that many times, always VALUE.
all()
{
    [ "$(guest_said "$1" | sort | uniq -c | tr -s ' ')" = " $3 $2" ]
}

# If a device comes after the IOMMU's page sizes are settled, QEMU says that its
# own sizes differ. This happens only without iommufd, whose page sizes have no
# gaps.
nothing_said()
{
    grep -v 'virtio-iommu page mask .* does not match' "$GUEST_ERRORS" >/tmp/said
    [ ! -s /tmp/said ]
}

check_end()
{
    check "the guest ends by itself with status 0" [ "$GUEST_STATUS" = 0 ]
    check "QEMU said nothing on its standard error" nothing_said
    viommu_sizes >/tmp/sizes
    show /tmp/sizes
}

# check_load TIMES: checks what a guest did that worked TIMES times.
check_load()
{
    check "it reads what is on the disk each time" all data "$want" "$1"
    check "it writes something of its own each time" \
        [ "$(guest_said written | sort -u | wc -l)" = "$1" ]
    check "it reads back what it wrote" \
        [ "$(guest_said written)" = "$(guest_said read-back)" ]
}

# grows: whether the guest has asked for more maps since $before.
grows()
{
    [ "$(viommu_maps)" -gt $((before + 100)) ]
}

scenario_lives()
{
    plan 9
    guest_start lives "$STRICT"
    await 120 guest_has_said busy
    before=$(viommu_maps)
    await 60 grows
    check "the guest maps and unmaps under load" grows
    check "the rig's IOMMU maps something under load" \
        [ "$(rig_maps "$disk")" != 0 ]
    guest_execute system_reset
    guest_end

    check "the guest lives three times" \
        [ "$(guest_said life | tr '\n' ' ')" = "1 2 3 " ]
    check "its DMA is translated in each life" all type DMA 3
    check_load 3
    check_end
}

# check_switches TYPE...: checks the types of domain that the guest had, in order.
check_switches()
{
    await 120 guest_has_said released
    check "the rig's IOMMU maps nothing when the guest's driver let go" \
        [ "$(rig_maps "$disk")" = 0 ]
    check "the guest has unmapped what it mapped" \
        [ "$(viommu_maps)" != 0 -a "$(viommu_left)" = 0 ]
    guest_execute quit
    guest_end
    check "the guest has had the domains that it asked for" \
        [ "$(guest_said type | tr '\n' ' ')" = "$* " ]
    check_load $#
}

scenario_switch()
{
    plan 8
    guest_start switch "$STRICT"
    check_switches DMA identity DMA
    check_end
}

scenario_passthrough()
{
    plan 8
    guest_start switch intel_iommu=on iommu.strict=1 iommu.passthrough=1
    check_switches identity DMA
    check_end
}

# plug ID ADDRESS PORT
plug()
{
    iommufd=
    [ "$VFIO_TEST_MODE" = legacy ] || iommufd='"iommufd": "iommufd0",'
    guest_execute device_add "\"driver\": \"vfio-pci\", $iommufd
        \"id\": \"$1\", \"host\": \"$2\", \"bus\": \"$3\""
}

scenario_plug()
{
    plan 9
    guest_start plug "$STRICT"
    await 120 guest_has_said ready
    plug dev0 "$disk" port0
    await 60 guest_has_said data0
    check "a disk that is plugged is behind the IOMMU" all type0 DMA 1
    check "the guest reads it" all data0 "$want" 1

    plug dev1 "$VFIO_TEST_NVME1" port1
    await 60 guest_has_said data1
    check "a second disk that is plugged is behind the IOMMU" all type1 DMA 1
    check "the guest reads that" all data1 "$want1" 1

    guest_execute device_del '"id": "dev0"'
    await 60 guest_had_event DEVICE_DELETED
    check "a disk can be unplugged" guest_had_event DEVICE_DELETED
    check "the rig's IOMMU maps nothing for it any more" \
        [ "$(rig_maps "$disk")" = 0 ]
    guest_end
    check "the guest reads the one that stayed" all again "$want1" 1
    check_end
}

# The rig's IOMMU has 39 bits, and virtio-iommu offers 64.
maps_from_the_top()
{
    highest=$(viommu_highest)
    echo "# the highest address that the guest mapped is $highest"
    [ "$highest" -ge $((0x7f00000000)) ] && [ "$highest" -le $((0x7fffffffff)) ]
}

# Linux leaves the addresses below 4 GiB only when there are no more of them.
scenario_far()
{
    plan 8
    guest_start once "$STRICT iommu.forcedac=1"
    guest_end
    check "the guest is told what the host's IOMMU cannot map" \
        [ "$(guest_said reserved | grep -v ' msi$')" = \
          "0x0000008000000000 0xffffffffffffffff reserved" ]
    check "its DMA is translated" all type DMA 1
    check "it maps from the highest address on that the host has" maps_from_the_top
    check_load 1
    check_end
}

if [ "$scenario" = plug ]; then
    devices="-device pcie-root-port,id=port0,chassis=1
        -device pcie-root-port,id=port1,chassis=2"
    [ "$VFIO_TEST_MODE" = legacy ] || devices="$devices -object iommufd,id=iommufd0"
else
    devices=$(vfio_arguments "$disk")
fi
guest_command "$(viommu_arguments "$kind")" "$devices"
"scenario_$scenario"
finish
