#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Build the messages of msg/ into a venv: tools/build_messages.sh VENV
# against the sourced ROS ($ROS_DISTRO), else against the ROS wheels that the venv holds.
# Skips when nothing changed. Needs cmake >= 3.20, a C and a C++ compiler.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
venv=$(cd "${1:?usage: tools/build_messages.sh VENV}" && pwd)
python=$venv/bin/python
package=pointdistill_ros
build=$root/build/messages-$(printf %s "$venv" | sha256sum | cut -c1-12)

if [[ -n ${ROS_DISTRO:-} ]]; then
  prefix=${AMENT_PREFIX_PATH:?ROS_DISTRO is set, AMENT_PREFIX_PATH is not: source the setup.bash of ROS}
else
  prefix=$venv
  # The wheels' bootstrap sets these for its own venv; inherited from another one they mislead.
  unset _ROS_WHEELS_BOOTSTRAP_COMPLETE LD_LIBRARY_PATH
fi
export PATH=$venv/bin:$PATH VIRTUAL_ENV=$venv

read -r site include numpy_include < <("$python" - <<'PYTHON'
import sysconfig, numpy
print(sysconfig.get_path("purelib"), sysconfig.get_path("include"), numpy.get_include())
PYTHON
)

stamp=$site/$package/msg/.built-from
state=$({ echo "$prefix"; cat "$root"/msg/*.msg "$root"/CMakeLists.txt "$root"/package.xml "$0"
          "$python" -m pip freeze --exclude-editable | { grep -E '^(ros-|numpy==)' || true; }; } | sha256sum)
if [[ -f $stamp && $(<"$stamp") == "$state" ]]; then
  echo "messages: up to date in $venv"
  exit 0
fi

if [[ $prefix == "$venv" ]]; then
  # The wheels' exported CMake targets name the include folders of the machine that built them.
  echo "messages: pointing the ROS wheels' CMake files at this Python and numpy"
  { grep -rlE '/opt/python/' "$venv/share" --include='*.cmake' || true; } | xargs -r sed -i -E \
    -e "s#/opt/python/[^/;\"]+/include/python3\.[0-9]+#$include#g" \
    -e "s#/opt/python/[^/;\"]+/lib/python3\.[0-9]+/site-packages/numpy/_core/include#$numpy_include#g"
fi

mkdir -p "$build"
step() {
  echo "messages: $1"
  shift
  "$@" >"$build/log" 2>&1 || { tail -n 40 "$build/log" >&2; echo "messages: failed, see $build/log" >&2; exit 1; }
}
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)
step "configuring $(ls "$root"/msg/*.msg | wc -l) messages (CMake)" \
  cmake --fresh -S "$root" -B "$build/tree" "${generator[@]}" -DPOINTDISTILL_MESSAGES_ONLY=ON \
  -DCMAKE_INSTALL_PREFIX="$venv" -DCMAKE_PREFIX_PATH="${prefix//:/;}" -DPython3_EXECUTABLE="$python" -DBUILD_TESTING=OFF
step "compiling" cmake --build "$build/tree"

# Through a staging folder: the generated empty __init__.py must not stand in for the package's
# own, nor the generated egg-info for what pip recorded.
rm -rf "$build/stage"
step "installing into $venv" env DESTDIR="$build/stage" cmake --install "$build/tree"
staged=$build/stage$site
rm -rf "$staged/$package/__init__.py" "$staged"/*.egg-info
cp -a "$build/stage$venv/." "$venv/"
printf %s "$state" >"$stamp"
echo "messages: ready ($package.msg)"
