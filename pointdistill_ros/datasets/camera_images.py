# SPDX-License-Identifier: Apache-2.0
"""Camera images that belong to the scans of a data set, with their calibration.

- ``PackedCameraImages``: SS_FFFFFF.jpg, often smaller than the camera's, beside SS_calib.txt
- ``KittiCameraImages``: the odometry benchmark's sequences/SS/image_2/FFFFFF.png and calib.txt
- calib.txt: lines ``NAME: 12 numbers``, of which ``P2`` (P3 for image_3) projects and ``Tr`` leads
  from the lidar to the camera
An image is found by sequence and number of its scan (``frame_of``) and read when it is asked for.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.cameras import Array, Camera
from pointdistill_ros.datasets.labelled import LabelledScans, innermost
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import ConfigError, InputError

FrameKey = tuple[str, int]
"""Sequence and number of a scan."""
_PACKED = re.compile(r"(.+)_(\d{6})\.(?:jpg|jpeg|png)")


@dataclass(frozen=True, eq=False)
class CameraImage:
    """An image and the camera that took it."""

    pixels: NDArray[np.uint8]
    """[height, width, 3] red, green, blue."""
    camera: Camera
    """Calibrated to the lidar of the same frame."""


class CameraImages(Mapping[FrameKey, CameraImage]):
    """The images of a folder by the scans they belong to, in the order of sequence and number."""

    def __init__(self, paths: Mapping[FrameKey, Path], name: str, factor: float) -> None:
        """paths: file of each image; name: of the projection; factor: of the images' size."""
        self.paths = dict(sorted(paths.items()))
        self._name, self._factor = name, factor
        self._lines: dict[Path, dict[str, Array]] = {}

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[FrameKey]:
        return iter(self.paths)

    def __contains__(self, key: object) -> bool:
        return key in self.paths  # Mapping's own would read the image

    def __getitem__(self, key: FrameKey) -> CameraImage:
        """Read one. Raises KeyError where there is none, InputError where a file is damaged."""
        pixels = read_image(self.paths[key])
        path = self._calibration(key)
        if path not in self._lines:
            self._lines[path] = read_calibration(path, (self._name, "Tr"))
        lines = self._lines[path]
        transform = np.vstack([lines["Tr"], (0.0, 0.0, 0.0, 1.0)])
        height, width = pixels.shape[:2]
        try:
            camera = Camera(lines[self._name], transform, width, height)
        except ConfigError as error:
            raise InputError(f"{path}: {error}") from error
        if self._factor != 1:
            camera = camera.scaled(self._factor, width, height)
        return CameraImage(pixels, camera)

    @abstractmethod
    def _calibration(self, key: FrameKey) -> Path:
        """The calib.txt of an image."""


class PackedCameraImages(CameraImages):
    """ROOT/SS_FFFFFF.jpg with ROOT/SS_calib.txt; images may be resized."""

    def __init__(
        self, root: str | Path, factor: float = 0.5, sequences: Collection[str] | None = None
    ) -> None:
        """``factor``: size of the images relative to those that were calibrated.

        Raises InputError where there are none.
        """
        self.root = Path(root)
        paths: dict[FrameKey, Path] = {}
        for path in self.root.glob("*.*"):
            match = _PACKED.fullmatch(path.name)
            if match and (sequences is None or match[1] in sequences):
                paths[match[1], int(match[2])] = path
        if not paths:
            raise InputError(f"{self.root}: no camera images; expected 00_000000.jpg, 00_calib.txt")
        super().__init__(paths, "P2", factor)

    def _calibration(self, key: FrameKey) -> Path:
        return self.root / f"{key[0]}_calib.txt"


class KittiCameraImages(CameraImages):
    """ROOT/sequences/SS/image_2/FFFFFF.png with calib.txt, as the odometry benchmark has them."""

    def __init__(
        self,
        root: str | Path,
        folder: Literal["image_2", "image_3"] = "image_2",
        sequences: Collection[str] | None = None,
    ) -> None:
        """``folder``: of the left or the right colour camera. Raises InputError."""
        if folder not in ("image_2", "image_3"):
            raise ConfigError(f"KITTI's colour cameras are image_2 and image_3, not {folder!r}")
        self.root = Path(root)
        paths: dict[FrameKey, Path] = {
            (path.parts[-3], int(path.stem)): path
            for path in (self.root / "sequences").glob(f"*/{folder}/*.png")
            if path.stem.isdigit() and (sequences is None or path.parts[-3] in sequences)
        }
        if not paths:
            raise InputError(
                f"{self.root}: no camera images; KITTI has sequences/00/{folder}/000000.png"
            )
        super().__init__(paths, f"P{folder[-1]}", 1.0)

    def _calibration(self, key: FrameKey) -> Path:
        return self.paths[key].parents[1] / "calib.txt"


def frame_of(scans: LabelledScans, i: int) -> FrameKey | None:
    """By what a camera image of scan i is found; None for data sets whose images are not known."""
    inner = innermost(scans)  # KITTI's convention moves no point
    if isinstance(inner, PackedScans) and inner.convention.dataset == "SemanticKITTI":
        entry = inner.entries[i]
        return str(entry["sequence"]), int(entry["frame"])
    if isinstance(inner, SimulatedStreets):
        return inner.sequences[i], i % inner.frames * inner.stride
    if isinstance(inner, SemanticKitti) and inner.paths[i].stem.isdigit():
        return inner.sequences[i], int(inner.paths[i].stem)
    return None


def read_image(path: Path) -> NDArray[np.uint8]:
    """Red, green, blue uint8 [height, width, 3] of a JPEG or PNG. Raises InputError."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"{path}: not a readable image ({error})") from error


def read_calibration(path: Path, names: Collection[str]) -> dict[str, Array]:
    """Lines of a KITTI calib.txt as [3, 4] matrices. Raises InputError where one is not there."""
    try:
        rows = [line.partition(":") for line in path.read_text().splitlines()]
        texts = {name.strip(): text.split() for name, _, text in rows}
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error
    return {name: _matrix(path, name, texts.get(name, [])) for name in names}


def _matrix(path: Path, name: str, numbers: list[str]) -> Array:
    try:
        return np.array([float(number) for number in numbers]).reshape(3, 4)
    except ValueError as error:
        raise InputError(f"{path}: expected a line '{name}:' with 12 numbers") from error
