#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Coverage-guided fuzzing of everything that reads strangers' bytes: tools/fuzz.sh VENV [TARGET …]
#   FUZZ_RUNS=N      executions in all, shared out as the targets say (default 10 million)
#   FUZZ_SECONDS=N   at most that long for each target (default 0, no limit)
# What was found stays in build/fuzz: corpus-TARGET/ grows from run to run, crashes-TARGET/ holds the
# inputs that broke something, with the command that replays them; TARGET.log what the fuzzer said.
set -euo pipefail
venv=$1
shift
runs=${FUZZ_RUNS:-10000000}
seconds=${FUZZ_SECONDS:-0}
export OMP_NUM_THREADS=1 PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}
python=$PWD/$venv/bin/python
if ! "$python" -c 'import atheris' 2>/dev/null; then
  echo "fuzz: installing atheris (Apache-2.0) into $venv"
  "$python" -m pip install -qq --disable-pip-version-check 'atheris==2.3.0; python_version < "3.12"' \
    'atheris>=3.0; python_version >= "3.12"'
fi
# Scratch files of the targets; in memory where the system has a place for that.
memory=/dev/shm
[[ -d $memory && -w $memory ]] || memory=${TMPDIR:-/tmp}
TMPDIR=$(mktemp -d "$memory/fuzz.XXXXXX")
export TMPDIR
trap 'rm -rf "$TMPDIR"' EXIT
failed=()
while read -r name share _; do
  if (($# > 0)) && [[ " $* " != *" $name "* ]]; then continue; fi
  found=build/fuzz/crashes-$name
  mkdir -p "build/fuzz/corpus-$name" "$found"
  count=$((runs * share / 100))
  echo "fuzz: $name, $count executions"
  begin=$(awk '{print $14 + $15 + $16 + $17}' "/proc/$$/stat")
  status=0
  # -timeout: seconds for one input; -rss_limit_mb also bounds a single allocation
  "$python" -m tests.fuzz.run "$name" -runs="$count" -max_total_time="$seconds" -timeout=30 \
    -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="$found/" \
    "build/fuzz/corpus-$name" "tests/fuzz/corpus/$name" </dev/null >"build/fuzz/$name.log" 2>&1 || status=$?
  end=$(awk '{print $14 + $15 + $16 + $17}' "/proc/$$/stat")
  awk -v ticks=$((end - begin)) -v hertz="$(getconf CLK_TCK)" '
    /stat::number_of_executed_units/ { done = $2 }
    /stat::peak_rss_mb/ { rss = $2 }
    / cov: / { for (i = 1; i < NF; i++) { if ($i == "cov:") cov = $(i + 1); if ($i == "corp:") corp = $(i + 1) } }
    END { cpu = ticks / hertz; printf "fuzz:   %d done, %.0f CPU s, %.0f/s, coverage %s, corpus %s, %s MB\n",
          done, cpu, cpu ? done / cpu : 0, cov, corp, rss }' "build/fuzz/$name.log"
  if ((status)); then
    failed+=("$name")
    grep -aE "^ *(=== Uncaught|[A-Za-z]*Error|ERROR: |SUMMARY)" "build/fuzz/$name.log" | head -5 || true
    for file in "$found"/*; do
      [[ -f $file ]] && echo "fuzz:   replay: PYTHONPATH=. $venv/bin/python -m tests.fuzz.run $name $file"
    done
  fi
done < <("$python" -m tests.fuzz.run)
if ((${#failed[@]})); then
  echo "fuzz: ${failed[*]} broke"
  exit 1
fi
echo "fuzz: nothing broke"
