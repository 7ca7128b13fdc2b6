# SPDX-License-Identifier: Apache-2.0
"""How the terms of a loss add up, and how far one may pull at a shared feature.

fixed      L = Σ_i λ_i L_i
learned    L = Σ_i exp(−s_i) L_i + s_i,  s_i = −ln λ_i at first, kept within ± ln 20 of that

    log-variance weights (Kendall, Gal and Cipolla, CVPR 2018). Free weights under minimisation go
    to 0; + s_i has its price for that, and the bound keeps a term that vanishes or explodes from
    taking everything or being switched off.

α bound    factor = min(1, α ‖g_task‖ / ‖g_x‖)

    on the gradient g_x of a term at a shared feature, so that ‖factor · g_x‖ ≤ α ‖g_task‖ whatever
    its λ: the bound on the topological gradient of arXiv 2505.08101 (its Eq. 10).

Not here: which terms there are, and when each is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, log

import torch
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError

LARGEST_CHANGE = 20.0
"""Learned weights stay within this factor of where they started."""


class FixedWeights(nn.Module):
    """Σ λ_i L_i with constant λ.

    >>> weights = FixedWeights({"task": 1.0, "topology": 0.1})
    >>> weights({"task": torch.tensor(2.0), "topology": torch.tensor(5.0)}).item()
    2.5
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """``weights``: name of a term → λ ≥ 0. Raises ConfigError."""
        super().__init__()
        if wrong := [name for name, value in weights.items() if not 0 <= value < inf]:
            raise ConfigError(f"weight of {wrong[0]} must be ≥ 0, got {weights[wrong[0]]}")
        self.initial = dict(weights)

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The total of scalar terms; a step may lack some. Raises ConfigError for unknown ones."""
        _check(terms, self.initial)
        return torch.stack([self.initial[name] * value for name, value in terms.items()]).sum()

    def weight(self, name: str) -> float:
        """Current λ of a term."""
        return self.initial[name]


class LearnedWeights(nn.Module):
    """Σ exp(−s_i) L_i + s_i with a learned s_i per term; optimise its parameters with the network.

    Without weight decay on them: that would pull every λ towards 1.

    >>> weights = LearnedWeights({"task": 1.0, "topology": 0.1})
    >>> round(weights.weight("topology"), 6)
    0.1
    >>> weights({"task": torch.tensor(2.0)}).item()
    2.0
    """

    low: Tensor
    high: Tensor

    def __init__(self, weights: Mapping[str, float]) -> None:
        """``weights``: name of a term → λ > 0 at first. Raises ConfigError."""
        super().__init__()
        if not weights:
            raise ConfigError("learned weights need at least one term")
        if wrong := [name for name, value in weights.items() if not 0 < value < inf]:
            raise ConfigError(
                f"learned weight of {wrong[0]} must start above 0, got {weights[wrong[0]]}; "
                "leave the term out to switch it off"
            )
        self.index = {name: i for i, name in enumerate(weights)}
        start = torch.tensor([-log(value) for value in weights.values()])
        self.log_variance = nn.Parameter(start.clone())  # [terms]
        self.register_buffer("low", start - log(LARGEST_CHANGE))
        self.register_buffer("high", start + log(LARGEST_CHANGE))

    def forward(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The total of scalar terms; a step may lack some. Raises ConfigError for unknown ones.

        The parameters are first put back within their bounds, where the last step left them; unlike
        a clamp in the graph, that leaves them a gradient to come back with.
        """
        _check(terms, self.index)
        with torch.no_grad():
            self.log_variance.copy_(self.log_variance.clamp(self.low, self.high))
        parts = []
        for name, value in terms.items():
            s = self.log_variance[self.index[name]]
            parts.append((-s).exp() * value + s)
        return torch.stack(parts).sum()

    def weight(self, name: str) -> float:
        """Current λ = exp(−s) of a term."""
        i = self.index[name]
        with torch.no_grad():
            bounded = self.log_variance[i].clamp(self.low[i], self.high[i])
        return float((-bounded).exp())


def alpha_factor(task: Tensor, other: Tensor, alpha: float = 1.0) -> Tensor:
    """Scalar float64 in 0..1: what keeps ``other`` within α times the norm of ``task``.

    task, other: gradients at the same feature, any shape. 1 where ``other`` is 0; 0 where ``task``
    is 0 and ``other`` is not, and where ``other`` has a number that is not finite. Norms are summed
    in float64, in which no float32 gradient over- or underflows. Raises ConfigError for α < 0.

    >>> alpha_factor(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 20.0])).item()
    0.25
    """
    if not 0 <= alpha < inf:
        raise ConfigError(f"alpha must be ≥ 0, got {alpha}")
    allowed = alpha * torch.linalg.vector_norm(task.detach(), dtype=torch.float64)
    norm = torch.linalg.vector_norm(other.detach(), dtype=torch.float64)
    factor: Tensor = (allowed / norm).where(norm > allowed, 1)  # no gradient is within any bound
    return factor.where(norm.isfinite(), 0)


def bound_gradient(task: Tensor, other: Tensor, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """``other`` with a norm of at most α ‖task‖, and the factor (for the log).

    Both are constants. A gradient that is not finite becomes 0.

    >>> bounded, factor = bound_gradient(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 4.0]), 2.0)
    >>> bounded.tolist(), factor.item()
    ([0.0, 2.0], 0.5)
    """
    factor = alpha_factor(task, other, alpha)
    bounded = (other.detach() * factor).to(other.dtype)
    return bounded.where(factor > 0, 0), factor


def _check(terms: Mapping[str, Tensor], known: Mapping[str, object]) -> None:
    if not terms:
        raise ConfigError("a loss needs at least one term")
    if unknown := [name for name in terms if name not in known]:
        raise ConfigError(f"no weight for the term {unknown[0]}; there are {', '.join(known)}")
