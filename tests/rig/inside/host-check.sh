#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Tests what qemu-iommufd-host-check says of this host, and of devices in several
# states. Its advice is followed, and has to help.
#
#     VFIO_TEST_KERNEL=plain|nocdev|nogroup|noremap|unsafe|noiommu|tracks|stock|own host-check.sh

. /rig/lib.sh
. /rig/tap.sh

CHECK=/rig/tests/qemu-iommufd-host-check
RESULTS=/tmp/results
nvme=$VFIO_TEST_NVME0

# look [ARGUMENT...]: runs a check, and keeps its status and its results, a line for
# each: result, title, what was found, advice. jq accepts nothing but JSON.
look()
{
    status=0
    $CHECK --json "$@" >/tmp/json || status=$?
    jq -r '.[] | [.result, .check, .detail, .advice] | @tsv' /tmp/json >$RESULTS
}

# holds COMMAND...: whether it succeeds; if not, shows the results.
holds()
{
    "$@" || { show $RESULTS; return 1; }
}

# says RESULT TITLE [TEXT]: whether the last look had RESULT for the one check whose
# title has TITLE in it, and TEXT in what it found or advises.
says()
{
    # shellcheck disable=SC2016 # the program is awk's
    holds env result="$1" title="$2" text="${3:-}" awk -F '\t' '
        BEGIN { text = ENVIRON["text"] }
        index($2, ENVIRON["title"]) {
            count++
            good = $1 == ENVIRON["result"] && (text == "" || index($3 FS $4, text))
        }
        END { exit !(count == 1 && good) }' $RESULTS
}

# others COUNT: whether all but COUNT checks passed.
others()
{
    # shellcheck disable=SC2016 # the program is awk's
    holds awk -v count="$1" '
        $1 != "PASS" { others++ }
        END { exit !(NR > 7 && others + 0 == count) }' $RESULTS
}

# all_pass: whether every check passed, and the status says so.
all_pass()
{
    others 0 && [ "$status" = 0 ]
}

# follow TITLE: does what the last look advises there; commands are indented.
follow()
{
    awk -F '\t' -v title="$1" 'index($2, title) { print $4 }' $RESULTS |
        sed -e 's/\\n/\n/g' | sed -n 's/^    //p' >/tmp/advice
    [ -s /tmp/advice ] && sh /tmp/advice 2>&1 | sed 's/^/# /'
}

# as_text_too [ARGUMENT...]: whether the text has the same results as the last look,
# in lines like those of virt-host-validate.
as_text_too()
{
    $CHECK "$@" | sed -n 's/^  QEMU: Checking \(.*[^ ]\)  *: \([A-Z]*\).*/\2 \1/p' >/tmp/text
    awk -F '\t' '{ print $1, $2 }' $RESULTS >/tmp/results-alone
    [ -s /tmp/text ] && cmp /tmp/text /tmp/results-alone
}

# refuses ARGUMENT...: whether this command line is refused.
refuses()
{
    status=0
    words=$($CHECK "$@" 2>&1) || status=$?
    [ $status = 2 ] && echo "$words" | grep -q 'error: .*' ||
        { echo "# $status: $words"; return 1; }
}

# pretend FILE [TEXT]: replaces a file of the kernel's by one with TEXT.
pretend()
{
    echo "$2" >"/tmp/pretended-${1##*/}"
    mount --bind "/tmp/pretended-${1##*/}" "$1"
}

# add_user: adds an ordinary user, whose limit on locked memory is 64 MiB.
add_user()
{
    sed '$a\user:x:1000:1000::/tmp:/bin/sh' /etc/passwd >/tmp/passwd
    sed '$a\user:x:1000:' /etc/group >/tmp/group
    mount --bind /tmp/passwd /etc/passwd
    mount --bind /tmp/group /etc/group
    ulimit -l 65536
}

# start_qemu OPTION...: starts a QEMU that has a device and does nothing.
start_qemu()
{
    qemu-system-x86_64 -machine q35 -accel qtest -m 64 -nodefaults -display none \
        "$@" >&2 &
    qemu=$!
    n=0
    until has_open $qemu '/dev/vfio/[0-9d]*' || [ $n -gt 100 ]; do
        usleep 100000
        n=$((n + 1))
    done
}

# start_user_qemu OPTION...: starts one as the ordinary user, and waits until it has
# locked its memory in the way that FIELD of its status counts.
start_user_qemu()
{
    field=$1
    shift
    su user -c "exec qemu-system-x86_64 -machine q35 -accel qtest -m 64 -nodefaults -display none $*" >&2 &
    qemu=$!
    n=0
    until grep -q "^$field:[[:space:]]*6[0-9][0-9][0-9][0-9] kB" "/proc/$qemu/status" || [ $n -gt 100 ]; do
        usleep 100000
        n=$((n + 1))
    done
}

stop_qemu()
{
    kill "$qemu"
    wait "$qemu"
}

# to_serial ADDRESS: gives an edu to the driver of serial cards, which believes that
# a device is one if it is told so.
to_serial()
{
    echo "$1" >"/sys/bus/pci/devices/$1/driver/unbind"
    echo serial >"/sys/bus/pci/devices/$1/driver_override"
    echo 1234 11e8 ffffffff ffffffff 0 0 1 >/sys/bus/pci/drivers/serial/new_id
    [ "$(driver_of "$1")" = serial ] || echo "$1" >/sys/bus/pci/drivers/serial/bind
}

good_host()
{
    look
    check "the host is as it has to be" all_pass
    look "$nvme"
    check "... and a device on vfio-pci" all_pass
    check "the text says the same" as_text_too "$nvme"
    look "${nvme#0000:}"
    check "... and for a short address" all_pass
}

drivers()
{
    look "$VFIO_TEST_NET0"
    check "a device on the host's driver is told" says FAIL "its driver" e1000e
    check "the text says the same, and how to change it" as_text_too "$VFIO_TEST_NET0"
    follow "its driver"
    look "$VFIO_TEST_NET0"
    check "... which helps" all_pass

    to_serial "$VFIO_TEST_PAIR1"
    look "$VFIO_TEST_PAIR0"
    check "another device of the group, on a driver of the host's, is told" \
        says FAIL "other devices of its group" "$VFIO_TEST_PAIR1 serial"
    follow "other devices of its group"
    look "$VFIO_TEST_PAIR0"
    check "... and how to change it" all_pass
    check "... which is right: vfio-pci has it" [ "$(driver_of "$VFIO_TEST_PAIR1")" = vfio-pci ]

    look 00:10.0
    check "a bridge is told" says FAIL "for device" bridge
    look 00:1f.7
    check "a device that is not there is told" says FAIL "for device" "no such device"
}

in_use()
{
    start_qemu -device "vfio-pci,host=$nvme"
    look "$nvme"
    check "a QEMU that has the group is told" says FAIL "processes that use it" "qemu-system-x86 ($qemu)"
    stop_qemu
    start_qemu -object iommufd,id=i -device "vfio-pci,host=$nvme,iommufd=i"
    look "$nvme"
    check "... and one that has the device" says FAIL "processes that use it" "qemu-system-x86 ($qemu)"
    stop_qemu
    look "$nvme"
    check "... and that neither has it any more" all_pass

    # a process may have any name; this one waits without a child
    mkfifo /tmp/never
    sh -c 'printf "\"\\\\\n\033[1m\351" >/proc/$$/comm; read -r _ <>/tmp/never' >&2 \
        7<>"/dev/vfio/devices/$(cdev_of "$nvme")" &
    sleep 1
    look "$nvme"
    check "a process with a strange name is told" says FAIL "processes that use it" "\"\\\\??[1m? ($!)"
    kill $!
}

permission()
{
    node=/dev/vfio/devices/$(cdev_of "$nvme")
    add_user
    chmod 600 /dev/iommu "$node"
    look --user user --memory 4G "$nvme"
    check "a user who may not open /dev/iommu is told" says FAIL "access to /dev/iommu" "user may not"
    check "... nor the device" says FAIL "its character device" "root:root's with mode 600"
    check "... and who may lock too little" says FAIL "locked memory" "64 MiB, and this guest needs 4160 MiB"
    check "the text says the same" as_text_too --user user --memory 4G "$nvme"
    look --user user
    check "without a size the limit is told" says WARN "locked memory" "64 MiB; "
    chown :user /dev/iommu "$node"
    chmod 660 /dev/iommu "$node"
    look --user user "$nvme"
    check "with access and an unknown size nothing fails" [ $status = 0 ]
    ulimit -l $((4160 * 1024))
    look --user user --memory 4096 "$nvme"
    check "with a limit that suffices all passes" all_pass
    look --user user --memory 4097 "$nvme"
    check "... and with one that nearly does it does not" says FAIL "locked memory" "needs 4161 MiB"
    look --user user --memory 4096 --address-spaces 2 "$nvme"
    check "... nor for two objects" says FAIL "locked memory" "needs 8320 MiB"
    locked_already
}

locked_already()
{
    start_user_qemu VmPin -object iommufd,id=i -device "vfio-pci,host=$nvme,iommufd=i"
    look --user user --memory 4096
    check "what the user has locked already is counted" \
        says FAIL "locked memory" "user's processes have used 65 MiB, and this guest needs 4160 MiB"
    ulimit -l $(((4160 + 65) * 1024))
    look --user user --memory 4096
    check "... and a limit for both suffices" says PASS "locked memory" "4225 MiB, of which"
    stop_qemu
    chown user "/dev/vfio/$(group_of "$nvme")"
    start_user_qemu VmLck -device "vfio-pci,host=$nvme"
    look --user user --memory 4161
    check "... but not what is counted for its process alone" all_pass
    stop_qemu
}

kernels()
{
    pretend /proc/sys/kernel/osrelease 6.1.0-48-amd64
    pretend /proc/config.gz
    look
    check "options that cannot be read are told" says WARN "option CONFIG_IOMMUFD" "can be read"
    check "an old kernel is told" says FAIL "a kernel with iommufd" 6.1.0-48-amd64
    mount -t tmpfs boot /boot
    echo '# CONFIG_IOMMUFD is not set' >/boot/config-6.1.0-48-amd64
    look
    check "an option that is off is told, and where" says FAIL "option CONFIG_IOMMUFD" /boot/config-6.1.0-48-amd64
    pretend /proc/version "Linux version 6.1.0-48-amd64 (debian-kernel@lists.debian.org)"
    look
    check "a kernel of Debian's is told" says FAIL "option CONFIG_IOMMUFD" "switched off by Debian"
    check "... with the package that brings it" \
        says FAIL "option CONFIG_IOMMUFD" "apt install ./iommufd-dkms_"
    mount -t tmpfs module /sys/module
    mount -t tmpfs lock /sys/kernel/security
    echo '[none] integrity confidentiality' >/sys/kernel/security/lockdown
    mkdir /sys/module/iommufd
    echo OE >/sys/module/iommufd/taint
    look
    check "... and with its modules it is all there" says PASS "option CONFIG_IOMMUFD" iommufd-dkms
    mv /dev/iommu /dev/iommu.away
    look
    check "a node that is not there is told" says FAIL "access to /dev/iommu" "there is no /dev/iommu"
    echo 'none [integrity] confidentiality' >/sys/kernel/security/lockdown
    look
    check "... and a kernel that loads signed modules only, with what to do" \
        says FAIL "access to /dev/iommu" "mokutil --import /var/lib/dkms/mok.pub"
    mv /dev/iommu.away /dev/iommu
    umount /sys/module
    umount /sys/kernel/security
    echo 'CONFIG_VFIO_DEVICE_CDEV=y' >>/boot/config-6.1.0-48-amd64
    look
    check "an old kernel that has it is told" says WARN "a kernel with iommufd"
    umount /proc/config.gz
}

# What an IOMMU of VT-d has that tracks writes: SMTS, SLADS, SLTS and SMPWC
TRACKS=1680000000000

migration()
{
    driver="for a driver that can migrate it"
    look --migration "$nvme"
    check "a driver that migrates nothing is told" says FAIL "$driver" "vfio-pci migrates no device"
    check "... and that nothing tells of the device's writes" \
        says FAIL "tells of its writes" "the host's IOMMU cannot"
    check "... and nothing else" others 2
    check "the text says the same" as_text_too --migration "$nvme"
    mount -t tmpfs sbin /sbin
    printf '#!/bin/busybox sh\necho vfio_pci\necho mlx5_vfio_pci\n' >/sbin/modprobe
    chmod +x /sbin/modprobe
    look --migration "$nvme"
    check "a driver that is made for the device is told" \
        says FAIL "$driver" "echo mlx5_vfio_pci > /sys/bus/pci/devices/$nvme/driver_override"
    umount /sbin
    mount -t tmpfs debug /sys/kernel/debug
    mkdir -p "/sys/kernel/debug/vfio/$nvme/migration"
    look --migration "$nvme"
    check "a driver is believed that the kernel says can" says PASS "$driver" vfio-pci
    umount /sys/kernel/debug
    look --migration 00:1f.7
    check "of a device that is not there nothing more is said" \
        sh -c "! grep -q writes $RESULTS"
    tracking
}

# all_needed: whether no IOMMU passes for one that tracks that lacks one of the bits
all_needed()
{
    for bit in 43 45 46 48; do
        printf '%x\n' $((0x$TRACKS ^ 1 << bit)) >/tmp/pretended-ecap
        look --migration "$nvme"
        says FAIL "tells of its writes" "the host's IOMMU cannot" || return
    done
}

tracking()
{
    iommu=$(readlink -f "/sys/bus/pci/devices/$nvme/iommu")
    mount -t tmpfs intel "$iommu"
    mkdir "$iommu/intel-iommu"
    : >"$iommu/intel-iommu/ecap"
    pretend "$iommu/intel-iommu/ecap" $TRACKS
    pretend /proc/cmdline "intel_iommu=on,sm_on"
    look --migration "$nvme"
    check "an IOMMU of Intel's that tracks writes is known" \
        says PASS "tells of its writes" "the host's IOMMU"
    pretend /proc/config.gz
    mount -t tmpfs boot /boot
    echo CONFIG_INTEL_IOMMU_SCALABLE_MODE_DEFAULT_ON=y >"/boot/config-$(uname -r)"
    echo "intel_iommu=on" >/tmp/pretended-cmdline
    look --migration "$nvme"
    check "... also with a kernel that switches it on by itself" \
        says PASS "tells of its writes" "the host's IOMMU"
    echo "intel_iommu=on,sm_off" >/tmp/pretended-cmdline
    look --migration "$nvme"
    check "... and what it is switched on by" says FAIL "tells of its writes" "intel_iommu=on,sm_on"
    umount /boot
    umount /proc/config.gz
    umount /proc/cmdline
    check "... and each bit that it takes" all_needed
    umount "$iommu/intel-iommu/ecap"
    umount "$iommu"
    mount -t tmpfs amd "$iommu"
    mkdir "$iommu/amd-iommu"
    echo 10000000000000:0 >"$iommu/amd-iommu/features"
    look --migration "$nvme"
    check "one of AMD's is known" says PASS "tells of its writes" "the host's IOMMU"
    mount -t tmpfs module /sys/module
    mkdir /sys/module/iommufd
    echo OE >/sys/module/iommufd/taint
    look --migration "$nvme"
    check "... and that iommufd-dkms does not use it" says FAIL "tells of its writes" "iommufd-dkms refuses"
    umount /sys/module
    echo 8000000000000:10000000000000 >"$iommu/amd-iommu/features"
    look --migration "$nvme"
    check "... and one that does not track" says FAIL "tells of its writes" "the host's IOMMU cannot"
    umount "$iommu"
}

# tracks: on a machine whose IOMMU does
tracks()
{
    look --migration "$nvme"
    check "the IOMMU tells of writes" says PASS "tells of its writes" "the host's IOMMU"
    check "... and the rest is as on any host" others 1
}

command_line()
{
    check "a wrong option is refused" refuses --frobnicate
    check "... a wrong address" refuses 1:2.3.4
    check "... two of them" refuses "$nvme" "$nvme"
    check "... a size that is none" refuses --memory 4GB
    check "... one that is missing" refuses --memory
    check "... a number of address spaces that is none" refuses --address-spaces 0
    check "... a user who is not there" refuses --user nobody-of-that-name
    check "help is given" eval "$CHECK --help | grep -q -- '--memory SIZE'"
}

plan_and_do()
{
    plan "$1"
    shift
    for scene; do
        $scene
    done
    finish
}

no_cdev()
{
    look "$nvme"
    check "a kernel without the option is told" says FAIL "option CONFIG_VFIO_DEVICE_CDEV" /proc/config.gz
    check "... and the device that has no node" says FAIL "its character device" CONFIG_VFIO_DEVICE_CDEV
    check "... and nothing else" others 2
}

no_remapping()
{
    look "$nvme"
    check "that there is no interrupt remapping is told" says FAIL "interrupt remapping" "there is none"
    follow "interrupt remapping"
    look "$nvme"
    check "... and that the host goes without" says WARN "interrupt remapping" "told to go without"
    check "... which is no failure" [ $status = 0 ]
}

# told_to_be_unsafe: on a machine whose IOMMU remaps no interrupts; its kernel was told
# to go without when it was started.
told_to_be_unsafe()
{
    look "$nvme"
    check "an IOMMU of virtio's is known" says PASS "an IOMMU that is switched on"
    check "... and that it remaps no interrupts" says WARN "interrupt remapping" "told to go without"
    check "... and the rest is as on any host" others 1
    check "... which is no failure" [ $status = 0 ]
}

no_iommu()
{
    look "$nvme"
    check "an IOMMU that is switched off is told" says FAIL "an IOMMU" "Remove intel_iommu=off"
    check "... and a device that is in no group" says FAIL "its IOMMU group"
    pretend /proc/cmdline
    look
    check "an IOMMU that is not used is told" says FAIL "an IOMMU" "Add intel_iommu=on"
    mount -t tmpfs tables /sys/firmware/acpi/tables
    : >/sys/firmware/acpi/tables/IVRS
    look
    check "... and one of AMD's" says FAIL "an IOMMU" "-g AMD-Vi"
    rm /sys/firmware/acpi/tables/IVRS
    look
    check "... and a machine without one" says FAIL "an IOMMU" "the firmware tells of none"
}

# packaged: in a Debian with both packages. The rig has loaded the modules.
packaged()
{
    release=$(uname -r)
    /usr/sbin/modprobe -r vfio-pci vfio_iommu_type1 iommufd
    mount -t tmpfs updates "/lib/modules/$release/updates"
    look
    check "a package that has not built its modules is told, and how to have it build them" \
        says FAIL "option CONFIG_IOMMUFD" "modules install $release /lib/modules/$release/build"
    mount -t tmpfs headers "$(readlink -f "/lib/modules/$release/build")"
    look
    check "that it lacks the kernel's headers is told" \
        says FAIL "option CONFIG_IOMMUFD" "this kernel: its headers are missing"
    check "... with what to install, for the other option as well" \
        says FAIL "option CONFIG_VFIO_DEVICE_CDEV" "apt install linux-headers-$release"
    check "... and the text says the same" as_text_too
    mount -o remount,rw /
    cp "/boot/config-$release" /boot/config-6.1.0-48-amd64
    pretend /proc/sys/kernel/osrelease 6.1.0-48-amd64
    look
    check "a kernel that it has no modules for is told, and the one that it has" \
        says FAIL "option CONFIG_IOMMUFD" "apt install linux-image-6.12-amd64"
    umount /proc/sys/kernel/osrelease
    umount "$(readlink -f "/lib/modules/$release/build")"
    umount "/lib/modules/$release/updates"
    look
    check "with its modules it is all there" says PASS "option CONFIG_IOMMUFD" iommufd-dkms
}

case $VFIO_TEST_KERNEL in
stock)   plan_and_do 4 good_host ;;
plain)   plan_and_do 59 good_host drivers in_use migration permission kernels command_line ;;
nocdev)  plan_and_do 3 no_cdev ;;
nogroup) plan_and_do 4 good_host ;;
noremap) plan_and_do 3 no_remapping ;;
unsafe)  plan_and_do 4 told_to_be_unsafe ;;
noiommu) plan_and_do 5 no_iommu ;;
tracks)  plan_and_do 2 tracks ;;
own)     plan_and_do 6 packaged ;;
esac
