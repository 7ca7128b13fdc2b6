# SPDX-License-Identifier: Apache-2.0
"""Bars of a Vietoris–Rips filtration, and the diagrams they become on points with a gradient.

Every birth and every death is the length of one edge. With the pairing held constant, ∂(value)/∂x
is the unit vector along that edge at its two ends: valid wherever the distances differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.persistence.metric import Edges, edge_lengths

Window = tuple[float, float]
"""Scales between which the filtration runs, each 0, ∞ or an entry of the distance matrix: what is
older is born at its start, what lives longer dies at its end."""

EVERYTHING: Window = (0.0, np.inf)


@dataclass(frozen=True, eq=False)
class Bars:
    """The bars of one dimension, each by the edges whose lengths are its birth and its death."""

    births: Edges | None
    """int64 [b, 2]; None: all are born at 0."""
    deaths: Edges
    """int64 [b, 2]."""

    def __len__(self) -> int:
        return len(self.deaths)


def diagrams(points: Tensor, bars: Sequence[Bars]) -> tuple[Tensor, ...]:
    """(birth, death) [b, 2] per element of ``bars`` on points [n, d], with their gradient.

    >>> loop = Bars(births=np.array([[0, 1]]), deaths=np.array([[0, 2]]))
    >>> square = torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    >>> [d.tolist() for d in diagrams(square, [loop])]
    [[[1.0, 1.4142135381698608]]]
    """
    edges = [e for b in bars for e in (b.births, b.deaths) if e is not None]
    sizes = [len(e) for e in edges]
    lengths = iter(torch.split(edge_lengths(points, np.concatenate(edges)), sizes))
    result = []
    for b in bars:
        births = points.new_zeros(len(b)) if b.births is None else next(lengths)
        result.append(torch.stack([births, next(lengths)], 1))
    return tuple(result)


def persistence_sums(found: Sequence[Tensor]) -> list[float]:
    """Σ (death − birth) of each diagram [b, 2]: 0 in a dimension without bars.

    A network whose features collapse shows it here, whatever the loss does.
    """
    return [float((d[:, 1] - d[:, 0]).sum().detach()) for d in found]
