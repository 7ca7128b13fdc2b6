# SPDX-License-Identifier: Apache-2.0
"""CameraAtlas: the answers of a frozen 2D teacher to many images, as one table of cells.

Images are not augmented, so each is answered once, before training; a step then costs a gather.
Row 0 of the table is nobody's cell. A half-size KITTI image takes 155 × 47 rows: with 19 classes
and 48 features, in float16, 0.98 MB.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pointdistill_ros.datasets.camera_images import CameraImage, FrameKey
from pointdistill_ros.errors import ConfigError
from training.camera.teacher import ImageAnswer, ImageTeacher, checked_answer


@dataclass(frozen=True)
class CellIndex:
    """Which row of an atlas is which cell; small, for the processes that prepare batches."""

    places: Mapping[FrameKey, tuple[int, int, int]]
    """First row, cells down and cells across of every image."""
    stride: int
    """Pixels along the edge of a cell."""

    def rows(
        self, key: FrameKey, row: NDArray[np.int64], column: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """int64 [V] row of the cell that shows each pixel of an image. Raises ConfigError."""
        first, down, across = self.places[key]
        i, j = row // self.stride, column // self.stride
        if len(i) and (i.max() >= down or j.max() >= across or min(i.min(), j.min()) < 0):
            raise ConfigError(f"{key}: a pixel lies outside the image that the atlas was made of")
        found: NDArray[np.int64] = first + i * across + j
        return found


class CameraAtlas:
    """Features and class scores of cells, by row."""

    def __init__(self, features: Tensor, logits: Tensor, index: CellIndex) -> None:
        """features: [1 + R, C]; logits: [1 + R, classes]; row 0 is no cell."""
        self.features, self.logits, self.index = features, logits, index

    @classmethod
    def build(
        cls,
        teacher: ImageTeacher,
        images: Iterable[tuple[FrameKey, CameraImage]],
        device: torch.device | str = "cpu",
    ) -> CameraAtlas:
        """Ask a teacher about images, one at a time, in evaluation mode; kept in float16.

        The table lies on ``device``, where the teacher must be, too. Raises ConfigError where
        there are no images or the teacher's answers have other shapes than it promised.
        """
        if isinstance(teacher, nn.Module):
            teacher.eval()
        features, logits = [], []
        places: dict[FrameKey, tuple[int, int, int]] = {}
        first = 1
        for key, image in images:
            answer = checked_answer(teacher, as_batch(image.pixels).to(device))
            down, across = answer.logits.shape[2:]
            places[key] = (first, down, across)
            first += down * across
            features.append(_cells(answer.features))
            logits.append(_cells(answer.logits))
        if not places:
            raise ConfigError("a camera atlas needs at least one image")
        nobody = torch.zeros_like(features[0][:1]), torch.zeros_like(logits[0][:1])
        return cls(
            torch.cat([nobody[0], *features]),
            torch.cat([nobody[1], *logits]),
            CellIndex(places, teacher.stride),
        )

    def __len__(self) -> int:
        return len(self.logits)

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.logits.shape[1]

    @property
    def feature_channels(self) -> int:
        """Width of the features."""
        return self.features.shape[1]

    def at(self, cells: Tensor) -> ImageAnswer:
        """Features float32 [P, C] and logits float32 [P, classes] of cells int64 [P]."""
        features, logits = (
            table.index_select(0, cells.to(table.device)).to(cells.device).float()
            for table in (self.features, self.logits)
        )
        return ImageAnswer(features, logits)

    def to(self, device: torch.device | str) -> CameraAtlas:
        """The same table on another device."""
        return CameraAtlas(self.features.to(device), self.logits.to(device), self.index)


def as_batch(pixels: NDArray[np.uint8]) -> Tensor:
    """Float32 [1, 3, H, W] in 0..1 of an image [H, W, 3]."""
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    return torch.from_numpy(planes).float()[None] / 255


def _cells(maps: Any) -> Tensor:
    """[1, C, h, w] → float16 [h · w, C]."""
    table: Tensor = maps[0].flatten(1).T.half()
    return table.contiguous()
