# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest in the rig, under KVM, with a device passed through.

: "${QEMU:=/opt/qemu/bin/qemu-system-x86_64}" "${VFIO_TEST_MODE:=legacy}"
: "${GUEST_MEMORY:=256}"

# Seconds after which a guest that does not end hangs
: "${GUEST_PATIENCE:=180}"

GUEST_LOG=/tmp/guest.log        # the guest's console
GUEST_OVER=/tmp/guest.over      # is there when nothing more is written to it
GUEST_ERRORS=/tmp/guest.errors  # QEMU's standard error
GUEST_MONITOR=/tmp/guest.qmp     # a pipe to QEMU's monitor
GUEST_REPLIES=/tmp/guest.replies # and what the monitor said

# vfio_device OPTION FOLDER: how the device of that folder in sysfs is passed
# through in this mode; OPTION is what names it. For "@NODE" guest_start writes
# the number of a descriptor.
vfio_device()
{
    case $VFIO_TEST_MODE in
    legacy)  echo "-device vfio-pci,$1" ;;
    iommufd) echo "-device vfio-pci,$1,iommufd=iommufd0" ;;
    fd)      for node in "$2"/vfio-dev/*; do
                 echo "-device vfio-pci,fd=@/dev/vfio/devices/${node##*/},iommufd=iommufd0"
             done ;;
    esac
}

# vfio_arguments ADDRESS [PROPERTY...]: the device, and the object for it; a
# property is like ",bus=port".
vfio_arguments()
{
    case $VFIO_TEST_MODE in
    iommufd) echo "-object iommufd,id=iommufd0" ;;
    fd)      echo "-object iommufd,id=iommufd0,fd=@/dev/iommu" ;;
    esac
    echo "$(vfio_device "host=$1" "/sys/bus/pci/devices/$1"),id=dev0$2"
}

# vfio_mdev_arguments SYSFSDEV: a mediated device, beside one that
# vfio_arguments is for.
vfio_mdev_arguments()
{
    echo "$(vfio_device "sysfsdev=$1" "$1"),id=mdev0"
}

# guest_open: opens each "@NODE" of GUEST_COMMAND, from descriptor 6 on.
guest_open()
{
    GUEST_DESCRIPTORS=
    for node in $(echo "$GUEST_COMMAND" | grep -o '@/dev/[^ ,]*'); do
        number=$((6 + ${#GUEST_DESCRIPTORS}))
        eval "exec $number<>${node#@}"
        GUEST_COMMAND=$(echo "$GUEST_COMMAND" | sed "s|$node|$number|")
        GUEST_DESCRIPTORS=$GUEST_DESCRIPTORS$number
    done
}

# guest_close: they are the guest's now. A device stays bound as long as anybody
# has the file.
guest_close()
{
    for number in $(echo "$GUEST_DESCRIPTORS" | grep -o .); do
        eval "exec $number>&-"
    done
}

# guest_command ARGUMENT...: sets GUEST_COMMAND to the command line.
# xsave is off: under software emulation the size that the processor tells for
# its state is not what KVM's guest finds, and its kernel warns of that.
guest_command()
{
    GUEST_COMMAND=$(echo "$QEMU -nodefaults -no-user-config -display none \
-machine q35 -accel kvm -cpu host,xsave=off -m $GUEST_MEMORY \
-kernel /rig/bzImage -initrd /rig/guest.cpio \
-serial file:$GUEST_LOG -qmp stdio $*" | tr -s ' \n' ' ')
}

# guest_follow: copies the guest's console to standard error as it grows, so that
# it is in the log whatever happens, until GUEST_OVER is there. A line may be
# read while it is being written.
guest_follow()
{
    over='' begun=''
    until [ -n "$over" ]; do
        [ ! -e $GUEST_OVER ] || over=yes
        while read -r line; do
            echo "guest| $begun$line"
            begun=
        done
        begun=$begun$line
        [ -n "$over" ] || usleep 300000
    done <$GUEST_LOG >&2
}

# guest_start TASK [WORD...]: starts GUEST_COMMAND with its guest doing TASK;
# the words are added to its kernel's command line. A console is dear here, each
# letter leaves the guest: hence quiet.
guest_start()
{
    append="console=ttyS0 quiet panic=-1 8250.nr_uarts=1 task=$*"
    echo "# $GUEST_COMMAND -append '$append'"
    rm -f $GUEST_MONITOR $GUEST_LOG $GUEST_OVER
    : >$GUEST_LOG
    mkfifo $GUEST_MONITOR
    guest_open
    $GUEST_COMMAND -append "$append" \
        <$GUEST_MONITOR >$GUEST_REPLIES 2>$GUEST_ERRORS &
    guest_pid=$!
    guest_close
    exec 5>$GUEST_MONITOR
    # nobody but the test itself has the test's output open
    guest_follow >&2 &
    guest_follower=$!
    trap '' PIPE  # a monitor that is gone is seen by its process's status
    guest_execute qmp_capabilities
}

# guest_execute COMMAND [ARGUMENTS]: a QMP command; ARGUMENTS are JSON.
guest_execute()
{
    echo "{\"execute\": \"$1\", \"arguments\": {$2}}" >&5 2>/dev/null
}

# guest_monitor COMMAND: what QEMU answers to a line of its monitor for people
guest_monitor()
{
    answered=$(wc -l <$GUEST_REPLIES)
    guest_execute human-monitor-command "\"command-line\": \"$1\""
    sleep 2
    tail -n +$((answered + 1)) $GUEST_REPLIES | sed 's/\\r\\n/\n/g'
}

# guest_examine: what there is to know of a guest that hangs: how far it came,
# where its processor is, what it waits for, and whether the device's interrupts
# still arrive (twice, some seconds apart).
guest_examine()
{
    echo "the guest hangs; it said:"
    tail -n 3 $GUEST_LOG
    guest_monitor "info registers" | grep -E "RIP|RFL|HLT"
    guest_monitor "info lapic" | grep -E "ISR|IRR|LVTT|Timer|PPR"
    for _ in 1 2; do
        grep vfio /proc/interrupts
        sleep 5
    done
    tail -n 3 $GUEST_LOG
}

# await SECONDS COMMAND...: until COMMAND succeeds, or QEMU is gone. A guest that
# takes longer hangs.
await()
{
    n=$(($1 * 10))
    shift
    while [ $n -gt 0 ] && kill -0 "$guest_pid" 2>/dev/null; do
        ! "$@" || return 0
        usleep 100000
        n=$((n - 1))
    done
    [ $n != 0 ] || guest_examine 2>&1 | tr -d '\r' | sed 's/^/# /'
    return 1
}

# guest_has_said KEY: in a line that is whole; the guest may be writing it.
guest_has_said()
{
    grep -qE "^guest: $1( .*)?$(printf '\r')\$" $GUEST_LOG
}

# guest_last KEY: the last line that the guest told for it, with the key.
guest_last()
{
    tr -d '\r' <$GUEST_LOG | sed -n "s/^guest: \($1\)/\1/p" | tail -n 1
}

# guest_had_event EVENT [TIMES]: whether QMP reported it so often, or once.
guest_had_event()
{
    [ "$(grep -c "\"event\": \"$1\"" $GUEST_REPLIES)" -ge "${2:-1}" ]
}

# guest_refusals: what QMP answered to commands that failed.
guest_refusals()
{
    grep '"error"' $GUEST_REPLIES
}

# guest_let_go: whether QEMU has none of vfio's descriptors open any more. The
# last of them is closed after the event that says the device is gone.
guest_let_go()
{
    for fd in "/proc/$guest_pid/fd"/*; do
        case $(readlink "$fd") in
        /dev/vfio/*|/dev/iommu|*vfio-device*) return 1 ;;
        esac
    done
}

# guest_end: waits for QEMU's end and puts what was said into the rig's log. How
# far a map is says nothing but that the machine is slow.
guest_end()
{
    await "$GUEST_PATIENCE" false || kill -9 "$guest_pid" 2>/dev/null
    wait "$guest_pid"
    GUEST_STATUS=$?
    exec 5>&-
    touch $GUEST_OVER
    wait "$guest_follower"
    sed 's/^/qemu| /' $GUEST_ERRORS >&2
    sed -i '/: info: iommufd object .*: mapped .* after/d' $GUEST_ERRORS
}

# guest_said KEY: the values that the guest told for it.
guest_said()
{
    tr -d '\r' <$GUEST_LOG | sed -n "s/^guest: $1 //p"
}
