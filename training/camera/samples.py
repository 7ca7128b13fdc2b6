# SPDX-License-Identifier: Apache-2.0
"""What a camera teacher is trained on: images whose pixels have a class, some or all of them.

- ProjectedSamples: real images; the pixels that show a labelled point have its class
- simulated streets, in which every pixel but the sky has one: rendered.py
- ``crop``: what augmentation does to both; image and classes stay in register
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pointdistill_ros.datasets.camera_images import CameraImage, FrameKey, frame_of
from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.errors import InputError
from pointdistill_ros.labels import UNLABELLED


@dataclass(frozen=True, eq=False)
class CameraSample:
    """An image with classes."""

    pixels: NDArray[np.uint8]
    """[H, W, 3] red, green, blue."""
    labels: NDArray[np.uint8]
    """[H, W] train ids, 255 = not known."""


class CameraSamples(Protocol):
    """Images of one kind."""

    def __len__(self) -> int:
        """Number of images."""

    def __getitem__(self, i: int) -> CameraSample:
        """Image i. Raises InputError where a file is missing or damaged."""


def projected_labels(
    xyz: NDArray[np.float32], labels: NDArray[np.uint8], camera: Camera, agreement: float = 0.5
) -> NDArray[np.uint8]:
    """uint8 [H, W] class of the nearest point that each pixel shows, 255 without one.

    xyz [N, 3], labels [N]; points less sure than ``agreement`` (``Sight``) are left out.
    """
    sight = camera.see(xyz)
    order = np.argsort(-sight.depth, kind="stable")  # the nearest last
    order = order[sight.agreement[order] >= agreement]
    found = np.full((camera.height, camera.width), UNLABELLED, np.uint8)
    found[sight.row[order], sight.column[order]] = labels[sight.point[order]]
    return found


class ProjectedSamples:
    """The scans of a data set that have an image, with their labels drawn onto it."""

    def __init__(self, scans: LabelledScans, images: Mapping[FrameKey, CameraImage]) -> None:
        """Raises InputError where no scan has an image."""
        self.scans, self.images = scans, images
        keys = [frame_of(scans, i) for i in range(len(scans))]
        self.pairs = [(i, k) for i, k in enumerate(keys) if k is not None and k in images]
        if not self.pairs:
            raise InputError("no scan of the data set has a camera image; names must match")

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> CameraSample:
        """Image i and the classes of its labelled pixels. Raises InputError."""
        index, key = self.pairs[i]
        scan, labels = self.scans[index]
        image = self.images[key]
        return CameraSample(image.pixels, projected_labels(scan.xyz, labels, image.camera))


def crop(sample: CameraSample, width: int, rng: Generator) -> CameraSample:
    """A part of ``width`` columns and all rows, perhaps mirrored, in another light.

    Narrower images are widened by black without class. Rows stay: how low something lies tells
    what it is.
    """
    pixels, labels = sample.pixels, sample.labels
    missing = width - pixels.shape[1]
    if missing > 0:
        pixels = np.pad(pixels, ((0, 0), (0, missing), (0, 0)))
        labels = np.pad(labels, ((0, 0), (0, missing)), constant_values=UNLABELLED)
    start = int(rng.integers(pixels.shape[1] - width + 1))
    pixels, labels = pixels[:, start : start + width], labels[:, start : start + width]
    if rng.random() < 0.5:
        pixels, labels = pixels[:, ::-1], labels[:, ::-1]
    light = rng.uniform(0.7, 1.3) * rng.normal(1, 0.06, 3)
    shown = 255 * (pixels / 255.0) ** rng.uniform(0.75, 1.35) * light
    return CameraSample(shown.clip(0, 255).astype(np.uint8), np.ascontiguousarray(labels))
