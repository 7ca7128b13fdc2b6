# SPDX-License-Identifier: Apache-2.0
"""Settings of training data: where scans come from and what is done to them."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """The data set and its sensor convention, a file of config/datasets/; not for ``pseudo`` and
    ``simulated``, nor for a cache of scans that are in the reference convention already."""
    folder: str = ""
    """Folder of this source, relative to the run's data folder."""
    split: str = "train"
    """Split of that data set, as config/datasets/ defines it."""
    label_set: str | None = None
    """Packed: labels to read, a file of config/labels/; null = those the files were labelled in."""
    balance: Literal["sequence", "scan"] = "sequence"
    """What is equally likely: every sequence, however long (few places), or every scan."""
    cache_megabytes: int = 1024
    """Memory for decoded scans of this source, in every process that prepares batches; 0 = none."""
    min_confidence: float = 0.8
    """Pseudo: labels below this confidence, 0..1, are not trained on."""
    weight: float = 1.0
    """Share of the drawn scans (relative to the other sources)."""
    sequences: tuple[str, ...] | None = None
    """Packed, official and cache: only these sequences; null = all of the split."""
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
    """Strength of each augmentation. Whatever is 0 (and a null clamp) costs nothing."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    yaw_chance: float = 1.0
    """Chance of a rotation about z, by any angle."""
    flip_chance: float = 0.5
    """Chance of a mirrored axis, for x and for y."""
    tilt_degrees: float = 1.5
    """Largest pitch and roll of the sensor."""
    scale: float = 0.1
    """Largest relative change of size."""
    height: float = 0.15
    """Largest change of the sensor's height, metres."""
    jitter: float = 0.01
    """Standard deviation of the noise per axis, metres; cut at 4 of them."""
    clamp: tuple[float, float, float, float, float, float] | None = None
    """Box (low x y z, high x y z, metres) onto whose sides points outside are moved."""
    intensity_scale: float = 0.2
    """Largest relative change of all intensities."""
    intensity_shift: float = 0.05
    """Largest shift of all intensities."""
    intensity_gamma: float = 0.0
    """Intensities are raised to powers between e^-this and e^this."""
    intensity_curve: float = 0.0
    """Weight 0..1 of a random rising curve per scan: other quantiles, the same order."""
    intensity_noise: float = 0.0
    """Standard deviation of the noise per point."""
    intensity_drop: float = 0.1
    """Chance of a sample without intensity (all 0); 1 = the network never uses it."""
    beam_drop: float = 0.2
    """Chance of losing half or two thirds of a scan's beams."""
    point_drop: float = 0.2
    """Largest share of lost points."""
    range_drop: float = 0.0
    """Chance that returns get lost with distance, as with a weaker laser."""
    crop_chance: float = 0.5
    """Chance of a shortened range …"""
    crop_metres: tuple[float, float] = (25.0, 60.0)
    """… between these."""
    mix: float = 0.5
    """Chance that a sample is put together from ``mix_scans`` scans of different sequences …"""
    mix_scans: int = 3
    """… in such a mixture …"""
    mix_by: tuple[Literal["sectors", "bands"], ...] = ("sectors",)
    """… by azimuth sectors or by bands of inclination, one of these at random."""
    merge: float = 0.0
    """Chance that all points of a second sample are added."""
    paste: float = 0.5
    """Chance that the rare objects of another scan are added, turned about the sensor …"""
    paste_copies: int = 1
    """… this often."""
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
    place: float = 0.0
    """Chance that whole objects of another scan are set where there is room for them …"""
    place_attempts: int = 8
    """… in this many attempts, most of which find such a place …"""
    place_classes: tuple[str, ...] = (
        "bicycle",
        "motorcycle",
        "truck",
        "other-vehicle",
        "person",
        "bicyclist",
        "motorcyclist",
        "pole",
    )
    """… objects of these classes …"""
    place_on: tuple[str, ...] = ("road", "parking", "sidewalk", "other-ground")
    """… on ground of these, and of unions of them."""

    @property
    def uses_intensity(self) -> bool:
        """Whether any sample keeps its intensity."""
        return self.intensity_drop < 1

    def whole(self) -> AugmentConfig:
        """The same without what changes the scene: single scans in full range, as seen."""
        return replace(self, mix=0.0, merge=0.0, paste=0.0, place=0.0, crop_chance=0.0)
