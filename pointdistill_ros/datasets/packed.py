# SPDX-License-Identifier: Apache-2.0
"""Packed scans: compressed .npz files with a manifest, from any sensor, in one convention.

- what differs between sensors (axes, height, intensity scale) is a table: config/datasets/*.yaml
- decoded scans stay in memory as int16 and uint8: 8 bytes a point
Not here: other label spaces. Files hold train ids of two label sets, 255 where a class is unknown.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.resources import config_path
from pointdistill_ros.scan import LidarScan

_MEMBERS = {"semantic-kitti": "label19", "common7": "label7"}
"""Array of a packed file by label set."""


@dataclass(frozen=True)
class SensorConvention:
    """How a data set's points become those of the reference sensor (x forward, y left, z up)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    dataset: str
    """Name in the manifest."""
    intensity_divisor: float
    """Stored value that means full intensity."""
    intensity_from: tuple[float, ...] = (0.0, 1.0)
    """Rising intensities of this sensor, 0..1 …"""
    intensity_to: tuple[float, ...] = (0.0, 1.0)
    """… and the reference intensities they correspond to (quantiles of shared classes)."""
    yaw_degrees: float = 0.0
    """Rotation about z that turns x forward."""
    height_shift: float = 0.0
    """Metres added to z so that the road lies at the reference height."""
    min_range: float = 0.0
    """Metres; labels of closer returns (the recording car itself) are dropped."""

    def __post_init__(self) -> None:
        rising = np.all(np.diff(self.intensity_from) > 0) and np.all(
            np.diff(self.intensity_to) >= 0
        )
        if len(self.intensity_from) != len(self.intensity_to) or not rising:
            raise ConfigError(f"{self.dataset}: intensity tables must rise and be equally long")

    @classmethod
    @lru_cache
    def named(cls, name: str) -> SensorConvention:
        """A shipped table, e.g. ``pandaset``. Raises ConfigError."""
        return load_config(cls, config_path(f"datasets/{name}.yaml"))


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

        ``label_set``: semantic-kitti (default) or common7, the two that packed files hold.
        Raises InputError where there is no such data.
        """
        self.label_set = label_set or LabelSet.named("semantic-kitti")
        if self.label_set.name not in _MEMBERS:
            raise InputError(f"packed scans hold {', '.join(_MEMBERS)}, not {self.label_set.name}")
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
        self.sequences = [str(entry["sequence"]) for entry in self.entries]
        self._decoded: dict[int, tuple[Any, ...]] = {}

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N]. Raises InputError if the file is damaged."""
        quantum, packed, inten, label = self._decode(i)
        xyz = packed.astype(np.float32) / quantum
        if self.convention.yaw_degrees:
            yaw = np.radians(self.convention.yaw_degrees)
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            xyz[:, :2] = xyz[:, :2] @ turn.astype(np.float32)  # rows, so the transpose
        near = np.hypot(xyz[:, 0], xyz[:, 1]) < self.convention.min_range
        xyz[:, 2] += np.float32(self.convention.height_shift)
        raw = inten.astype(np.float32) / self.convention.intensity_divisor
        table = self.convention
        intensity = np.interp(raw, table.intensity_from, table.intensity_to).astype(np.float32)
        labels = np.where(near, np.uint8(UNLABELLED), label)
        return LidarScan(xyz, intensity, frame=self.entries[i]["path"]), labels

    def _decode(self, i: int) -> tuple[Any, ...]:
        if i not in self._decoded:
            path, member = self.root / self.entries[i]["path"], _MEMBERS[self.label_set.name]
            try:
                with np.load(path) as data:
                    arrays = tuple(data[name] for name in ("xyz", "inten", member))
                    quantum = np.float32(data["q"])
            except Exception as error:  # numpy, zipfile and lzma each raise their own kinds
                raise InputError(f"{path}: not a packed labelled scan ({error})") from error
            self._decoded[i] = (quantum, *arrays)
        return self._decoded[i]
