#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A person's shell in the rig: says what there is and what can be typed.

. /rig/lib.sh

[ "${COLUMNS:-0}" = 0 ] || stty cols "$COLUMNS" rows "$LINES"

cat <<TEXT

A machine with an IOMMU, Linux $(uname -r) and $(qemu-system-x86_64 --version | head -n 1).
Ctrl-A x leaves it, as poweroff -f does; Ctrl-A Ctrl-A x ends a QEMU in it that
has the terminal (-nographic). Nothing is kept.

$(device_table)

To try:
  device_table                            # this table again
  vfio-bind \$VFIO_TEST_NET0               # gives a device to vfio-pci
  qemu-system-x86_64 -M q35 -accel kvm -cpu host,xsave=off -m 256 -nographic \\
    -kernel /rig/bzImage -initrd /rig/guest.cpio \\
    -append 'console=ttyS0 task=boot' -object iommufd,id=iommufd0 \\
    -device vfio-pci,host=\$VFIO_TEST_NVME0,iommufd=iommufd0
  VFIO_TEST_MODE=iommufd guest-nvme.sh    # a test; more are in /rig/tests
  strace -f -e trace=ioctl qemu-system-x86_64 ...

TEXT
export PS1='rig:\w# ' ENV=/rig/lib.sh
exec sh -i
