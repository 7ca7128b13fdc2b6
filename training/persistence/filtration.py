# SPDX-License-Identifier: Apache-2.0
"""The Vietoris–Rips filtration of one cloud of features: its scale and its diagrams."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from training.persistence.bars import Bars, Window, diagrams
from training.persistence.metric import (
    distance_matrix,
    edge_lengths,
    edges_of,
    mean_distance,
    quantile_length,
)
from training.persistence.rips import rips_bars
from training.persistence.spanning_tree import tree_bars


class Filtration:
    """Distances of points [n, d] and what follows from them; computed on the CPU in float64."""

    def __init__(
        self,
        points: Tensor,
        max_dimension: int = 1,
        quantiles: tuple[float, float] = (0.0, 1.0),
    ) -> None:
        """``quantiles``: shares of the distances between which the filtration runs.

        Gradients of whatever is asked for reach ``points``, on any device and of any precision.
        """
        self.points = points.to("cpu", torch.float64)
        self.max_dimension = max_dimension
        self.quantiles = quantiles
        distances = distance_matrix(self.points.detach().numpy())
        self.distances = np.maximum(distances, distances.T) if max_dimension else distances

    @cached_property
    def finite(self) -> bool:
        """Whether there are diagrams at all."""
        return bool(np.isfinite(self.distances).all())

    def mean(self) -> Tensor:
        """Mean off-diagonal distance, of n ≥ 2 points."""
        return mean_distance(self.points, self.distances)

    def median(self) -> Tensor:
        """Lower median of the off-diagonal distances, of n ≥ 2 points; 0 without a gradient."""
        value = quantile_length(self.distances, 0.5)
        if value == 0:
            return self.points.new_zeros(())
        return edge_lengths(self.points, edges_of(np.array([value]), self.distances))[0]

    def bars(self) -> tuple[Bars, ...]:
        """Bars of H0 … H_max_dimension inside the window."""
        if self.max_dimension == 0:
            return (tree_bars(self.distances, self._window()),)
        return rips_bars(self.distances, self.max_dimension, self._window())

    def diagrams(self) -> tuple[Tensor, ...]:
        """(birth, death) float64 [b, 2] of H0 … H_max_dimension, in the units of the points."""
        return diagrams(self.points, self.bars())

    def _window(self) -> Window:
        low, high = self.quantiles
        return (
            quantile_length(self.distances, low) if low > 0 else 0.0,
            quantile_length(self.distances, high) if high < 1 else np.inf,
        )


def rips_diagrams(points: Tensor, max_dimension: int = 1) -> tuple[Tensor, ...]:
    """Diagrams (birth, death) float64 [b, 2] of H0 … H_max_dimension of points [n, d].

    Exact, differentiable; the component that never dies and bars of length 0 are left out. Raises
    ValueError on points that are not finite.

    >>> turn = torch.arange(12) * (2 * torch.pi / 12)
    >>> h0, h1 = rips_diagrams(torch.stack([turn.cos(), turn.sin()], 1))
    >>> len(h0), [[round(value, 3) for value in bar] for bar in h1.tolist()]
    (11, [[0.518, 1.732]])
    """
    return Filtration(points, max_dimension).diagrams()
