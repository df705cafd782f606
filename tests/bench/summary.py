# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints tables of what the benchmark measured, and writes data for plots.

    summary.py CSV DIRECTORY

A cell is the median, with the lowest and the highest in brackets, and the ratio
of the median to that of the legacy path. From each start the time is subtracted
that the same QEMU needs without the device, but not where a guest boots. For each
kind of pages there are files CASE-PAGES.tsv in DIRECTORY, as far as they were measured.
"""

import csv
import re
import statistics
import sys
from collections import defaultdict
from pathlib import Path

BASELINE = 'none'
REFERENCE = 'legacy'

# The tables' names for what a case measures, in the order of the tables
TITLES = {
    ('start', 'start'): 'start of the VM, more than without the device',
    ('start', 'end'): 'end of the VM',
    ('devices', 'start'): 'start of a VM with so many devices, more than without any',
    ('devices', 'end'): 'end of a VM with so many devices',
    ('plug', 'plug1'): 'device_add of the first device',
    ('plug', 'plug2'): 'device_add of a second device',
    ('plug', 'unplug2'): 'unplug of the second device',
    ('plug', 'unplug1'): 'unplug of the last device',
    ('spaces', 'plug1'): 'device_add of the first device behind an IOMMU of the '
                         'guest, which is off',
    ('spaces', 'plug2'): 'device_add of a second device there',
    ('spaces', 'unplug2'): 'unplug of the second device there',
    ('spaces', 'unplug1'): 'unplug of the last device there',
    ('calls', 'cold'): 'calls that map memory that was never touched',
    ('calls', 'touch'): 'the first touch of it then, by the program',
    ('calls', 'warm'): 'calls that map memory that was touched',
    ('calls', 'unmap'): 'calls that unmap it',
    ('reads', 'reads'): 'a thousand reads from an NVMe disk, in the guest',
    **{(f'boot-{device}', what): f'a guest with {name}: {title}'
       for device, name in (('nvme', 'an NVMe disk'), ('edu', 'an edu'),
                            ('net', 'an e1000e'))
       for what, title in (
           ('start', 'from exec to the first answer of the monitor'),
           ('bit', 'from exec until the guest first sets Bus Master Enable'),
           ('go', 'from exec until it went on, if it had to wait then'),
           ('boot', 'from exec to the first byte by DMA, or to its end without '
                    'a device'))},
}

# What is plotted over the memory
PLOTS = [('start', 'start'), ('devices', 'start'), ('spaces', 'plug2'), ('boot-nvme', 'boot'),
         ('boot-edu', 'boot')]

# What the first column has, where it is not the memory
COUNTED = {'devices': 'devices'}

PAGES = {
    'small': 'pages of 4 KiB',
    'thp': 'transparent huge pages',
    'huge': 'huge pages of 2 MiB',
    'shared': 'shared memfd, pages of 4 KiB',
    'shared-thp': 'shared memfd, transparent huge pages',
    'prealloc': 'transparent huge pages, preallocated by QEMU',
}


def read(path):
    """({(case, what): {pages: {mib: {path: [seconds]}}}}, [remark])

    If a run was stopped and its last line is cut short, that line is left out.
    """
    figures = defaultdict(lambda: defaultdict(lambda: defaultdict(
        lambda: defaultdict(list))))
    with open(path, newline='') as file:
        lines = file.read().splitlines(keepends=True)
    remarks = [line[1:].strip() for line in lines if line.startswith('#')]
    rows = csv.DictReader(line for line in lines
                          if line.endswith('\n') and line[0] != '#')
    for row in rows:
        cells = figures[row['case'], row['what']][row['pages']]
        cells[int(row['mib'])][row['path']].append(float(row['seconds']))
    return figures, remarks


def baseline_of(path):
    """The path of the same QEMU that is without a device"""
    return re.sub('^[^@]*', BASELINE, path)


def subtract_baselines(paths):
    for path, seconds in paths.items():
        if path != baseline_of(path):
            base = statistics.median(paths[baseline_of(path)])
            paths[path] = [value - base for value in seconds]


def cell(seconds, reference):
    median = statistics.median(seconds)
    text = f'{median:.4f} ({min(seconds):.4f}..{max(seconds):.4f})'
    if reference:
        text += f' {median / statistics.median(reference):.2f}'
    return text


def print_table(rows, counted):
    """@rows: {mib: {path: [seconds]}}; @counted: what mib is"""
    paths = list(dict.fromkeys(path for cells in rows.values() for path in cells))
    width = 2 + max([31] + [len(path) for path in paths])
    print(f'{counted:>7}  ' + ''.join(path.ljust(width) for path in paths).rstrip())
    for mib, cells in sorted(rows.items()):
        reference = cells.get(REFERENCE)
        line = ''.join(
            (cell(cells[path], path != baseline_of(path) and reference)
             if cells[path] else '').ljust(width) for path in paths)
        print(f'  {mib:5}  {line.rstrip()}')
    print()


def write_data(path, rows, counted, with_baselines):
    """For gnuplot: @counted, then the median, lowest and highest of each path"""
    paths = [name for name in next(iter(rows.values()))
             if with_baselines or name != baseline_of(name)]
    with open(path, 'w') as file:
        print(counted, *(f'{name}\tlow\thigh' for name in paths), sep='\t',
              file=file)
        for mib, cells in sorted(rows.items()):
            values = [f'{statistics.median(cells[name]):.6f}\t'
                      f'{min(cells[name]):.6f}\t{max(cells[name]):.6f}'
                      for name in paths]
            print(mib, *values, sep='\t', file=file)


def main(source, directory):
    figures, remarks = read(source)
    for case in 'start', 'devices':
        for cells in figures[case, 'start'].values():
            for paths in cells.values():
                subtract_baselines(paths)

    for key, title in TITLES.items():
        for pages, rows in figures.get(key, {}).items():
            print(f'Seconds: {title}; {PAGES[pages]}\n')
            print_table(rows, COUNTED.get(key[0], 'MiB'))
    print(*remarks, sep='\n')
    for case, what in PLOTS:
        for pages, rows in figures[case, what].items():
            write_data(Path(directory) / f'{case}-{pages}.tsv', rows,
                       COUNTED.get(case, 'MiB'), case.startswith('boot'))


if __name__ == '__main__':
    main(*sys.argv[1:])
