# SPDX-License-Identifier: Apache-2.0
"""CameraNet: a small fully convolutional network for street images, trained from nothing.

    image ─► ½ ─► ¼ ─► ⅛ ─► 1/16       residual blocks (He et al., CVPR 2016)
                  │     │     │
                  ▼     ▼     ▼         1×1, then sums from coarse to fine (feature pyramid
                  ¼ ◄── ⅛ ◄── 1/16       networks, Lin et al., CVPR 2017)
             features ─► 1×1 ─► class scores

- a fourth input channel holds the row: what lies low in a street image is ground
- group normalisation: batches are small, and one image is answered like many
- kernels of 4 halve the size, so that the centre of a cell is the centre of its 4×4 pixels
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from pointdistill_ros.errors import ConfigError
from training.camera.teacher import ImageAnswer

_COARSEST = 16


@dataclass(frozen=True)
class CameraNetConfig:
    """Shape of a CameraNet; the defaults have 0.36 million parameters."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    num_classes: int = 19
    """Classes of the label set."""
    widths: tuple[int, int, int, int] = (16, 32, 48, 64)
    """Channels at 1/2, 1/4, 1/8 and 1/16."""
    blocks: tuple[int, int, int] = (1, 2, 2)
    """Residual blocks at 1/4, 1/8 and 1/16."""
    feature_channels: int = 48
    """Of the features at 1/4."""

    def __post_init__(self) -> None:
        if any(w < 8 or w % 8 for w in (*self.widths, self.feature_channels)):
            raise ConfigError("camera network: widths must be multiples of 8")
        if self.num_classes < 2 or any(b < 0 for b in self.blocks):
            raise ConfigError("camera network: at least 2 classes and no negative blocks expected")

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a file's header."""
        return asdict(self)


class CameraNet(nn.Module):
    """Images → features and class scores at a quarter of their size (an ``ImageTeacher``).

    >>> answer = CameraNet(CameraNetConfig(num_classes=5))(torch.zeros(1, 3, 37, 61))
    >>> answer.logits.shape
    torch.Size([1, 5, 10, 16])
    """

    stride = 4

    def __init__(self, config: CameraNetConfig) -> None:
        super().__init__()
        self.config = config
        w, f = config.widths, config.feature_channels
        self.stem = nn.Sequential(_Halve(4, w[0]), _Halve(w[0], w[1]))
        self.quarter = _blocks(w[1], config.blocks[0])
        self.eighth = nn.Sequential(_Halve(w[1], w[2]), _blocks(w[2], config.blocks[1]))
        self.sixteenth = nn.Sequential(_Halve(w[2], w[3]), _blocks(w[3], config.blocks[2], 2))
        self.lateral = nn.ModuleList(nn.Conv2d(c, f, 1) for c in w[1:])
        self.smooth = nn.Sequential(nn.Conv2d(f, f, 3, padding=1, bias=False), _norm(f), nn.ReLU())
        self.classifier = nn.Conv2d(f, config.num_classes, 1)

    @property
    def feature_channels(self) -> int:
        """Width of the features."""
        return self.config.feature_channels

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.config.num_classes

    def forward(self, images: Tensor) -> ImageAnswer:
        """images: float32 [B, 3, H, W] in 0..1, any size."""
        height, width = images.shape[2:]
        row = torch.linspace(-1, 1, height, device=images.device, dtype=images.dtype)
        row = row[:, None].expand(len(images), 1, height, width)
        x = torch.cat([4 * (images - 0.4), row], 1)
        x = F.pad(x, (0, -width % _COARSEST, 0, -height % _COARSEST), mode="replicate")
        fine = self.quarter(self.stem(x))
        middle = self.eighth(fine)
        coarse = self.sixteenth(middle)
        total = self.lateral[2](coarse)
        for lateral, feature in ((self.lateral[1], middle), (self.lateral[0], fine)):
            total = F.interpolate(total, scale_factor=2.0, mode="bilinear", align_corners=False)
            total = total + lateral(feature)
        features = self.smooth(total)[..., : -(-height // 4), : -(-width // 4)]
        return ImageAnswer(features, self.classifier(features))


class _Halve(nn.Sequential):
    def __init__(self, before: int, after: int) -> None:
        halving = nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False)
        super().__init__(halving, _norm(after), nn.ReLU())


class _Residual(nn.Module):
    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()

        def convolution() -> nn.Conv2d:
            return nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation, bias=False)

        self.body = nn.Sequential(
            convolution(), _norm(width), nn.ReLU(), convolution(), _norm(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.body(x))


def _blocks(width: int, count: int, dilation: int = 1) -> nn.Sequential:
    return nn.Sequential(*(_Residual(width, dilation) for _ in range(count)))


def _norm(width: int) -> nn.GroupNorm:
    return nn.GroupNorm(width // 8, width)
