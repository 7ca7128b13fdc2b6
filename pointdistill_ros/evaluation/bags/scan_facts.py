# SPDX-License-Identifier: Apache-2.0
"""What decides whether a network can read a sensor: fields, intensity, height, density. No network.

One cloud at a time; ``check.py`` judges them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.io.cloud_layout import DATATYPES, CloudBytes
from pointdistill_ros.io.columns import INTENSITY_NAMES, RING_NAMES, TIME_NAMES, first_name
from pointdistill_ros.scan import LidarScan

NAMES = {
    "i1": "int8",
    "u1": "uint8",
    "i2": "int16",
    "u2": "uint16",
    "i4": "int32",
    "u4": "uint32",
    "f4": "float32",
    "f8": "float64",
}
_NEAR, _FAR, _CELL = 3.0, 20.0, 1.0
"""Metres: where the ground is looked for, and how finely."""
_MIN_CELLS = 30
_MAX_RANGE = 500.0


@dataclass(frozen=True)
class Ground:
    """The plane that most low points around the sensor lie on."""

    height: float
    """z below the sensor, metres."""
    tilt: float
    """Degrees between its normal and z."""
    share: float
    """Of the cells around the sensor whose lowest point lies on it, 0..1."""


@dataclass(frozen=True)
class ScanFacts:
    """One cloud."""

    frame_id: str
    height: int
    width: int
    fields: tuple[str, ...]
    """``x float32``, …, in the message's order."""
    point_step: int
    points: int
    not_finite: int
    zeros: int
    """Points at exactly (0, 0, 0)."""
    intensity_field: str
    ring_field: str
    time_field: str
    intensity_raw: tuple[float, float, float] | None
    """Smallest, median, largest as sent."""
    intensity: tuple[float, float, float] | None
    """5, 50 and 95 % after scaling."""
    rings: int
    """Different beams, 0 where there is no such field."""
    seconds: float
    """Between the first and the last point, 0 where there are no times."""
    elevation: tuple[float, float]
    """Lowest and highest in degrees (0.5 and 99.5 %)."""
    azimuth: float
    """Share of the full circle with points."""
    reach: float
    """Metres, 95 % of the points are nearer."""
    voxels: int
    """Occupied cells of the network's grid."""
    ground: Ground | None
    """As the network sees it."""

    @classmethod
    def of(
        cls, cloud: Any, scan: LidarScan, grid_size: float, seen: LidarScan | None = None
    ) -> ScanFacts:
        """From a PointCloud2 and its decoded form. ``seen``: as the network sees it, if otherwise.

        Raises CloudError.
        """
        data = CloudBytes.of(cloud)
        names = data.layout.names
        intensity = first_name(names, INTENSITY_NAMES) or ""
        real = scan.valid & (scan.xyz != 0).any(axis=1)
        xyz = scan.xyz[real].astype(np.float64)
        distance = np.hypot(xyz[:, 0], xyz[:, 1])
        elevation = np.degrees(np.arctan2(xyz[:, 2], distance))
        turn = np.unique(np.floor(np.degrees(np.arctan2(xyz[:, 1], xyz[:, 0])) / 2))
        x, y, z = (
            np.floor(xyz[np.abs(xyz).max(axis=1, initial=0) < _MAX_RANGE] / grid_size).astype(int).T
        )
        some = len(xyz) > 0
        return cls(
            frame_id=scan.frame,
            height=data.height,
            width=data.width,
            fields=tuple(
                f"{f.name} {NAMES[DATATYPES[f.datatype]] if f.datatype in DATATYPES else '?'}"
                for f in data.layout.fields
            ),
            point_step=data.layout.point_step,
            points=len(scan),
            not_finite=int((~scan.valid).sum()),
            zeros=int((scan.xyz == 0).all(axis=1).sum()),
            intensity_field=intensity,
            ring_field=first_name(names, RING_NAMES) or "",
            time_field=first_name(names, TIME_NAMES) or "",
            intensity_raw=_spread(data.column(intensity), (0, 50, 100))
            if intensity and len(data)
            else None,
            intensity=None if scan.intensity is None else _spread(scan.intensity, (5, 50, 95)),
            rings=0 if scan.ring is None else len(np.unique(scan.ring)),
            seconds=0.0 if scan.time is None or not some else float(np.ptp(scan.time[scan.valid])),
            elevation=_ends(elevation, (0.5, 99.5)) if some else (0.0, 0.0),
            azimuth=min(len(turn) / 180, 1.0),
            reach=float(np.percentile(distance, 95)) if some else 0.0,
            voxels=len(np.unique((x << 42) + (y << 21) + z)),
            ground=find_ground(xyz if seen is None else seen.xyz[real].astype(np.float64)),
        )


def find_ground(xyz: NDArray[np.float64]) -> Ground | None:
    """The ground around the sensor, from finite points [N, 3]; None where nothing like it is seen.

    The lowest points of cells of 1 m between 3 and 20 m are searched for the height that most of
    them share, then a plane is fitted to these, three times anew without its outliers.
    """
    distance = np.hypot(xyz[:, 0], xyz[:, 1])
    around = xyz[(distance > _NEAR) & (distance < _FAR)]
    cells = np.floor(around[:, :2] / _CELL).astype(np.int64)
    order = np.lexsort((around[:, 2], cells[:, 1], cells[:, 0]))
    around, cells = around[order], cells[order]
    new = (np.diff(cells, axis=0, prepend=cells[:1] - 1) != 0).any(axis=1)
    lowest = around[new]
    if len(lowest) < _MIN_CELLS:
        return None
    heights = np.sort(lowest[:, 2])
    inside = np.searchsorted(heights, heights + 0.3, side="right") - np.arange(len(heights))
    most = int(np.argmax(inside))
    height = float(heights[most : most + inside[most]].mean())
    plane = np.array([0.0, 0.0, height])
    for limit in (0.5, 0.3, 0.2):
        off = np.abs(lowest[:, :2] @ plane[:2] + plane[2] - lowest[:, 2])
        on = lowest[off < limit]
        if len(on) < _MIN_CELLS // 2:
            return None
        plane = np.linalg.lstsq(np.column_stack([on[:, :2], np.ones(len(on))]), on[:, 2])[0]
    tilt = float(np.degrees(np.arctan(np.hypot(*plane[:2]))))
    return Ground(float(plane[2]), tilt, len(on) / len(lowest))


def _spread(values: NDArray[Any], percents: tuple[float, ...]) -> tuple[float, float, float] | None:
    with np.errstate(over="ignore", invalid="ignore"):
        values = values.astype(np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, middle, high = (float(v) for v in np.percentile(values, percents))
    return low, middle, high


def _ends(values: NDArray[np.float64], percents: tuple[float, float]) -> tuple[float, float]:
    low, high = np.percentile(values, percents)
    return float(low), float(high)
