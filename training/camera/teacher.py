# SPDX-License-Identifier: Apache-2.0
"""ImageTeacher: what any network must offer to teach a lidar network what a camera sees.

One call gives features and class scores of every cell of ``stride`` × ``stride`` pixels. Our own
small network (network.py) is one; ``Assembled`` makes one of the two parts that torchvision's
segmentation networks, and most others, consist of:

    net = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(num_classes=19)
    teacher = Assembled(
        net.backbone, net.classifier, stride=16, feature_channels=960, num_classes=19
    )
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError


class ImageAnswer(NamedTuple):
    """What a network says about images; cell (i, j) shows pixels i·stride.. and j·stride.."""

    features: Tensor
    """[B, C, ⌈H / stride⌉, ⌈W / stride⌉]."""
    logits: Tensor
    """[B, classes, ⌈H / stride⌉, ⌈W / stride⌉]."""


class ImageTeacher(Protocol):
    """A network for images."""

    @property
    def stride(self) -> int:
        """Pixels along the edge of a cell."""

    @property
    def feature_channels(self) -> int:
        """Width of the features."""

    @property
    def num_classes(self) -> int:
        """Number of classes, those of the lidar network's label set in its order."""

    def __call__(self, images: Tensor) -> ImageAnswer:
        """images: float32 [B, 3, H, W], red green blue in 0..1."""


class Assembled(nn.Module):
    """A teacher of a backbone and a classifier, as torchvision's segmentation networks are made."""

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        backbone: nn.Module,
        classifier: nn.Module,
        *,
        stride: int,
        feature_channels: int,
        num_classes: int,
        mean: tuple[float, float, float] = (0.485, 0.456, 0.406),
        deviation: tuple[float, float, float] = (0.229, 0.224, 0.225),
    ) -> None:
        """A trained network in two parts.

        ``backbone``: images → feature map at ``stride``, or a mapping that has it as ``out``;
        ``classifier``: that map → logits of the same size. Images are normalised by ``mean`` and
        ``deviation`` first (default: ImageNet's, which torchvision's weights expect).
        """
        super().__init__()
        self.backbone, self.classifier = backbone, classifier
        self.stride, self.feature_channels = stride, feature_channels
        self.num_classes = num_classes
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("deviation", torch.tensor(deviation)[:, None, None])

    def forward(self, images: Tensor) -> ImageAnswer:
        """images: float32 [B, 3, H, W] in 0..1."""
        found = self.backbone((images - self.mean) / self.deviation)
        features = found["out"] if isinstance(found, Mapping) else found
        return ImageAnswer(features, self.classifier(features))


def checked_answer(teacher: ImageTeacher, images: Tensor) -> ImageAnswer:
    """What a teacher says, float32, without gradients. Raises ConfigError where shapes are wrong.

    images: float32 [B, 3, H, W] in 0..1.
    """
    with torch.no_grad():
        features, logits = teacher(images)
    s = teacher.stride
    cells = (-(-images.shape[2] // s), -(-images.shape[3] // s))
    for name, found, channels in (
        ("features", features, teacher.feature_channels),
        ("logits", logits, teacher.num_classes),
    ):
        expected = (len(images), channels, *cells)
        if tuple(found.shape) != expected:
            raise ConfigError(
                f"camera teacher: {name} {list(found.shape)}, expected {list(expected)} for images "
                f"of {images.shape[3]}×{images.shape[2]} pixels at stride {s}"
            )
    return ImageAnswer(features.float(), logits.float())
