# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Debian's own kernel in the rig: its modules, which lie in /boot as iommufd-dkms
# builds them, and in /boot/debian as Debian does. /boot/package has the scripts that
# dpkg runs for that package.

# load_vfio FOLDER: in the order of what needs what
load_vfio()
{
    for module in iommufd vfio vfio_iommu_type1 vfio-pci-core vfio-pci mdev; do
        [ ! -e "$1/$module.ko" ] || insmod "$1/$module.ko" || return
    done
}

unload_vfio()
{
    for module in mtty vfio_pci vfio_pci_core vfio_iommu_type1 mdev vfio iommufd; do
        [ ! -e "/sys/module/$module" ] || rmmod "$module" || return
    done
}
