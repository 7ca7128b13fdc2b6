# SPDX-License-Identifier: Apache-2.0
"""Feature distillation: a learned linear map turns the student's features into the teacher's.

    L = mean over stages of  Σ_i w_i d(norm(A_s F^S_i + a_s), norm(F^T_i)) / Σ_i w_i

after FitNets (Romero et al., arXiv 1412.6550), with a linear regressor and both sides normalised
per voxel: a residual stream has channels that are a hundred times larger than the others, and a
voxel's length says little.

- ``smooth-l1``: norm = mean 0 and variance 1 over the channels, d = mean over channels of smooth L1
- ``cosine``: norm = length 1, d = 1 − cosine
- the map belongs to training alone: optimise it with the student, save it to resume, throw it away
  afterwards. Only the student's side has one; a map on the teacher's side could make both 0
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pointdistill_ros.errors import ConfigError
from training.losses.voxel_weights import at_least_single, finite_rows, weighted_mean

Distance = Literal["smooth-l1", "cosine"]


class FeatureDistillation(nn.Module):
    """Feature distillation at some stages.

    >>> _ = torch.manual_seed(0)
    >>> loss = FeatureDistillation([16, 32], [32, 64], stages=[1])
    >>> student = [torch.randn(90, 16), torch.randn(30, 32, requires_grad=True)]
    >>> teacher = [torch.randn(90, 32), torch.randn(30, 64)]
    >>> loss(student, teacher).backward()
    >>> student[1].grad.shape
    torch.Size([30, 32])
    """

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        stages: Sequence[int] = (4,),
        distance: Distance = "smooth-l1",
    ) -> None:
        """Widths of both networks at every stage, and the stages to compare.

        Raises ConfigError for a stage that a network does not have.
        """
        super().__init__()
        known = min(len(student_channels), len(teacher_channels))
        if wrong := [s for s in stages if not 0 <= s < known]:
            raise ConfigError(
                f"feature distillation: no stage {wrong[0]}; there are 0 .. {known - 1}"
            )
        if not stages or len(set(stages)) < len(stages):
            raise ConfigError("feature distillation: stages must name at least one, each once")
        if distance not in ("smooth-l1", "cosine"):
            raise ConfigError(f"feature distillation: distance {distance!r}; smooth-l1 or cosine")
        self.distance: Distance = distance
        self.projections = nn.ModuleDict(
            {str(s): nn.Linear(student_channels[s], teacher_channels[s]) for s in stages}
        )

    @property
    def stages(self) -> tuple[int, ...]:
        """The stages that are compared."""
        return tuple(int(s) for s in self.projections)

    def forward(
        self,
        student: Sequence[Tensor],
        teacher: Sequence[Tensor],
        weights: Mapping[int, Tensor] | None = None,
    ) -> Tensor:
        """Mean distance over the stages, a scalar.

        student, teacher: feature of every stage, float [n_s, C_s], same rows in both (what
        ``PTv3.encode`` returns); weights: per stage float [n_s] ≥ 0 (``voxel_weights.at_stage``),
        without = equal. Where nothing counts the loss is 0 and still part of the graph.
        """
        losses = [
            feature_loss(
                student[s],
                teacher[s],
                self.projections[str(s)],
                None if weights is None else weights.get(s),
                self.distance,
            )
            for s in self.stages
        ]
        return torch.stack(losses).mean()


def feature_loss(
    student: Tensor,
    teacher: Tensor,
    projection: nn.Module,
    weights: Tensor | None = None,
    distance: Distance = "smooth-l1",
) -> Tensor:
    """Weighted mean over rows of the distance of projection(student [n, C_S]) to teacher [n, C_T].

    Rows that weigh nothing (weights: float [n] ≥ 0, None = equal) or have a number that is not
    finite do not count.
    """
    if len(student) != len(teacher):
        raise ConfigError(
            f"features of {len(student)} (student) and {len(teacher)} (teacher) rows; "
            "feature distillation compares row by row"
        )
    counts = finite_rows(student, teacher)
    keep = counts[:, None]
    x = projection(at_least_single(student).where(keep, 0))
    y = at_least_single(teacher.detach()).where(keep, 0)
    if distance == "cosine":
        difference = 1 - F.cosine_similarity(x, y, dim=1, eps=1e-3)
    else:
        width = y.shape[1:]
        x, y = F.layer_norm(x, width), F.layer_norm(y, width)
        difference = F.smooth_l1_loss(x, y, reduction="none", beta=1.0).mean(1)
    weight = counts.to(difference.dtype)
    if weights is not None:
        weight = weight * weights
    return weighted_mean(difference, weight)
