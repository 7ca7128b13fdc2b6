# SPDX-License-Identifier: Apache-2.0
"""The transforms of one scan in order, in the strengths of an AugmentConfig."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from training.data_config import AugmentConfig
from training.transforms.geometry import (
    clamp,
    crop_range,
    flip,
    jitter,
    move_sensor,
    resize,
    rotate,
)
from training.transforms.intensity import change_intensity
from training.transforms.points import LabelledPoints
from training.transforms.sensor import drop_beams, drop_far, drop_points


def thin_out(points: LabelledPoints, rng: Generator, config: AugmentConfig) -> LabelledPoints:
    """What another sensor would see of a scan; before any mixing, as beams must be those of one."""
    if rng.random() < config.beam_drop:
        points = drop_beams(points, rng)
    if rng.random() < config.range_drop:
        points = drop_far(points, rng)
    if config.point_drop:
        points = drop_points(points, rng, config.point_drop)
    return points


def augment(points: LabelledPoints, rng: Generator, config: AugmentConfig) -> LabelledPoints:
    """Crop, geometry and intensity, for a scan or a mixture of scans."""
    if config.clamp is not None:
        points = clamp(points, config.clamp[:3], config.clamp[3:])
    if rng.random() < config.crop_chance:
        points = crop_range(points, rng.uniform(*config.crop_metres))
    if rng.random() < config.yaw_chance:
        points = rotate(points, rng.uniform(-np.pi, np.pi))
    if config.tilt_degrees or config.height:
        points = move_sensor(points, rng, config.height, np.radians(config.tilt_degrees))
    if config.scale:
        points = resize(points, rng, config.scale)
    points = flip(points, rng, config.flip_chance)
    if config.jitter:
        points = jitter(points, rng, config.jitter)
    return change_intensity(points, rng, config)
