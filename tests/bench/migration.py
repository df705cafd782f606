# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints tables of what it costs to migrate a device, and writes data for a plot.

    migration.py CSV DIRECTORY

CSV has lines "WHAT,KIND,PATH,SECONDS" of tests/qtest/vfio-mig-rate-test.c. A cell is
the median, with the lowest and the highest in brackets, and the ratio of the median
to that of the newer QEMU by the same path. DIRECTORY/downtime.tsv has the downtime
over the state's size.
"""

import csv
import statistics
import sys
from collections import defaultdict
from pathlib import Path

from summary import cell, write_data

NEWER = '@newer'

# The tables' titles, and how many of their units a second has
TABLES = {
    'downtime': (1, 'Seconds from the stop of the guest to the end of the load, by MiB of '
                    "the device's state"),
    'sync': (1000, "Milliseconds in the kernel to fetch all memory's dirty pages once, "
                   '2 GiB, by the pages of its table'),
    'dma': (1000, "Milliseconds for a device's write, by what tells of it"),
}


def read(path):
    """{what: {kind: {path: [seconds]}}}"""
    figures = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    with open(path, newline='', encoding='utf-8') as file:
        for what, kind, name, seconds in csv.reader(file):
            figures[what][kind][name].append(float(seconds))
    return figures


def print_table(rows, units):
    def scaled(seconds):
        return seconds and [value * units for value in seconds]

    paths = sorted({name for cells in rows.values() for name in cells})
    width = 36
    print(' ' * 12 + ''.join(path.ljust(width) for path in paths).rstrip())
    for kind, cells in rows.items():
        line = ''.join(
            (cell(scaled(cells[path]), scaled(cells.get(path + NEWER)))
             if path in cells else '')
            .ljust(width) for path in paths)
        print(f'  {kind:10}{line.rstrip()}')
    print()


def rate(cells):
    """MiB per second, between the smallest and the largest state"""
    sizes = sorted(cells)
    spent = [statistics.median(cells[size]) for size in (sizes[0], sizes[-1])]
    return (sizes[-1] - sizes[0]) / (spent[1] - spent[0])


def main(source, directory):
    figures = read(source)
    for what, (units, title) in TABLES.items():
        print(title + '\n')
        print_table(figures[what], units)

    downtime = {int(size): cells for size, cells in figures['downtime'].items()}
    print("MiB of a device's state per second, from the smallest to the largest\n")
    for path in downtime[min(downtime)]:
        by_size = {size: cells[path] for size, cells in downtime.items()}
        print(f'  {path:16}{rate(by_size):7.0f}')
    write_data(Path(directory) / 'downtime.tsv', downtime)


if __name__ == '__main__':
    main(*sys.argv[1:])
