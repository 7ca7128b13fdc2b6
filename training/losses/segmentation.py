# SPDX-License-Identifier: Apache-2.0
"""The task loss: cross entropy plus Lovász-softmax, both over all labelled voxels of the batch.

The Lovász extension (Berman et al., CVPR 2018) is a differentiable stand-in for 1 − mIoU over the
classes present in the labels; cross entropy alone would leave rare classes to chance.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

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


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    lovasz_weight: float = 1.0,
    ignore: int = IGNORE,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Total loss and its parts, detached. logits [N, C], labels int64 [N], class_weights [C]."""
    logits = logits.float()
    if bool((labels != ignore).any()):
        entropy = F.cross_entropy(logits, labels, class_weights, ignore_index=ignore)
    else:
        entropy = 0.0 * logits.sum()  # the mean over nothing would be NaN
    lovasz = lovasz_softmax(logits, labels, ignore)
    parts = {"cross_entropy": entropy.detach(), "lovasz": lovasz.detach()}
    return entropy + lovasz_weight * lovasz, parts
