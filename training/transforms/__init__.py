# SPDX-License-Identifier: Apache-2.0
"""Augmentations: pure functions of labelled points and a random generator.

- geometry: yaw, tilt, flips, scale, jitter, height; crops
- sensor: lost beams and points, shorter range; intensity: calibration, curve, noise, none
- mixing: sectors, bands and whole scans in one; objects: set where there is room for them
Each keeps the pairing point - intensity - label; the same generator state gives the same result.
"""

from training.transforms.geometry import (
    clamp,
    crop_range,
    crop_sphere,
    flip,
    jitter,
    move_sensor,
    resize,
    rotate,
)
from training.transforms.intensity import change_intensity
from training.transforms.mixing import merge, mix_bands, mix_sectors, paste_objects
from training.transforms.objects import place_objects
from training.transforms.points import (
    LabelledPoints,
    azimuth,
    concatenate,
    elevation,
    having,
    horizontal_range,
)
from training.transforms.recipe import augment, thin_out
from training.transforms.sensor import drop_beams, drop_far, drop_points, estimate_rings

__all__ = [
    "LabelledPoints",
    "augment",
    "azimuth",
    "change_intensity",
    "clamp",
    "concatenate",
    "crop_range",
    "crop_sphere",
    "drop_beams",
    "drop_far",
    "drop_points",
    "elevation",
    "estimate_rings",
    "flip",
    "having",
    "horizontal_range",
    "jitter",
    "merge",
    "mix_bands",
    "mix_sectors",
    "move_sensor",
    "paste_objects",
    "place_objects",
    "resize",
    "rotate",
    "thin_out",
]
