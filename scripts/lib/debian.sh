# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# How Debian itself builds qemu-system-x86, read from its source package:
# debian/rules has the options of QEMU's configure, and comments in
# debian/control say which packages an option needs. Needs say.sh and
# packages.sh; SOURCE is a tree that has the folder debian, TOP is the project.

# Where this project's package is installed.
DEBIAN_PREFIX=/usr/lib/qemu-iommufd

# debian_version BASE: prints the version of a package that is made here from
# version BASE of a package of Debian's: that, and the time of the last commit. It
# also works for sources without git.
debian_version()
{
    local time
    time=$(TZ=UTC0 git -C "$TOP" -c safe.directory="$TOP" log -1 \
        --date=format-local:%Y%m%d%H%M --format=%cd 2>/dev/null || echo 0)

    printf '%s+iommufd%s\n' "$1" "$time"
}

# debian_all_options SOURCE: prints the options, one a line. They are for all
# emulators that Debian builds at once.
debian_all_options()
{
    make -n -C "$1" -f debian/rules BUILD_PACKAGES=qemu-system configure-qemu |
        sed -e ':a' -e '/\\$/ { N; s/\\\n//; ba; }' |
        sed -n 's/.*configure //p' | xargs -n 1 printf '%s\n'
}

# debian_needs SOURCE: for each comment that has options, and the packages that
# follow it, prints a line "OPTION... : BUILD-DEPENDENCIES".
debian_needs()
{
    sed -n '/^Build-Depends:/,/^Build-Depends-Indep:/p' "$1/debian/control" |
        awk '
            function tell() {
                if (options != "" && packages != "") print options " : " packages
            }
            /^# ?--/ {
                if (packages != "") { tell(); options = packages = "" }
                sub(/^# ?/, ""); sub(/\t.*/, "")
                options = options $0 " "
            }
            /^ / && options != "" { packages = packages $0 }
            END { tell() }'
}

# debian_missing SOURCE: for each line of debian_needs() whose packages are not
# all installed, prints that line with the packages that are missing.
debian_missing()
{
    local line needs missing

    while IFS=: read -r line needs; do
        missing=$(dpkg-checkbuilddeps -d "${needs%,}" "$1/debian/control" 2>&1) ||
            printf '%s: %s\n' "$line" "${missing##*: }"
    done < <(debian_needs "$1" | grep -v -e --enable-docs)
}

# debian_install SOURCE: installs what Debian builds it with, asking nothing.
debian_install()
{
    packages_as_root apt-get -y -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 \
        build-dep --arch-only --no-install-recommends "$1" >&2 ||
        die "the packages that Debian builds QEMU with could not be installed" \
            "what apt-get said is above"
}

# debian_say_missing SOURCE: says what is left out, and which packages it needs.
debian_say_missing()
{
    local options needs

    while IFS=: read -r options needs; do
        note "left out, for want of ${needs# }: $options"
    done < <(debian_missing "$1")
}

# debian_options SOURCE: prints the options for this machine. They leave out
# options whose libraries are not installed (QEMU's configure looks for those by
# itself), and the documentation and the tools, which are in other packages.
debian_options()
{
    local option left_out
    left_out=" $(debian_missing "$1" | sed 's/:.*//' | paste -sd ' ') "

    while read -r option; do
        case $option in
        --prefix=*|--libdir=*|--with-pkgversion=*|--enable-docs) continue ;;
        esac
        case $left_out in
        *" $option "*) ;;
        *) printf '%s\n' "$option" ;;
        esac
    done < <(debian_all_options "$1")
    printf '%s\n' "--prefix=$DEBIAN_PREFIX" "--libdir=$DEBIAN_PREFIX/lib"
}
