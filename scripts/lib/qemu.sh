# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Builds of QEMU: the assembled tree, the unpatched base, each step of the
# series. All are built in the same way, so that only their source differs.
#
# A build is in DIR/qemu and its source in DIR/source. So a compiler sees the
# same relative paths in each build. ccache is told to make absolute paths below
# TOP relative and to ignore the working folder, so it can reuse in one build
# what was compiled for another. Needs say.sh and cache.sh.

QEMU_OPTIONS=$TOP/build/options
QEMU_FIRMWARE='/usr/share/qemu /usr/share/seabios /usr/lib/ipxe/qemu'

# The options of every QEMU here. Debian's source comes without submodules and
# without firmware; the firmware paths are those of Debian's packages.
QEMU_DEFAULTS=(
    --target-list=x86_64-softmmu
    --disable-docs
    --disable-tools
    --with-git-submodules=ignore
    --disable-install-blobs
    "--firmwarepath=${QEMU_FIRMWARE// /:}"
)
[ ! -x /usr/bin/ccache ] || QEMU_DEFAULTS+=("--cc=ccache gcc")

# More options, for a lean QEMU: what KVM, TCG, a network for the guest and
# libvirt's sandbox need. By default warnings are fatal only in a tree that has
# a .git; --enable-werror makes all builds the same.
QEMU_LEAN=(
    --without-default-features
    --enable-kvm
    --enable-tcg
    --enable-seccomp
    --enable-slirp
    --enable-werror
)

# qemu_environment: sets the environment for every configuration and compilation.
# The distribution's tools come first: a python3 of the user's may lack modules.
qemu_environment()
{
    PATH=/usr/bin:/bin:$PATH
    export PATH
    CCACHE_DIR=$(cache_dir ccache)
    CCACHE_BASEDIR=$TOP
    CCACHE_NOHASHDIR=1
    CCACHE_MAXSIZE=${CCACHE_MAXSIZE:-4G}
    # not CCACHE_DEPEND, though it makes a miss cheaper: the headers of trace
    # events name their source by its absolute path, which is made relative only
    # in the preprocessor's output
    export CCACHE_DIR CCACHE_BASEDIR CCACHE_NOHASHDIR CCACHE_MAXSIZE
}

# qemu_options: prints the options of QEMU's configure, one a line. If the
# options given to ./configure begin with --like-debian, which is this project's
# own, they have all that Debian has (debian.sh), and the lean ones are not used.
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

# qemu_key DIR: prints a hash of what QEMU's configure depends on. If only
# meson's files change, configure need not run again: ninja handles that.
qemu_key()
{
    {
        printf '%s\n' "$1"
        qemu_options
        cat "$1/source/configure" "$1/source/scripts/meson-buildoptions.sh"
    } | sha256sum
}

# qemu_configure DIR VERSION: runs QEMU's configure in DIR/qemu, unless it has
# run with the same options before. VERSION is what --version adds to QEMU's own.
# The build starts from scratch, since an option that was removed would leave
# traces; with ccache that costs little.
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

# qemu_link_firmware BUNDLE: a QEMU that runs from its build folder looks for
# everything below BUNDLE, under the path that it was configured with
# (get_relocated_path() in util/cutils.c). This links Debian's firmware there.
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
# named (see targets.py). Sets QEMU_BUILT to what was built, below DIR/qemu.
# ninja shows the progress.
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
