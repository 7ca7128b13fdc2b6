# SPDX-License-Identifier: Apache-2.0
"""H0 and H1 by the compiled library (engine/native/training/persistence.cpp): edges, no look-up.

The same bars as rips.py, about ten times as fast; ties may be paired otherwise, with equal values.
"""

from __future__ import annotations

import ctypes

import numpy as np

from pointdistill_ros.errors import ConfigError
from training.compiled.library import library
from training.persistence.bars import EVERYTHING, Bars, Window
from training.persistence.metric import Floats, edges_of

_MOST_POINTS = 4096


def available(n: int) -> bool:
    """Whether the library is built and takes n points."""
    try:
        return 2 <= n <= _MOST_POINTS and library() is not None
    except ConfigError:
        return False


def compiled_bars(distances: Floats, window: Window = EVERYTHING) -> tuple[Bars, Bars]:
    """Bars of H0 and H1 of finite distances float64 [n, n]; the lower triangle counts."""
    n = len(distances)
    start, end = window
    matrix = np.ascontiguousarray(distances)
    # From the enclosing radius on everything is a cone: nothing is born, nothing lives on.
    longest = min(end, float(matrix.max(1).min()))
    tree = np.empty((n - 1, 2), np.int32)
    loops = np.empty((n * (n - 1) // 2, 4), np.int32)
    joined, born = ctypes.c_int32(), ctypes.c_int32()
    status = library().pd_training_rips(
        matrix.ctypes.data_as(ctypes.c_void_p),
        n,
        ctypes.c_double(longest),
        tree.ctypes.data_as(ctypes.c_void_p),
        ctypes.byref(joined),
        loops.ctypes.data_as(ctypes.c_void_p),
        ctypes.byref(born),
    )
    if status:
        raise MemoryError(f"pd_training_rips: status {status}")
    h0 = np.full((n - 1, 4), -1, np.int64)  # components that never meet are left with −1
    h0[:, :2] = 0
    h0[: joined.value, 2:] = tree[: joined.value]
    h1 = loops[: born.value].astype(np.int64)
    return _cut(h0, matrix, start, end, from_zero=True), _cut(h1, matrix, start, end)


def _cut(edges: np.ndarray, distances: Floats, start: float, end: float,
         from_zero: bool = False) -> Bars:  # fmt: skip
    """Bars of rows (birth edge, death edge or −1) inside the window."""
    births, deaths = edges[:, :2], edges[:, 2:]
    lives = deaths[:, 0] < 0
    died = np.where(lives, np.inf, distances[deaths[:, 0], deaths[:, 1]])
    born = np.zeros(len(edges)) if from_zero else distances[births[:, 0], births[:, 1]]
    if (died > end).any():
        deaths[died > end] = edges_of(np.array([end]), distances)
    if start > 0 and (born < start).any():
        births[born < start] = edges_of(np.array([start]), distances)
    kept = np.maximum(born, start) < np.minimum(died, end)
    return Bars(None if from_zero and start == 0 else births[kept], deaths[kept])
