# SPDX-License-Identifier: Apache-2.0
"""Gradient guidance: the student attends where the teacher does, by the task's own gradients.

For scan b with features F [n, C] of a network at a shared stage and its task loss L_task:

    w_k = mean_i |∂L_task / ∂F_ik| / Σ_k mean_i |∂L_task / ∂F_ik|        (constant)
    M_i = Σ_k w_k F_ik, standardised over the scan
    L   = mean over scans of  mean_i smoothL1(M^S_i − M^T_i), β = 1

after gradient-guided distillation (Lan and Tian, WACV 2024; for point clouds arXiv 2505.08101). A
map has one number per voxel, so the networks may differ in width.

- per scan throughout: no scan changes another's map, and one outlier voxel does not set the scale
  of a batch; ``min-max`` and ``magnitude`` (|M| instead of M) are the published alternatives
- the weights of both networks and the teacher's map are constants
- scans without labels have no task gradient and do not count, nor do those with a number that is
  not finite
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from pointdistill_ros.errors import ConfigError
from training.losses.voxel_weights import at_least_single, weighted_mean

Normalise = Literal["standard", "min-max"]


def channel_weights(gradient: Tensor, offsets: Sequence[int]) -> Tensor:
    """[B, C] mean absolute task gradient per scan and channel, sum 1; 0 without any gradient.

    gradient: float [n, C] at the feature; offsets: [B + 1] first row of each scan, and n.
    """
    size = at_least_single(gradient.detach()).abs()
    sums = torch.stack([size[a:b].sum(0) for a, b in pairwise(offsets)])
    return sums / sums.sum(1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)


def guidance_map(
    feature: Tensor, weights: Tensor, normalise: Normalise = "standard", magnitude: bool = False
) -> Tensor:
    """[n] weighted sum of the channels of one scan's feature [n, C], normalised over the scan.

    ``standard``: mean 0, variance 1; ``min-max``: 0 to 1; ``magnitude``: of the absolute sum.
    """
    m = feature @ weights
    if magnitude:
        m = m.abs()
    if normalise == "standard":
        return F.layer_norm(m, m.shape, eps=1e-6)
    low, high = m.aminmax()
    return (m - low) / (high - low).clamp(min=1e-6)


def gradient_guidance_loss(
    student: Tensor,
    teacher: Tensor,
    student_gradient: Tensor,
    teacher_gradient: Tensor,
    offsets: Sequence[int],
    labelled: Tensor | None = None,
    normalise: Normalise = "standard",
    magnitude: bool = False,
) -> Tensor:
    """Difference of the two networks' maps at a shared stage, mean over the scans that count.

    student, student_gradient: float [n, C_S] feature and its task gradient (a constant: reuse what
    was computed for ``weighting``); teacher, teacher_gradient: float [n, C_T] of the same rows.
    offsets: [B + 1] first row of each scan, and n; labelled: bool [B] from
    ``voxel_weights.labelled_scans``. Without it scans whose gradient is 0 are left out; but in
    training, batch norms give a scan without labels a gradient through its batch mates.
    Where no scan counts the loss is 0 and still part of the student's graph. Raises ConfigError for
    rows that do not match.

    >>> _ = torch.manual_seed(0)
    >>> teacher, gradient = torch.randn(50, 8), torch.randn(50, 8)
    >>> student = teacher.clone().requires_grad_()
    >>> gradient_guidance_loss(student, teacher, gradient, gradient, (0, 50)).item()
    0.0
    >>> gradient_guidance_loss(-student, teacher, gradient, gradient, (0, 50)).item() > 0.5
    True
    """
    if not len(student) == len(teacher) == offsets[-1]:
        raise ConfigError(
            f"features of {len(student)} (student) and {len(teacher)} (teacher) rows for "
            f"{offsets[-1]} voxels; gradient guidance compares row by row"
        )
    student, teacher = at_least_single(student), at_least_single(teacher.detach())
    weights_s = channel_weights(student_gradient, offsets).to(student.dtype)
    weights_t = channel_weights(teacher_gradient, offsets).to(teacher.dtype)
    losses, counts = [], []
    for b, (start, end) in enumerate(pairwise(offsets)):
        if start == end:
            continue
        x, y = student[start:end], teacher[start:end]
        w_s, w_t = weights_s[b], weights_t[b]
        finite = (x.detach().sum() + y.sum() + w_s.sum() + w_t.sum()).isfinite()
        known = finite & (w_s.sum() > 0) & (w_t.sum() > 0)
        if labelled is not None:
            known = known & labelled[b]
        x, y, w_s, w_t = (t.where(known, 0) for t in (x, y, w_s, w_t))
        map_s = guidance_map(x, w_s, normalise, magnitude)
        map_t = guidance_map(y, w_t, normalise, magnitude)
        losses.append(F.smooth_l1_loss(map_s, map_t, beta=1.0))
        counts.append(known)
    if not losses:
        return 0.0 * student.sum()
    counted = torch.stack(counts).to(student.dtype)
    return weighted_mean(torch.stack(losses), counted)
