# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI as its authors publish it: sequences/SS/velodyne/*.bin and labels/*.label."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.io.binfile import read_kitti, read_labels
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan

MOVING = range(252, 260)
"""Raw ids of what moved while it was scanned (semantic-kitti-api, config/semantic-kitti.yaml)."""
_PERIOD_NS = 100_000_000
_LAYOUT = "SemanticKITTI has sequences/00/velodyne/000000.bin under its root"


class SemanticKitti:
    """The scans of an official split, or of some sequences, in order."""

    label_set = LabelSet.named("semantic-kitti")

    def __init__(
        self,
        root: str | Path,
        split: str | None = None,
        sequences: Sequence[str] | None = None,
    ) -> None:
        """``root`` contains ``sequences/``.

        ``split``: train, val or test; None takes every sequence there is. ``sequences`` keeps only
        some of them. Raises InputError.
        """
        folder = Path(root) / "sequences"
        if not folder.is_dir():
            raise InputError(f"{folder}: no sequences here; {_LAYOUT}")
        wanted = _wanted(folder, split, sequences)
        self.paths = [p for name in wanted for p in sorted(folder.glob(f"{name}/velodyne/*.bin"))]
        self.sequences = [path.parts[-3] for path in self.paths]
        if missing := sorted(set(wanted) - set(self.sequences)):
            raise InputError(f"{folder}: no velodyne/*.bin in sequence {', '.join(missing)}")
        if not self.paths:
            raise InputError(f"{folder}: no sequences; {_LAYOUT}")
        self._poses: dict[str, NDArray[np.float64]] = {}
        self._times: dict[str, list[int]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i (remission 0..1 as stored) and its train ids uint8 [N], moving classes folded in.

        The labels of the test split are not published: there all are 255. Raises InputError on
        files that are missing, odd-sized, unequal or hold unknown ids.
        """
        path = self.paths[i]
        scan = replace(read_kitti(path), frame=str(path))
        if self.sequences[i] in SensorConvention.named("semantic-kitti").splits["test"]:
            return scan, np.full(len(scan), UNLABELLED, np.uint8)
        label_path = self.label_path(i)
        raw, _ = read_labels(label_path, len(scan))
        try:
            return scan, self.label_set.from_raw(raw)
        except LabelError as error:
            raise InputError(f"{label_path}: {error}") from error

    def label_path(self, i: int) -> Path:
        """File with the labels of scan i. Raises InputError where there is none."""
        path = self.paths[i].parents[1] / "labels" / f"{self.paths[i].stem}.label"
        if not path.is_file():
            raise InputError(f"{path}: missing; every scan needs its labels")
        return path

    def instances(self, i: int) -> NDArray[np.uint16]:
        """Number of the object each point of scan i belongs to, uint16 [N]; 0 = none.

        Unique within a sequence and class. Raises InputError where there are no labels.
        """
        _, instances = read_labels(self.label_path(i), self.num_points(i))
        return instances

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """[N] which points lie on what moved; None in the test split, which has no labels."""
        if self.sequences[i] in SensorConvention.named("semantic-kitti").splits["test"]:
            return None
        raw, _ = read_labels(self.label_path(i), self.num_points(i))
        moving: NDArray[np.bool_] = np.isin(raw, MOVING)
        return moving

    def stamp_ns(self, i: int) -> int:
        """Time of scan i in its sequence, from times.txt; 10 Hz by its number where that is not.

        Raises InputError where times.txt has no line for it.
        """
        file, row = self.paths[i].parents[1] / "times.txt", self.paths[i].stem
        number = int(row) if row.isdigit() else i
        if not file.is_file():
            return number * _PERIOD_NS
        if self.sequences[i] not in self._times:
            try:
                times = [round(float(line) * 1e9) for line in _lines(file) if line.strip()]
            except ValueError as error:
                raise InputError(
                    f"{file}: expected one time in seconds a line ({error})"
                ) from error
            self._times[self.sequences[i]] = times
        times = self._times[self.sequences[i]]
        if number >= len(times):
            raise InputError(f"{file}: {len(times)} times, none for scan {row}")
        return times[number]

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """4×4 transform from the lidar of scan i to the lidar of the sequence's first scan.

        From poses.txt (camera to first camera) and calib.txt; None for a sequence without poses.
        Raises InputError where the two are damaged or do not belong together.
        """
        sequence = self.sequences[i]
        if not (self.paths[i].parents[1] / "poses.txt").is_file():
            return None
        if sequence not in self._poses:
            self._poses[sequence] = _lidar_poses(self.paths[i].parents[1])
        poses, row = self._poses[sequence], self.paths[i].stem
        if not row.isdigit() or int(row) >= len(poses):
            file = self.paths[i].parents[1] / "poses.txt"
            raise InputError(f"{file}: {len(poses)} poses, none for scan {row}")
        pose: NDArray[np.float64] = poses[int(row)]
        return pose

    def num_points(self, i: int) -> int:
        """Number of points of scan i, from the size of its file."""
        return self.paths[i].stat().st_size // 16


def _wanted(folder: Path, split: str | None, sequences: Sequence[str] | None) -> list[str]:
    """Names of the sequences to read."""
    if split is None:
        there = sorted(path.name for path in folder.iterdir() if path.is_dir())
        return there if sequences is None else list(sequences)
    splits = SensorConvention.named("semantic-kitti").splits
    if split not in splits:
        raise InputError(f"SemanticKITTI has no split {split!r}; there are {', '.join(splits)}")
    if sequences is None:
        return list(splits[split])
    if foreign := sorted(set(sequences) - set(splits[split])):
        raise InputError(f"SemanticKITTI: sequence {', '.join(foreign)} is not in split {split}")
    return list(sequences)


def _lidar_poses(sequence: Path) -> NDArray[np.float64]:
    """[M, 4, 4] lidar of each scan → lidar of the first scan."""
    calibration = sequence / "calib.txt"
    rows = [line.partition(":") for line in _lines(calibration)]
    to_camera = _transforms([text for name, _, text in rows if name.strip() == "Tr"], calibration)
    if len(to_camera) != 1:
        raise InputError(f"{calibration}: expected one line 'Tr: …' (lidar to camera)")
    cameras = _transforms(_lines(sequence / "poses.txt"), sequence / "poses.txt")
    poses: NDArray[np.float64] = np.linalg.inv(to_camera[0]) @ cameras @ to_camera[0]
    return poses


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _transforms(lines: list[str], path: Path) -> NDArray[np.float64]:
    """Lines of 12 numbers (the upper rows of a transform) → [M, 4, 4]."""
    try:
        values = [[float(number) for number in line.split()] for line in lines if line.strip()]
        upper = np.array(values, np.float64).reshape(len(values), 3, 4)
    except ValueError as error:
        raise InputError(f"{path}: expected 12 numbers per transform ({error})") from error
    bottom = np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(upper), 1, 4))
    return np.concatenate([upper, bottom], axis=1)
