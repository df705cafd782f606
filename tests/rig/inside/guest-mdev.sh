#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A guest under KVM uses a mediated device beside a passed-through NVMe disk:
# the kernel's mtty sample, a card with two serial ports that receive what they
# send.
#
#     VFIO_TEST_MODE=legacy|iommufd|fd guest-mdev.sh

. /rig/lib.sh
. /rig/tap.sh
. /rig/guest.sh

# speech WORD: what the guest told with WORD, without the word.
speech()
{
    guest_said "$1" | sort
}

# unexpected: other errors than those of a sample without a reset and without an
# eventfd to unmask its interrupt.
unexpected()
{
    grep -vE 'UNMASK eventfd signaling|no available reset' "$GUEST_ERRORS"
}

plan 5
mdev=$(create_mdev mtty-2)
guest_command "$(vfio_arguments "$VFIO_TEST_NVME0")" \
    "$(vfio_mdev_arguments "$mdev")"
guest_start serial 8250.nr_uarts=4
guest_end
check "the guest ends by itself with status 0" [ "$GUEST_STATUS" = 0 ]
check "the guest speaks on two ports" [ "$(speech sent | wc -l)" = 2 ]
check "each port receives what it sent" \
    [ "$(speech received)" = "$(speech sent)" ]
check "the guest reads what is on the disk" \
    [ "$(guest_said data | sort -u)" = "$(cat /rig/nvme0.img.sha256)" ]
check "QEMU said nothing but what the sample lacks" [ -z "$(unexpected)" ]
finish
