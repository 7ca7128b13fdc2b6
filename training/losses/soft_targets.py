# SPDX-License-Identifier: Apache-2.0
"""Soft targets: the student learns the teacher's class probabilities, softened by a temperature T.

    L = T² · Σ_v w_v KL(softmax(t_v / T) ‖ softmax(s_v / T)) / Σ_v w_v

over the voxels v that count, with logits t of the teacher and s of the student (Hinton, Vinyals and
Dean, arXiv 1503.02531). T > 1 shows which wrong classes the teacher finds likely; gradients shrink
by 1/T² then, and the factor T² makes up for that.

- computed in float32 (float64 for such logits); the teacher gets no gradient
- voxels that are not valid, weigh nothing or have a number that is not finite do not count
- each voxel weighs the same in whichever scan it lies, as in the task loss
Which voxels are valid: ``voxel_weights.valid_voxels``; weights: ``hard_points``.
"""

from __future__ import annotations

from torch import Tensor

from pointdistill_ros.errors import ConfigError
from training.losses.voxel_weights import at_least_single, finite_rows, weighted_mean


def soft_target_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float = 2.0,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
) -> Tensor:
    """Divergence of the student's softened probabilities from the teacher's, a scalar ≥ 0.

    student, teacher: float [N, C] logits of the same voxels; valid: bool [N], None = all;
    weights: float [N] ≥ 0, None = equal. Where nothing counts the loss is 0 and still part of the
    student's graph. Raises ConfigError for a temperature ≤ 0 and for logits that do not match.

    >>> import torch
    >>> teacher, student = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    >>> round(soft_target_loss(student, teacher, temperature=1.0).item(), 4)  # 2 tanh 1
    1.5232
    >>> soft_target_loss(teacher, teacher).item()
    0.0
    """
    if not temperature > 0:
        raise ConfigError(f"the temperature of soft targets must be above 0, got {temperature}")
    if student.shape != teacher.shape:
        raise ConfigError(
            f"logits of the student {list(student.shape)} and of the teacher {list(teacher.shape)} "
            "differ in shape; soft targets need the same voxels and the same classes"
        )
    counts = finite_rows(student, teacher)
    if valid is not None:
        counts = counts & valid
    keep = counts[:, None]
    log_q = (at_least_single(student).where(keep, 0) / temperature).log_softmax(1)
    log_p = (at_least_single(teacher.detach()).where(keep, 0) / temperature).log_softmax(1)
    divergence = (log_p.exp() * (log_p - log_q)).sum(1)  # [N]
    weight = counts.to(divergence.dtype)
    if weights is not None:
        weight = weight * weights
    return temperature**2 * weighted_mean(divergence, weight)
