# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The Debian packages that base/packages lists: which are missing, and how to
# install them. Works before anything is installed. Needs say.sh.

# packages_wanted FILE GROUP...: prints the packages of the groups.
packages_wanted()
{
    local file=$1 line group='' want
    shift

    while read -r line; do
        case $line in
        ''|'#'*) continue ;;
        '['*']') group=${line#[}; group=${group%]}; continue ;;
        esac
        for want; do
            [ "$want" != "$group" ] || printf '%s\n' "$line"
        done
    done <"$file"
}

# packages_missing FILE GROUP...: prints those that are not installed.
packages_missing()
{
    local package

    packages_wanted "$@" | while read -r package; do
        # there is one word for each architecture; it may be "not-installed"
        case " $(dpkg-query -W -f='${db:Status-Status} ' "$package" 2>/dev/null)" in
        *' installed '*) ;;
        *) printf '%s\n' "$package" ;;
        esac
    done
}

# packages_line PACKAGE...: prints the command that installs them.
packages_line()
{
    local sudo=
    [ "$(id -u)" -eq 0 ] || sudo='sudo '
    printf '%sapt-get install --no-install-recommends %s\n' "$sudo" "$*"
}

packages_as_root()
{
    if [ "$(id -u)" -eq 0 ]; then
        env DEBIAN_FRONTEND=noninteractive "$@"
    else
        command -v sudo >/dev/null ||
            die "packages are missing, this is not root, and there is no sudo" \
                "as root: $*"
        sudo -n true 2>/dev/null || say "sudo may ask for a password"
        sudo DEBIAN_FRONTEND=noninteractive "$@"
    fi
}

# packages_known PACKAGE...: whether apt's lists offer all of them.
packages_known()
{
    [ "$(LC_ALL=C apt-cache policy "$@" 2>/dev/null |
             grep -c 'Candidate: [^(]')" -eq $# ]
}

# packages_install PACKAGE...: installs them without asking. Fetches the lists
# if they lack a package, and once more if a file that they name is gone from
# the mirror.
packages_install()
{
    local options=(-y -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300)

    packages_known "$@" || packages_as_root apt-get "${options[@]}" update >&2
    packages_as_root apt-get "${options[@]}" install \
        --no-install-recommends "$@" >&2 && return
    say "once more, with new package lists"
    packages_as_root apt-get "${options[@]}" update >&2
    packages_as_root apt-get "${options[@]}" install \
        --no-install-recommends "$@" >&2 ||
        die "installing packages failed: $*" "what apt-get said is above"
}
