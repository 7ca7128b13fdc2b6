# SPDX-License-Identifier: Apache-2.0
"""Cross-modal distillation: voxels that an image shows learn from a 2D network; others do not.

    L = λ_s T² · Σ_p w_p KL(softmax(c_p / T) ‖ softmax(s_p / T)) / Σ_p w_p
      + λ_f · Σ_p w_p d(norm(A f_p + a), norm(g_p)) / Σ_p w_p

over the pairs p of a voxel and an image cell: class scores s and feature f of the student at the
voxel, c and g of the 2D teacher at the cell, w in 0..1 the agreement of their depths. The first
term follows xMUDA (Jaritz et al., CVPR 2020, arXiv 1911.12676), in which 2D and 3D learn from each
other by KL divergence, with Hinton's temperature; the second 2DPASS (Yan et al., ECCV 2022, arXiv
2207.04397), in which image features are distilled into a lidar network that runs without a camera,
with the linear map and the norms of feature.py in place of its fusion.

- the λ, other than 0, are applied where all terms meet (weighting.py)
- the teacher's side is constant; a voxel without a pair gets no gradient from here
- cells where the 2D teacher is less sure than ``min_confidence`` count for nothing
- in the deployed network nothing of this is left: A belongs to training alone
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from training.camera.atlas import CameraAtlas
from training.camera.pairing import CameraPairs
from training.losses.feature import Distance, feature_loss
from training.losses.soft_targets import soft_target_loss


@dataclass(frozen=True)
class CrossModalConfig:
    """Settings of cross-modal distillation."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    scores: float = 1.0
    """λ_s, of the class scores."""
    features: float = 1.0
    """λ_f, of the features."""
    temperature: float = 2.0
    """T; above 1 the 2D teacher's second thoughts count more."""
    min_confidence: float = 0.0
    """Largest probability that a cell must have to count at all."""
    distance: Distance = "smooth-l1"
    """Of the normalised features."""

    def __post_init__(self) -> None:
        if not (0 <= self.scores < float("inf") and 0 <= self.features < float("inf")):
            raise ConfigError("cross-modal: weights must be ≥ 0")
        if not self.scores + self.features > 0:
            raise ConfigError("cross-modal: scores or features must weigh more than 0")
        if not 0 <= self.min_confidence < 1:
            raise ConfigError(
                f"cross-modal: min_confidence must lie in 0 .. 1, got {self.min_confidence}"
            )


class CrossModalDistillation(nn.Module):
    """The loss with its projection.

    >>> import torch
    >>> _ = torch.manual_seed(0)
    >>> from training.camera.atlas import CellIndex
    >>> index = CellIndex({("00", 0): (1, 2, 3)}, stride=4)
    >>> atlas = CameraAtlas(torch.randn(7, 16), torch.randn(7, 5), index)
    >>> pairs = CameraPairs(torch.tensor([2, 9]), torch.tensor([4, 6]), torch.tensor([1.0, 0.5]))
    >>> loss = CrossModalDistillation(CrossModalConfig(), student_channels=8, image_channels=16)
    >>> features, logits = torch.randn(10, 8, requires_grad=True), torch.randn(10, 5)
    >>> parts = loss(features, logits.requires_grad_(), pairs, atlas)
    >>> sum(parts.values()).backward()
    >>> features.grad.any(1).nonzero().flatten().tolist()
    [2, 9]
    """

    def __init__(
        self, config: CrossModalConfig, student_channels: int, image_channels: int
    ) -> None:
        """Widths of the student's finest decoder feature and of the 2D teacher's features."""
        super().__init__()
        self.config = config
        self.projection = nn.Linear(student_channels, image_channels) if config.features else None

    def forward(
        self, features: Tensor, logits: Tensor, pairs: CameraPairs, atlas: CameraAtlas
    ) -> dict[str, Tensor]:
        """Terms ``camera_scores`` and ``camera_features``, scalars without their weights.

        features: float [N, C] and logits: float [N, classes] of the student's finest voxels. A term
        is there where it weighs something. Without a pair it is 0 and still part of the graph.
        Raises ConfigError where the 2D teacher has other classes or widths.
        """
        config = self.config
        answer = atlas.at(pairs.cells)
        weights = pairs.weights
        if config.min_confidence:
            sure = answer.logits.softmax(1).amax(1) >= config.min_confidence
            weights = weights * sure
        terms = {}
        if config.scores:
            seen = logits.index_select(0, pairs.voxels)
            terms["camera_scores"] = soft_target_loss(
                seen, answer.logits, config.temperature, weights=weights
            )
        if self.projection is not None:
            if self.projection.out_features != answer.features.shape[1]:
                raise ConfigError(
                    f"cross-modal: built for {self.projection.out_features} image features, the "
                    f"camera teacher gives {answer.features.shape[1]}"
                )
            terms["camera_features"] = feature_loss(
                features.index_select(0, pairs.voxels),
                answer.features,
                self.projection,
                weights,
                config.distance,
            )
        return terms
