# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The rig's outer machine, as a QEMU command line.
#
# A q35 with an emulated VT-d, entirely in software by default: a host's
# /dev/kvm may exist and yet not run an ordinary guest. Under TCG, "-cpu max"
# offers AMD's virtualization, so that there is a /dev/kvm inside whatever the
# host has. The QEMU is the rig's own, never the one under test: the patches in
# tests/rig/patches mend what guests of an emulated processor die of.
# caching-mode stays off: with it the kernel takes a lock and flushes for each map
# (cache.c of its intel-iommu), and parallel maps are serialized.
#
# Set by the caller: RIG_DIR (build/rig), RIG_QEMU, RIG_KERNEL (a bzImage),
# RIG_INITRD (its initramfs, if there is one), RIG_ROOT (the name of the image to run
# from), RIG_FIRMWARE (a folder with code.fd and variables.fd, if it is to be UEFI).

: "${RIG_ACCEL:=tcg}" "${RIG_MEMORY:=3072}" "${RIG_INTREMAP:=on}" "${RIG_IOMMU:=intel}" "${RIG_TRACKING:=off}" "${RIG_FIRMWARE:=}"

MACHINE_TABLE=${BASH_SOURCE[0]%/*}/devices

# A panic ends the machine, and -no-reboot then ends QEMU. The timer check goes
# by real time: on a busy host the emulated timer is late for it and the kernel
# panics ("timer doesn't work through Interrupt-remapped IO-APIC"). Looking for
# serial ports that are not there takes a fifth of a second.
MACHINE_KERNEL=(panic=-1 oops=panic no_timer_check 8250.nr_uarts=1)

# machine_accel: the arguments for what executes the machine's code.
machine_accel()
{
    case $RIG_ACCEL in
    tcg) MACHINE=(-machine q35 -accel "tcg,thread=multi" -cpu max)
         # see tsc-khz.c
         MACHINE_KERNEL+=("tsc_early_khz=$("$RIG_DIR/tsc-khz")") ;;
    kvm) MACHINE=(-machine "q35,kernel-irqchip=split" -accel kvm -cpu host) ;;
    *)   die "--accel takes tcg or kvm, not $RIG_ACCEL" ;;
    esac
}

# machine_iommu: with RIG_TRACKING it tracks what devices write, which is part of its
# scalable mode. A virtio-iommu remaps no interrupts, and devices are passed through
# nevertheless.
machine_iommu()
{
    local iommu=$RIG_IOMMU-iommu,intremap=$RIG_INTREMAP

    if [ "$RIG_TRACKING" = on ]; then
        iommu+=,x-scalable-mode=on,x-ssads=on
        MACHINE_KERNEL+=("intel_iommu=on,sm_on")
    fi
    if [ "$RIG_IOMMU" = virtio ]; then
        iommu=virtio-iommu-pci,bus=pcie.0,addr=1
        MACHINE_KERNEL+=({vfio_iommu_type1,iommufd}.allow_unsafe_interrupts=1)
    fi
    MACHINE+=(-device "$iommu")
}

# machine_firmware: QEMU's own if there is no other. What it writes to its variables
# goes where a disk's writes go.
machine_firmware()
{
    [ -n "$RIG_FIRMWARE" ] || return 0
    MACHINE+=(-drive "if=pflash,unit=0,format=raw,readonly=on,file=$RIG_FIRMWARE/code.fd"
        -drive "if=pflash,unit=1,format=raw,snapshot=on,file=$RIG_FIRMWARE/variables.fd")
}

# machine_disks: every disk is opened with snapshot=on, so what a run writes
# goes to a nameless file and the next run finds the disks as they were made.
machine_disks()
{
    local disk

    for disk in "root:$RIG_ROOT" nvme0:nvme0 nvme1:nvme1 pf0:pf0; do
        MACHINE+=(-drive "if=none,id=${disk%:*},format=raw,snapshot=on,cache=unsafe,file=$RIG_DIR/${disk#*:}.img")
    done
}

# machine_devices: net0's cable leads to a socket that nobody connects to; QEMU
# warns of a network device without one. pf0 needs a subsystem before it, and
# its namespace after it, and aer0 an object.
machine_devices()
{
    local row device

    MACHINE+=(-device "nvme-subsys,id=pf0-subsys" -object "rng-builtin,id=aer0-rng")
    MACHINE+=(-netdev "stream,id=net0,server=on,addr.type=unix,addr.abstract=on,addr.path=rig-$$")
    while read -ra row; do
        device=${row[3]}
        [ "${row[0]}" != channels ] || device+=,id=channels
        MACHINE+=(-device "$device")
    done < <(sed -e 's/#.*//' -e '/^[[:space:]]*$/d' "$MACHINE_TABLE")
    MACHINE+=(-device "nvme-ns,bus=pf0,drive=pf0,nsid=1")
}

# machine_monitor: the machine's own monitor is a channel of the rig's, so that a test
# can have something happen to its hardware.
machine_monitor()
{
    local path=abstract=on,path=rig-monitor-$$

    MACHINE+=(-chardev "socket,id=monitor,server=on,wait=off,$path" -mon chardev=monitor
        -chardev "socket,id=monitored,$path"
        -device "virtserialport,bus=channels.0,name=monitor,chardev=monitored")
}

# machine_command PROGRAM [WORD...]: sets MACHINE to the whole command line.
# PROGRAM is the file with the script to run; the words are added to the
# kernel's command line.
machine_command()
{
    local program=$1
    shift

    machine_accel
    machine_iommu
    MACHINE=("$RIG_QEMU" "${MACHINE[@]}" -smp 2 -m "$RIG_MEMORY"
        -nodefaults -no-user-config -display none -no-reboot
        -L "$RIG_DIR/$RIG_ROOT.img.d/usr/share/qemu"
        -kernel "$RIG_KERNEL"
        -append "console=ttyS0 root=/dev/vda ro init=/rig/init ${MACHINE_KERNEL[*]} $*"
        -fw_cfg "name=opt/rig/program,file=$program")
    # Debian's own kernel
    [ ! -e "$RIG_INITRD" ] || MACHINE+=(-initrd "$RIG_INITRD")
    machine_firmware
    machine_disks
    machine_devices
    machine_monitor
}
