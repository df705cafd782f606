# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the benchmarks share: here is tests/bench, and say.sh is read.

say_if_busy()
{
    local busy

    busy=$(awk '{ print int($1 + 0.5) }' /proc/loadavg)
    [ "$busy" -eq 0 ] || note "the machine is not idle: its load is $busy"
}

# plot TSV OVER WHAT: makes an SVG and a PNG beside it.
plot()
{
    local terminal

    if ! type -P gnuplot >/dev/null; then
        note "no plot without gnuplot; this brings it: apt-get install gnuplot-nox"
        return
    fi
    for terminal in 'svg size 800,500 dynamic background "white"' \
                    'pngcairo size 1200,750'; do
        # shellcheck disable=SC2154 # here is the caller's
        gnuplot -e "terminal='$terminal'; data='$1'; over=\"$2\"; what='$3'" \
            "$here/plot.gp"
    done
}
