# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A patch series: a file "series" and the patches that it names. There are two:
# patches/, the product's, and tests/rig/patches/, for the QEMU that the rig's
# machine runs on.
#
# A patch and a commit are two forms of the same thing: series_apply makes
# commits of patches, series_export makes patches of commits, and one undoes
# the other to the byte. What would differ from one machine or one base to the
# next is left out of a patch: the commit's id, git's version, the diffstat,
# and the index lines, which name blobs that a new revision of the base or an
# earlier patch gives other ids. Needs say.sh and tree.sh.

# series_use product|rig: chooses the series, and its tree with it.
series_use()
{
    tree_use "$1"
    case $1 in
    product) PATCHES=$TOP/patches ;;
    rig)     PATCHES=$TOP/tests/rig/patches ;;
    esac
    PATCHES_NAME=${PATCHES#"$TOP/"}
}

series_use product

# series_list: prints the names of the patches, in order.
series_list()
{
    sed -e 's/#.*//' -e 's/[[:space:]]*$//' -e '/^$/d' "$PATCHES/series"
}

# series_key: prints a hash of the series and of all that its patches say.
series_key()
{
    (cd "$PATCHES" && series_list | xargs -r sha256sum -- | sha256sum)
}

# patch_field INFO FIELD: a line of what git mailinfo says of a patch.
patch_field()
{
    sed -n "s/^$2: //p" "$1" | head -n 1
}

# series_stage PATCH DIR: applies PATCH to the scratch index. Exactly: all of
# its context, at the lines that it names. A patch that fits elsewhere may fit
# the wrong place. INEXACT accepts other lines, with a note.
series_stage()
{
    local patch=$1 dir=$2 name=${1##*/} offset

    git mailinfo "$dir/body" "$dir/diff" <"$patch" >"$dir/info" ||
        die "$PATCHES_NAME/$name is not a patch in the form of a mail"
    if ! LC_ALL=C tree_git apply --cached -v --whitespace=nowarn "$dir/diff" 2>"$dir/log"; then
        die "$PATCHES_NAME/$name does not apply:" \
            "$(grep -E '^error: ' "$dir/log" | head -n 5)" \
            "rebase the series in ${SOURCE#"$TOP/"} and run scripts/refresh-series$TREE_OPTION"
    fi
    # git names a hunk by its number in its file, and the file before it
    offset=$(awk '/^Checking patch /{file=$3} /\(offset /{print file " " $0}' "$dir/log")
    [ -n "$offset" ] || return 0
    [ -n "${INEXACT:-}" ] ||
        die "$PATCHES_NAME/$name applies, but not where it says:" "$offset" \
            "scripts/assemble$TREE_OPTION takes it as it is; look at the result," \
            "then run scripts/refresh-series$TREE_OPTION"
    note "$PATCHES_NAME/$name applies at other lines than it says:" "$offset"
}

# series_commit DIR PARENT: commits the scratch index under the message that
# series_stage left in DIR; prints the commit.
series_commit()
{
    local dir=$1 parent=$2 field
    local -A info

    for field in Author Email Subject Date; do
        info[$field]=$(patch_field "$dir/info" "$field")
        [ -n "${info[$field]}" ] || return
    done
    { printf '%s\n\n' "${info[Subject]}"; cat "$dir/body"; } | git stripspace |
        tree_commit "$(tree_git write-tree)" "$parent" "${info[Date]}" \
            "${info[Author]} <${info[Email]}>"
}

# series_apply PARENT: applies the whole series on PARENT, in a scratch
# index; prints "commit patch" for each.
series_apply()
{
    local parent=$1 name dir
    dir=$(mktemp -d)

    tree_git read-tree "$parent"
    while read -r name; do
        [ -s "$PATCHES/$name" ] || die "$PATCHES_NAME/series names $name, which is not there"
        series_stage "$PATCHES/$name" "$dir"
        parent=$(series_commit "$dir" "$parent") ||
            die "$PATCHES_NAME/$name lacks one of the lines From:, Date:, Subject:"
        printf '%s %s\n' "$parent" "$name"
    done < <(series_list)
    rm -rf "$dir"
}

# series_export RANGE DIR: writes the commits of RANGE as patches into DIR and
# prints their names. Options rather than configuration decide the form.
series_export()
{
    local range=$1 dir=$2 file

    tree_git format-patch -q --keep-subject --no-numbered --zero-commit \
        --no-signature --no-stat --no-renames --no-ext-diff --no-textconv \
        --no-attach --no-thread --no-cover-letter --no-base --no-notes \
        --no-encode-email-headers --diff-algorithm=myers --no-indent-heuristic \
        --unified=3 --inter-hunk-context=0 --src-prefix=a/ --dst-prefix=b/ \
        --output-directory="$dir" "$range"
    for file in "$dir"/*.patch; do
        [ -e "$file" ] || continue
        awk '/^diff --git /{diff=1} !(diff && /^index /)' "$file" >"$file.new"
        mv "$file.new" "$file"
        printf '%s\n' "${file##*/}"
    done
}

# patch_body FILE: prints the message of a patch, without its subject.
patch_body()
{
    git mailinfo /dev/stdout /dev/null <"$1" 2>/dev/null |
        sed '1,/^$/{/^\(Author\|Email\|Subject\|Date\): /d}' | git stripspace
}

# patch_subject FILE
patch_subject()
{
    git mailinfo /dev/null /dev/null <"$1" 2>/dev/null | sed -n 's/^Subject: //p'
}

# patch_trailer FILE FIELD: the value of a "Field: value" line of the message.
patch_trailer()
{
    patch_body "$1" | sed -n "s/^$2:[[:space:]]*//p" | head -n 1
}

# patch_lines FILE: prints how many lines it adds and removes: "+12 -3".
patch_lines()
{
    awk '/^diff --git /{diff=1; next}
         /^@@ /{hunk=1; next}
         /^(---|\+\+\+) / && !hunk{next}
         /^[^-+ \\@]/{hunk=0}
         diff && hunk && /^\+/{added++}
         diff && hunk && /^-/{removed++}
         END{printf "+%d -%d\n", added, removed}' "$1"
}
