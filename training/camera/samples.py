# SPDX-License-Identifier: Apache-2.0
"""What a camera teacher is trained on: images whose pixels have a class, some or all of them.

- ProjectedSamples: real images; the pixels that show a labelled point have its class
- RenderedSamples: simulated streets; every pixel but the sky has one, exactly
- ``crop``: what augmentation does to both; image and classes stay in register
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

import pointdistill_ros.simulation.camera
from pointdistill_ros.datasets.camera_images import CameraImage, FrameKey, frame_of
from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.simulated import _fingerprint as simulator_fingerprint
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.simulation.camera import FilmedDrive, kitti_camera


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


class RenderedSamples:
    """Pictures of the simulated streets of some seeds, rendered once and kept in ``cache``."""

    label_set = LabelSet.named("semantic-kitti")

    def __init__(
        self,
        cache: Path,
        seeds: Sequence[int],
        frames: int = 3,
        stride: int = 25,
        camera: Camera | None = None,
    ) -> None:
        """Every street gives ``frames`` pictures, ``stride`` turns apart; a seed is a street."""
        self.seeds, self.frames, self.stride = tuple(seeds), frames, stride
        self.camera = kitti_camera() if camera is None else camera
        self.folder = cache / _fingerprint(self.camera, self._turns)
        self._last: tuple[int, FilmedDrive] | None = None

    def __len__(self) -> int:
        return len(self.seeds) * self.frames

    def __getitem__(self, i: int) -> CameraSample:
        """Picture i and its classes. Raises InputError where a kept file is damaged."""
        if not 0 <= i < len(self):
            raise IndexError(f"picture {i} of {len(self)}")
        seed, turn = self.seeds[i // self.frames], i % self.frames * self.stride
        path = self.folder / f"{seed:06d}_{turn:04d}.npz"
        if not path.is_file():
            picture = self._drive(seed).picture(turn, self.camera)
            with atomic_path(path) as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, pixels=picture.pixels, labels=picture.labels)
            return CameraSample(picture.pixels, picture.labels)
        try:
            with np.load(path) as data:
                return CameraSample(data["pixels"], data["labels"])
        except Exception as error:  # numpy and zipfile each raise their own kinds
            raise InputError(f"{path}: not a rendered picture ({error}); delete it") from error

    def _drive(self, seed: int) -> FilmedDrive:
        if self._last is None or self._last[0] != seed:
            self._last = seed, FilmedDrive(seed, self._turns)
        return self._last[1]

    @property
    def _turns(self) -> int:
        """Length of a drive; a longer one is another street."""
        return (self.frames - 1) * self.stride + 1

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_last": None}  # a street is large, and quickly built again


def _fingerprint(camera: Camera, turns: int) -> str:
    """Changes with the simulator, the camera and the length of the drives."""
    digest = hashlib.sha256(simulator_fingerprint().encode())
    for path in sorted(Path(pointdistill_ros.simulation.camera.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(camera.matrix.tobytes())
    digest.update(f"{camera.width} {camera.height} {turns}".encode())
    return digest.hexdigest()[:12]


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
