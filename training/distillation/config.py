# SPDX-License-Identifier: Apache-2.0
"""Settings of a distillation run: a training run, its teacher, and the terms of its loss.

Every term has a weight; 0 switches it off, and it costs nothing then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pointdistill_ros.errors import ConfigError
from training.config import TrainConfig
from training.losses.feature import Distance
from training.losses.gradient_guidance import Normalise
from training.losses.hard_points import HardPointConfig
from training.losses.topology import TopologySettings


@dataclass(frozen=True)
class SoftTargets:
    """Divergence from the teacher's softened class probabilities."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    weight: float = 1.0
    """Of this term."""
    temperature: float = 2.0
    """Above 1 the teacher's second thoughts count more."""
    voxels: Literal["labelled", "all"] = "labelled"
    """labelled: voxels without a label count only in scans that have none; all: every voxel."""


@dataclass(frozen=True)
class GradientGuidance:
    """Agreement of what the task finds important in the last encoder stage of both networks."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    weight: float = 1.0
    """Of this term."""
    chance: float = 0.25
    """Share of the batches it is computed on; it takes both decoders backwards once more."""
    normalise: Normalise = "standard"
    """What makes the maps of two networks comparable."""
    magnitude: bool = False
    """Maps of absolute values."""


@dataclass(frozen=True)
class Topology:
    """Likeness in shape of the last encoder stage's features, by persistence diagrams."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    weight: float = 0.1
    """Of this term."""
    chance: float = 0.25
    """Share of the batches it is computed on."""
    alpha: float | None = 1.0
    """Its gradient at the features has at most this times the norm of the task's; null = any."""
    settings: TopologySettings = field(default_factory=TopologySettings)
    """Sample, filtration, distance."""


@dataclass(frozen=True)
class Features:
    """Stage features through a learned projection."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    weight: float = 0.0
    """Of this term."""
    stages: tuple[int, ...] = (4,)
    """Encoder stages, 0 = finest."""
    distance: Distance = "smooth-l1"
    """Of the normalised features."""


@dataclass(frozen=True)
class Relations:
    """Likeness of neighbouring voxels."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    affinity: float = 0.0
    """Weight of the term on how alike neighbours are …"""
    structure: float = 0.0
    """… and of the one on which neighbours are the alike ones."""
    stages: tuple[int, ...] = (2, 3)
    """Encoder stages, 0 = finest."""


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """Everything that decides a distillation run, except where data and weights lie."""

    teacher: Literal["frozen", "together"] = "frozen"
    """frozen: trained weights (--teacher); together: a new network, trained in the same run …"""
    teacher_model: str = "teacher-cpu"
    """… of this shape, a file of config/models/."""
    soft_targets: SoftTargets = field(default_factory=SoftTargets)
    gradient_guidance: GradientGuidance = field(default_factory=GradientGuidance)
    topology: Topology = field(default_factory=Topology)
    features: Features = field(default_factory=Features)
    relations: Relations = field(default_factory=Relations)
    hard_points: HardPointConfig = field(default_factory=lambda: HardPointConfig(0.0, 0.0, 0.0))
    """Which voxels weigh more in soft targets, features and relations."""
    weighting: Literal["fixed", "learned"] = "fixed"
    """learned: the weights of the terms are where log-variance weights start."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.term_weights().items():
            if not 0 <= weight < float("inf"):
                raise ConfigError(f"{name}: a weight must be ≥ 0, got {weight}")
        for part in ("gradient_guidance", "topology"):
            chance = getattr(self, part).chance
            if not 0 < chance <= 1:
                raise ConfigError(f"{part}.chance must lie in 0 .. 1, 0 excluded, got {chance}")
        if self.topology.alpha is not None and not self.topology.alpha > 0:
            raise ConfigError(f"topology.alpha must be above 0, got {self.topology.alpha}")
        if self.head != "common":
            raise ConfigError("distillation needs head: common; teacher and student share classes")

    def term_weights(self) -> dict[str, float]:
        """Name of every term beside the task → its weight."""
        return {
            "soft_targets": self.soft_targets.weight,
            "gradient_guidance": self.gradient_guidance.weight,
            "topology": self.topology.weight,
            "features": self.features.weight,
            "affinity": self.relations.affinity,
            "structure": self.relations.structure,
        }
