# SPDX-License-Identifier: Apache-2.0
"""Headerless scans and labels: KITTI ``.bin``, nuScenes ``.pcd.bin``, SemanticKITTI ``.label``.

These files say nothing about themselves, so size and content are checked against what the suffix
promises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.io.columns import ring_index, scale_intensity
from pointdistill_ros.io.regular import require_file
from pointdistill_ros.scan import LidarScan

_TEXT = bytes(range(32, 127)) + b"\t\r\n"
_KITTI = "4 × float32 per point (x y z remission)"
_NUSCENES = "5 × float32 per point (x y z intensity ring)"


def read_kitti(path: Path) -> LidarScan:
    """Read a KITTI scan, remission 0..1. Raises InputError naming file and expectation."""
    columns = _read_floats(path, 4, _KITTI)
    return LidarScan(
        xyz=columns[:, :3].copy(),
        intensity=scale_intensity(columns[:, 3], "none"),
        frame="velodyne",
    )


def read_nuscenes(path: Path) -> LidarScan:
    """Read a nuScenes sweep, intensity 0..255 brought to 0..1, with rings. Raises InputError."""
    columns = _read_floats(path, 5, _NUSCENES)
    return LidarScan(
        xyz=columns[:, :3].copy(),
        intensity=scale_intensity(columns[:, 3], "div255"),
        ring=ring_index(columns[:, 4]),
        frame="LIDAR_TOP",
    )


def write_kitti(scan: LidarScan, path: Path) -> None:
    """Write a KITTI ``.bin``, whole or not at all; missing intensity becomes 0."""
    columns = np.zeros((len(scan), 4), "<f4")
    columns[:, :3] = scan.xyz
    if scan.intensity is not None:
        columns[:, 3] = scan.intensity
    with atomic_path(path) as temporary:
        columns.tofile(temporary)


def read_labels(
    path: Path, points: int | None = None
) -> tuple[NDArray[np.uint16], NDArray[np.uint16]]:
    """Read a SemanticKITTI ``.label``: raw ids [N] and instance ids [N].

    ``points`` is the length of the scan it belongs to. Raises InputError.
    """
    raw = _read(path, "<u4", "one uint32 per point (low 16 bits class, high 16 bits instance)")
    if points is not None and len(raw) != points:
        raise InputError(f"{path}: {len(raw)} labels, its scan has {points} points")
    return (raw & 0xFFFF).astype(np.uint16), (raw >> 16).astype(np.uint16)


def write_labels(raw: NDArray[Any], path: Path, instances: NDArray[Any] | None = None) -> None:
    """Write raw ids [N], and instance ids [N] if given, as a ``.label``, whole or not at all."""
    words = raw.astype("<u4")
    if instances is not None:
        words |= instances.astype("<u4") << 16
    with atomic_path(path) as temporary:
        words.tofile(temporary)


def _read_floats(path: Path, columns: int, expected: str) -> NDArray[np.float32]:
    values = _read(path, "<f4", expected, columns)
    return values.reshape(-1, columns).astype(np.float32, copy=False)


def _read(path: Path, dtype: str, expected: str, columns: int = 1) -> NDArray[Any]:
    require_file(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if data and not data[:4096].translate(None, _TEXT):
        raise InputError(f"{path}: this is a text file; expected {expected}")
    row = columns * np.dtype(dtype).itemsize
    if len(data) % row:
        raise InputError(
            f"{path}: {len(data)} bytes is not a multiple of {row}; expected {expected}"
        )
    return np.frombuffer(data, dtype)
