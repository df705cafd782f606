#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Guests on one processor live while another loads its FPU's state all the time.
# It says something of the rig, and nothing of the QEMU under test: without the
# rig's own QEMU about half of the guests die.

. /rig/tap.sh
. /rig/guest.sh

GUESTS=8
GUEST_PATIENCE=60

went_well()
{
    [ "$GUEST_STATUS" = 0 ] && guest_has_said end
}

plan $GUESTS
taskset 2 /rig/tests/fxrstor >&2 &
loader=$!
QEMU="taskset 1 $QEMU"
guest_command
for number in $(seq $GUESTS); do
    guest_start nothing
    guest_end
    check "guest $number boots and ends by itself" went_well
done
kill $loader
finish
