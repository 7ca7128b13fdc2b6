# SPDX-License-Identifier: Apache-2.0
"""Packed scans: compressed .npz files with a manifest, from any sensor, in one convention.

- what differs between sensors (axes, height, intensity scale) is a table: config/datasets/*.yaml
- nothing stays in memory: whoever reads scans again and again keeps what it can afford
- files hold train ids of two label sets (255 = no such class) and the ids of the source
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.semantic_kitti import MOVING
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan

_FOLDED = {"semantic-kitti": "label19", "common7": "label7"}
"""Array of train ids of a packed file by label set."""


class PackedScans:
    """Scans of one data set and split with their labels, in the reference convention."""

    def __init__(
        self,
        root: str | Path,
        convention: SensorConvention,
        split: str,
        sequences: Collection[str] | None = None,
        label_set: LabelSet | None = None,
    ) -> None:
        """Read ``root/manifest.json``; scans are read on first use.

        ``label_set``: semantic-kitti (default), common7 or the one that the manifest names as the
        files' own ``label_space`` (pandaset, ika11, ika11_nuscenes).
        Raises InputError where there is no such data.
        """
        self.label_set = label_set or LabelSet.named("semantic-kitti")
        self.root = Path(root)
        self.convention = convention
        try:
            files = json.loads((self.root / "manifest.json").read_text())["files"]
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{self.root}/manifest.json: not a manifest ({error})") from error
        self.entries: list[dict[str, Any]] = [
            entry
            for entry in files
            if entry["dataset"] == convention.dataset
            and entry["split"] == split
            and entry["path"].endswith(".npz")
            and (sequences is None or entry["sequence"] in sequences)
        ]
        if not self.entries:
            raise InputError(f"{self.root}: no packed {split} scans of {convention.dataset}")
        if self.label_set.name not in _FOLDED:
            spaces = {str(entry.get("label_space")) for entry in self.entries}
            if spaces != {self.label_set.name}:
                known = ", ".join([*_FOLDED, *sorted(spaces)])
                raise InputError(
                    f"{self.root}: {convention.dataset} is labelled in {known}, "
                    f"not {self.label_set.name}"
                )
        self.sequences = [str(entry["sequence"]) for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N].

        Raises InputError if the file is damaged or holds an id that the label set does not know.
        """
        quantum, packed, inten, label = self._decode(i)
        xyz = packed.astype(np.float32) / quantum
        intensity = inten.astype(np.float32) / np.float32(self.convention.intensity_divisor)
        scan = LidarScan(xyz, intensity, frame=self.entries[i]["path"])
        return self.convention.apply(scan, label)

    def pose(self, i: int) -> NDArray[np.float64] | None:
        """4×4 transform from scan i, as it is given here, to the world of its sequence.

        None where the file holds none. Raises InputError if it is damaged.
        """
        pose = self._member(i, "pose")
        if pose is None:
            return None
        if pose.shape != (4, 4) or not np.isfinite(pose).all():
            path = self.root / self.entries[i]["path"]
            raise InputError(f"{path}: pose must be 4×4 finite numbers, got {list(pose.shape)}")
        found: NDArray[np.float64] = pose @ np.linalg.inv(self.convention.matrix)
        return found

    def moving(self, i: int) -> NDArray[np.bool_] | None:
        """[N] which points lie on what moved; None where the file's own ids do not say."""
        if self.entries[i].get("label_space") != "semantickitti_raw":
            return None
        raw = self._member(i, "label")
        return None if raw is None else np.isin(raw, MOVING)

    def stamp_ns(self, i: int) -> int:
        """Time of scan i in its sequence, by its number and the rate of the sensor."""
        entry = self.entries[i]
        return round(int(entry.get("frame", i)) * 1e9 / float(entry.get("rate_hz", 10)))

    def _member(self, i: int, name: str) -> NDArray[Any] | None:
        path = self.root / self.entries[i]["path"]
        try:
            with np.load(path) as data:
                return data[name] if name in data.files else None
        except Exception as error:  # numpy, zipfile and lzma each raise their own kinds
            raise InputError(f"{path}: not a packed labelled scan ({error})") from error

    def _decode(self, i: int) -> tuple[Any, ...]:
        """Quantum, xyz int16 [N, 3], intensity uint8 [N], train ids uint8 [N]."""
        path = self.root / self.entries[i]["path"]
        member = _FOLDED.get(self.label_set.name, "label")
        try:
            with np.load(path) as data:
                xyz, inten, label = (data[name] for name in ("xyz", "inten", member))
                quantum = np.float32(data["q"])
        except Exception as error:  # numpy, zipfile and lzma each raise their own kinds
            raise InputError(f"{path}: not a packed labelled scan ({error})") from error
        if member == "label":
            try:
                label = self.label_set.from_raw(label)
            except LabelError as error:
                raise InputError(f"{path}: {error}") from error
        return quantum, xyz, inten, label
