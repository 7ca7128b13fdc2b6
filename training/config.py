# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: frozen dataclasses read from config/training/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pointdistill_ros.errors import ConfigError


@dataclass(frozen=True)
class SourceConfig:
    """One place training scans come from."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    kind: Literal["packed", "simulated"]
    """``packed``: .npz scans with a manifest; ``simulated``: streets rendered on first use."""
    name: str = ""
    """Packed: the sensor convention, a file of config/datasets/."""
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


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, except data paths and duration."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    model: str = "student"
    """Network shape: a file of config/models/."""
    grid_size: float = 0.1
    """Voxel edge, metres."""
    patch_size: int | None = None
    """Voxels attended together; null = the model's own."""
    sources: tuple[SourceConfig, ...] = (SourceConfig("packed", "semantic-kitti"),)
    """Where scans come from."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to them."""
    max_range: float = 80.0
    """Points farther from the sensor axis are not trained on, metres."""
    max_voxels: int = 60_000
    """Samples with more voxels are cropped to the sector that fits."""
    scans_per_step: int = 1
    """Samples in one forward pass."""
    accumulate: int = 1
    """Forward passes per optimiser step."""
    parallel: bool = False
    """Run these passes side by side, one thread each (CPU shared with other work)."""
    learning_rate: float = 2e-3
    """Peak rate of everything outside the transformer blocks …"""
    block_learning_rate: float = 1e-3
    """… and of the blocks."""
    weight_decay: float = 0.005
    """Decoupled decay of all parameters."""
    warmup: float = 0.04
    """Share of the run in which the rate rises."""
    clip_norm: float = 5.0
    """Largest gradient norm."""
    ema_decay: float = 0.995
    """Decay per step of the averaged weights that are evaluated and saved."""
    lovasz_weight: float = 1.0
    """Weight of the Lovász term beside cross entropy."""
    class_balance: float = 0.0
    """Exponent b of class weights frequency^-b in the cross entropy; 0 = none."""
    bfloat16: bool = False
    """Autocast the forward pass to bfloat16."""
    seed: int = 0
    """Seed of weights, data order and augmentation."""

    def __post_init__(self) -> None:
        if min(self.scans_per_step, self.accumulate) < 1:
            raise ConfigError("scans_per_step and accumulate must be at least 1")
        if not 0 < self.warmup < 1:
            raise ConfigError("warmup must lie between 0 and 1")
        if not self.sources:
            raise ConfigError("sources must name at least one place to take scans from")
