# SPDX-License-Identifier: Apache-2.0
"""Settings of training data: where scans come from and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class SourceConfig:
    """One place training scans come from."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    kind: Literal["packed", "pseudo", "official", "cache", "simulated"]
    """``packed``: .npz scans with a manifest; ``pseudo``: such scans with labels of a network;
    ``official``: a public data set as its makers lay it out; ``cache``: what `pointdistill pack`
    wrote; ``simulated``: streets rendered on first use."""
    name: str = ""
    """The data set and its sensor convention, a file of config/datasets/; not for ``simulated``."""
    folder: str = ""
    """Folder of this source, relative to the run's data folder."""
    split: str = "train"
    """Split of that data set, as config/datasets/ defines it."""
    min_confidence: float = 0.8
    """Pseudo: labels below this confidence, 0..1, are not trained on."""
    weight: float = 1.0
    """Share of the drawn scans (relative to the other sources)."""
    sequences: tuple[str, ...] | None = None
    """Packed: only these sequences; null = all of the train split."""
    lidars: tuple[str, ...] = ("hdl64e",)
    """Simulated: sensors of config/lidars/, used in turn by the drives."""
    drives: int = 16
    """Simulated: number of streets; their seeds are 0, 1, 2 …"""
    frames: int = 4
    """Simulated: scans rendered per street …"""
    stride: int = 12
    """… and sweeps driven between two of them, so that scans of a street differ."""


@dataclass(frozen=True)
class AugmentConfig:
    """Strength of each augmentation; yaw (any angle) and flips are always on."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    tilt_degrees: float = 1.5
    """Largest pitch and roll."""
    scale: float = 0.1
    """Largest relative change of size."""
    height: float = 0.15
    """Largest vertical shift, metres."""
    jitter: float = 0.01
    """Standard deviation of the noise per axis, metres."""
    intensity_scale: float = 0.2
    """Largest relative change of all intensities."""
    intensity_shift: float = 0.05
    """Largest shift of all intensities."""
    intensity_drop: float = 0.1
    """Chance of a scan without intensity (all 0)."""
    beam_drop: float = 0.2
    """Chance of losing half or two thirds of the beams."""
    point_drop: float = 0.2
    """Largest share of lost points."""
    crop_chance: float = 0.5
    """Chance of a shortened range …"""
    crop_metres: tuple[float, float] = (25.0, 60.0)
    """… between these."""
    mix: float = 0.5
    """Chance that a sample is put together from azimuth sectors of ``mix_scans`` scans."""
    mix_scans: int = 3
    """Scans in such a mixture."""
    paste: float = 0.5
    """Chance that rare objects of another scan are pasted in."""
    paste_classes: tuple[str, ...] = (
        "bicycle",
        "motorcycle",
        "truck",
        "other-vehicle",
        "person",
        "bicyclist",
        "motorcyclist",
        "traffic-sign",
        "pole",
    )
    """Names of the classes that count as rare objects."""
