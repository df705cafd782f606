# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Gets packages of the distribution without root and without touching the system.
#
# apt runs with a configuration of its own in the cache: the machine's own
# entries (so that its mirrors, proxies and keys apply) with a deb-src for each
# deb, and with lists and archives in private folders. Needs say.sh and cache.sh.
#
#     apt_fetch PACKAGE [VERSION]    -> path of a .deb
#     apt_fetch_source PACKAGE GLOB  -> path of a .dsc
#     apt_newest REGEX               -> newest package whose name matches
#     apt_version PACKAGE            -> the version that would be fetched
#     apt_codename                   -> what APT_SUITE is called itself

# Where the machine's entries are; a test uses its own.
APT_ETC=${APT_ETC:-/etc/apt}

# Lists older than this many minutes are fetched again before a download.
APT_LISTS_MINUTES=1440

# A suite to take packages from beside those of the entries, such as
# bookworm-backports, and the one of them that is in the same place
APT_SUITE=${APT_SUITE:-}
APT_BESIDE=${APT_BESIDE:-${APT_SUITE%-backports}}

# apt_dir: prints the folder in the cache with the private configuration and its
# lists. A further suite has one of its own, so that no other package comes from it.
apt_dir()
{
    cache_dir "apt${APT_SUITE:+-$APT_SUITE}"
}

# apt_entries DIR: writes the machine's entries into DIR, with source packages
# enabled. Takes both formats of sources.list(5), and leaves out media that
# would have to be put into a drive.
apt_entries()
{
    local out=$1 file

    rm -rf "$out"
    mkdir -p "$out"
    for file in "$APT_ETC"/sources.list "$APT_ETC"/sources.list.d/*.list; do
        [ -s "$file" ] || continue
        sed -nE '/^[[:space:]]*deb[[:space:]]/ {
                     /cdrom:/d
                     p
                     s/^([[:space:]]*)deb/\1deb-src/p
                 }' "$file" >"$out/${file//\//_}"
    done
    for file in "$APT_ETC"/sources.list.d/*.sources; do
        [ -s "$file" ] || continue
        sed -E 's/^Types:.*/Types: deb deb-src/I' "$file" >"$out/${file//\//_}"
    done
    [ -z "$APT_SUITE" ] || apt_add_suite "$out"
}

# apt_add_suite DIR: each entry in DIR for APT_BESIDE is one for APT_SUITE as well.
apt_add_suite()
{
    local suite=$APT_BESIDE file

    for file in "$1"/*.list; do
        [ -e "$file" ] || continue
        sed -i -E "/^[[:space:]]*deb(-src)?[[:space:]]/ {
                       p
                       s/[[:space:]]$suite([[:space:]])/ $APT_SUITE\\1/
                       t
                       d
                   }" "$file"
    done
    for file in "$1"/*.sources; do
        [ -e "$file" ] || continue
        sed -i -E "s/^(Suites:.*[[:space:]]$suite)([[:space:]]|\$)/\\1 $APT_SUITE\\2/I" "$file"
    done
}

# apt_private TOOL ARGUMENT...: runs apt-get or apt-cache with the private
# configuration.
apt_private()
{
    local tool=$1
    shift

    LC_ALL=C "$tool" -q -c "$(apt_dir)/apt.conf" "$@"
}

# apt_configure: writes the private configuration. It clears the hooks of the
# system's configuration, which are for the system's lists and not for these. It
# drops the download user, who could not write into a home folder.
apt_configure()
{
    local dir
    dir=$(apt_dir)

    mkdir -p "$dir/lists/partial" "$dir/archives/partial"
    apt_entries "$dir/sources.list.d"
    cat >"$dir/apt.conf" <<CONF
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$dir/sources.list.d";
Dir::State::lists "$dir/lists";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
APT::Sandbox::User "root";
APT::Get::List-Cleanup "false";
Acquire::Languages "none";
Acquire::Retries "3";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled "false";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
}

# apt_update [now]: fetches the lists if there are none, if they are old, or if
# told to. An entry that fails is not fatal here: another one may have what is
# wanted, and if none has, the caller says so.
apt_update()
{
    local dir
    dir=$(apt_dir)

    if [ "${1:-}" != now ] &&
       [ -n "$(find "$dir/updated" -mmin "-$APT_LISTS_MINUTES" 2>/dev/null)" ]; then
        return 0
    fi
    say "fetching the package lists into $dir"
    apt_configure
    if log_run "$dir/update.log" apt_private apt-get update; then
        touch "$dir/updated"
    else
        warn "not every package list could be fetched"
    fi
}

# apt_try_twice COMMAND...: a mirror drops old versions, so recent lists may
# name a file that is gone. If COMMAND fails, tries once more with new lists.
apt_try_twice()
{
    apt_update
    "$@" || { apt_update now && "$@"; }
}

apt_download_deb()
{
    local want=$1 log
    log=$(apt_dir)/download.log

    (cd "$(cache_dir debs)" &&
         log_run "$log" apt_private apt-get download "$want")
}

# apt_cached_deb PACKAGE [VERSION]: prints the newest .deb of PACKAGE that is
# in the cache. apt writes a version's colon as %3a in the file's name.
apt_cached_deb()
{
    local package=$1 version=${2:-*} dir

    dir=$(cache_dir debs)
    find "$dir" -maxdepth 1 -name "${package}_${version//:/%3a}_*.deb" |
        sort -V | tail -n 1 | grep .
}

apt_fetch_locked()
{
    local package=$1 version=${2:-}

    apt_cached_deb "$package" "$version" && return
    say "fetching ${package}${version:+ $version}"
    if [ -n "$version" ]; then
        apt_try_twice apt_download_deb "$package=$version" &&
            apt_cached_deb "$package" "$version" && return
        note "$package $version is not to be had; taking what there is"
        apt_cached_deb "$package" && return
    fi
    apt_try_twice apt_download_deb "$package" &&
        apt_cached_deb "$package" && return
    die "apt-get download $package failed" \
        "the log is $(apt_dir)/download.log" \
        "is there a deb entry in /etc/apt for it, and is the mirror reached?"
}

# apt_fetch PACKAGE [VERSION]: prints the path of a .deb of PACKAGE in the
# cache, and fetches it first if there is none. Prefers VERSION, but takes
# another one (with a note) if VERSION is not available. Installs nothing.
apt_fetch()
{
    cache_lock apt apt_fetch_locked "$@"
}

# apt_newest REGEX: prints the name of the newest package, in the order of
# version sort, whose whole name matches the extended REGEX.
apt_newest()
{
    cache_lock apt apt_newest_locked "$@"
}

apt_newest_locked()
{
    apt_update
    apt_private apt-cache pkgnames | grep -Ex -- "$1" | sort -V | tail -n 1 |
        grep . ||
        die "no package matches $1 in the machine's package lists"
}

# apt_version PACKAGE: prints the version that apt-get would download
apt_version()
{
    apt_private apt-cache policy "$1" | sed -n 's/^ *Candidate: //p'
}

# apt_codename: prints the name of its own that APT_SUITE has, such as
# trixie-backports for stable-backports. A mirror may have newer lists under it.
apt_codename()
{
    cache_lock apt apt_update
    sed -n 's/^Codename: //p' "$(apt_dir)"/lists/*_dists_"$APT_SUITE"_*Release | sort -u | grep .
}

# apt_known NAME: prints NAME if the package lists have a package of that name.
apt_known()
{
    apt_update
    apt_private apt-cache pkgnames -- "$1" | grep -Fx -- "$1"
}

# apt_cached_package REGEX: prints the name of the newest package in the cache
# whose whole name matches the extended REGEX.
apt_cached_package()
{
    find "$(cache_dir debs)" -maxdepth 1 -name '*.deb' -printf '%f\n' |
        sed 's/_.*//' | grep -Ex -- "$1" | sort -V | tail -n 1 | grep .
}

apt_download_source()
{
    local want=$1 log
    log=$(apt_dir)/download.log

    (cd "$(cache_dir sources)" &&
         log_run "$log" apt_private apt-get source --download-only "$want")
}

# apt_source_version PACKAGE GLOB: prints the newest version of the source
# package that matches GLOB; a backport may be newer than what is wanted.
apt_source_version()
{
    local package=$1 glob=$2 version newest=

    while read -r version; do
        # shellcheck disable=SC2053 # a pattern is what it is
        [[ $version == $glob ]] || continue
        if [ -z "$newest" ] || dpkg --compare-versions "$version" gt "$newest"; then
            newest=$version
        fi
    done < <(apt_private apt-cache showsrc --only-source "$package" 2>/dev/null |
                 sed -n 's/^Version: //p')
    [ -n "$newest" ] && printf '%s\n' "$newest"
}

apt_fetch_source_once()
{
    local package=$1 glob=$2 version

    version=$(apt_source_version "$package" "$glob") || return
    apt_download_source "$package=$version"
}

apt_cached_source()
{
    local package=$1 glob=${2#*:}

    find "$(cache_dir sources)" -maxdepth 1 -name "${package}_${glob}.dsc" |
        sort -V | tail -n 1 | grep .
}

apt_fetch_source_locked()
{
    local package=$1 glob=$2

    apt_cached_source "$package" "$glob" && return
    say "fetching the source package $package $glob"
    apt_try_twice apt_fetch_source_once "$package" "$glob" &&
        apt_cached_source "$package" "$glob" && return
    die "no source package $package $glob could be fetched" \
        "the log is $(apt_dir)/download.log" \
        "the machine's entries in /etc/apt must lead to Debian 12 (bookworm)"
}

# apt_fetch_source PACKAGE GLOB: prints the path of the .dsc of the source
# package's newest version that matches GLOB. Its other files are beside it.
apt_fetch_source()
{
    cache_lock apt apt_fetch_source_locked "$@"
}
