# SPDX-License-Identifier: Apache-2.0
"""Several scans in one: azimuth sectors, bands of inclination, all points, turned objects.

- sectors and turned copies of rare objects as in PolarMix (Xiao et al., NeurIPS 2022)
- bands as in LaserMix (Kong et al., CVPR 2023): what lies at one inclination looks alike anywhere
- all points of both as in Mix3D (Nekrasov et al., 3DV 2021)
Scans must share the convention (height of the sensor above the road).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.random import Generator

from training.transforms.geometry import rotate
from training.transforms.points import (
    LabelledPoints,
    azimuth,
    concatenate,
    elevation,
    having,
)

_INCLINATIONS = (np.radians(-25), np.radians(3))
"""Between these the bands' edges lie; the outer bands reach beyond."""


def mix_sectors(scans: Sequence[LabelledPoints], rng: Generator) -> LabelledPoints:
    """One cloud whose azimuth is shared out: scan i fills sector i, of random width."""
    widths = rng.uniform(0.5, 1.5, len(scans))
    edges = np.cumsum(widths / widths.sum()) * 2 * np.pi
    start = rng.uniform(0, 2 * np.pi)
    parts = []
    for i, scan in enumerate(scans):
        turned = (azimuth(scan) - np.float32(start)) % np.float32(2 * np.pi)
        low = edges[i - 1] if i else 0.0
        high = edges[i] if i + 1 < len(scans) else np.inf
        parts.append(scan.select((turned >= low) & (turned < high)))
    return concatenate(parts)


def mix_bands(scans: Sequence[LabelledPoints], rng: Generator) -> LabelledPoints:
    """One cloud of three to six bands of inclination, filled by the scans in turn."""
    bands = max(int(rng.integers(3, 7)), len(scans))
    edges = np.sort(rng.uniform(*_INCLINATIONS, bands - 1)).astype(np.float32)
    parts = []
    for i, scan in enumerate(scans):
        band = np.searchsorted(edges, elevation(scan))
        parts.append(scan.select(band % len(scans) == i))
    return concatenate(parts)


def merge(first: LabelledPoints, second: LabelledPoints) -> LabelledPoints:
    """All points of both; the batch puts them into one grid, so no voxel occurs twice."""
    return concatenate([first, second])


def paste_objects(
    points: LabelledPoints,
    other: LabelledPoints,
    classes: Sequence[int],
    rng: Generator,
    copies: int = 1,
) -> LabelledPoints:
    """Add the points of ``classes`` of another scan, turned about the sensor by random angles.

    Distance to the sensor, and with it point density, stays true; nothing is removed. The copies
    share the circle out evenly.
    """
    objects = other.select(having(other, classes))
    step = 2 * np.pi / copies
    turned = [rotate(objects, (k + rng.uniform(-0.5, 0.5)) * step) for k in range(copies)]
    return concatenate([points, *turned])
