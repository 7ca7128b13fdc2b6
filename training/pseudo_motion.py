# SPDX-License-Identifier: Apache-2.0
"""Where the scans of a drive were taken: what a bag or a folder tells of the sensor's motion.

- bags: tf, odometry, a file or an estimate, as `pointdistill evaluate-bag` finds them
- folders: a file of poses, ``poses.txt`` of a KITTI sequence, poses of packed scans, an estimate
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.evaluation.motion.ego_motion import (
    AUTO,
    ESTIMATE,
    NONE,
    TF,
    EgoMotion,
    ego_motion,
)
from pointdistill_ros.evaluation.motion.registration import estimate, installed
from pointdistill_ros.evaluation.motion.trajectory import Pose, read_poses
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.io.bag import BagScans
from pointdistill_ros.io.open import ScanFiles, open_scans
from pointdistill_ros.io.source import PERIOD_NS
from training.pseudo_files import digest, write_arrays


@dataclass(frozen=True, eq=False)
class Taken:
    """When and where a scan was taken."""

    time_ns: int
    pose: Pose | None
    """[4, 4] from the scan, in the reference convention, to the drive's first one that has a pose;
    None where it is not known."""


@dataclass(frozen=True, eq=False)
class DriveMotion:
    """The motion of a drive."""

    scans: Mapping[str, Taken]
    """All its scans by name, in order."""
    source: str
    """Where the poses come from, for people."""
    notes: tuple[str, ...] = ()

    @property
    def known(self) -> int:
        """Scans with a pose."""
        return sum(taken.pose is not None for taken in self.scans.values())


def drive_motion(
    path: Path, wanted: str, convention: SensorConvention, prefix: str, kept: Path, bar: Bar
) -> DriveMotion:
    """Motion of the bag or folder at ``path``; ``kept``: a file that saves finding it twice.

    ``wanted``: auto, none, kiss-icp, a file of poses; of bags also tf or a topic. ``prefix``: of
    the scans' names. Raises InputError where that gives no poses; ``auto`` gives none then and says
    why.
    """
    source = open_scans(path)
    names = [f"{prefix}{name}" for name in source.names]
    file = Path(wanted)
    changed = file.stat().st_mtime_ns if file.is_file() else 0
    settings = digest([str(path.resolve()), names, wanted, changed, convention.dataset])
    if (known := read_motion(kept, settings)) is not None:
        return known
    on_scan = bar(f"poses of {path.name}", len(names))
    times, motion = (
        _of_files(source, wanted, on_scan)
        if isinstance(source, ScanFiles)
        else _of_bag(source, wanted, on_scan)
    )
    poses = _from_first(motion.poses, convention.matrix)
    taken = (Taken(t, pose) for t, pose in zip(times, poses, strict=True))
    found = DriveMotion(dict(zip(names, taken, strict=True)), motion.source, motion.notes)
    unknown = np.full((4, 4), np.nan)
    write_arrays(
        kept,
        {
            "settings": settings,
            "names": np.array(names),
            "times_ns": np.array(times, np.int64),
            "poses": np.array([unknown if pose is None else pose for pose in poses]),
            "source": found.source,
            "notes": np.array(found.notes, np.str_),
        },
    )
    return found


def read_motion(path: Path, settings: str | None = None) -> DriveMotion | None:
    """What was found before; None where it is damaged, not there or found by other settings."""
    try:
        with np.load(path, allow_pickle=False) as data:
            if settings is not None and str(data["settings"]) != settings:
                return None
            poses = [None if np.isnan(pose).any() else pose for pose in data["poses"]]
            times = data["times_ns"].tolist()
            taken = [Taken(t, pose) for t, pose in zip(times, poses, strict=True)]
            scans = dict(zip(data["names"].tolist(), taken, strict=True))
            return DriveMotion(scans, str(data["source"]), tuple(data["notes"].tolist()))
    except Exception:  # numpy and zipfile each raise their own kinds; it is found anew
        return None


def _from_first(poses: Sequence[Pose | None], frame: Pose) -> list[Pose | None]:
    """Poses of the reference convention seen from the first one: worlds may begin far away."""
    back = np.linalg.inv(frame)
    first = next((pose for pose in poses if pose is not None), np.eye(4))
    home = np.linalg.inv(first @ back)
    return [None if pose is None else np.asarray(home @ pose @ back) for pose in poses]


def _of_bag(
    source: Any, wanted: str, on_scan: Callable[[int], None]
) -> tuple[tuple[int, ...], EgoMotion]:
    """Times of the clouds and the motion; ``source``: BagScans."""
    assert isinstance(source, BagScans)
    with BagFrames(FrameIndex.of(source.path, source.topic)) as frames:
        headers = [frame.cloud.header for frame in frames.all()]
        stamps = [h.stamp.sec * 10**9 + h.stamp.nanosec for h in headers]
        rising = all(a < b for a, b in pairwise(stamps))
        times = stamps if rising else list(frames.index.times_ns)
        motion = ego_motion(wanted, frames, times, headers[0].frame_id, on_scan)
    return tuple(times), motion


def _of_files(
    source: ScanFiles, wanted: str, on_scan: Callable[[int], None]
) -> tuple[tuple[int, ...], EgoMotion]:
    times = tuple(entry.time_ns for entry in source.entries())
    if wanted == NONE:
        return times, _nowhere(times, "switched off")
    if wanted == ESTIMATE:
        return times, _estimated(source, on_scan)
    if wanted != AUTO:
        if wanted == TF or not Path(wanted).is_file():
            raise InputError(
                f"{source.path}: --poses {wanted}: scan files have no topics, and there is no such "
                "file; name a file of poses, kiss-icp, none or auto"
            )
        return times, _of_poses(Path(wanted), source.names, times)
    tried = []
    try:
        if (found := _beside(source, times)) is not None and found.known > 1:
            return times, found
    except InputError as error:
        tried.append(str(error))
    if (found := _packed(source)) is not None and found.known > 1:
        return times, found
    if installed() and len(times) > 1:
        found = _estimated(source, on_scan)
        return times, EgoMotion(found.poses, found.source, tuple(tried))
    missing = "no poses beside the scans; name a file, or pip install 'pointdistill-ros[odometry]'"
    return times, _nowhere(times, "; ".join([*tried, missing]))


def _beside(source: ScanFiles, times: Sequence[int]) -> EgoMotion | None:
    """Of a KITTI sequence."""
    path = source.path / "poses.txt"
    return _of_poses(path, source.names, times) if path.is_file() else None


def _of_poses(path: Path, names: Sequence[str], times: Sequence[int]) -> EgoMotion:
    """Of a file; KITTI's lines go by the scans' numbers where some scans are not there."""
    stamps: Sequence[int] = times
    try:
        rows = [line for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    asked: Sequence[int] = times
    if len(rows) != len(names) and rows and len(rows[0].split()) == 12:
        if not all(name.isdigit() for name in names):
            raise InputError(
                f"{path}: {len(rows)} poses for {len(names)} scans whose names are no numbers"
            )
        stamps = [i * PERIOD_NS for i in range(len(rows))]
        asked = [int(name) * PERIOD_NS for name in names]
    trajectory = read_poses(path, stamps)
    return EgoMotion(tuple(trajectory.at(t) for t in asked), f"poses of {path.name}")


def _packed(source: ScanFiles) -> EgoMotion | None:
    """Of packed scans that hold ``pose``; None where none does."""
    poses: list[Pose | None] = []
    for file in source.files:
        pose = None
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as data:
                pose = data["pose"] if "pose" in data.files else None
        known = pose is not None and pose.shape == (4, 4) and bool(np.isfinite(pose).all())
        poses.append(np.asarray(pose, np.float64) if known else None)
    if not any(pose is not None for pose in poses):
        return None
    return EgoMotion(tuple(poses), "poses of the packed scans")


def _estimated(source: ScanFiles, on_scan: Callable[[int], None]) -> EgoMotion:
    """Raises InputError without kiss-icp."""
    poses = estimate((scan for _, scan in source), on_scan)
    return EgoMotion(tuple(poses), "estimated from the clouds by KISS-ICP")


def _nowhere(times: Sequence[int], why: str) -> EgoMotion:
    return EgoMotion((None,) * len(times), "none", (why,))
