# SPDX-License-Identifier: Apache-2.0
"""The student's features take the shape of the teacher's: a loss on persistence diagrams.

Per scan, the same m rows of both networks, with distances D in each network's own feature space,

    L = Σ_k c_k · dist(Dgm_k(D_S / s_S), sg Dgm_k(D_T / s_T)),

Dgm_k: exact Vietoris–Rips diagrams (training/persistence), dist: Chamfer with diagonal or sliced
Wasserstein, s: the scale of a cloud, by default its mean distance, as widths and norms differ
between the networks. The mean over the scans that have diagrams. After Le et al., arXiv 2505.08101,
whose published code differs: its diagrams are not homology, and empty at the widths used.

Adaptive filtration, each a setting: the scale taken over the batch or with a learned factor, and a
filtration that runs between quantiles of the distances.
Not here: which steps compute it, its weight, the bound on its gradient.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from training.persistence.bars import persistence_sums
from training.persistence.distances import chamfer, longest
from training.persistence.filtration import Filtration
from training.persistence.sliced_wasserstein import sliced_wasserstein

FEWEST = 4
"""A scan with fewer rows has no loop and is left out."""
_LARGEST_LOG_SCALE = math.log(4)


@dataclass(frozen=True)
class TopologySettings:
    """What is compared, and how."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    m: int = 256
    """Rows per scan."""
    weights: tuple[float, float, float] = (1.0, 1.0, 0.0)
    """Of H0, H1, H2. H2 needs m ≤ 128."""
    distance: Literal["chamfer", "sliced-wasserstein"] = "chamfer"
    """Between the diagrams of one dimension."""
    directions: int = 50
    """Of the sliced Wasserstein distance."""
    bars: int | None = None
    """Only this many longest bars per diagram; null = all."""
    normalisation: Literal["mean", "median", "unit", "none"] = "mean"
    """Distances are divided by their mean or median; unit = features get length 1 instead."""
    detach_scale: bool = False
    """Whether the divisor is a constant to the gradient."""
    scale: Literal["scan", "batch", "learned"] = "scan"
    """The divisor is each scan's own, or one for all scans of the batch, their mean; learned = each
    scan's own, with a learned factor for the student (within 1/4 … 4)."""
    quantiles: tuple[float, float] = (0.0, 1.0)
    """Shares of the distances between which the filtration runs."""

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.m < FEWEST:
            raise ConfigError(f"topology.m = {self.m}: expected at least {FEWEST}")
        if min(self.weights) < 0 or max(self.weights) == 0:
            raise ConfigError(f"topology.weights = {self.weights}: expected ≥ 0 and one above 0")
        if self.weights[2] > 0 and self.m > 128:
            raise ConfigError(f"topology.m = {self.m}: with H2, expected at most 128")
        if self.bars is not None and self.bars < 1:
            raise ConfigError(f"topology.bars = {self.bars}: expected at least 1, or null for all")
        if self.directions < 1:
            raise ConfigError(f"topology.directions = {self.directions}: expected at least 1")
        low, high = self.quantiles
        if not 0 <= low < high <= 1:
            raise ConfigError(f"topology.quantiles = {self.quantiles}: expected 0 ≤ low < high ≤ 1")

    @property
    def max_dimension(self) -> int:
        """The highest homology that is needed."""
        return max(k for k, weight in enumerate(self.weights) if weight > 0)


@dataclass(frozen=True)
class TopologyReport:
    """What the loss saw."""

    scans: int
    """Compared."""
    small: int
    """Left out: fewer than 4 rows."""
    skipped: int
    """Left out: features that are not finite, or most of them equal under a median scale."""
    student: tuple[float, ...]
    """Σ persistence of H0 …, normalised, mean per compared scan; falls when features collapse."""
    teacher: tuple[float, ...]
    """The same of the teacher."""


class TopologyLoss(nn.Module):
    """``topology_loss`` with its settings and, where the scale is learned, its parameter."""

    def __init__(self, settings: TopologySettings | None = None) -> None:
        """``settings``: default TopologySettings()."""
        super().__init__()
        self.settings = settings or TopologySettings()
        learned = self.settings.scale == "learned"
        self.log_scale = nn.Parameter(torch.zeros(())) if learned else None

    def forward(
        self, student: Tensor, teacher: Tensor, rows: Sequence[Tensor]
    ) -> tuple[Tensor, TopologyReport]:
        """As ``topology_loss``."""
        return topology_loss(student, teacher, rows, self.settings, self.log_scale)


def topology_loss(
    student: Tensor,
    teacher: Tensor,
    rows: Sequence[Tensor],
    settings: TopologySettings | None = None,
    log_scale: Tensor | None = None,
) -> tuple[Tensor, TopologyReport]:
    """Distance of the diagrams of student [n, C_S] and teacher [n, C_T], and what it saw.

    rows: per scan int64 [m], of both (``sampling.sample_rows``). log_scale [], of scale "learned".
    Computed on the CPU in float64, returned as the student's device and, at least, float32. Without
    a scan to compare the result is 0 and still part of the graph, of finite gradient.

    >>> student = torch.randn(300, 16, requires_grad=True)
    >>> loss, report = topology_loss(student, torch.randn(300, 32), [torch.arange(0, 300, 2)])
    >>> loss.backward()
    >>> report.scans, bool(loss > 0), bool(student.grad.norm() > 0)
    (1, True, True)
    """
    settings = settings or TopologySettings()
    small = skipped = 0
    pairs = []
    for r in rows:
        if len(r) < FEWEST:
            small += 1
            continue
        ours = _shape(student[r.to(student.device)], settings)
        with torch.no_grad():
            theirs = None if ours is None else _shape(teacher[r.to(teacher.device)], settings)
        if ours is None or theirs is None:
            skipped += 1
        else:
            pairs.append((ours, theirs))
    factor = torch.ones((), dtype=torch.float64)
    if log_scale is not None:
        factor = log_scale.cpu().double().clamp(-_LARGEST_LOG_SCALE, _LARGEST_LOG_SCALE).exp()
    if settings.scale == "batch" and pairs:
        pairs = list(zip(*(_one_scale(side) for side in zip(*pairs, strict=True)), strict=True))

    total = student[:0].cpu().double().sum() + 0 * factor  # finite whatever the features are
    sums = torch.zeros(2, settings.max_dimension + 1, dtype=torch.float64)
    for ours, theirs in pairs:
        found, aims = ours.normalised(), theirs.normalised()
        sums += sums.new_tensor([persistence_sums(found), persistence_sums(aims)])
        for weight, ours_k, theirs_k in zip(settings.weights, found, aims, strict=False):
            if weight > 0:
                total = total + weight * _distance(factor * ours_k, theirs_k, settings)
    scans = max(len(pairs), 1)
    dtype = torch.promote_types(student.dtype, torch.float32)
    student_sums, teacher_sums = (tuple(side) for side in (sums / scans).tolist())
    report = TopologyReport(len(pairs), small, skipped, student_sums, teacher_sums)
    return (total / scans).to(student.device, dtype), report


@dataclass(frozen=True)
class _Shape:
    """The diagrams of one network on one scan."""

    diagrams: tuple[Tensor, ...]
    scale: Tensor

    def normalised(self) -> list[Tensor]:
        """Without a unit. A scale of 0 has no bars to divide."""
        return [d / self.scale for d in self.diagrams]


def _shape(features: Tensor, settings: TopologySettings) -> _Shape | None:
    """None where there are no diagrams, or no scale for those there are."""
    if settings.normalisation == "unit":
        features = nn.functional.normalize(features.double(), dim=1)
    cloud = Filtration(features, settings.max_dimension, settings.quantiles)
    if not cloud.finite:
        return None
    scale = torch.ones((), dtype=torch.float64)
    if settings.normalisation in ("mean", "median"):
        scale = cloud.mean() if settings.normalisation == "mean" else cloud.median()
    if settings.detach_scale:
        scale = scale.detach()
    diagrams = cloud.diagrams()
    if not scale > 0 and any(len(d) for d in diagrams):
        return None
    return _Shape(diagrams, scale)


def _one_scale(shapes: Sequence[_Shape]) -> list[_Shape]:
    scale = torch.stack([shape.scale for shape in shapes]).mean()
    return [_Shape(shape.diagrams, scale) for shape in shapes]


def _distance(ours: Tensor, theirs: Tensor, settings: TopologySettings) -> Tensor:
    if settings.bars is not None:
        ours, theirs = longest(ours, settings.bars), longest(theirs, settings.bars)
    if settings.distance == "chamfer":
        return chamfer(ours, theirs)
    return sliced_wasserstein(ours, theirs, settings.directions)
