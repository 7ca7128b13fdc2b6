# SPDX-License-Identifier: Apache-2.0
"""nuScenes-lidarseg as its authors publish it: JSON tables of v1.0, samples/LIDAR_TOP, lidarseg/.

- one scan per LIDAR_TOP key frame (2 Hz); sweeps between key frames have no labels
- the large tables are read once, row by row; only rows of lidar key frames are kept
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.nuscenes_tables import (
    check_categories,
    field,
    key_frames,
    lidar_mounts,
    pose_of,
    rows_with,
)
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.io.binfile import read_nuscenes
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan

_LAYOUT = "nuScenes has v1.0-trainval/*.json, samples/LIDAR_TOP/ and lidarseg/ under its root"


class NuScenesLidarseg:
    """The lidar key frames of an official split, in order of scene and time."""

    label_set = LabelSet.named("nuscenes")

    def __init__(
        self,
        root: str | Path,
        split: str,
        sequences: Sequence[str] | None = None,
        version: str | None = None,
    ) -> None:
        """``split``: train, val, test, mini_train or mini_val; ``sequences`` keeps some scenes.

        ``version``: folder of the tables; None takes the one that belongs to the split. Raises
        InputError.
        """
        self.root, self.split = Path(root), split
        self.tables = self.root / (version or _version_of(split))
        scenes = _wanted(split, sequences)
        if not self.tables.is_dir():
            raise InputError(f"{self.tables}: no such folder; {_LAYOUT}")
        check_categories(self.tables / "category.json")
        self._lidars = lidar_mounts(self.tables)
        self.frames = key_frames(self.tables, scenes, frozenset(self._lidars))
        self.sequences = [frame.scene for frame in self.frames]
        self._label_files = {} if split == "test" else self._read_label_table()
        self._ego_poses: dict[str, NDArray[np.float64]] = {}

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i (intensity byte / 255, ring, x right, y forward) and its train ids uint8 [N].

        The labels of the test split are not published: there all are 255. Raises InputError on
        files that are missing, odd-sized, unequal or hold unknown ids.
        """
        frame, path = self.frames[i], self.path(i)
        stamp_ns = frame.timestamp * 1000
        scan = replace(read_nuscenes(path), stamp_ns=stamp_ns, frame=str(path))
        if self.split == "test":
            return scan, np.full(len(scan), UNLABELLED, np.uint8)
        label_path = self.root / self._label_files[frame.token]
        try:
            raw = np.fromfile(label_path, np.uint8)
        except OSError as error:
            raise InputError(f"{label_path}: missing; every key frame needs its labels") from error
        if len(raw) != len(scan):
            raise InputError(f"{label_path}: {len(raw)} labels, its scan has {len(scan)} points")
        try:
            return scan, self.label_set.from_raw(raw)
        except LabelError as error:
            raise InputError(f"{label_path}: {error}") from error

    def path(self, i: int) -> Path:
        """File with the points of scan i."""
        return self.root / self.frames[i].filename

    def pose(self, i: int) -> NDArray[np.float64]:
        """4×4 transform from the lidar of scan i to the map's frame. Raises InputError.

        The first call reads the table of the car's poses, which is large.
        """
        if not self._ego_poses:
            wanted = {frame.ego_pose for frame in self.frames}
            table = self.tables / "ego_pose.json"
            self._ego_poses = {
                r["token"]: pose_of(r, table) for r in rows_with(table, "token", wanted)
            }
        frame = self.frames[i]
        if frame.ego_pose not in self._ego_poses:
            raise InputError(f"{self.tables}/ego_pose.json: no row {frame.ego_pose}")
        pose: NDArray[np.float64] = self._ego_poses[frame.ego_pose] @ self._lidars[frame.sensor]
        return pose

    def num_points(self, i: int) -> int:
        """Number of points of scan i, from the size of its file. Raises InputError."""
        try:
            return self.path(i).stat().st_size // 20
        except OSError as error:
            raise InputError(f"{self.path(i)}: {error.strerror or error}") from error

    def _read_label_table(self) -> dict[str, str]:
        """Token of each key frame → its label file, relative to the root."""
        table = self.tables / "lidarseg.json"
        if not table.is_file():
            raise InputError(f"{table}: missing; nuScenes-lidarseg is an archive of its own")
        tokens = {frame.token for frame in self.frames}
        rows = rows_with(table, "sample_data_token", tokens)
        files = {field(r, "sample_data_token", table): field(r, "filename", table) for r in rows}
        if missing := tokens - files.keys():
            raise InputError(f"{table}: no labels of {len(missing)} key frames, as {min(missing)}")
        return files


@lru_cache
def official_scenes(split: str) -> tuple[str, ...]:
    """Names of the scenes of a split. Raises InputError listing the splits."""
    splits = SensorConvention.named("nuscenes").splits
    if split not in splits:
        raise InputError(f"nuScenes has no split {split!r}; there are {', '.join(splits)}")
    scenes: list[str] = []
    for entry in splits[split]:
        if numbers := re.fullmatch(r"scene-(\d{4})\.\.(\d{4})", entry):
            first, last = map(int, numbers.groups())
            scenes += [f"scene-{number:04d}" for number in range(first, last + 1)]
        else:
            scenes.append(entry)
    return tuple(scenes)


def _version_of(split: str) -> str:
    if split == "test":
        return "v1.0-test"
    return "v1.0-mini" if split.startswith("mini_") else "v1.0-trainval"


def _wanted(split: str, sequences: Sequence[str] | None) -> list[str]:
    scenes = official_scenes(split)
    if sequences is None:
        return list(scenes)
    if foreign := sorted(set(sequences) - set(scenes)):
        raise InputError(f"nuScenes: {', '.join(foreign)} is not in split {split}")
    return list(sequences)
