# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The overlay: this project's own files, linked into the assembled tree.
#
# They are links so that an editor changes the one true file, and relative ones
# so that the checkout can be moved. .git/overlay in the assembled tree lists
# them; .git/info/exclude hides them from git there. Needs say.sh and tree.sh.

OVERLAY_DIRS='backends hw include qapi softmmu docs/devel docs/system tests/qtest'

# overlay_files: prints the files of the overlay, sorted, without what editors
# and patch leave behind.
overlay_files()
{
    local dir

    for dir in $OVERLAY_DIRS; do
        [ -d "$TOP/$dir" ] || continue
        (cd "$TOP" && find "$dir" -type f ! -name '.*' ! -name '*~' \
             ! -name '#*#' ! -name '*.orig' ! -name '*.rej')
    done | LC_ALL=C sort
}

# overlay_refuse: stops if the overlay would replace a file of QEMU.
overlay_refuse()
{
    local taken
    # shellcheck disable=SC2086 # a list
    taken=$(overlay_files |
        LC_ALL=C comm -12 - <(tree_git ls-files -- $OVERLAY_DIRS | LC_ALL=C sort))

    # shellcheck disable=SC2086 # a list
    [ -z "$taken" ] ||
        die "files of the overlay that QEMU has too:" $taken \
            "rename them, or change QEMU's by a patch"
}

# overlay_link_file ROOT FILE
overlay_link_file()
{
    local root=$1 file=$2 up=${2//[!\/]/}

    if [ -L "$root/$file" ]; then
        rm -f "$root/$file"
    elif [ -e "$root/$file" ]; then
        die "$root/$file is in the place of a link to $file" \
            "if it is newer, move it there; remove it otherwise"
    fi
    mkdir -p "$root/${file%/*}"
    ln -s "$(overlay_way "$root")${up//\//../}$file" "$root/$file"
}

# overlay_way ROOT: prints the relative path from ROOT, below TOP, up to TOP.
overlay_way()
{
    local below=${1#"$TOP"/}
    below=${below//[!\/]/}
    printf '../%s' "${below//\//../}"
}

# overlay_link ROOT LIST: makes ROOT have a link for each file of the overlay,
# and none for files that are gone since LIST was written. Prints nothing if
# nothing changed.
overlay_link()
{
    local root=$1 list=$2 file

    touch "$list"
    overlay_files >"$list.new"
    LC_ALL=C comm -23 "$list" "$list.new" | while read -r file; do
        if [ -L "$root/$file" ]; then
            say "unlinking $file"
            rm -f "$root/$file"
        fi
    done
    while read -r file; do
        [ "$root/$file" -ef "$TOP/$file" ] || overlay_link_file "$root" "$file"
    done <"$list.new"
    cmp -s "$list.new" "$list" || cp "$list.new" "$list"
    rm -f "$list.new"
}

# overlay_hide: hides the links from git in the assembled tree.
overlay_hide()
{
    sed 's|^|/|' "$SOURCE/.git/overlay" >"$SOURCE/.git/info/exclude"
}
