# SPDX-License-Identifier: Apache-2.0
"""What returns look like: another calibration, another curve, noise, or no intensity at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from training.data_config import AugmentConfig
from training.transforms.points import LabelledPoints

_KNOTS = 7
"""Ends included; the road alone spans a tenth of the scale."""


def change_intensity(
    points: LabelledPoints, rng: Generator, config: AugmentConfig
) -> LabelledPoints:
    """All of them in the strengths of ``config``, the same for every point but the noise; 0..1."""
    if rng.random() < config.intensity_drop:
        return replace(points, intensity=np.zeros_like(points.intensity))
    value = points.intensity
    if config.intensity_gamma:
        value = gamma(value, rng, config.intensity_gamma)
    if config.intensity_curve:
        value = bend(value, rng, config.intensity_curve)
    if config.intensity_noise:
        noise = rng.standard_normal(len(value), dtype=np.float32)
        value = value + np.float32(config.intensity_noise) * noise
    scale = np.float32(1 + config.intensity_scale * rng.uniform(-1, 1))
    shift = np.float32(config.intensity_shift * rng.uniform(-1, 1))
    return replace(points, intensity=(value * scale + shift).clip(0, 1))


def gamma(value: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    """Values 0..1 to a power between e^-strength and e^strength."""
    return value ** np.float32(np.exp(strength * rng.uniform(-1, 1)))


def bend(value: NDArray[np.float32], rng: Generator, strength: float) -> NDArray[np.float32]:
    """Through a random rising curve of 0..1 onto itself: other quantiles, the same order.

    ``strength`` 0..1 blends from the identity to the curve.
    """
    at = np.linspace(0, 1, _KNOTS)
    curve = np.concatenate([[0.0], np.cumsum(rng.dirichlet(np.ones(_KNOTS - 1)))])
    blended = (1 - strength) * at + strength * curve
    return np.interp(value, at, blended).astype(np.float32)
