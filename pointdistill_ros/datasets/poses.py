# SPDX-License-Identifier: Apache-2.0
"""Where the scans of a data set were taken.

Known in official SemanticKITTI, nuScenes, Waymo and PandaSet, in packed scans and caches that hold
a pose, in simulated streets; also below conventions and caches.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import InConvention
from pointdistill_ros.datasets.labelled import DerivedScans, LabelledScans, innermost
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import InputError
from pointdistill_ros.simulation.drive import PERIOD, Drive


def has_poses(scans: LabelledScans) -> bool:
    """Whether the scans of a data set know where they were taken; asks the first one."""
    inner: Any = innermost(scans)
    if isinstance(inner, SimulatedStreets):
        return len(inner) > 0
    return hasattr(inner, "pose") and len(inner) > 0 and inner.pose(0) is not None


def pose_of(scans: LabelledScans, i: int) -> NDArray[np.float64]:
    """4×4 transform from scan i, as ``scans`` gives it, to the world of its sequence.

    Raises InputError where there is none, or none that is a rotation and a translation.
    """
    if isinstance(scans, InConvention):
        return pose_of(scans.scans, i) @ np.linalg.inv(scans.convention.matrix)
    if isinstance(scans, DerivedScans):  # kept in memory, not changed
        return pose_of(scans.scans, i)
    pose = _street_pose(scans, i) if isinstance(scans, SimulatedStreets) else None
    if pose is None and hasattr(scans, "pose"):
        pose = scans.pose(i)
    if pose is None:
        raise InputError(f"{name_of(scans)}: scan {i} of {scans.sequences[i]} has no pose")
    turn = pose[:3, :3]
    if np.abs(turn @ turn.T - np.eye(3)).max() > 1e-2 or np.linalg.det(turn) < 0:
        raise InputError(
            f"{name_of(scans)}: the pose of scan {i} of {scans.sequences[i]} is no rotation and "
            "translation"
        )
    return np.asarray(pose, np.float64)


_streets: dict[tuple[int, str, int], list[NDArray[np.float64]]] = {}


def _street_pose(scans: SimulatedStreets, i: int) -> NDArray[np.float64]:
    """Pose of a rendered scan; the street is built once more for it, which takes about a second."""
    frame = i % scans.frames
    lidar, seed = scans.sequences[i].rsplit("_", 1)
    turns = [k * scans.stride for k in range(scans.frames)]
    key = (int(seed), lidar, turns[-1])
    if key not in _streets:
        drive = Drive(int(seed), turns[-1] + 1, lidar)  # as long as the rendered one: same street
        _streets[key] = [drive._pose(turn * PERIOD) for turn in turns]
    return _streets[key][frame]


def name_of(scans: LabelledScans) -> str:
    """Folder or kind of a data set, for messages."""
    inner: Any = innermost(scans)
    return f"{getattr(inner, 'root', '') or type(inner).__name__}"
