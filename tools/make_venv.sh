#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Make the virtual environment: tools/make_venv.sh VENV ROS [PYTHON]
# ROS is `wheels`, or the name of the sourced distribution, whose packages the environment then sees.
# Refuses, in one line, what would otherwise fail half-way through an installation.
set -euo pipefail

venv=${1:?usage: tools/make_venv.sh VENV ROS [PYTHON]}
ros=${2:?usage: tools/make_venv.sh VENV ROS [PYTHON]}
python=${3:-}
refuse() { echo "install: $*" >&2; exit 2; }

# A sourced distribution decides which Python runs it; the wheels and the pins know 3.10 to 3.13.
newest=13
[[ $ros != wheels ]] && newest=14
fits() { "$1" -c "import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, $newest))" 2>/dev/null; }

if [[ -n $python ]]; then
  command -v "$python" >/dev/null || refuse "no such interpreter: PYTHON=$python"
  fits "$python" || refuse "$python is $("$python" -V 2>&1); this needs Python 3.10 to 3.$newest (choose with PYTHON=...)"
else
  for python in python3 python3.12 python3.13 python3.11 python3.10 none; do fits "$python" && break; done
  [[ $python != none ]] || refuse "no Python 3.10 to 3.$newest found; install one and name it with PYTHON=..."
fi
for other in "$venv"/.made-for-*; do
  [[ ! -e $other || $other == "$venv/.made-for-$ros" ]] ||
    refuse "$venv was made for ROS from ${other##*-}, now it is $ros; two ROSes do not mix: run \`make clean\` first"
done

[[ $ros != wheels || $(uname -sm) == "Linux x86_64" ]] ||
  refuse "the ROS wheels are for x86-64 Linux; here is $(uname -sm): source a ROS installation first"
"$python" -c 'import venv, ensurepip' 2>/dev/null ||
  refuse "$python has no venv module (Debian, Ubuntu: sudo apt install python3-venv)"
"$python" -c 'import pathlib, sysconfig, sys; sys.exit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())' ||
  refuse "the headers of $python are missing (Debian, Ubuntu: sudo apt install python3-dev)"
for compiler in "${CC:-cc}" "${CXX:-c++}"; do
  command -v "$compiler" >/dev/null ||
    refuse "no compiler \`$compiler\` to build the messages (Debian, Ubuntu: sudo apt install build-essential)"
done

if [[ $ros == wheels ]]; then
  echo "install: environment $venv with $("$python" -V); no ROS sourced, so ROS 2 Kilted comes from wheels"
  options=()
else
  echo "install: environment $venv with $("$python" -V); ROS $ros is sourced and will be used"
  options=(--system-site-packages)
fi
[[ -x $venv/bin/python ]] || "$python" -m venv "${options[@]}" "$venv"
touch "$venv/.made-for-$ros"
