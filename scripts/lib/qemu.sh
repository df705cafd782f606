# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds of QEMU: the assembled tree, the unpatched base, each step of the
# series. All are made alike, so that they differ in their source only.
#
# A build lies in DIR/qemu and its source in DIR/source. A compiler thus sees
# the same relative paths in each, and ccache, which is told to make absolute
# paths below TOP relative and to leave the working folder out, finds in one
# what was compiled for another. Needs say.sh and cache.sh.

QEMU_OPTIONS=$TOP/build/options
QEMU_FIRMWARE='/usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu'

# What any QEMU here is configured with. Debian's source comes without
# submodules and without firmware; the firmware's places are those of Debian's
# packages.
QEMU_DEFAULTS=(
    --target-list=x86_64-softmmu
    --disable-docs
    --disable-tools
    --with-git-submodules=ignore
    --disable-install-blobs
    "--firmwarepath=${QEMU_FIRMWARE// /:}"
)
[ ! -x /usr/bin/ccache ] || QEMU_DEFAULTS+=("--cc=ccache gcc")

# ... and a lean one: what KVM, TCG, a network for the guest and libvirt's
# sandbox need. A tree with a .git would have warnings fatal and one without
# would not, hence --enable-werror for both.
QEMU_LEAN=(
    --without-default-features
    --enable-kvm
    --enable-tcg
    --enable-seccomp
    --enable-slirp
    --enable-werror
)

# qemu_environment: what every configuration and compilation is run with. The
# distribution's tools come first: a python3 of the user's may lack modules.
qemu_environment()
{
    PATH=/usr/bin:/bin:$PATH
    export PATH
    CCACHE_DIR=$(cache_dir ccache)
    CCACHE_BASEDIR=$TOP
    CCACHE_NOHASHDIR=1
    CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-4G}
    # not CCACHE_DEPEND, though it makes a miss cheaper: the headers of trace
    # events name their source by its absolute path, and only what comes out of
    # the preprocessor has that made relative
    export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CCACHE_MAXSIZE
}

# qemu_options: prints what QEMU's configure is run with, one option a line.
# Where those that ./configure took begin with --like-debian, which is this
# project's own, they have all that Debian has (debian.sh), and nothing is lean.
qemu_options()
{
    local options=()

    [ ! -e "$QEMU_OPTIONS" ] || mapfile -t options <"$QEMU_OPTIONS"
    if [ "${options[0]:-}" = --like-debian ]; then
        options=("${QEMU_DEFAULTS[@]}" "${options[@]:1}")
    else
        options=("${QEMU_LEAN[@]}" "${QEMU_DEFAULTS[@]}" "${options[@]}")
    fi
    printf '%s\n' "${options[@]}"
}

# qemu_key DIR: prints a hash of what QEMU's configure is run with. A change
# of meson's files needs no new run: ninja sees to that.
qemu_key()
{
    {
        printf '%s\n' "$1"
        qemu_options
        cat "$1/source/configure" "$1/source/scripts/meson-buildoptions.sh"
    } | sha256sum
}

# qemu_configure DIR VERSION: runs QEMU's configure in DIR/qemu, unless it was
# run with the same before. VERSION is what --version adds to QEMU's own. The
# build starts over, since an option that is gone would leave its traces; that
# costs little with ccache.
qemu_configure()
{
    local dir=$1 version=$2 key options
    key=$(qemu_key "$dir")

    # build/version is written when the source's revision changes
    if [ -e "$dir/qemu/build.ninja" ] &&
       [ ! "$TOP/build/version" -nt "$dir/qemu/configured.key" ] &&
       [ "$key" = "$(cat "$dir/qemu/configured.key" 2>/dev/null)" ]; then
        return
    fi
    mapfile -t options < <(qemu_options)
    rm -rf "$dir/qemu"
    mkdir -p "$dir/qemu"
    qemu_environment
    (cd "$dir/qemu" &&
         log_run "$TOP/build/logs/configure-${dir##*/}.log" \
             ../source/configure "--with-pkgversion=$version" "${options[@]}") ||
        die "QEMU's configure failed in $dir/qemu" \
            "its log is build/logs/configure-${dir##*/}.log"
    qemu_link_firmware "$dir/qemu/qemu-bundle"
    printf '%s\n' "$key" >"$dir/qemu/configured.key"
}

# qemu_link_firmware BUNDLE: QEMU that runs from its build folder looks for
# everything below the BUNDLE there, under the path that it was configured
# with (get_relocated_path() in util/cutils.c); so Debian's firmware is linked
# to where it looks.
qemu_link_firmware()
{
    local bundle=$1 dir

    for dir in $QEMU_FIRMWARE; do
        [ -d "$dir" ] || continue
        mkdir -p "$bundle$dir"
        cp -rsn "$dir/." "$bundle$dir"
    done
}

# qemu_build DIR [TEST...]: builds what is installed, and the test programs
# named (targets.py says more); QEMU_BUILT is what that was, below DIR/qemu.
# ninja shows how far it is.
qemu_build()
{
    local dir=$1 ninja=(/usr/bin/ninja -C "$1/qemu")
    shift

    qemu_environment
    # first, since this brings the build file, and so the list, up to date
    "${ninja[@]}" --quiet build.ninja
    mapfile -t QEMU_BUILT < <(
        /usr/bin/python3 "$TOP/scripts/lib/targets.py" "$dir/qemu" "$@")
    "${ninja[@]}" "${QEMU_BUILT[@]}"
}
