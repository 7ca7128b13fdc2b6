# SPDX-License-Identifier: Apache-2.0
"""What of ROS this interpreter can use. Importable without ROS."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from importlib import import_module, metadata, util
from pathlib import Path

from pointdistill_ros.nodes.transport import PROFILE, profile_variable

MESSAGES = ("SegmentationStats", "ClassInfo", "ModelComparison")
"""Of msg/."""
_PACKAGE = "pointdistill_ros.msg"
_WHEELS = {"9.": "kilted", "7.": "jazzy"}  # ros-rclpy's major version names the distribution


@dataclass
class RosEnvironment:
    """Facts for people, and what is wrong."""

    facts: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def ros_environment() -> RosEnvironment:
    """Import what the nodes import and tell where it came from.

    No ROS at all is no problem (files and bags need none); half of one is.
    """
    found = RosEnvironment()
    if util.find_spec("rclpy") is None:
        found.facts["ROS"] = "not installed: files and bags work, nodes do not"
        return found
    try:
        import rclpy
        from rclpy.utilities import get_rmw_implementation_identifier

        found.facts["ROS"] = f"{_distribution()}, rclpy in {Path(rclpy.__file__).parent}"
        found.facts["middleware"] = get_rmw_implementation_identifier()
    except Exception as error:
        found.problems.append(f"rclpy is installed but cannot be used: {_first_line(error)}")
        return found
    _find_messages(found)
    found.facts["DDS profile"] = _profile(found)
    _check_strangers(found)
    return found


def _find_messages(found: RosEnvironment) -> None:
    """Which of our messages are built, and whether they load."""
    try:
        built = import_module(_PACKAGE)
        names = [name for name in MESSAGES if hasattr(built, name)]
        for name in names:
            getattr(built, name)()  # loads its type support
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (None, _PACKAGE):
            found.facts["messages"] = (
                f"{', '.join(MESSAGES)} not built: nodes use standard messages only (`make msgs`)"
            )
            return
        found.problems.append(
            f"{_PACKAGE} is built but cannot be used: {_first_line(error)}; "
            "build it again with this ROS and this numpy (`make msgs` or colcon)"
        )
        return
    found.facts["messages"] = f"{', '.join(names)}: built, in {Path(next(iter(built.__path__)))}"
    if missing := [name for name in MESSAGES if name not in names]:
        found.facts["messages"] += f"; {', '.join(missing)} not: build again (`make msgs`)"


def _distribution() -> str:
    if sourced := os.environ.get("ROS_DISTRO"):
        return f"{sourced} (sourced)"
    version = metadata.version("ros-rclpy")
    known = (name for prefix, name in _WHEELS.items() if version.startswith(prefix))
    return f"{next(known, 'unknown distribution')} (wheels, rclpy {version})"


def _profile(found: RosEnvironment) -> str:
    if transports := os.environ.get("FASTDDS_BUILTIN_TRANSPORTS"):
        return f"yours: FASTDDS_BUILTIN_TRANSPORTS={transports}"
    chosen = os.environ.get(profile_variable())
    if chosen is None:
        return f"{PROFILE}, set by our processes through {profile_variable()}"
    if not Path(chosen).is_file():
        found.problems.append(f"{profile_variable()}={chosen} is not a file; Fast DDS ignores it")
    return f"yours: {profile_variable()}={chosen}"


def _check_strangers(found: RosEnvironment) -> None:
    """The package index has other projects under some of ROS's names."""
    spec = util.find_spec("launch")
    if spec is None or spec.origin is None:  # without origin: a mere folder, such as our launch/
        found.facts["launch"] = "not installed: no `ros2 launch`, nodes start directly"
        return
    launch = import_module("launch")
    if hasattr(launch, "LaunchDescription"):
        found.facts["launch"] = f"in {Path(str(launch.__file__)).parent}"
    else:
        found.problems.append(
            f"{launch.__file__} is not ROS launch but the package index's project of that name: "
            "pip uninstall launch"
        )


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0]
