# SPDX-License-Identifier: Apache-2.0
"""Euclidean distances of a cloud: all of them without a graph, a few of them with one.

- what decides a diagram (which edge carries which value) needs no gradient: numpy, float64
- what a diagram consists of (the lengths of those edges) is gathered from the points that have one
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float64]
Edges = NDArray[np.int64]
"""[b, 2] rows of the two ends."""

_CLOSE = 1e-5  # of the largest squared norm: below, products of coordinates lose too many digits


def distance_matrix(points: Floats) -> Floats:
    """Distances [n, n] of points [n, d], diagonal 0; not finite where the points are not.

    By one matrix product; rows that hold a pair too close for it are computed by differences, so
    that lengths are right to nine digits and equal points have distance exactly 0.
    """
    n = len(points)
    if n == 0:
        return np.empty((0, 0))
    with np.errstate(over="ignore", invalid="ignore"):
        centred = points - points.mean(0)
        norms = np.einsum("ij,ij->i", centred, centred)
        one = np.ones(n)
        left = np.column_stack([-2 * centred, norms, one])
        squares: Floats = left @ np.column_stack([centred, one, norms]).T
    np.fill_diagonal(squares, np.inf)
    close = np.flatnonzero(squares.min(1) <= _CLOSE * norms.max())
    np.fill_diagonal(squares, 0.0)
    if len(close):
        x = torch.from_numpy(centred)
        exact = torch.cdist(x[close], x, compute_mode="donot_use_mm_for_euclid_dist")
        squares[close] = exact.square_().numpy()
        squares[:, close] = squares[close].T
    np.sqrt(squares, out=squares)
    return squares


def edge_lengths(points: Tensor, edges: Edges) -> Tensor:
    """Lengths [b] of edges [b, 2] between points [n, d], with their gradient.

    At length 0 the slope is infinite: such edges belong to no bar and must not be asked for.
    """
    ends = torch.from_numpy(edges).to(points.device)
    return (points[ends[:, 0]] - points[ends[:, 1]]).square().sum(1).sqrt()


def mean_distance(points: Tensor, distances: Floats) -> Tensor:
    """Mean of the off-diagonal distances of points [n ≥ 2, d], with its gradient.

    ∂/∂x_i = 2/(n(n−1)) Σ_j (x_i − x_j)/D_ij needs one matrix product and no graph of n² lengths.
    """
    n = len(distances)
    matrix = torch.from_numpy(distances)
    inverse = torch.where(matrix > 0, 1 / matrix, 0.0)
    fixed = points.detach()
    slope = inverse.sum(1, keepdim=True) * fixed - inverse @ fixed
    slope *= 2 / (n * (n - 1))
    return matrix.sum() / (n * (n - 1)) + ((points - fixed) * slope).sum()


def quantile_length(distances: Floats, share: float) -> float:
    """The off-diagonal entry below which ``share`` of them lie: always one of the entries."""
    lengths = distances.ravel()[lower_triangle(len(distances))]
    rank = int(share * (len(lengths) - 1))
    return float(np.partition(lengths, rank)[rank])


def edges_of(values: Floats, distances: Floats) -> Edges:
    """For each of the values [b], an edge of exactly that length: rows [b, 2].

    On ties any of the edges. Raises ValueError where a value is no entry of the matrix.
    """
    place = lower_triangle(len(distances))
    lengths = distances.ravel()[place]
    wanted, back = np.unique(values, return_inverse=True)
    if not len(wanted):
        return np.empty((0, 2), np.int64)
    rank = np.searchsorted(wanted, lengths)
    rank[rank == len(wanted)] = 0
    hits = np.flatnonzero(wanted[rank] == lengths)
    found = np.full(len(wanted), -1)
    found[rank[hits]] = place[hits]
    if (found < 0).any():
        raise ValueError("a filtration value is not an entry of the distance matrix")
    return np.column_stack(np.divmod(found[back], len(distances)))


@cache
def lower_triangle(n: int) -> NDArray[np.int64]:
    """Places [n(n−1)/2] of the entries below the diagonal in a flattened [n, n] matrix."""
    return np.flatnonzero(np.tri(n, k=-1, dtype=bool))
