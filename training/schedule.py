# SPDX-License-Identifier: Apache-2.0
"""How long a run lasts, and the learning rate at each point of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pointdistill_ros.errors import ConfigError
from training.config import TrainConfig

BETA1 = 0.9
"""Where it does not cycle."""


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: optimiser steps or minutes of training, exactly one of them."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("give the length of the run in steps, epochs or minutes")

    @classmethod
    def of(cls, config: TrainConfig, scans: int, processes: int = 1) -> Budget:
        """The length a configuration names; an epoch draws as many samples as there are scans."""
        if config.epochs is None:
            return cls(config.steps, config.minutes)
        per_step = config.scans_per_step * config.accumulate * processes
        return cls(steps=max(round(config.epochs * scans / per_step), 1))

    def share(self, step: int, seconds: float) -> float:
        """Elapsed share of the run, 0..1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None
        return min(seconds / (60 * self.minutes), 1.0)

    def first_of_last(self, share: float, batches: int) -> int | None:
        """Number of the first batch of the last ``share`` of the run, ``batches`` a step.

        None for a share of 0. Raises ConfigError in minutes: what comes when is not known then.
        """
        if share == 0:
            return None
        if self.steps is None:
            raise ConfigError("whole_scans needs the length of the run in steps or epochs")
        return round((1 - share) * self.steps) * batches

    def __str__(self) -> str:
        return f"{self.steps} steps" if self.steps is not None else f"{self.minutes:g} minutes"


@dataclass(frozen=True)
class OneCycle:
    """Rate and momentum over a run, along cosines: up during the warm-up, down for the rest."""

    warmup: float
    """Share of the run that warms up, 0..1."""
    start: float
    """First rate over the peak …"""
    end: float
    """… and last one."""
    beta1: tuple[float, float] | None
    """Momentum at the peak and at both ends; None = constant."""

    @classmethod
    def of(cls, config: TrainConfig) -> OneCycle:
        """The schedule a configuration describes."""
        start = 1 / config.div_factor
        return cls(config.warmup, start, start / config.final_div_factor, config.cycle_beta1)

    def __call__(self, share: float) -> tuple[float, float]:
        """Factor of the peak rate and beta1 at a share of the run."""
        if share < self.warmup:
            height = (1 - math.cos(math.pi * share / self.warmup)) / 2
            factor = self.start + (1 - self.start) * height
        else:
            passed = (share - self.warmup) / (1 - self.warmup)
            height = (1 + math.cos(math.pi * passed)) / 2
            factor = self.end + (1 - self.end) * height
        if self.beta1 is None:
            return factor, BETA1
        least, most = self.beta1
        return factor, most - (most - least) * height
