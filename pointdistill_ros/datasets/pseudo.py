# SPDX-License-Identifier: Apache-2.0
"""Scans without labels of people, and what a public network said about them: extra training data.

- ``pseudo/NAME.npz`` labels the cloud ``unlabelled/NAME.npz``, which is a place of its own, or
  ``drives/DRIVE/NAME.npz`` or ``kitti_raw_run/NAME.npz``, each of which is one drive
- the labelling network was trained on SemanticKITTI 00-10, sequences 07 and 10 included: a network
  trained with these labels has second-hand knowledge of the sequences it is measured on. Report
  figures with and without them, and never measure on them
- its confidence is the softmax maximum × 100, capped at 50 where a vote of the neighbours overruled
  it; on scans that it was trained on, ≥ 95 was right for 99 %, 90 to 95 for 89 %, < 70 for 57 %
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan

_RUN = "kitti_raw_run"
_SINGLE, _DRIVES = "unlabelled", "drives"


class PseudoScans:
    """HDL-64E scans with a network's labels, in the reference convention (that of this sensor)."""

    label_set = LabelSet.named("semantic-kitti")

    def __init__(self, root: str | Path, min_confidence: int) -> None:
        """``root`` holds ``pseudo/`` beside the folders of clouds.

        Labels less confident than ``min_confidence`` (0..100) become 255. Scans are read when
        asked for. Raises ConfigError on a confidence out of range,
        InputError where there are no pseudo-labels or a cloud is missing.
        """
        if not 0 <= min_confidence <= 100:
            raise ConfigError(f"min_confidence must lie in 0 .. 100; got {min_confidence}")
        self.min_confidence = min_confidence
        self.convention = SensorConvention.named("semantic-kitti")
        self.root = Path(root)
        folder = self.root / "pseudo"
        self.label_paths = sorted(folder.glob("*.npz"))
        if not self.label_paths:
            raise InputError(f"{folder}: no pseudo-labels; expected NAME.npz, one per scan")
        drives = sorted(path for path in (self.root / _DRIVES).glob("*") if path.is_dir())
        folders = [self.root / _SINGLE, self.root / _RUN, *drives]
        self.paths = [_cloud_of(path, folders) for path in self.label_paths]
        # Each file of `unlabelled` is the only scan of its drive; other folders are one drive each.
        self.sequences = [p.stem if p.parent == folders[0] else p.parent.name for p in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i (intensity 0..1) and its pseudo-labels uint8 [N], 255 where they are doubtful.

        Raises InputError if a file is damaged or cloud and labels differ in length.
        """
        quantum, packed, inten, labels = self._read(i)
        xyz = packed.astype(np.float32) / np.float32(quantum)
        intensity = inten.astype(np.float32) / np.float32(self.convention.intensity_divisor)
        scan = LidarScan(xyz, intensity, frame=f"{self.paths[i].parent.name}/{self.paths[i].name}")
        return self.convention.apply(scan, labels.astype(np.uint8))

    def _read(self, i: int) -> tuple[NDArray[Any], ...]:
        """Quantum [], xyz int16 [N, 3], intensity uint8 [N], bounded labels uint8 [N]."""
        quantum, packed, inten = _members(self.paths[i], ("q", "xyz", "inten"))
        labels, confidence = _members(self.label_paths[i], ("pseudo19", "conf"))
        if not len(packed) == len(inten) == len(labels) == len(confidence):
            raise InputError(
                f"{self.label_paths[i]}: {len(labels)} labels and {len(confidence)} confidences "
                f"for the {len(packed)} points of {self.paths[i]}"
            )
        wrong = labels[(labels >= len(self.label_set)) & (labels != UNLABELLED)]
        if len(wrong):
            raise InputError(f"{self.label_paths[i]}: id {wrong[0]} is no class; expected 0 .. 18")
        doubtful = confidence < self.min_confidence
        return quantum, packed, inten, np.where(doubtful, np.uint8(UNLABELLED), labels)


def _cloud_of(label_path: Path, folders: Sequence[Path]) -> Path:
    found = [path for folder in folders if (path := folder / label_path.name).is_file()]
    if len(found) != 1:
        what = "two clouds" if found else "no cloud"
        where = f"{_SINGLE}, {_RUN} and {_DRIVES}/*"
        raise InputError(f"{label_path}: {what} of this name in {where}")
    return found[0]


def _members(path: Path, names: tuple[str, ...]) -> tuple[NDArray[Any], ...]:
    try:
        with np.load(path) as data:
            return tuple(data[name] for name in names)
    except Exception as error:  # numpy, zipfile and lzma each raise their own kinds
        raise InputError(f"{path}: not a file with {', '.join(names)} ({error})") from error
