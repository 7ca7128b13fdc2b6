# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: frozen dataclasses read from config/training/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pointdistill_ros.errors import ConfigError
from training.data_config import AugmentConfig, SourceConfig


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, except data paths and duration."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    model: str = "student"
    """Network shape: a file of config/models/."""
    grid_size: float = 0.1
    """Voxel edge, metres."""
    head: Literal["common", "per-dataset"] = "common"
    """One head for all sources in ``label_set``, or one per data set in its own classes."""
    label_set: str = "semantic-kitti"
    """Classes of the common head, a file of config/labels/."""
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
