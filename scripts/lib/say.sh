# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a script tells its user.
#
# All of it goes to standard error, so that a function's standard output is
# only its result: path=$(apt_fetch PACKAGE) prints progress, and path is still
# only a path.

# say TEXT...: prints one line of news.
say()
{
    printf '%s\n' "$*" >&2
}

# note TEXT...: prints something unusual that is not wrong.
note()
{
    printf 'note: %s\n' "$*" >&2
}

# warn TEXT...: prints something that may hurt later.
warn()
{
    printf 'warning: %s\n' "$*" >&2
}

# die TEXT [WHAT-TO-DO...]: prints the last message of a failed script, and ends
# it. TEXT says what was tried and what failed; each further argument is a line
# that says what to do about it.
die()
{
    printf '%s: error: %s\n' "${0##*/}" "$1" >&2
    shift
    [ $# -eq 0 ] || printf '    %s\n' "$@" >&2
    exit 1
}

# steps COUNT, then step TEXT...: prints "[3/8] text". The count comes first, so
# that the reader sees how far the script is.
steps()
{
    STEP_COUNT=$1
    STEP_NOW=0
}

step()
{
    STEP_NOW=$((STEP_NOW + 1))
    printf '[%d/%d] %s\n' "$STEP_NOW" "$STEP_COUNT" "$*" >&2
}

# log_run LOG COMMAND...: runs COMMAND with its output in LOG, since hundreds of
# lines of success say nothing. If it fails, shows the end of LOG. Returns the
# command's status.
log_run()
{
    local log=$1 status=0
    shift

    mkdir -p "${log%/*}"
    "$@" >"$log" 2>&1 || status=$?
    if [ "$status" -ne 0 ]; then
        say "failed with status $status: $*"
        say "the last lines of $log:"
        tail -n 25 "$log" | sed 's/^/    | /' >&2
    fi
    return "$status"
}
