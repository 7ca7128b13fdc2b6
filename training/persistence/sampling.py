# SPDX-License-Identifier: Apache-2.0
"""Which rows of a stage become the cloud whose topology is compared: farthest points, per scan.

Farthest-point sampling (Eldar et al., IEEE Trans. Image Process. 1997) in grid coordinates covers
the scene evenly: a pedestrian counts as much as the same area of road, which uniform sampling would
not give. Coordinates are whole numbers and products of them are exact in float64, so the sample
depends on the seed and the geometry alone, not on the machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor


def farthest_points(coords: np.ndarray, count: int, start: int) -> np.ndarray:
    """Rows int64 [min(count, n)] of coords int [n, 3], each the farthest from those before it.

    The first is ``start``; of several equally far, the lowest row. All rows, in their order, where
    n ≤ count.

    >>> farthest_points(np.array([[0, 0, 0], [1, 0, 0], [9, 0, 0], [5, 0, 0]]), 3, start=0).tolist()
    [0, 2, 3]
    """
    n = len(coords)
    if n <= count:
        return np.arange(n)
    points = coords.astype(np.float64)
    norms = np.einsum("ij,ij->i", points, points)
    one = np.ones(n)
    # |p − q|² of all p to one q is a single product of a matrix and a vector
    left = np.column_stack([-2 * points, norms, one])
    right = np.column_stack([points, one, norms])
    rows = np.empty(count, np.int64)
    distance, nearest = np.empty(n), np.full(n, np.inf)
    row = start
    for i in range(count):
        rows[i] = row
        np.dot(left, right[row], out=distance)
        np.minimum(nearest, distance, out=nearest)
        row = int(nearest.argmax())
    return rows


def sample_rows(
    coords: Tensor, offsets: Sequence[int], count: int, rng: np.random.Generator
) -> list[Tensor]:
    """Per scan, int64 [≤ count] rows of the batch: farthest points from a start drawn by ``rng``.

    coords: int64 [n, 3] cells of a stage; offsets: [B + 1] first row of each scan, and n. Teacher
    and student read the same rows.
    """
    cells = coords.cpu().numpy()
    rows = []
    for first, end in pairwise(offsets):
        start = int(rng.integers(max(end - first, 1)))
        rows.append(torch.from_numpy(first + farthest_points(cells[first:end], count, start)))
    return rows
