# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A Debian in the rig as its packages have it.

# by its path: busybox has a dpkg of its own, which its shell prefers
DPKG=/usr/bin/dpkg

# leave_only_packages: removes the QEMU and the firmware that the rig brought, so
# that only a package and what it depends on can run.
leave_only_packages()
{
    mount -o remount,rw / && rm -r /opt || return
    for file in /usr/share/qemu/*; do
        $DPKG -S "$file" >/dev/null 2>&1 || rm -r "$file"
    done
}
