# SPDX-License-Identifier: Apache-2.0
"""The task loss: cross entropy over all labelled voxels plus Lovász-softmax over the exact ones.

- a target that allows several classes costs −log of the probability of all of them together: the
  likelihood of what the annotation says, and nothing about what it leaves open
- the Lovász extension (Berman et al., CVPR 2018) is a differentiable stand-in for 1 − mIoU over the
  classes present in the labels; cross entropy alone would leave rare classes to chance. A Jaccard
  index needs to know of every voxel whether it belongs to the class. Of a union's members that is
  unknown, so unions stay out of it, of all classes alike: each is measured over the same voxels.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.targets import TargetSets

IGNORE = 255


def lovasz_softmax(logits: Tensor, labels: Tensor, ignore: int = IGNORE) -> Tensor:
    """Lovász-softmax of logits [N, C] and labels int64 [N], mean over classes present.

    Computed in float32. Without a labelled voxel the result is 0 and still part of the graph. On a
    GPU all classes are sorted and nothing is asked of the host, which would wait for the answer; on
    a CPU only those present.
    """
    probability = logits.float().softmax(1)
    known = labels != ignore
    if logits.is_cuda:
        return _lovasz_of_all(probability, labels, known)
    if not bool(known.any()):
        return 0.0 * probability.sum()
    present, index = labels[known].unique(return_inverse=True)  # [P], [M]
    truth = F.one_hot(index, len(present)).T.float()  # [P, M]
    return _lovasz(probability[known][:, present].T, truth).mean()


def _lovasz_of_all(probability: Tensor, labels: Tensor, known: Tensor) -> Tensor:
    """The same mean with shapes that depend on no value: what is unlabelled gets error 0."""
    classes = probability.shape[1]
    each = torch.arange(classes, device=labels.device)[:, None]
    truth = (labels == each) & known  # [C, N]
    loss = _lovasz(probability.T * known, truth.float())
    present = truth.sum(1) > 0
    return (loss * present).sum() / present.sum().clamp(min=1)


def _lovasz(probability: Tensor, truth: Tensor) -> Tensor:
    """Per class the extension of 1 − IoU at probability [P, M], truth 0 or 1 [P, M]."""
    errors, order = (truth - probability).abs().sort(dim=1, descending=True)
    hits = truth.gather(1, order)  # labels in the order of falling errors
    total = hits.sum(1, keepdim=True)
    missed = total - hits.cumsum(1)
    union = (total + (1 - hits).cumsum(1)).clamp(min=1)
    jaccard = 1 - missed / union
    weights = torch.cat([jaccard[:, :1], jaccard.diff(dim=1)], dim=1)
    return (errors * weights).sum(1)  # the gradient goes through the errors only


def union_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    members: Tensor,
    weights: Tensor | None = None,
    ignore: int = IGNORE,
) -> Tensor:
    """Weighted mean of −log Σ p over the classes that a target allows.

    logits float32 [N, C]; targets int64 [N], rows of members bool [T, C] or ``ignore``; weights
    float [T] of the targets, None = equal. With exact targets it is torch's cross entropy. Without
    a labelled voxel the result is 0 and still part of the graph.
    """
    known = targets != ignore
    row = targets.where(known, 0)
    allowed = logits.log_softmax(1).masked_fill(~members[row], -torch.inf)
    weight = known.float()
    if weights is not None:
        weight = weight * weights.float()[row]
    cost = -allowed.logsumexp(1)
    total = weight.sum()
    return (cost * weight).sum() / total.where(total > 0, 1)


def segmentation_loss(
    logits: Tensor,
    targets: Tensor,
    sets: TargetSets | None = None,
    weights: Tensor | None = None,
    lovasz_weight: float = 1.0,
    ignore: int = IGNORE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss and its parts, detached.

    logits [N, C], targets int64 [N] ids of ``sets`` (None: the classes themselves), weights float
    [T] of these. Without a labelled voxel the loss is 0 and still part of the graph.
    """
    logits = logits.float()
    classes = logits.shape[1]
    members = torch.eye(classes, dtype=torch.bool) if sets is None else sets.members
    members = members.to(logits.device, non_blocking=True)
    entropy = union_cross_entropy(logits, targets, members, weights, ignore)
    lovasz = lovasz_softmax(logits, targets.where(targets < classes, ignore), ignore)
    parts = {"cross_entropy": entropy.detach(), "lovasz": lovasz.detach()}
    return entropy + lovasz_weight * lovasz, parts
