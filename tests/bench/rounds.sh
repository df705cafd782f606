#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# In the rig: measures QEMUs with a device passed through, and prints CSV. What
# is compared runs alternately, so that a machine that becomes slower or faster
# affects all of it. Environment:
#
#   BENCH_ROUNDS   number of rounds
#   BENCH_MEMORY   MiB of the guests
#   BENCH_PAGES    kinds of memory, see memory_arguments
#   BENCH_PATHS    none (no device), legacy, iommufd, threads-N (iommufd with
#                  map-threads=N), apart-N (the same with an object for each
#                  device), background (map-in-background=on); "@NAME" after it
#                  selects the QEMU in /opt/NAME
#   BENCH_CASES    start; devices, of BENCH_DEVICES, which has its own memory and
#                  pages; plug, which has its own pages; spaces, which also has its
#                  own paths; calls, see map.c, with its own paths; boot, of guests
#                  with each of BENCH_BOOTED; reads and viommu, which have their own
#                  memory, too
#   BENCH_DEVICES  how many devices: "1 2 4 8"
#   BENCH_BOOTED   nvme, which firmware drives, too; edu and net (an e1000e), which
#                  only the guest's kernel drives

. /rig/lib.sh
. /rig/guest.sh

THP=/sys/kernel/mm/transparent_hugepage/enabled
SHARED_THP=/sys/kernel/mm/transparent_hugepage/shmem_enabled
HUGE=/proc/sys/vm/nr_hugepages
HUGE_MIB=2

# For guests whose devices are counted: a device costs no less with more of it.
FEW_MIB=64

# The first one has no reset method, so no time is spent on a reset.
DEVICE=$(address_of edu2)
OTHER=$(address_of edu0)

# memory_arguments PAGES MIB
memory_arguments()
{
    backend="-machine memory-backend=ram -object"

    case $1 in
    small|thp) ;;
    huge)      echo "$backend memory-backend-memfd,id=ram,size=$2M,hugetlb=on,hugetlbsize=${HUGE_MIB}M" ;;
    shared*)   echo "$backend memory-backend-memfd,id=ram,size=$2M,share=on" ;;
    prealloc)  echo "$backend memory-backend-ram,id=ram,size=$2M,prealloc=on" ;;
    esac
}

# prepare_memory PAGES MIB: sets what the kernel must know before
prepare_memory()
{
    huge=0

    case $1 in
    thp|prealloc) echo always >$THP ;;
    *)            echo never >$THP ;;
    esac
    case $1 in
    shared-thp) echo always >$SHARED_THP ;;
    *)          echo never >$SHARED_THP ;;
    esac
    [ "$1" != huge ] || huge=$(($2 / HUGE_MIB))
    echo $huge >$HUGE
    [ "$(cat $HUGE)" -eq $huge ] || {
        echo "there are $(cat $HUGE) huge pages and not $huge" >&2
        exit 1
    }
}

# object_arguments PATH
object_arguments()
{
    case ${1%@*} in
    iommufd)   echo "-object iommufd,id=iommufd0" ;;
    background) echo "-object iommufd,id=iommufd0,map-in-background=on" ;;
    threads-*) n=${1%@*}
               echo "-object iommufd,id=iommufd0,map-threads=${n#threads-}" ;;
    apart-*)   n=${1%@*}
               for id in iommufd0 iommufd1; do
                   echo "-object iommufd,id=$id,map-threads=${n#apart-}"
               done ;;
    esac
}

# device_json PATH N: the Nth device that is plugged, for the program measure
device_json()
{
    object=iommufd0
    host=$DEVICE
    if [ "$2" = 2 ]; then
        host=$OTHER
        case $1 in
        apart-*) object=iommufd1 ;;
        esac
    fi
    case $1 in
    legacy*) ;;
    *)       printf '"iommufd":"%s",' "$object" ;;
    esac
    printf '"driver":"vfio-pci","host":"%s","id":"dev%d","addr":"%x"\n' "$host" "$2" $((8 + $2))
}

# virtual_address N: of the Nth virtual function of PF0, from 1 on
virtual_address()
{
    bus=$(address_of pf0)
    printf '%s:%02x.%x\n' "${bus%:*}" $(($1 / 8)) $(($1 % 8))
}

# make_virtual N: functions, for vfio-pci
make_virtual()
{
    pf=/sys/bus/pci/devices/$(address_of pf0)
    echo 0 >"$pf/sriov_drivers_autoprobe"
    echo "$1" >"$pf/sriov_numvfs"
    for n in $(seq "$1"); do
        bind_driver "$(virtual_address "$n")" vfio-pci || exit 1
    done
}

# device_arguments N OBJECT: N of them
device_arguments()
{
    for n in $(seq "$1"); do
        echo "-device vfio-pci,host=$(virtual_address "$n")${2:+,iommufd=iommufd0}"
    done
}

# read_in_guest PATH: how long a thousand reads take in a guest
read_in_guest()
{
    VFIO_TEST_MODE=$1
    guest_command "$(vfio_arguments "$VFIO_TEST_NVME0")"
    guest_start reads >&2
    guest_end
    guest_said reads | awk '{ printf "reads %.3f\n", $1 / 1000 }'
}

# boot DEVICE PATH OBJECT QEMU...: a Linux in the guest, which uses the device, if it
# has one. An edu reaches only the first 256 MiB.
boot()
{
    append="console=ttyS0 quiet panic=-1 8250.nr_uarts=1"
    case $1 in
    nvme) host=$VFIO_TEST_NVME0 task=boot word='guest: data' ;;
    edu)  host=$DEVICE task=first word='guest: edu' append="$append mem=256M" ;;
    net)  host=$VFIO_TEST_NET0 task=nothing word='guest: end' ;;
    esac
    device="-device vfio-pci,host=$host${3:+,iommufd=iommufd0}"
    case $2 in
    none*) device='' task=nothing word='guest: end' ;;
    esac
    shift 3
    # xsave: see guest.sh
    # shellcheck disable=SC2086 # words
    /rig/tests/measure --boot "$word" "$@" -cpu host,xsave=off -kernel /rig/bzImage \
        -initrd /rig/guest.cpio -append "$append task=$task" $device
}

# compare_viommu: prints lines of text; this test itself alternates the paths page
# by page.
compare_viommu()
{
    for who in rate kernel; do
        VFIO_TEST_MODE=both /rig/tests/vfio-viommu-rate-test -m slow --tap -k \
            -p /x86_64/vfio/viommu-rate/both/$who |
            sed -n "s/^# \\(time to\\)/# virtio-iommu, $who: \\1/p"
    done
}

# measure CASE PATH PAGES MIB: prints what the program measure prints
measure()
{
    name=qemu
    [ "${2%@*}" = "$2" ] || name=${2#*@}
    libraries=/opt/$name/lib/x86_64-linux-gnu
    [ ! -d "$libraries" ] || export LD_LIBRARY_PATH="$libraries"
    iommufd=$(object_arguments "$2")
    mib=$4
    [ "$1" != devices ] || mib=$FEW_MIB
    qemu="/opt/$name/bin/qemu-system-x86_64 -machine pc -accel ${BENCH_ACCEL:-kvm} \
-m $mib $(memory_arguments "$3" "$mib") $iommufd"

    # shellcheck disable=SC2086 # words
    case $1:$2 in
    start:none*|devices:none*)
        /rig/tests/measure $qemu ;;
    start:*)
        /rig/tests/measure $qemu \
            -device "vfio-pci,host=$DEVICE${iommufd:+,iommufd=iommufd0}" ;;
    devices:*)
        devices=$(device_arguments "$4" "$iommufd")
        /rig/tests/measure $qemu $devices ;;
    boot-*:*)
        boot "${1#boot-}" "$2" "$iommufd" $qemu ;;
    calls:*)
        /rig/tests/map "$2" "$3" "$4" ;;
    reads:*)
        read_in_guest "$2" ;;
    plug:*|spaces:*)
        viommu=
        [ "$1" = plug ] || viommu="-device virtio-iommu-pci,addr=3"
        /rig/tests/measure --plug "$(device_json "$2" 1)" \
            --plug "$(device_json "$2" 2)" $qemu $viommu ;;
    esac
}

# rounds CASE PAGES MIB PATHS: MIB is the number of devices where that is measured. For
# each kind of pages, the first round only warms up the caches.
rounds()
{
    round=0
    [ "$warm" != "$1 $2" ] || round=1
    warm="$1 $2"
    while [ "$round" -le "$BENCH_ROUNDS" ]; do
        for path in $4; do
            case $1:${path%@*}:$2 in
            plug:none:*|calls:file-*:small|calls:file-*:thp) continue ;;
            esac
            (measure "$1" "$path" "$2" "$3") >/tmp/measured || exit 1
            [ "$round" -eq 0 ] ||
                sed "s/^/$1,$3,$2,$path,$round,/; s/ /,/" /tmp/measured
        done
        round=$((round + 1))
    done
}

# cases: those of BENCH_CASES, one for each device that is booted with
cases()
{
    for name in $BENCH_CASES; do
        case $name in
        boot) for device in $BENCH_BOOTED; do
                  echo "boot-$device"
              done ;;
        *)    echo "$name" ;;
        esac
    done
}

# Touch all that a guest may get; see measure.c.
/rig/tests/measure --touch $(($(awk '/MemAvailable/ { print $2 }' /proc/meminfo) / 1024 - 256))

warm=
echo "case,mib,pages,path,round,what,seconds"
for case in $(cases); do
    case $case in
    reads)  rounds reads thp "$GUEST_MEMORY" "legacy iommufd"
            continue ;;
    viommu) compare_viommu
            continue ;;
    esac
    kinds=$BENCH_PAGES paths=$BENCH_PATHS sizes=$BENCH_MEMORY
    case $case in
    devices) kinds=thp sizes=$BENCH_DEVICES
            make_virtual "$(for n in $sizes; do echo "$n"; done | sort -n | tail -n 1)" ;;
    plug)   kinds="thp prealloc" ;;
    calls)  kinds="small thp shared shared-thp huge" paths="legacy map-1 map-2 file-1 file-2" ;;
    boot-net) bind_driver "$VFIO_TEST_NET0" vfio-pci || exit 1 ;;
    spaces) kinds="thp small" paths="legacy apart-1 apart-2 threads-1 threads-2" ;;
    esac
    for pages in $kinds; do
        for mib in $sizes; do
            prepare_memory "$pages" "$mib"
            rounds "$case" "$pages" "$mib" "$paths"
        done
    done
done
