# SPDX-License-Identifier: Apache-2.0
"""Hard-point weights: voxels that are difficult weigh more in a loss over voxels.

    u_v = 1 + b · boundary_v + r · rarity_v + u · uncertainty_v,     w_v = u_v / mean of u

over the voxels that count. Each part lies in 0..1, so no voxel weighs more than 1 + b + r + u times
as much as another:

- boundary: a voxel next to one of another class (3³ neighbourhood)
- rarity: min(1, s / share of its class); classes below the share s count in full
- uncertainty: entropy of the teacher's probabilities, ÷ ln C; a negative u trusts the teacher less
  where it is unsure
Weights are constants with mean 1: the size of a loss stays what it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import Tensor

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.neighbours import NeighbourTable
from training.losses.voxel_weights import IGNORE, at_least_single


@dataclass(frozen=True)
class HardPointConfig:
    """How much more difficult voxels weigh. All 0 = every voxel alike."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    boundary: float = 1.0
    """Added to the weight of voxels next to another class."""
    rarity: float = 1.0
    """Added to the weight of voxels of rare classes."""
    uncertainty: float = 1.0
    """Added to the weight where the teacher knows nothing; −1 = such voxels count for nothing."""
    rare_share: float = 0.01
    """Share of the labelled voxels below which a class is as rare as it gets."""

    def __post_init__(self) -> None:
        for name, least in (("boundary", 0.0), ("rarity", 0.0), ("uncertainty", -1.0)):
            if not least <= getattr(self, name) < float("inf"):
                value = getattr(self, name)
                raise ConfigError(f"hard points: {name} must be at least {least:g}, got {value}")
        if not 0 < self.rare_share <= 1:
            raise ConfigError(f"hard points: rare_share must lie in 0 .. 1, got {self.rare_share}")


def hard_point_weights(
    config: HardPointConfig,
    labels: Tensor,
    neighbours: NeighbourTable,
    teacher: Tensor,
    shares: Tensor | None = None,
    members: Tensor | None = None,
    valid: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """Float32 [N]: weights with mean 1 over the valid voxels, 0 elsewhere.

    labels: int64 [N] classes, or rows of members bool [T, C] (unions of classes), or ``ignore``;
    neighbours: of the stage the labels belong to; teacher: float [N, C] logits; shares: float [C]
    share of each class in the data; valid: bool [N], None = all.
    A voxel without a label is no boundary and not rare; pass the teacher's classes as labels where
    there are none. Raises ConfigError where rare classes are to weigh more without shares.

    >>> table = NeighbourTable(3, torch.tensor([0, 1]), torch.tensor([1, 0]), (1, *[0] * 25, 1))
    >>> config = HardPointConfig(boundary=2.0, rarity=0.0, uncertainty=0.0)
    >>> labels, sure = torch.tensor([0, 1, 1, 1]), 9 * torch.eye(4)[:, :2]
    >>> hard_point_weights(config, labels, table, sure).tolist()
    [1.5, 1.5, 0.5, 0.5]
    """
    weights = torch.ones(len(labels), device=labels.device)
    if config.boundary:
        weights += config.boundary * class_boundaries(labels, neighbours, members, ignore)
    if config.rarity:
        if shares is None:
            raise ConfigError("hard points: rarity needs the classes' shares of the data, or be 0")
        weights += config.rarity * rarity(labels, shares, config.rare_share, members, ignore)
    if config.uncertainty:
        weights += config.uncertainty * uncertainty(teacher)
    counts = torch.ones_like(weights) if valid is None else valid.to(weights.dtype)
    weights *= counts
    return weights * (counts.sum() / weights.sum().clamp(min=torch.finfo(torch.float32).tiny))


def class_boundaries(
    labels: Tensor,
    neighbours: NeighbourTable,
    members: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """bool [N]: voxels with a neighbour whose label excludes theirs; both must have one.

    Unions exclude each other where they have no class in common (members: bool [T, C]).
    """
    known = labels != ignore
    rows, others = neighbours.output_rows, neighbours.input_rows
    label, other = labels.index_select(0, rows), labels.index_select(0, others)
    if members is None:
        differs = label != other
    else:
        table = members.to(labels.device).float()
        disjoint = (table @ table.T == 0).flatten()
        last = len(table) - 1
        differs = disjoint[label.clamp(max=last) * len(table) + other.clamp(max=last)]
    differs = differs & known.index_select(0, rows) & known.index_select(0, others)
    count = torch.zeros(len(labels), device=labels.device)
    return count.index_add_(0, rows, differs.float()) > 0


def rarity(
    labels: Tensor,
    shares: Tensor,
    rare_share: float = 0.01,
    members: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """Float32 [N] in 0..1: min(1, rare_share / share of the voxel's class); 0 without a label.

    shares: [C] ≥ 0; a class that does not occur is rare. A union has the mean of its members.
    """
    shares = shares.to(labels.device, torch.float32)
    rare = (rare_share / shares.clamp(min=rare_share)).clamp(max=1)
    if members is not None:
        table = members.to(labels.device).float()
        rare = (table / table.sum(1, keepdim=True)) @ rare
    known = labels != ignore
    return rare[labels.where(known, 0)] * known


def uncertainty(teacher: Tensor) -> Tensor:
    """Float32 [N] in 0..1: entropy of softmax(logits [N, C]) ÷ ln C; 0 where not finite."""
    log_p = at_least_single(teacher.detach()).log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1) / log(max(teacher.shape[1], 2))
    return entropy.clamp(0, 1).nan_to_num(0).float()
