# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts what `meson test` ran: the last words of scripts/check.

Meson counts programs. A program that speaks TAP runs many tests, and one that
skips half of them is still OK to meson; here each of them counts, and each
skipped one is named with its reason. The remarks of a program with a failure
are shown, which meson leaves out.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

TAP_LINE = re.compile(r'(not )?ok\b\s*\d*\s*-?\s*([^#]*)(?:#\s*(\w+)\s*(.*))?')
REMARKS_MAX = 80
TAP_NONE = re.compile(r'1\.\.0\s*(?:#\s*SKIP\S*\s*(.*))?', re.IGNORECASE)


def tap_programs(build):
    """The names of the tests that speak TAP."""
    tests = subprocess.run(
        ['/usr/bin/meson', 'introspect', '--tests', str(build)],
        check=True, stdout=subprocess.PIPE).stdout
    return {test['name'] for test in json.loads(tests)
            if test['protocol'] == 'tap'}


def tap_results(output):
    """(outcome, name, reason) for each test in a program's TAP output."""
    for line in output.splitlines():
        none = TAP_NONE.match(line)
        if none:
            yield 'skipped', '', none[1] or 'it gives no reason'
        match = TAP_LINE.match(line)
        if not match:
            continue
        failed, name, directive, reason = match.groups()
        directive = (directive or '').upper()
        if directive.startswith('SKIP'):
            yield 'skipped', name.strip(), reason or 'it gives no reason'
        elif directive == 'TODO':
            yield 'skipped', name.strip(), 'to do: ' + reason
        else:
            yield 'failed' if failed else 'passed', name.strip(), ''


def last_line(output):
    lines = [line for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else 'it gives no reason'


def program_results(test, speaks_tap):
    """(outcome, name, reason) for each test of one program's run."""
    result = test['result']
    output = test.get('stdout', '')
    if speaks_tap:
        results = list(tap_results(output))
        # a program that dies has a failure that its TAP does not show
        if result in ('FAIL', 'ERROR', 'TIMEOUT') and \
                not any(outcome == 'failed' for outcome, _, _ in results):
            results.append(('failed', '', result.lower()))
        return results
    if result in ('OK', 'EXPECTEDFAIL'):
        return [('passed', '', '')]
    if result == 'SKIP':
        return [('skipped', '', last_line(output))]
    return [('failed', '', result.lower())]


def print_remarks(output):
    remarks = [line for line in output.splitlines() if line.startswith('#')]
    for line in remarks[-REMARKS_MAX:]:
        print('    ' + line)


def main(build):
    log = build / 'meson-logs' / 'testlog.json'
    programs = tap_programs(build)
    count = {'passed': 0, 'failed': 0, 'skipped': 0}
    if log.exists():
        for line in log.read_text(encoding='utf-8').splitlines():
            test = json.loads(line)
            name = test['name'].split(' / ')[-1]
            results = list(program_results(test, name in programs))
            for outcome, subtest, reason in results:
                count[outcome] += 1
                if outcome != 'passed':
                    print(f'{outcome}: {name} {subtest}: {reason}'.replace(' :', ':'))
            if any(outcome == 'failed' for outcome, _, _ in results):
                print_remarks(test.get('stdout', ''))
    print('{passed} passed, {failed} failed, {skipped} skipped'.format(**count))
    return 0 if count['passed'] and not count['failed'] else 1


if __name__ == '__main__':
    sys.exit(main(Path(sys.argv[1])))
