# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints the ninja targets of a QEMU build that are wanted here.

    targets.py BUILD [TEST...]

These are all targets that QEMU builds by default, and so all that it installs,
except its tests, which are half of the work. Of the tests, only the programs
that are named are printed. A TEST may be a shell pattern.
"""

import fnmatch
import json
import sys
from pathlib import Path


def wanted(target, file, tests):
    if file.parts[0] != 'tests':
        return target['build_by_default']
    return target['type'] == 'executable' and \
        any(fnmatch.fnmatchcase(file.name, test) for test in tests)


def main(build, *tests):
    build = Path(build).resolve()
    targets = json.loads((build / 'meson-info' / 'intro-targets.json').read_text())
    for target in targets:
        for file in target['filename']:
            file = Path(file).relative_to(build)
            if wanted(target, file, tests):
                print(file)


if __name__ == '__main__':
    main(*sys.argv[1:])
