# SPDX-License-Identifier: Apache-2.0
"""Sliced Wasserstein distance of two persistence diagrams (Carrière et al., ICML 2017).

Each diagram receives the other's points projected to the diagonal Δ, A' = A ∪ π_Δ(B) and
B' = B ∪ π_Δ(A), so that both have |A| + |B| points. Along a direction θ the optimal matching is
that of the sorted projections:

    SW(A, B) = mean_θ Σ |sort(A'θ) − sort(B'θ)| / (|A| + |B|),   0 where both are empty.

Unlike the Chamfer distance it counts multiplicities and is 0 only for equal diagrams.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sliced_wasserstein(a: Tensor, b: Tensor, directions: int = 50) -> Tensor:
    """Per bar, of diagrams a [p, 2], b [q, 2], along equispaced directions in [−π/2, π/2).

    >>> one, other = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0]])
    >>> bool(sliced_wasserstein(one, one) < sliced_wasserstein(one, other))
    True
    """
    angle = torch.arange(directions, dtype=a.dtype, device=a.device) * (math.pi / directions)
    angle = angle - math.pi / 2
    axes = torch.stack([angle.cos(), angle.sin()])  # [2, M]
    ours = torch.cat([a, _on_diagonal(b)]) @ axes  # [p + q, M]
    theirs = torch.cat([b, _on_diagonal(a)]) @ axes
    apart = (ours.T.sort(1).values - theirs.T.sort(1).values).abs()
    return apart.sum() / (directions * max(len(ours), 1))


def _on_diagonal(diagram: Tensor) -> Tensor:
    return diagram.mean(1, keepdim=True).expand(-1, 2)
