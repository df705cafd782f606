#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What scripts/demo shows: a guest reads a passed-through disk. Ends with a
# report; its figures come from sysfs, QEMU's trace and the guest, whichever knows
# them first-hand.
#
#     VFIO_TEST_MODE=legacy|iommufd demo.sh

. /rig/lib.sh
. /rig/guest.sh

device=$VFIO_TEST_NVME0
trace=/tmp/trace

# traced EVENT KEY: the value of key= in the last line of the trace with EVENT.
traced()
{
    sed -n "s/.*$1.* $2=\([^ ]*\).*/\1/p" $trace | tail -n 1
}

# address_space: what the device's DMA goes through.
address_space()
{
    case $VFIO_TEST_MODE in
    legacy)  echo "the group's container" ;;
    iommufd) echo "IOAS $(traced vfio_cdev_attach ioas)" \
                  "(page table object $(traced vfio_cdev_attach pt))" ;;
    esac
}

# node: the file by which QEMU has opened the device.
node()
{
    case $VFIO_TEST_MODE in
    legacy)  echo "/dev/vfio/$(group_of "$device")" ;;
    iommufd) sed -n 's/.*vfio_cdev_open [^ ]*: \([^ ]*\) .*/\1/p' $trace ;;
    esac
}

report()
{
    cat <<TEXT

  device            $device (NVMe, group $(group_of "$device"), driver $(driver_of "$device"))
  opened as         $(node)
  its DMA           $(address_space)
  read by the guest $(guest_said bytes) bytes, and again after a reboot
  sha256, disk      $(cat /rig/nvme0.img.sha256)
  sha256, guest     $(guest_said data)
  after the reboot  $(guest_said data-again)
  written, kept     $(guest_said written)
  found again       $(guest_said kept)

  $(sed -n 's/^# //p' /tmp/started)
TEXT
}

# agrees: whether everything is as it must be.
agrees()
{
    want=$(cat /rig/nvme0.img.sha256)
    [ "$GUEST_STATUS" = 0 ] &&
        [ "$(guest_said data)" = "$want" ] &&
        [ "$(guest_said data-again)" = "$want" ] &&
        [ -n "$(guest_said written)" ] &&
        [ "$(guest_said kept)" = "$(guest_said written)" ]
}

[ "$VFIO_TEST_MODE" = legacy ] ||
    events="-trace vfio_cdev_* -trace iommufd_backend_alloc_ioas -D $trace"

set -f  # the trace's pattern is QEMU's
guest_command "$(vfio_arguments "$device")" "$events"
echo "the guest starts; it reads the disk, writes to it, reboots, and reads again"
guest_start disk >/tmp/started
for key in life data written read-back 'life 2' data-again kept; do
    await 200 guest_has_said "$key" && echo "  the guest: $(guest_last "$key")"
done
guest_end
set +f

report
agrees || {
    echo "this is not as it should be; QEMU said:"
    cat "$GUEST_ERRORS"
    exit 1
}
