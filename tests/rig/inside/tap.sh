# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# TAP from a shell script.

TAP_COUNT=0
TAP_FAILED=0

plan()
{
    echo "TAP version 13"
    echo "1..$1"
}

# check WHAT COMMAND...: WHAT is the promise; it is kept if COMMAND succeeds.
check()
{
    what=$1
    shift
    TAP_COUNT=$((TAP_COUNT + 1))
    if "$@"; then
        echo "ok $TAP_COUNT - $what"
    else
        TAP_FAILED=$((TAP_FAILED + 1))
        echo "not ok $TAP_COUNT - $what"
        echo "# failed: $*"
    fi
}

# show FILE: prints it as TAP comments.
show()
{
    sed 's/^/# /' "$1"
}

finish()
{
    [ $TAP_FAILED = 0 ]
    exit
}
