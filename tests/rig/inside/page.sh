# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Reads what a page tells its readers to type: blocks with a comment
# ".. step: NAME" before them. PAGE is its file.

# block STEP: the lines of the page's step, without their margin
block()
{
    awk -v step="$1" '
        /^\.\. step: / { found = $3 == step; next }
        found && /^  / { print substr($0, 3); next }
        found && !/^(\.\. code-block:|$)/ { exit }' "$PAGE"
}

# typed STEP PROMPT: what to type at PROMPT; a line that ends with \ continues.
typed()
{
    block "$1" | awk -v prompt="$2" '
        goes_on || index($0, prompt " ") == 1 {
            print goes_on ? $0 : substr($0, 3)
            goes_on = /\\$/
        }'
}

# answers STEP: what the page shows as answers
answers()
{
    block "$1" | awk '
        !goes_on && !/^[#$] / { print }
        { goes_on = /\\$/ && (goes_on || /^[#$] /) }'
}
