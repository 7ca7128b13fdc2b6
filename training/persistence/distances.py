# SPDX-License-Identifier: Apache-2.0
"""Chamfer distance of two persistence diagrams, with the diagonal.

A point p = (b, d) costs c(p; B) = min(min_{q ∈ B} ‖p − q‖², (d − b)²/2), the second being its
squared distance to the diagonal, where bars of length 0 live. Then

    CD(A, B) = [Σ_{p ∈ A} c(p; B) + Σ_{q ∈ B} c(q; A)] / (|A| + |B|),   0 where both are empty.

Defined for an empty side, symmetric, hardly sees short bars. Not a metric: many points may have one
nearest neighbour, so 0 does not mean equal multiplicities, and it does not approach a Wasserstein
distance. Without squares and with L∞ it is a lower bound of the bottleneck distance.
"""

from __future__ import annotations

import torch
from torch import Tensor


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Chamfer distance with diagonal of diagrams a [p, 2], b [q, 2]; nearest points held constant.

    >>> chamfer(torch.tensor([[0.0, 2.0]]), torch.empty(0, 2))
    tensor(2.)
    """
    with torch.no_grad():
        between = (a[:, None, 0] - b[:, 0]).square_()  # [p, q]
        between += (a[:, None, 1] - b[:, 1]).square_()
    total = _one_way(a, b, between) + _one_way(b, a, between.T)
    return total / max(len(a) + len(b), 1)


def _one_way(a: Tensor, b: Tensor, between: Tensor) -> Tensor:
    """Σ_{p ∈ A} c(p; B)."""
    cost = (a[:, 1] - a[:, 0]).square() / 2
    if between.numel():
        cost = torch.minimum((a - b[between.argmin(1)]).square().sum(1), cost)
    return cost.sum()


def longest(diagram: Tensor, count: int) -> Tensor:
    """The ``count`` bars [≤ count, 2] of largest persistence of a diagram [b, 2]."""
    if len(diagram) <= count:
        return diagram
    return diagram[(diagram[:, 1] - diagram[:, 0]).topk(count).indices]
