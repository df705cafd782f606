#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs a command that sanitizers watch, in the rig: whatever they report, of
# any process that it starts, is shown, and makes it fail.
#
#     sanitized.sh COMMAND [ARGUMENT...]
#
# Reports go to files: a test may have a QEMU's standard error for itself, and
# expect that it ends with status 1.

here=$(dirname "$0")
reports=/tmp/sanitizer

# Leaks are looked for at the end of each process. What undefined behaviour there
# is goes to standard error all the same, so its status has to be one that no
# test expects.
common="exitcode=99:log_path=$reports"
export VFIO_TEST_SANITIZED=1
export ASAN_OPTIONS="$common:detect_stack_use_after_return=1"
export LSAN_OPTIONS="suppressions=$here/lsan.supp:print_suppressions=0"
export UBSAN_OPTIONS="$common:halt_on_error=1:print_stacktrace=1:suppressions=$here/ubsan.supp"
export TSAN_OPTIONS="$common:suppressions=$here/tsan.supp"

"$@"
status=$?

# QEMU tells ASan of its coroutines, and yet their first switch has it say this.
remark="ASan doesn't fully support makecontext/swapcontext functions"

for report in "$reports".*; do
    grep -qsv "$remark" "$report" || continue
    echo "# sanitizers reported, $report:"
    sed 's/^/# /' "$report"
    status=1
done
exit $status
