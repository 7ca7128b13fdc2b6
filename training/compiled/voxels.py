# SPDX-License-Identifier: Apache-2.0
"""Points → voxels by compiled code: the twin of ``pointdistill_ros.model.voxels.voxelise``."""

from __future__ import annotations

import ctypes

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.engine.library import pointer
from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.voxels import Voxels
from training.compiled import library

_TOO_FAR, _OUT_OF_MEMORY = 2, 4


def voxelise(
    xyz: NDArray[np.float32], grid_size: float, rng: np.random.Generator | None = None
) -> Voxels:
    """Group N finite points (metres) into voxels; the same arrays and draws as the numpy form.

    xyz: float32 [N, 3]. Raises ScanError where the scan spans 2**16 cells or more along an axis,
    ValueError for points that are not finite or another type, ConfigError without the library.
    """
    n = len(xyz)
    if xyz.dtype != np.float32 or xyz.shape != (n, 3):
        raise ValueError(f"xyz float32 [N, 3] is expected, got {xyz.dtype} {xyz.shape}")
    coords, start = np.empty((n, 3), np.int64), np.zeros(n + 1, np.int64)
    inverse, order = np.empty(n, np.int64), np.empty(n, np.int64)
    rows = ctypes.c_int64(0)
    xyz = np.ascontiguousarray(xyz)
    if n:
        status = library.library().pd_training_voxelise(
            pointer(xyz),
            ctypes.c_int64(n),
            ctypes.c_double(grid_size),
            *(pointer(array) for array in (coords, inverse, order, start)),
            ctypes.byref(rows),
        )
        if status == _TOO_FAR:
            raise ScanError(
                f"scan spans more than {(1 << MAX_DEPTH) - 1} cells of {grid_size} m along one "
                "axis; drop far outliers or use a larger grid_size"
            )
        if status == _OUT_OF_MEMORY:
            raise MemoryError("voxelise: out of memory")
        if status:
            raise ValueError("points are not finite, or grid_size is not > 0")
    start = start[: rows.value + 1].copy()
    first = start[:-1]
    if rng is not None:
        counts = np.diff(start)
        first = first + (rng.random(len(first)) * counts).astype(np.int64)
    return Voxels(coords[: rows.value].copy(), inverse, order[first], order, start)
