# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run: frozen dataclasses read from config/training/*.yaml."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pointdistill_ros.errors import ConfigError
from training.data_config import AugmentConfig, SourceConfig

Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, except where the data lie."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    model: str = "student"
    """Network shape: a file of config/models/, or the path of one like those."""
    grid_size: float = 0.1
    """Voxel edge, metres."""
    head: Literal["common", "per-dataset"] = "common"
    """One head for all sources in ``label_set``, or one per data set in its own classes."""
    label_set: str = "semantic-kitti"
    """Classes of the common head, a file of config/labels/."""
    patch_size: int | None = None
    """Voxels attended together; null = the model's own."""
    drop_path: float | None = None
    """Largest drop rate of a residual branch; null = the model's own."""

    sources: tuple[SourceConfig, ...] = (SourceConfig("packed", "semantic-kitti"),)
    """Where scans come from."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to them."""
    whole_scans: float = 0.0
    """Last share of the run (in steps or epochs) in which samples are single scans in full range:
    nothing mixed, nothing added."""
    max_range: float = 80.0
    """Points farther from the sensor axis are not trained on, metres."""
    max_voxels: int = 60_000
    """Samples with more voxels are cropped to the sector that fits."""
    scans_per_step: int = 1
    """Samples in one forward pass of one process."""
    accumulate: int = 1
    """Forward passes per optimiser step and process."""

    steps: int | None = None
    """Length of the run in optimiser steps …"""
    epochs: float | None = None
    """… or in epochs: as many drawn samples as there are scans …"""
    minutes: float | None = None
    """… or in minutes of training. At most one; the command line replaces it."""

    learning_rate: float = 2e-3
    """Peak rate of everything outside the transformer blocks …"""
    block_learning_rate: float = 1e-3
    """… and of the blocks."""
    weight_decay: float = 0.005
    """Decoupled decay of all parameters."""
    warmup: float = 0.04
    """Share of the run in which the rate rises, along a cosine."""
    div_factor: float = 10.0
    """The first rate is the peak divided by this …"""
    final_div_factor: float = 100.0
    """… and the last one the first divided by this."""
    cycle_beta1: tuple[float, float] | None = (0.85, 0.95)
    """AdamW's beta1 at the peak of the rate and at both ends; null = 0.9 throughout."""
    clip_norm: float | None = 5.0
    """Largest gradient norm; null = no clipping."""
    ema_decay: float = 0.995
    """Decay per step of the averaged weights that are evaluated and saved."""
    lovasz_weight: float = 1.0
    """Weight of the Lovász term beside cross entropy."""
    class_balance: float = 0.0
    """Exponent b of class weights frequency^-b in the cross entropy; 0 = none."""
    norm_batches: int = 40
    """Whole scans over which batch-norm statistics are taken anew at the end; 0 = keep the running
    averages of training."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPU where there is one."""
    devices: int = 1
    """Processes, each with a device of its own and batches of its own (on a CPU: a share of it)."""
    precision: Precision = "float32"
    """Arithmetic of the forward pass; float16 scales its gradients."""
    compiled: bool = True
    """On a CPU: compiled kernels instead of plain torch."""
    workers: int = 0
    """Processes that prepare batches, per training process; 0 = a thread."""
    prefetch: int = 4
    """Batches prepared ahead (per worker)."""
    log_every: int = 10
    """Steps between two looks at the losses on a GPU, which waits then; a CPU looks every step."""
    checkpoint_minutes: float = 5.0
    """Time between checkpoints."""
    monitor_streets: int = 0
    """Simulated streets that training never sees, scored at every checkpoint; 0 = three scans of
    the train split instead."""
    seed: int = 0
    """Seed of weights, data order, augmentation and drop path."""

    def __post_init__(self) -> None:
        lengths = [name for name in ("steps", "epochs", "minutes") if getattr(self, name)]
        if len(lengths) > 1:
            raise ConfigError(f"length given by {' and '.join(lengths)}; keep one of them")
        least = {"steps": 1, "scans_per_step": 1, "accumulate": 1, "devices": 1, "prefetch": 1}
        least |= {"workers": 0, "log_every": 1, "monitor_streets": 0, "norm_batches": 0, "seed": 0}
        least |= {"max_voxels": 1}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                raise ConfigError(f"{name} must be at least {bound}, got {value}")
        for name in ("epochs", "minutes", "grid_size", "max_range", "clip_norm", "div_factor"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0, got {value}")
        if not 0 < self.warmup < 1:
            raise ConfigError("warmup must lie between 0 and 1")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError("ema_decay must lie in 0 .. 1, 1 excluded")
        if not 0 <= self.whole_scans <= 1:
            raise ConfigError(f"whole_scans must lie in 0 .. 1, got {self.whole_scans}")
        if not self.sources:
            raise ConfigError("sources must name at least one place to take scans from")
