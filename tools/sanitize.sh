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
export ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export POINTDISTILL_LIBRARY=$PWD/build/sanitize/libpointdistill.so
exec "$venv/bin/python" -m pytest -q -p no:xdist tests/engine -m "not slow" --timeout 600 "${@:2}"
