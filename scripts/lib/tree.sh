# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The assembled source trees: build/source, the product's, and
# build/rig-qemu/source, that of the QEMU that the rig's machine runs on.
#
# They are two work trees of one git repository. Its history is made here:
#
#     refs/assembled/base       Debian's source, its patches applied
#     refs/assembled/headers    the kernel's headers, on top of base
#     refs/assembled/series     a commit for each of patches/, on top of headers
#     refs/assembled/rig        a commit for each of tests/rig/patches/, on base
#
# Each tree's branch is at its last commit unless a developer has committed
# more. Author, dates and messages come from the inputs alone, so the same
# inputs give the same commit everywhere. The overlay's files are symbolic
# links in build/source that git does not see (overlay.sh).
#
# refs/assembled/series and rig move last, after the files: a run that is
# interrupted is completed by the next one. Needs say.sh, cache.sh, apt.sh; TOP
# is the project.

. "$TOP/base/qemu"
. "$TOP/base/uapi"

# tree_use product|rig: chooses the tree that all of the following is about.
tree_use()
{
    case $1 in
    product) SOURCE=$TOP/build/source TREE_BASE=headers TREE_SERIES=series
             TREE_BRANCH=iommufd TREE_OPTION='' ;;
    rig)     SOURCE=$TOP/build/rig-qemu/source TREE_BASE=base TREE_SERIES=rig
             TREE_BRANCH=rig TREE_OPTION=' --rig' ;;
    esac
}

tree_use product

# git is deaf to the user's own configuration, since what comes out of it must
# be the same everywhere; and to what a hook that calls these scripts left.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE

# tree_git ARGUMENT...: git on the assembled tree; whoever made it, since
# root may install what a user built.
tree_git()
{
    git -C "$SOURCE" -c safe.directory="$SOURCE" -c core.quotePath=true \
        -c gc.auto=0 "$@"
}

# tree_ref NAME: prints the commit of refs/assembled/NAME; fails if none.
tree_ref()
{
    tree_git rev-parse -q --verify "refs/assembled/$1^{commit}" 2>/dev/null
}

# tree_file NAME: prints the path of a file that belongs to this work tree, in
# git's folder for it.
tree_file()
{
    printf '%s/%s\n' "$(tree_git rev-parse --absolute-git-dir)" "$1"
}

# tree_commit TREE PARENT DATE AUTHOR: commits TREE with the message on
# standard input; prints the commit. PARENT may be empty. AUTHOR is
# "Name <address>".
tree_commit()
{
    local tree=$1 parent=$2 date=$3 name=${4% <*} email=${4##*<}

    email=${email%>}
    GIT_AUTHOR_NAME=$name GIT_AUTHOR_EMAIL=$email GIT_AUTHOR_DATE=$date \
    GIT_COMMITTER_NAME=$name GIT_COMMITTER_EMAIL=$email GIT_COMMITTER_DATE=$date \
        tree_git commit-tree "$tree" ${parent:+-p "$parent"} -F -
}

# tree_index COMMAND...: runs COMMAND with a scratch index, so that neither
# the index nor the files of the tree change.
tree_index()
(
    GIT_INDEX_FILE=$(tree_file "index.$BASHPID")
    export GIT_INDEX_FILE
    trap 'rm -f "$GIT_INDEX_FILE"' EXIT
    rm -f "$GIT_INDEX_FILE"
    "$@"
)

# --- the base -----------------------------------------------------------

# tree_check_dsc DSC: the tarball is the pinned one; apt has checked the rest
# against the archive's signature, and dpkg-source checks what the .dsc lists.
tree_check_dsc()
{
    local dsc=$1 orig version
    orig=${dsc%/*}/$qemu_orig
    printf '%s  %s\n' "$qemu_orig_sha256" "$orig" | sha256sum --quiet -c - >&2 ||
        die "$orig is not the tarball that base/qemu names" \
            "remove it, to fetch it anew; its sha256 must be $qemu_orig_sha256"
    version=$(sed -n 's/^Version: //p' "$dsc" | head -n 1)
    [ "$version" = "$qemu_known" ] ||
        note "the source is revision $version; the series was made on $qemu_known"
}

# tree_extract DSC: a new tree, with Debian's patches applied, committed.
tree_extract()
{
    local dsc=$1 new=$TOP/build/source.new release tree date commit
    rm -rf "$new"
    mkdir -p "$TOP/build"
    log_run "$TOP/build/logs/extract.log" dpkg-source --no-check --no-copy -x "$dsc" "$new" ||
        die "dpkg-source could not unpack $dsc" "remove it, to fetch it anew"
    rm -rf "$new/.pc"
    release=$(cat "$new/VERSION")
    # shellcheck disable=SC2053 # a pattern is what it is
    [[ $release == $qemu_release ]] ||
        die "the source in $dsc is QEMU $release, not $qemu_release"
    date=$(dpkg-parsechangelog -l "$new/debian/changelog" -S Timestamp)

    rm -rf "$SOURCE"
    mv "$new" "$SOURCE"
    tree_git init -q -b "$TREE_BRANCH"
    tree_git add -A -f
    tree=$(tree_git write-tree)
    commit=$(tree_commit "$tree" '' "$date +0000" "Debian <debian>" <<MESSAGE
base: QEMU $release as Debian has it

Source package: $(sed -n 's/^Version: //p' "$dsc" | head -n 1)
MESSAGE
    )
    tree_git update-ref "refs/heads/$TREE_BRANCH" "$commit"
    tree_git update-ref refs/assembled/base "$commit"
}

# tree_make_base DSC: the base commit is of DSC. A tree of another source is
# replaced, unless it holds work that is nowhere else.
tree_make_base()
{
    local dsc=$1 key
    key=$(sha256sum <"$dsc")

    if tree_ref base >/dev/null && [ "$key" = "$(cat "$SOURCE/.git/base.key" 2>/dev/null)" ]; then
        return
    fi
    tree_check_dsc "$dsc"
    tree_refuse_loss
    (tree_use rig; tree_refuse_loss)
    tree_extract "$dsc"
    printf '%s\n' "$key" >"$SOURCE/.git/base.key"
}

# --- the kernel's headers -----------------------------------------------

# tree_uapi_deb: prints the path of the package with the kernel's headers:
# what the cache has, else what base/uapi names, else the newest of its kind.
tree_uapi_deb()
{
    local package
    package=$(apt_cached_package "$uapi_packages") ||
        package=$(apt_known "$uapi_known") ||
        package=$(apt_newest "$uapi_packages")
    [ "$package" = "$uapi_known" ] ||
        note "the kernel headers are $package; the code was written against $uapi_known"
    apt_fetch "$package"
}

# uapi_sanitize: makes a header of the kernel's source one for user space, as
# the kernel's own headers_install does: no address space marks, and the
# guard's name without its prefix.
uapi_sanitize()
{
    sed -E -e 's/([[:space:](])__user[[:space:]]/\1/g' \
        -e 's/^#(ifndef|define|endif \/\*)[[:space:]]+_UAPI/#\1 /'
}

tree_stage_headers()
{
    local deb=$1 base=$2 dir=$3 header blob
    dpkg-deb --fsys-tarfile "$deb" |
        tar -x -C "$dir" --wildcards --strip-components=4 '*/include/uapi/linux/*.h'
    tree_git read-tree "$base"
    for header in $uapi_headers; do
        [ -s "$dir/include/uapi/linux/$header" ] ||
            die "$deb has no include/uapi/linux/$header"
        blob=$(uapi_sanitize <"$dir/include/uapi/linux/$header" |
                   tree_git hash-object -w --stdin)
        tree_git update-index --add \
            --cacheinfo "100644,$blob,linux-headers/linux/$header"
    done
    tree_git write-tree
}

# tree_make_headers DEB: the commit of the kernel's headers is of DEB.
tree_make_headers()
{
    local deb=$1 base dir tree commit
    base=$(tree_ref base)

    dir=$(mktemp -d)
    tree=$(tree_index tree_stage_headers "$deb" "$base" "$dir")
    rm -rf "$dir"
    commit=$(tree_commit "$tree" "$base" \
        "$(tree_git show -s --format=%aI "$base")" "Debian <debian>" <<MESSAGE
linux-headers: take iommufd.h from a kernel that has it

Package: $(basename "$deb")
MESSAGE
    )
    tree_git update-ref refs/assembled/headers "$commit"
}

# --- the work tree ------------------------------------------------------

# tree_make_worktree: makes the rig's work tree, if there is none of this
# repository: a new base, or a checkout that was moved, leaves an old one behind.
tree_make_worktree()
{
    local repository
    repository=$(tree_use product; tree_git rev-parse --absolute-git-dir) ||
        die "there is no source tree in build/source" "run ./configure first"

    [ "$repository" != "$(tree_git rev-parse --path-format=absolute \
                              --git-common-dir 2>/dev/null)" ] || return 0
    rm -rf "$SOURCE"
    (
        path=$SOURCE branch=$TREE_BRANCH base=refs/assembled/$TREE_BASE
        tree_use product
        tree_git worktree prune
        tree_git rev-parse -q --verify "refs/heads/$branch" >/dev/null ||
            tree_git branch "$branch" "$base"
        tree_git worktree add -q -f "$path" "$branch"
    )
}

# tree_refuse_unsaved TIP: stops when the branch holds commits that neither
# the last assembled series nor the one about to be, TIP, holds.
tree_refuse_unsaved()
{
    local ref

    [ -z "${FORCE:-}" ] || return 0
    for ref in "refs/assembled/$TREE_SERIES" "$1"; do
        tree_git diff --quiet "$ref" HEAD -- && return
    done
    die "${SOURCE#"$TOP/"} has commits that the series does not have" \
        "scripts/refresh-series$TREE_OPTION    turns them into patches" \
        "scripts/assemble$TREE_OPTION --force  discards them"
}

# tree_refuse_loss: stops when the tree holds work that is nowhere else.
tree_refuse_loss()
{
    tree_ref "$TREE_SERIES" >/dev/null || return 0
    tree_refuse_unsaved "refs/assembled/$TREE_SERIES"
    tree_refuse_edits
}

# tree_refuse_edits: stops when files differ from what is committed.
tree_refuse_edits()
{
    [ -z "${FORCE:-}" ] || return 0
    tree_git update-index -q --refresh >/dev/null || true
    tree_git diff --quiet HEAD -- ||
        die "${SOURCE#"$TOP/"} has edits that are not committed there" \
            "commit them there and run scripts/refresh-series$TREE_OPTION, or" \
            "scripts/assemble$TREE_OPTION --force  discards them"
}

# tree_checkout COMMIT: the branch and the files are at COMMIT. Only files
# that differ are written, so that only what uses them is built again; edits
# of other files stay.
tree_checkout()
{
    local commit=$1 mode=--keep

    # a file that was copied or given to another user is no edit
    tree_git update-index -q --refresh >/dev/null || true
    [ -z "${FORCE:-}" ] || mode=--hard
    tree_git reset -q $mode "$commit" ||
        die "a file that the series changes has edits in ${SOURCE#"$TOP/"}" \
            "commit them there and run scripts/refresh-series$TREE_OPTION, or" \
            "scripts/assemble$TREE_OPTION --force  discards them"
    tree_git update-ref "refs/assembled/$TREE_SERIES" "$commit"
}

# tree_copy COMMIT DIR: DIR has the files of COMMIT, as a plain folder; what
# DIR has already and is the same is left alone.
tree_copy()
{
    local commit=$1 dir=$2

    mkdir -p "$dir"
    GIT_INDEX_FILE=$dir.index tree_git --work-tree="$dir" \
        read-tree --reset -u "$commit"
}
