# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# For guests with an IOMMU of their own; source it after guest.sh.

VIOMMU_TRACE=/tmp/viommu.trace

# viommu_arguments KIND: the guest's IOMMU, and a trace of what it asks to be
# mapped. It must come before the devices that are behind the IOMMU.
viommu_arguments()
{
    case $1 in
    intel)
        echo "-machine kernel-irqchip=split" \
             "-device intel-iommu,caching-mode=on,intremap=on" ;;
    intel-noremap)
        echo "-device intel-iommu,caching-mode=on,intremap=off" ;;
    virtio)
        echo "-device virtio-iommu-pci" ;;
    esac
    echo "-trace vfio_iommu_map_notify -D $VIOMMU_TRACE"
}

# viommu_sizes: how often each size was mapped and unmapped. An IOMMU that is
# reset unmaps everything there could be, in the largest pieces.
viommu_sizes()
{
    awk '$1 == "vfio_iommu_map_notify" {
             count[$3 " of " ($7 - $5 + 1) / 1024 " KiB"]++
         }
         END { for (key in count) print key ": " count[key] }' \
        $VIOMMU_TRACE | sort -k 1,1 -k 3,3n
}

# viommu_maps: how many maps there were
viommu_maps()
{
    grep -c "^vfio_iommu_map_notify iommu MAP " $VIOMMU_TRACE
}

# viommu_highest: the highest address that was mapped
viommu_highest()
{
    awk '$1 == "vfio_iommu_map_notify" && $3 == "MAP" && $7 + 0 > highest {
             highest = $7 + 0
         }
         END { printf "%.0f\n", highest }' $VIOMMU_TRACE
}

# viommu_left: how many of the maps have not been unmapped one by one
viommu_left()
{
    awk '$1 == "vfio_iommu_map_notify" {
             if ($3 == "MAP") mapped[$5 $7]++
             else if ($5 $7 in mapped && --mapped[$5 $7] == 0)
                 delete mapped[$5 $7]
         }
         END { left = 0; for (key in mapped) left += mapped[key]; print left }' \
        $VIOMMU_TRACE
}

# rig_maps ADDRESS: how many pages, of any size, the rig's own IOMMU has mapped for
# the device. Only Intel's driver shows that; with others it is how many KiB are
# pinned for all devices of the guest.
rig_maps()
{
    if [ "$VFIO_TEST_IOMMU" = intel ]; then
        grep -c '^0x' "/sys/kernel/debug/iommu/intel/$1/domain_translation_struct"
    else
        # shellcheck disable=SC2154 # guest.sh sets it
        awk '/^Vm(Lck|Pin):/ { kib += $2 } END { print kib }' "/proc/$guest_pid/status"
    fi
}
