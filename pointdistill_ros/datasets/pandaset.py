# SPDX-License-Identifier: Apache-2.0
"""PandaSet as its makers publish it: gzipped pickles of pandas frames, in world coordinates.

    ROOT/SEQUENCE/lidar/00.pkl.gz, poses.json, timestamps.json
    ROOT/SEQUENCE/annotations/semseg/00.pkl.gz, classes.json     (for 76 of the 103 sequences)

- pickles are read by pandas_pickle.py, which runs nothing of what they ask for
- points come back into the frame of the lidar pose of their scan, x forward (the data set's own
  frame has x right, y forward); its origin is near the ground
- two lidars: Pandar64 (0, all around), PandarGT (1, forward, with another intensity)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.pandas_pickle import read_frame
from pointdistill_ros.datasets.pandas_stand_ins import Frame
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan

_LAYOUT = "PandaSet has 001/lidar/00.pkl.gz under its root"
_X_FORWARD = np.array([[0.0, 1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""The data set's frame → x forward, y left."""


class PandaSet:
    """The scans with segmentation labels of a split, in order of sequence and time."""

    label_set = LabelSet.named("pandaset")

    def __init__(
        self,
        root: str | Path,
        split: str,
        sequences: Sequence[str] | None = None,
        lidar: int | None = 0,
    ) -> None:
        """``split``: train or val, of config/datasets/pandaset.yaml; ``sequences`` keeps some.

        ``lidar``: 0 = Pandar64, 1 = PandarGT, None = both. Raises InputError.
        """
        self.root, self.lidar = Path(root), lidar
        wanted = _wanted(split, sequences)
        self.paths = [p for s in wanted for p in sorted(self.root.glob(f"{s}/lidar/*.pkl.gz"))]
        self.sequences = [path.parts[-3] for path in self.paths]
        if not self.paths:
            raise InputError(f"{self.root}: no sequences of the {split} split; {_LAYOUT}")
        if missing := sorted(set(wanted) - set(self.sequences)):
            raise InputError(f"{self.root}: no lidar/*.pkl.gz in sequence {', '.join(missing)}")
        for name in wanted:
            self._check_classes(self.root / name / "annotations" / "semseg" / "classes.json")
        self._tables: dict[Path, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i (intensity byte / 255, time per point) and its train ids uint8 [N].

        Raises InputError on files that are missing, damaged, harmful, do not belong together or
        hold unknown ids.
        """
        path, label_path = self.paths[i], self.label_path(i)
        points, classes = read_frame(path), read_frame(label_path)
        columns = [_column(path, points, name) for name in "xyzit"]
        raw = _in_order(label_path, classes, points.index)
        world, intensity, time = np.stack(columns[:3], axis=1), columns[3], columns[4]
        if self.lidar is not None:
            chosen = _column(path, points, "d") == self.lidar
            world, raw = world[chosen], raw[chosen]
            intensity, time = intensity[chosen], time[chosen]
        if len(intensity) and not (intensity.min() >= 0 and intensity.max() <= 255):
            raise InputError(f"{path}: intensity outside 0 .. 255")
        try:
            labels = self.label_set.from_raw(raw)
        except LabelError as error:
            raise InputError(f"{label_path}: {error}") from error
        pose, stamp = self.pose(i), self._stamp(i)
        scan = LidarScan.from_arrays(
            (world - pose[:3, 3]) @ pose[:3, :3],  # rows, so not the transpose
            intensity / 255,
            time - stamp,
            stamp_ns=round(stamp * 1e9),
            frame=str(path),
        )
        return scan, labels

    def label_path(self, i: int) -> Path:
        """File with the labels of scan i."""
        path = self.paths[i]
        return path.parents[1] / "annotations" / "semseg" / path.name

    def pose(self, i: int) -> NDArray[np.float64]:
        """4×4 transform from scan i (x forward) to the world of its sequence. Raises InputError."""
        path = self.paths[i].parent / "poses.json"
        row = self._row(path, i)
        try:
            at, heading = row["position"], row["heading"]
            position = np.array([float(at[axis]) for axis in "xyz"])
            quaternion = np.array([float(heading[axis]) for axis in "wxyz"])
        except (TypeError, KeyError, ValueError) as error:
            raise InputError(f"{path}: expected position and heading ({error!r})") from error
        length = np.linalg.norm(quaternion)
        if not abs(length - 1) < 1e-3:
            raise InputError(f"{path}: heading of length {length:g}; expected a unit quaternion")
        pose = np.eye(4)
        pose[:3, :3] = _rotation(quaternion / length) @ _X_FORWARD.T
        pose[:3, 3] = position
        return pose

    def _stamp(self, i: int) -> float:
        path = self.paths[i].parent / "timestamps.json"
        try:
            return float(self._row(path, i))
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}: expected seconds ({error})") from error

    def _row(self, path: Path, i: int) -> Any:
        """The entry of scan i in a JSON list."""
        if path not in self._tables:
            table = _read_json(path)
            if not isinstance(table, list):
                raise InputError(f"{path}: expected a list, one entry per scan")
            self._tables[path] = table
        number = self.paths[i].name.removesuffix(".pkl.gz")
        if not number.isdecimal() or int(number) >= len(self._tables[path]):
            raise InputError(f"{path}: {len(self._tables[path])} entries, none for scan {number}")
        return self._tables[path][int(number)]

    def _check_classes(self, path: Path) -> None:
        """Other class numbers than ours would be read as wrong classes."""
        ours = {
            str(ids[0]): n
            for ids, n in zip(self.label_set.raw_ids, self.label_set.names, strict=True)
        }
        theirs = _read_json(path)
        if theirs != ours:
            raise InputError(f"{path}: other classes than those of PandaSet's 42")


def _wanted(split: str, sequences: Sequence[str] | None) -> list[str]:
    splits = SensorConvention.named("pandaset").splits
    if split not in splits:
        raise InputError(f"PandaSet has no split {split!r}; there are {', '.join(splits)}")
    if sequences is None:
        return list(splits[split])
    if foreign := sorted(set(sequences) - set(splits[split])):
        raise InputError(f"PandaSet: sequence {', '.join(foreign)} is not in split {split}")
    return sorted(sequences)


def _column(path: Path, frame: Frame, name: str) -> NDArray[Any]:
    if name not in frame.columns:
        raise InputError(f"{path}: no column {name}; there are {', '.join(frame.columns)}")
    return frame.columns[name]


def _in_order(path: Path, classes: Frame, index: NDArray[np.int64]) -> NDArray[np.int64]:
    """Classes in the order of the points' rows. Raises InputError where the rows differ."""
    column = _column(path, classes, "class")
    if not np.array_equal(classes.index, index):
        there, wanted = np.argsort(classes.index), np.argsort(index)
        if not np.array_equal(classes.index[there], index[wanted]):
            raise InputError(
                f"{path}: {len(column)} labels of other rows than its {len(index)} points"
            )
        ordered = np.empty_like(column)
        ordered[wanted] = column[there]
        column = ordered
    return column.astype(np.int64)


def _rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit quaternion w x y z → 3×3 rotation."""
    w, x, y, z = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
