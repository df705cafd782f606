# SPDX-License-Identifier: GPL-2.0-or-later
#
# How a time depends on a size. plot.sh sets terminal, data, over and what; data is a
# file that ends in .tsv, as written by summary.py's write_data(), over says which
# size it is, and what which time.

eval "set terminal ".terminal
set output data[1:strlen(data) - 4].(terminal[1:3] eq "svg" ? ".svg" : ".png")

set datafile separator "\t"
set xlabel over
set ylabel what
set yrange [0:]
set key left top noenhanced
set grid

stats data skip 1 using 0 nooutput
paths = (STATS_columns - 1) / 3
plot for [i = 0:paths - 1] data using 1:(column(2 + 3 * i)):(column(3 + 3 * i)):(column(4 + 3 * i)) \
         with yerrorlines linewidth 2 pointtype 7 pointsize 0.6 \
         title columnheader(2 + 3 * i)
