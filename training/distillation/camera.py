# SPDX-License-Identifier: Apache-2.0
"""The camera side of a run: which scans have an image, and what a 2D teacher says about each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lightning_fabric import Fabric

from pointdistill_ros.datasets.camera_images import (
    CameraImage,
    CameraImages,
    FrameKey,
    PackedCameraImages,
    frame_of,
)
from pointdistill_ros.datasets.cameras import Camera
from pointdistill_ros.datasets.labelled import innermost
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import ConfigError, InputError
from training.camera.atlas import CameraAtlas
from training.camera.pairing import ScanPairing
from training.camera.rendered import StreetImages
from training.camera.weights import load_camera_teacher
from training.distillation.config import CameraTerms
from training.run import Places
from training.sources import SourceMix


@dataclass(frozen=True)
class CameraSide:
    """What a camera teacher says, and which point of a scan it is said of."""

    atlas: CameraAtlas
    pairing: ScanPairing


def camera_side(config: CameraTerms, places: Places, mix: SourceMix, fabric: Fabric) -> CameraSide:
    """Ask the camera teacher about the image of every scan in the mix.

    Raises ConfigError without weights or where they know other classes, CheckpointError where they
    are damaged, InputError where images are missing.
    """
    if places.camera is None:
        raise ConfigError(
            "the recipe has a camera: name the weights of its teacher with --camera (training."
            "train_camera_teacher makes some), or set camera: null"
        )
    teacher = load_camera_teacher(places.camera, mix.sets["common"].label_set).to(fabric.device)
    cameras: dict[FrameKey, Camera] = {}

    def shown() -> Iterator[tuple[FrameKey, CameraImage]]:
        for images, keys in _images(config, places, mix):
            for key in keys:
                image = images[key]
                cameras[key] = image.camera
                yield key, image

    with fabric.rank_zero_first():  # who renders what others then find
        atlas = CameraAtlas.build(teacher, shown(), fabric.device)
    return CameraSide(atlas, ScanPairing(cameras, atlas.index))


def _images(
    config: CameraTerms, places: Places, mix: SourceMix
) -> list[tuple[CameraImages | StreetImages, list[FrameKey]]]:
    """Images and which of them belong to scans. Raises InputError where none does."""
    frames = {frame_of(scans, i) for scans in mix.sources for i in range(len(scans))}
    kinds: list[CameraImages | StreetImages] = []
    if config.images:
        if places.data is None:
            raise InputError(
                f"camera: images {config.images} lie in a data folder; name it (--data)"
            )
        kinds.append(PackedCameraImages(places.data / config.images))
    if config.rendered:
        streets = [
            inner for s in mix.sources if isinstance(inner := innermost(s), SimulatedStreets)
        ]
        kinds += [StreetImages(street, places.cache / "pictures") for street in streets]
    found = [(images, [key for key in images if key in frames]) for images in kinds]
    if not any(keys for _, keys in found):
        raise InputError(
            "camera: no scan of the sources has an image; images are found by sequence and number "
            "of SemanticKITTI's scans, and, with rendered: true, for simulated streets"
        )
    return found
