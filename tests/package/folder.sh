# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A Debian 12 in a folder, of an archive that tests/rig/debian made. It takes root.
#
# Set by the caller: "root", the folder, and "work", one for notes; tap.sh is read.

# shellcheck disable=SC2016 # another shell has what is in single quotes

# folder_unpack TAR
folder_unpack()
{
    rm -rf "$root"
    mkdir "$root"
    tar -x -p --numeric-owner --exclude='./dev/*' -C "$root" -f "$1"
    mknod -m 666 "$root/dev/null" c 1 3
    mknod -m 666 "$root/dev/urandom" c 1 9
    ln -s /proc/self/fd "$root/dev/fd"
}

# there COMMAND...: runs it in that Debian
there()
{
    unshare --mount sh -c 'mount -t proc proc "$0/proc" && exec chroot "$0" "$@"' "$root" \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C HOME=/root \
        DEBIAN_FRONTEND=noninteractive "$@" >"$work/said" 2>&1
}

# well COMMAND...: there, and shows what it said when it fails
well()
{
    there "$@" || { show "$work/said"; return 1; }
}

# said WORDS: whether the last command did
said()
{
    grep -q -- "$1" "$work/said" || { show "$work/said"; return 1; }
}

# folder_settings: what the machine's apt and resolver need here. Nobody is asked, no
# daemon is started, and what packages only recommend stays away: for these it is a
# gigabyte, and Debian's.
folder_settings()
{
    cp -L /etc/resolv.conf "$root/etc/"
    apt-config dump | grep -iE '^Acquire::(Check-|https?::|.*proxy)' \
        >"$root/etc/apt/apt.conf.d/99folder" || true
    cat >>"$root/etc/apt/apt.conf.d/99folder" <<'CONF'
APT::Get::Assume-Yes "true";
APT::Install-Recommends "false";
APT::Sandbox::User "root";
Dpkg::Use-Pty "false";
CONF
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
}

# Where apt, dpkg and their helpers keep what they did; the settings above; and DKMS's own
# key, which it makes when it is first used, and signs all modules with
FOLDER_RECORDS=(./var/lib/dpkg ./var/lib/apt ./var/cache/apt ./var/cache/ldconfig
    ./var/cache/debconf ./var/log/apt ./var/log/dpkg.log ./var/log/alternatives.log
    ./etc/resolv.conf ./etc/apt/apt.conf.d/99folder ./usr/sbin/policy-rc.d ./root ./dev
    ./var/lib/dkms/mok.key ./var/lib/dkms/mok.pub)

# inventory: prints what is in the folder, but for records: for each file its kind, its
# mode, its owner, and a sum. Of an initramfs, the same of what is in it.
inventory()
{
    local initrd record records=()

    for initrd in "$root"/boot/initrd.img-*; do
        well unmkinitramfs "${initrd#"$root"}" "/tmp/${initrd##*/}" || return
    done
    for record in "${FOLDER_RECORDS[@]}"; do
        records+=(-path "$record" -o)
    done
    (
        cd "$root" || return
        find . \( "${records[@]}" -false \) -prune -o -printf '%p %y %m %U:%G %l\n' | sort
        find . \( "${records[@]}" -path './boot/initrd.img-*' \) -prune -o -type f \
            -exec sha256sum {} + | sort -k 2
    )
    rm -r "$root"/tmp/initrd.img-*
}
