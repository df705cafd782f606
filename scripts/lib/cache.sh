# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The cache: what took long to download or build, and can be made again.
#
# It is outside the repository, so that a fresh clone finds what an earlier one
# left; removing it costs nothing but time. It has:
#
#     apt/        a private apt configuration and its package lists
#     debs/       binary packages, as downloaded
#     sources/    source packages, as downloaded
#     ccache/     compiled objects
#     kernel/     test kernels, by the hash of what they were built from
#
# QEMU_IOMMUFD_CACHE names another place for it.

# cache_dir [NAME]: prints the path of the cache, or of the folder NAME in
# it, which is created if needed.
# shellcheck disable=SC2120 # the argument is optional
cache_dir()
{
    local root=${QEMU_IOMMUFD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/qemu-iommufd}
    local dir=$root${1:+/$1}

    mkdir -p "$dir" ||
        die "cannot create the cache folder $dir" \
            "set QEMU_IOMMUFD_CACHE to a folder that can be written"
    (cd "$dir" && pwd -P)
}

# cache_lock NAME COMMAND...: runs COMMAND while no other process runs one
# under the same NAME. Two builds may share one cache.
cache_lock()
{
    local name=$1 lock
    shift

    # shellcheck disable=SC2119
    lock=$(cache_dir)/.$name.lock
    (
        if ! flock --nonblock 9; then
            say "waiting for another process that uses the cache ($name)"
            flock 9
        fi
        "$@" 9>&-
    ) 9>"$lock"
}
