# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes a build.ninja for a QEMU in which vfio and iommufd are instrumented.

    instrument.py BUILD OUTPUT FLAG...

The objects of hw/vfio, of the iommufd object, and of coroutines (which a
sanitizer has to be told about) are compiled again, as in QEMU's own BUILD but
with gcc's FLAGs added, and linked with all of BUILD's other objects.
OUTPUT/build.ninja is for `ninja -C BUILD -f`; it builds
OUTPUT/qemu-system-x86_64.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

PROGRAM = 'qemu-system-x86_64'
INSTRUMENTED = re.compile(
    r'lib.*\.p/(hw_vfio_|backends_iommufd|util_coroutine-ucontext).*\.o')

# A coroutine that has ended may run again, on the stack that it had. ASan has
# thrown away by then what it keeps beside that stack for variables.
ON_REUSED_STACK = re.compile(r'.*coroutine-ucontext.*')
ON_REUSED_STACK_FLAGS = ['--param=asan-use-after-return=0']

RULES = '''builddir = {output}
rule compile
  command = $command
  description = Compiling $out
  depfile = $out.d
  deps = gcc
rule link
  command = $command
  description = Linking $out
'''


def redirected(words, output):
    """The WORDS of a command; files that it, or one before it, writes are in
    OUTPUT."""
    for word in words:
        if word == PROGRAM or INSTRUMENTED.fullmatch(word.removesuffix('.d')):
            word = f'{output}/{word}'
        yield word


def statement(rule, out, inputs, command):
    escaped = shlex.join(command).replace('$', '$$')
    return f'build {out}: {rule} {" ".join(inputs)}\n  command = {escaped}\n'


def link_command(build):
    """The words; an object that is linked as part of a library is not in them."""
    commands = subprocess.run(
        ['/usr/bin/ninja', '-C', build, '-t', 'commands', '-s', PROGRAM],
        check=True, capture_output=True, text=True).stdout
    return shlex.split(commands.splitlines()[-1])


def main(build, output, *flags):
    database = Path(build, 'compile_commands.json').read_text(encoding='utf-8')
    text = RULES.format(output=output)
    objects = []
    for entry in json.loads(database):
        if not INSTRUMENTED.fullmatch(entry['output']):
            continue
        objects.append(f'{output}/{entry["output"]}')
        command = redirected(shlex.split(entry['command']), output)
        reused = ON_REUSED_STACK.fullmatch(entry['output'])
        text += statement('compile', objects[-1], [entry['file']],
                          [*command, *flags,
                           *(ON_REUSED_STACK_FLAGS if reused else [])])
    command = list(redirected(link_command(build), output))
    # before the library that each is a part of, so that its own is not used
    command[1:1] = [file for file in objects if file not in command]
    text += statement('link', f'{output}/{PROGRAM}', [*objects, '|', PROGRAM],
                      [*command, *flags])
    Path(output, 'build.ninja').write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main(*sys.argv[1:])
