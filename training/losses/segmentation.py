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

    Computed in float32. Without a labelled voxel the result is 0 and still part of the graph.
    """
    logits = logits.float()
    known = labels != ignore
    if not bool(known.any()):
        return 0.0 * logits.softmax(1).sum()
    probability = logits[known].softmax(1)  # [M, C]
    present, index = labels[known].unique(return_inverse=True)  # [P], [M]
    truth = F.one_hot(index, len(present)).T.float()  # [P, M]
    errors = (truth - probability[:, present].T).abs()  # [P, M]
    errors, order = errors.sort(dim=1, descending=True)
    hits = truth.gather(1, order)  # labels in the order of falling errors
    total = hits.sum(1, keepdim=True)
    missed = total - hits.cumsum(1)
    jaccard = 1 - missed / (total + (1 - hits).cumsum(1))
    weights = torch.cat([jaccard[:, :1], jaccard.diff(dim=1)], dim=1)
    return (errors * weights).sum(1).mean()  # the gradient goes through the errors only


def union_cross_entropy(
    logits: Tensor, targets: Tensor, members: Tensor, class_weights: Tensor | None = None
) -> Tensor:
    """Weighted mean of −log Σ p over the classes that a target allows.

    logits float32 [N, C]; targets int64 [N ≥ 1], rows of members bool [T, C]. A union weighs the
    mean of its members' class_weights [C]. With exact targets it is torch's cross entropy.
    """
    classes = logits.shape[1]
    log_probability = logits.log_softmax(1)
    exact = targets < classes
    cost = -log_probability.gather(1, targets.clamp(max=classes - 1)[:, None])[:, 0]
    if not bool(exact.all()):
        rows = (~exact).nonzero().flatten()
        outside = ~members[targets[rows]]
        inside = log_probability[rows].masked_fill(outside, -torch.inf)
        cost = cost.index_put((rows,), -inside.logsumexp(1))
    if class_weights is None:
        return cost.mean()
    share = members.float() / members.sum(1, keepdim=True)
    weight = (share @ class_weights.float())[targets]
    return (cost * weight).sum() / weight.sum().clamp(min=torch.finfo(torch.float32).tiny)


def segmentation_loss(
    logits: Tensor,
    targets: Tensor,
    sets: TargetSets | None = None,
    class_weights: Tensor | None = None,
    lovasz_weight: float = 1.0,
    ignore: int = IGNORE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss and its parts, detached.

    logits [N, C], targets int64 [N] ids of ``sets`` (None: the classes themselves), class_weights
    [C]. Without a labelled voxel the loss is 0 and still part of the graph.
    """
    logits = logits.float()
    classes = logits.shape[1]
    known = targets != ignore
    if bool(known.any()):
        members = torch.eye(classes, dtype=torch.bool) if sets is None else sets.members
        members = members.to(logits.device)
        entropy = union_cross_entropy(logits[known], targets[known], members, class_weights)
    else:
        entropy = 0.0 * logits.sum()  # the mean over nothing would be NaN
    lovasz = lovasz_softmax(logits, targets.where(targets < classes, ignore), ignore)
    parts = {"cross_entropy": entropy.detach(), "lovasz": lovasz.detach()}
    return entropy + lovasz_weight * lovasz, parts
