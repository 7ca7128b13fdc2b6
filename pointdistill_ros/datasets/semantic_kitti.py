# SPDX-License-Identifier: Apache-2.0
"""SemanticKITTI as its authors publish it: sequences/SS/velodyne/*.bin and labels/*.label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan


class SemanticKitti:
    """The labelled scans of some sequences, in order."""

    label_set = LabelSet.named("semantic-kitti")

    def __init__(self, root: str | Path, sequences: Sequence[str] | None = None) -> None:
        """``root`` contains ``sequences/``; None takes every sequence. Raises InputError."""
        folder = Path(root) / "sequences"
        wanted = sorted(p.name for p in folder.glob("*")) if sequences is None else sequences
        self.paths = [p for name in wanted for p in sorted(folder.glob(f"{name}/velodyne/*.bin"))]
        self.sequences = [path.parts[-3] for path in self.paths]
        if missing := sorted(set(wanted) - set(self.sequences)):
            raise InputError(f"{folder}: no velodyne/*.bin in sequence {', '.join(missing)}")
        if not self.paths:
            raise InputError(f"{folder}: no sequences; expected sequences/00/velodyne/000000.bin")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i (remission 0..1 as stored) and its train ids uint8 [N], moving classes folded in.

        Raises InputError on files that are missing, odd-sized, unequal or hold unknown ids.
        """
        path = self.paths[i]
        label_path = path.parents[1] / "labels" / f"{path.stem}.label"
        if path.stat().st_size % 16:
            raise InputError(f"{path}: size is no multiple of 16 bytes (float32 x y z remission)")
        if not label_path.is_file():
            raise InputError(f"{label_path}: missing; every scan needs its labels")
        points = np.fromfile(path, "<f4").reshape(-1, 4)
        raw = np.fromfile(label_path, "<u4") & 0xFFFF  # the upper half is the instance id
        if len(raw) != len(points):
            raise InputError(f"{label_path}: {len(raw)} labels for {len(points)} points")
        try:
            labels = self.label_set.from_raw(raw)
        except LabelError as error:
            raise InputError(f"{label_path}: {error}") from error
        scan = LidarScan.from_arrays(points[:, :3], points[:, 3], frame=str(path))
        return scan, labels
