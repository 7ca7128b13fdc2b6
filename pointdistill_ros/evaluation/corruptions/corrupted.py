# SPDX-License-Identifier: Apache-2.0
"""Corrupted: what a corruption makes of a labelled scan, and where every point comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.labels import UNLABELLED
from pointdistill_ros.scan import LidarScan

INVENTED = -1
"""Source of a point that no surface returned."""


@dataclass(frozen=True, eq=False)
class Corrupted:
    """A scan of M points made of one of N; points keep their order, lost ones are gone."""

    scan: LidarScan
    """As the sensor would have given it."""
    labels: NDArray[np.uint8]
    """[M] train ids; 255 for invented points: no class is right for them."""
    source: NDArray[np.int64]
    """[M] index of the original point, INVENTED for a return of no surface."""


def untouched(scan: LidarScan, labels: NDArray[np.uint8]) -> Corrupted:
    """Nothing has happened yet."""
    return Corrupted(scan, labels, np.arange(len(scan)))


def keep(scan: LidarScan, labels: NDArray[np.uint8], kept: NDArray[np.bool_]) -> Corrupted:
    """The points of a mask [N]."""
    return Corrupted(scan.select(kept), labels[kept], np.flatnonzero(kept))


def with_phantoms(
    scan: LidarScan,
    labels: NDArray[np.uint8],
    phantom: NDArray[np.bool_],
    distance: NDArray[np.float64],
    intensity: NDArray[np.float64],
) -> Corrupted:
    """The beams of a mask [N] return from ``distance`` [N] metres instead, at ``intensity`` [N].

    Their direction, time and ring stay; NaN points cannot be phantoms.
    """
    xyz = scan.xyz.astype(np.float64)
    length = np.linalg.norm(xyz[phantom], axis=1)
    xyz[phantom] *= (distance[phantom] / length)[:, None]
    new = scan.intensity
    if new is not None:
        new = np.where(phantom, intensity.astype(np.float32), new)
    return Corrupted(
        replace(scan, xyz=xyz.astype(np.float32), intensity=new),
        np.where(phantom, np.uint8(UNLABELLED), labels),
        np.where(phantom, INVENTED, np.arange(len(scan))),
    )


def distances(scan: LidarScan) -> NDArray[np.float64]:
    """[N] metres from the sensor; NaN or inf where there was no return."""
    with np.errstate(invalid="ignore", over="ignore"):
        length: NDArray[np.float64] = np.linalg.norm(scan.xyz.astype(np.float64), axis=1)
    return length
