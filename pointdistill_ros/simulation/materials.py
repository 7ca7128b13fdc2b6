# SPDX-License-Identifier: Apache-2.0
"""What surfaces are made of: the class a return gets and how a 905 nm pulse comes back from it.

Reflectance is the intensity (0..1) that KITTI's sensor reports at 15 m; the values follow the
medians of real scans per class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.labels import LabelSet

LABEL_SET = LabelSet.named("semantic-kitti")


@dataclass(frozen=True)
class Material:
    """Optical behaviour of one kind of surface."""

    name: str
    """What it is."""
    label: str
    """Class name in the label set ``semantic-kitti``."""
    reflectance: float
    """Median intensity, 0..1."""
    spread: float = 0.2
    """Standard deviation of the intensity relative to the median."""
    roughness: float = 0.0
    """Standard deviation of the depth along the ray, metres (grass, foliage)."""
    grazing: float = 0.0
    """Cosine of incidence below which the surface mirrors the pulse away; 0 = scatters evenly."""
    loss: float = 0.0
    """Share of pulses that never come back (glass, black paint)."""


_TABLE = (
    Material("asphalt", "road", 0.285, 0.22, 0.010, 0.07),
    Material("lane paint", "road", 0.50, 0.25, 0.003, 0.05),
    Material("parking", "parking", 0.27, 0.28, 0.006, 0.07),
    Material("paving", "sidewalk", 0.32, 0.16, 0.005, 0.05),
    Material("kerb", "sidewalk", 0.33, 0.18, 0.005, 0.03),
    Material("gravel", "other-ground", 0.33, 0.20, 0.010, 0.05),
    Material("grass", "terrain", 0.37, 0.20, 0.030),
    Material("soil", "terrain", 0.31, 0.22, 0.020),
    Material("plaster", "building", 0.50, 0.18, 0.004),
    Material("brick", "building", 0.38, 0.20, 0.006),
    Material("roof tile", "building", 0.28, 0.20, 0.01),
    Material("window", "building", 0.10, 0.90, 0.02, 0.30, 0.45),
    Material("door", "building", 0.25, 0.30, 0.003),
    Material("wood fence", "fence", 0.33, 0.25, 0.004),
    Material("metal fence", "fence", 0.26, 0.35, 0.003),
    Material("garden wall", "fence", 0.32, 0.18, 0.005),
    Material("guard rail", "fence", 0.30, 0.40, 0.003),
    Material("leaves", "vegetation", 0.40, 0.33, 0.020),
    Material("needles", "vegetation", 0.36, 0.35, 0.020),
    Material("hedge", "vegetation", 0.40, 0.28, 0.015),
    Material("bark", "trunk", 0.48, 0.35, 0.010),
    Material("galvanised", "pole", 0.22, 0.75, 0.002),
    Material("wood pole", "pole", 0.30, 0.35, 0.003),
    Material("sign front", "traffic-sign", 1.10, 0.35, 0.002),
    Material("sign back", "traffic-sign", 0.26, 0.40, 0.002),
    Material("car paint", "car", 0.12, 0.90, 0.003, 0.10, 0.04),
    Material("car glass", "car", 0.03, 1.00, 0.010, 0.35, 0.80),
    Material("car tyre", "car", 0.05, 0.70, 0.003, 0.0, 0.10),
    Material("car plate", "car", 0.80, 0.25),
    Material("truck paint", "truck", 0.38, 0.50, 0.003, 0.08, 0.03),
    Material("truck glass", "truck", 0.03, 1.00, 0.010, 0.35, 0.80),
    Material("truck tyre", "truck", 0.05, 0.70, 0.003, 0.0, 0.10),
    Material("coach paint", "other-vehicle", 0.52, 0.40, 0.003, 0.08, 0.03),
    Material("coach glass", "other-vehicle", 0.04, 1.00, 0.010, 0.35, 0.80),
    Material("coach tyre", "other-vehicle", 0.05, 0.70, 0.003, 0.0, 0.10),
    Material("bicycle", "bicycle", 0.32, 0.60, 0.004),
    Material("motorcycle", "motorcycle", 0.18, 0.80, 0.004, 0.0, 0.03),
    Material("cloth", "person", 0.46, 0.35, 0.008),
    Material("cyclist", "bicyclist", 0.38, 0.40, 0.008),
    Material("motorcyclist", "motorcyclist", 0.20, 0.80, 0.008),
)

_INDEX = {material.name: i for i, material in enumerate(_TABLE)}


def material(name: str) -> int:
    """Row of a material in the columns below. Raises KeyError on an unknown name."""
    return _INDEX[name]


def _column(field: str) -> NDArray[np.float32]:
    return np.array([getattr(m, field) for m in _TABLE], np.float32)


LABEL: NDArray[np.uint8] = np.array([LABEL_SET.index(m.label) for m in _TABLE], np.uint8)
REFLECTANCE = _column("reflectance")
SPREAD = _column("spread")
ROUGHNESS = _column("roughness")
GRAZING = _column("grazing")
LOSS = _column("loss")
