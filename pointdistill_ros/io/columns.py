# SPDX-License-Identifier: Apache-2.0
"""Per-point columns as found in files and messages → the units of a LidarScan.

- the names under which sensors publish intensity, ring and time
- intensity of any scale → 0..1
- time in nanoseconds or seconds, relative or absolute → seconds relative to the stamp
- columns of a file by these names → a scan
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.scan import LidarScan

INTENSITY_NAMES = ("intensity", "i", "signal", "reflectivity", "remission")
RING_NAMES = ("ring", "channel", "line")
TIME_NAMES = ("t", "time", "timestamp", "time_stamp", "offset_time")

IntensityScale: TypeAlias = Literal[
    "auto", "none", "unit", "div255", "div_max", "log", "tanh", "percentile"
]
INTENSITY_SCALES: tuple[str, ...] = get_args(IntensityScale)

_UINT16_MAX = 65535
_PERCENTILE = 0.99
_PERCENTILE_SAMPLES = 4096
_ABSOLUTE_SECONDS = 1e6  # twelve days: no sweep lasts that long, every clock since 1970 is beyond
_ABSOLUTE_NANOSECONDS = 1e15  # twelve days in nanoseconds; in seconds 30 million years


def first_name(names: Collection[str], aliases: tuple[str, ...]) -> str | None:
    """Return the first alias that is among ``names``."""
    return next((alias for alias in aliases if alias in names), None)


def scale_intensity(values: NDArray[Any], scale: IntensityScale) -> NDArray[np.float32]:
    """Intensities [N] of any number type → float32 [N]; values that are not finite become 0.

    - ``none``: as they are
    - ``unit``: already 0..1, clipped to it
    - ``div255``: ÷ 255, clipped to 0..1
    - ``div_max``: ÷ the largest value of this scan
    - ``log``: ln(1 + v) ÷ ln(1 + 65535), clipped to 0..1
    - ``tanh``: tanh(v), negative values 0
    - ``percentile``: ÷ the 99th percentile of this scan (of at most 4096 evenly spaced points),
      clipped to 0..1
    - ``auto``: uint8 → ``div255``; others by the largest value of this scan: ≤ 1 → ``unit``,
      ≤ 255 → ``div255``, above → ``percentile``
    """
    with np.errstate(over="ignore", invalid="ignore"):
        intensity: NDArray[np.float32] = values.astype(np.float32)  # always a copy
    if values.dtype.kind == "f":
        intensity[~np.isfinite(intensity)] = 0
    if scale == "none" or not len(intensity):
        return intensity
    if scale == "auto":
        scale = "div255" if values.dtype == np.uint8 else _guess_scale(float(intensity.max()))
    if scale == "div255":
        intensity *= np.float32(1 / 255)
    elif scale == "div_max":
        intensity *= _inverse(float(intensity.max()))
    elif scale == "percentile":
        intensity *= _inverse(_percentile(intensity))
    elif scale == "log":
        intensity = np.log1p(np.maximum(intensity, 0)) * np.float32(1 / math.log1p(_UINT16_MAX))
    elif scale == "tanh":
        intensity = np.tanh(intensity)
    return np.clip(intensity, 0, 1, out=intensity)


def _guess_scale(largest: float) -> IntensityScale:
    if largest <= 1:
        return "unit"
    return "div255" if largest <= 255 else "percentile"


def _inverse(value: float) -> np.float32:
    """1 ÷ value as a factor; 0 where all intensities are 0 or too small to divide by."""
    return np.float32(1 / value if value > 1e-30 else 0)


def _percentile(intensity: NDArray[np.float32]) -> float:
    sample = intensity[:: 1 + (len(intensity) - 1) // _PERCENTILE_SAMPLES]
    rank = math.ceil(_PERCENTILE * (len(sample) - 1))
    return float(np.partition(sample, rank)[rank])


def ring_index(values: NDArray[Any]) -> NDArray[np.uint16]:
    """Beam numbers [N] of any number type → uint16 [N], clipped to its range; NaN becomes 0."""
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.uint16)
    if values.dtype.kind == "f":
        if values.dtype.itemsize < 4:
            values = values.astype(np.float32)  # 65535 is beyond float16
        values = np.nan_to_num(values, nan=0.0)
    ring: NDArray[np.uint16] = np.clip(values, 0, _UINT16_MAX).astype(np.uint16)
    return ring


def relative_seconds(values: NDArray[Any], stamp_ns: int) -> NDArray[np.float32]:
    """Bring times [N] to float32 [N] seconds relative to the stamp.

    Integers are nanoseconds since the stamp. Floats are seconds since the stamp, unless they are so
    large that they can only be absolute: from 1e6 seconds, from 1e15 nanoseconds since 1970.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        if values.dtype.kind != "f":
            return (values * 1e-9).astype(np.float32)
        magnitude = np.abs(values)
        largest = np.max(magnitude, initial=0, where=magnitude < np.inf)
        if largest >= _ABSOLUTE_NANOSECONDS:
            values = (values.astype(np.float64) - float(stamp_ns)) * 1e-9
        elif largest >= _ABSOLUTE_SECONDS:
            values = values.astype(np.float64) - stamp_ns * 1e-9
        return values.astype(np.float32)


def scan_of_columns(path: Path, columns: Mapping[str, NDArray[Any]]) -> LidarScan:
    """Named columns [N] → scan. Raises InputError where x, y, z are missing or lengths differ."""
    used = {
        role: first_name(columns, aliases)
        for role, aliases in (
            ("intensity", INTENSITY_NAMES),
            ("ring", RING_NAMES),
            ("time", TIME_NAMES),
        )
    }
    wanted = ["x", "y", "z", *(name for name in used.values() if name)]
    if missing := [axis for axis in "xyz" if axis not in columns]:
        held = ", ".join(columns) or "nothing"
        raise InputError(f"{path}: no field {missing[0]!r}; it holds {held}")
    for name in wanted:
        column = columns[name]
        if column.shape != columns["x"].shape or column.ndim != 1 or column.dtype.kind not in "fiu":
            raise InputError(
                f"{path}: field {name!r} is {column.dtype} {list(column.shape)}; "
                f"expected one number per point ({len(columns['x'])})"
            )
    with np.errstate(over="ignore", invalid="ignore"):
        xyz = np.stack([columns[axis].astype(np.float32) for axis in "xyz"], axis=1)
    intensity, ring, time = (columns[name] if name else None for name in used.values())
    return LidarScan(
        xyz=xyz,
        intensity=None if intensity is None else scale_intensity(intensity, "auto"),
        ring=None if ring is None else ring_index(ring),
        time=None if time is None else relative_seconds(time, 0),
    )
