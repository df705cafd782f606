#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest under KVM uses a passed-through NVMe disk: reads 24 MiB, writes and
# reads back, reboots, and finds all of it again.
#
#     VFIO_TEST_MODE=legacy|iommufd|fd guest-nvme.sh

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh

want=$(cat /rig/nvme0.img.sha256)

plan 8
guest_command "$(vfio_arguments "$VFIO_TEST_NVME0")"
guest_start disk
guest_end
check "the guest ends by itself with status 0" [ "$GUEST_STATUS" = 0 ]
check "the guest reads what is on the disk" [ "$(guest_said data)" = "$want" ]
check "the guest writes something of its own" \
    [ -n "$(guest_said written)" -a "$(guest_said written)" != "$want" ]
check "the guest reads back what it wrote" \
    [ "$(guest_said read-back)" = "$(guest_said written)" ]
check "the guest reboots once" [ "$(guest_said life | tr '\n' ' ')" = "1 2 " ]
check "the disk is as it was after the reboot" \
    [ "$(guest_said data-again)" = "$want" ]
check "what was written is there after the reboot" \
    [ "$(guest_said kept)" = "$(guest_said written)" ]
check "QEMU said nothing on its standard error" [ ! -s "$GUEST_ERRORS" ]
finish
