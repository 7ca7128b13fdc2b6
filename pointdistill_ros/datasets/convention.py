# SPDX-License-Identifier: Apache-2.0
"""One convention for all sensors: axes, height above the road, scale of the intensity.

Networks are trained in it; what differs between sensors is a table, config/datasets/*.yaml.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.config import load_config
from pointdistill_ros.datasets.labelled import DerivedScans, LabelledScans
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.resources import config_path
from pointdistill_ros.scan import LidarScan


@dataclass(frozen=True)
class SensorConvention:
    """How a data set's points become those of the reference sensor (x forward, y left, z up)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    dataset: str
    """Name in the manifest of packed scans."""
    intensity_divisor: float
    """Value in packed scans that means full intensity."""
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
    label_set: str = "semantic-kitti"
    """The data set's own classes, a file of config/labels/."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Names of the drives of each split, as the data set's makers define it."""

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

    @property
    def matrix(self) -> NDArray[np.float64]:
        """4×4 transform from the sensor's frame to the reference frame, as ``apply`` moves points.

        A pose (sensor → world) becomes one of the reference frame as ``pose @ inv(matrix)``.
        """
        yaw = np.radians(self.yaw_degrees)
        matrix = np.eye(4)
        matrix[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
        matrix[2, 3] = self.height_shift
        return matrix

    def apply(
        self, scan: LidarScan, labels: NDArray[np.uint8]
    ) -> tuple[LidarScan, NDArray[np.uint8]]:
        """A scan with intensity 0..1 as its reader gave it → the same in the reference convention.

        Points keep their number and order; labels closer than ``min_range`` become 255.
        """
        xyz = scan.xyz.copy()
        near = np.hypot(xyz[:, 0], xyz[:, 1]) < self.min_range
        if self.yaw_degrees:
            yaw = np.radians(self.yaw_degrees)
            turn = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]])
            xyz[:, :2] = xyz[:, :2] @ turn.astype(np.float32)  # rows, so the transpose
        xyz[:, 2] += np.float32(self.height_shift)
        intensity = scan.intensity
        if intensity is not None:
            matched = np.interp(intensity, self.intensity_from, self.intensity_to)
            intensity = matched.astype(np.float32)
        labels = np.where(near, np.uint8(UNLABELLED), labels)
        return replace(scan, xyz=xyz, intensity=intensity), labels


class InConvention(DerivedScans):
    """Any data set, seen in the reference convention."""

    def __init__(self, scans: LabelledScans, convention: SensorConvention) -> None:
        super().__init__(scans)
        self.convention = convention

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N]. Raises InputError."""
        return self.convention.apply(*self.scans[i])
