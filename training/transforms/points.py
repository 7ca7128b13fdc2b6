# SPDX-License-Identifier: Apache-2.0
"""LabelledPoints: what every transform takes and gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class LabelledPoints:
    """Points of one scan, or of a mixture of scans, all finite."""

    xyz: NDArray[np.float32]
    """[N, 3] metres, x forward, z up."""
    intensity: NDArray[np.float32]
    """[N] 0..1."""
    labels: NDArray[np.uint8]
    """[N] target ids, 255 = ignore."""
    ring: NDArray[np.uint16] | None = None
    """[N] beam of each point; None where it is not known or scans are mixed."""
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """[N, …] whatever else must travel with the points; 0 means that nothing is known of one."""

    def __len__(self) -> int:
        return len(self.xyz)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> LabelledPoints:
        """The points of a mask or index array, in that order."""
        if index.dtype == np.bool_:
            index = np.flatnonzero(index)  # three gathers by index are quicker than by mask
        return LabelledPoints(
            self.xyz.take(index, axis=0),
            self.intensity.take(index),
            self.labels.take(index),
            None if self.ring is None else self.ring.take(index),
            {name: column.take(index, axis=0) for name, column in self.columns.items()},
        )


def concatenate(parts: Sequence[LabelledPoints]) -> LabelledPoints:
    """All points of several clouds, in order; beams are forgotten unless there is one cloud.

    Columns that a cloud lacks are 0 for its points.
    """
    return LabelledPoints(
        np.concatenate([p.xyz for p in parts]),
        np.concatenate([p.intensity for p in parts]),
        np.concatenate([p.labels for p in parts]),
        parts[0].ring if len(parts) == 1 else None,
        _columns(parts),
    )


def _columns(parts: Sequence[LabelledPoints]) -> dict[str, NDArray[Any]]:
    """All columns that any part has."""
    known = {name: column for part in parts for name, column in part.columns.items()}
    return {
        name: np.concatenate(
            [
                part.columns.get(name, np.zeros((len(part), *like.shape[1:]), like.dtype))
                for part in parts
            ]
        )
        for name, like in known.items()
    }


def azimuth(points: LabelledPoints) -> NDArray[np.float32]:
    """[N] angle about z in -pi..pi."""
    return np.arctan2(points.xyz[:, 1], points.xyz[:, 0])


def horizontal_range(points: LabelledPoints) -> NDArray[np.float32]:
    """[N] distance from the sensor axis, metres."""
    return np.hypot(points.xyz[:, 0], points.xyz[:, 1])


def elevation(points: LabelledPoints) -> NDArray[np.float32]:
    """[N] angle above the sensor's horizon, -pi/2..pi/2."""
    return np.arctan2(points.xyz[:, 2], horizontal_range(points))


def having(points: LabelledPoints, ids: NDArray[Any] | Sequence[int]) -> NDArray[np.bool_]:
    """[N] whether a point's label is one of ``ids``."""
    table = np.zeros(256, np.bool_)
    table[np.asarray(ids, np.int64)] = True
    return table[points.labels]
