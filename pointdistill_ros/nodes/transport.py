# SPDX-License-Identifier: Apache-2.0
"""DDS settings that let clouds of megabytes arrive. Call before rclpy.init, in every process.

Fast DDS by default moves at most 512 KB through shared memory; best-effort clouds beyond that are
lost without a word. The profile widens the shared memory to 32 MB.
"""

from __future__ import annotations

import os
from importlib import metadata

from pointdistill_ros.resources import config_path

PROFILE = "fastdds_large_clouds.xml"
_USER_CHOICES = (
    "FASTDDS_DEFAULT_PROFILES_FILE",
    "FASTRTPS_DEFAULT_PROFILES_FILE",
    "FASTDDS_BUILTIN_TRANSPORTS",
)


def profile_variable() -> str:
    """Name of the environment variable that this distribution's Fast DDS reads.

    Jazzy (Fast DDS 2) reads the old name only; later ones call it deprecated.
    """
    distribution = os.environ.get("ROS_DISTRO")
    if distribution:
        old = distribution in ("humble", "iron", "jazzy")
    else:
        # the wheels of Fast DDS 2 go by the old name, too
        old = any(True for _ in metadata.distributions(name="ros-fastrtps"))
    return "FASTRTPS_DEFAULT_PROFILES_FILE" if old else "FASTDDS_DEFAULT_PROFILES_FILE"


def prepare_transport() -> None:
    """Select the large-cloud profile unless the user has chosen a transport or profile already."""
    if not any(name in os.environ for name in _USER_CHOICES):
        os.environ[profile_variable()] = str(config_path(PROFILE))


def transport_variables(choice: str) -> dict[str, str]:
    """Environment variables that a launch file sets for its argument ``dds_transport``.

    auto: none, each process then calls ``prepare_transport``; default, shm_large, udp_large,
    large_data: see segmentation.launch.py. Raises KeyError.
    """
    return {
        "auto": {},
        "default": {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"},
        "shm_large": {profile_variable(): str(config_path(PROFILE))},
        "udp_large": {"FASTDDS_BUILTIN_TRANSPORTS": "UDPv4?sockets_size=4MB"},
        "large_data": {"FASTDDS_BUILTIN_TRANSPORTS": "LARGE_DATA"},
    }[choice]
