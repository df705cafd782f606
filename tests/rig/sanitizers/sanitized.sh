#!/bin/busybox sh
# shellcheck shell=dash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs a command in the rig under sanitizers. Whatever they report, of any process
# that the command starts, is shown, and makes this fail.
#
#     sanitized.sh COMMAND [ARGUMENT...]
#
# Reports go to files: a test may use a QEMU's standard error itself, and may
# expect that QEMU ends with status 1.

here=$(dirname "$0")
reports=/tmp/sanitizer

# Leaks are looked for at the end of each process. UBSan writes to standard error
# all the same, so a process that it stops has a status that no test expects. A
# library that makes calls fail is loaded before ASan's. GLib keeps no frame
# pointers: who asked it for memory is found only by the slow way to unwind.
common="exitcode=99:log_path=$reports"
export VFIO_TEST_SANITIZED=1
export ASAN_OPTIONS="$common:detect_stack_use_after_return=1:verify_asan_link_order=0"
ASAN_OPTIONS="$ASAN_OPTIONS:fast_unwind_on_malloc=0"
export LSAN_OPTIONS="suppressions=$here/lsan.supp:print_suppressions=0"
export UBSAN_OPTIONS="$common:halt_on_error=1:print_stacktrace=1:suppressions=$here/ubsan.supp"
export TSAN_OPTIONS="$common:suppressions=$here/tsan.supp"

# GLib's own allocator hands memory from one thread to another by locks that TSan
# does not see, and keeps from ASan what has been freed.
export G_SLICE=always-malloc

"$@"
status=$?

# QEMU tells ASan about its coroutines, but at their first switch it says this.
remark="ASan doesn't fully support makecontext/swapcontext functions"

for report in "$reports".*; do
    grep -qsv "$remark" "$report" || continue
    echo "# sanitizers reported, $report:"
    sed 's/^/# /' "$report"
    status=1
done
exit $status
