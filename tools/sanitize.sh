#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The CPU engine's tests with the kernels under AddressSanitizer and UBSan: tools/sanitize.sh VENV
set -euo pipefail
venv=$1
echo "sanitize: compiling the CPU engine with -fsanitize=address,undefined"
"$venv/bin/python" pointdistill_ros/engine/build.py --sanitize --output build/sanitize
cxx=${CXX:-c++}
# Python itself is not sanitized: the run-time library must come first, its leaks are not ours, and
# torch's own exceptions need the C++ library beside it.
export LD_PRELOAD="$($cxx -print-file-name=libasan.so) $($cxx -print-file-name=libubsan.so) $($cxx -print-file-name=libstdc++.so)"
reports=$PWD/build/sanitize/report  # pytest captures what is printed, and an abort loses it
rm -f "$reports".*
export ASAN_OPTIONS=detect_leaks=0:log_path=$reports
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1:log_path=$reports
export POINTDISTILL_LIBRARY=$PWD/build/sanitize/libpointdistill.so
# the tests that call the kernels; the choice between engines starts compilers, which are not ours
mapfile -t tests < <(grep -lE "load_library|dense_kernels" tests/engine/test_*.py | grep -v test_choice)
tests+=(tests/training/compiled tests/training/persistence/test_compiled.py)
status=0
"$venv/bin/python" -m pytest -q -p no:xdist "${tests[@]}" -m "not slow" --timeout 600 "${@:2}" || status=$?
cat "$reports".* 2>/dev/null >&2 || true
exit $status
