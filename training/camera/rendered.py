# SPDX-License-Identifier: Apache-2.0
"""Pictures of simulated streets: to train a camera teacher on, and beside the streets' scans.

A street is a seed; pictures are rendered when they are asked for and kept. The street of a seed
does not depend on the lidar, so pictures belong to the scans of ``SimulatedStreets`` of the same
seeds, frames and stride.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

import pointdistill_ros.simulation.camera
from pointdistill_ros.datasets.camera_images import CameraImage, FrameKey, frame_of
from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.datasets.simulated import _fingerprint as simulator_fingerprint
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.simulation.camera import FilmedDrive, kitti_camera
from training.camera.samples import CameraSample


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

    def __len__(self) -> int:
        return len(self.seeds) * self.frames

    def __getitem__(self, i: int) -> CameraSample:
        """Picture i and its classes. Raises InputError where a kept file is damaged."""
        if not 0 <= i < len(self):
            raise IndexError(f"picture {i} of {len(self)}")
        return self.at(self.seeds[i // self.frames], i % self.frames * self.stride)

    def at(self, seed: int, turn: int) -> CameraSample:
        """The picture of a street at a turn of the drive. Raises InputError."""
        path = self._path(seed, turn)
        if not path.is_file():
            self._render(seed)
        try:
            with np.load(path) as data:
                return CameraSample(data["pixels"], data["labels"])
        except Exception as error:  # numpy and zipfile each raise their own kinds
            raise InputError(f"{path}: not a rendered picture ({error}); delete it") from error

    def _render(self, seed: int) -> None:
        """All pictures of a street that are not there; to build the street takes longest."""
        drive = FilmedDrive(seed, self._turns)
        for turn in range(0, self._turns, self.stride):
            path = self._path(seed, turn)
            if not path.is_file():
                picture = drive.picture(turn, self.camera)
                with atomic_path(path) as temporary, temporary.open("wb") as file:
                    np.savez_compressed(file, pixels=picture.pixels, labels=picture.labels)

    def _path(self, seed: int, turn: int) -> Path:
        return self.folder / f"{seed:06d}_{turn:04d}.npz"

    @property
    def _turns(self) -> int:
        """Length of a drive; a longer one is another street."""
        return (self.frames - 1) * self.stride + 1


class StreetImages(Mapping[FrameKey, CameraImage]):
    """The pictures of simulated scans, by the scans they belong to (``frame_of``)."""

    def __init__(self, streets: SimulatedStreets, cache: Path) -> None:
        """``cache``: folder of rendered pictures, made as they are asked for."""
        keys = [frame_of(streets, i) for i in range(len(streets))]
        self._keys = {key: int(key[0].rsplit("_", 1)[1]) for key in keys if key is not None}
        seeds = sorted(set(self._keys.values()))
        self.samples = RenderedSamples(cache, seeds, streets.frames, streets.stride)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[FrameKey]:
        return iter(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys

    def __getitem__(self, key: FrameKey) -> CameraImage:
        """One picture. Raises KeyError where there is none, InputError where a file is damaged."""
        return CameraImage(self.samples.at(self._keys[key], key[1]).pixels, self.samples.camera)


def _fingerprint(camera: Camera, turns: int) -> str:
    """Changes with the simulator, the camera and the length of the drives."""
    digest = hashlib.sha256(simulator_fingerprint().encode())
    for path in sorted(Path(pointdistill_ros.simulation.camera.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    digest.update(camera.matrix.tobytes())
    digest.update(f"{camera.width} {camera.height} {turns}".encode())
    return digest.hexdigest()[:12]
