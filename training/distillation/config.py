# SPDX-License-Identifier: Apache-2.0
"""Settings of a distillation run: a training run, its teacher, and the terms of its loss.

Every term has a weight; 0 switches it off, and it costs nothing then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pointdistill_ros.datasets.sweeps import Drop
from pointdistill_ros.errors import ConfigError
from training.config import TrainConfig
from training.losses.cross_modal import CrossModalConfig
from training.losses.feature import Distance
from training.losses.gradient_guidance import Normalise
from training.losses.hard_points import HardPointConfig
from training.losses.topology import TopologySettings

_AUGMENTS = (
    "yaw_chance", "flip_chance", "tilt_degrees", "scale", "height", "jitter", "intensity_scale",
    "intensity_shift", "intensity_gamma", "intensity_curve", "intensity_noise", "intensity_drop",
    "beam_drop", "point_drop", "range_drop", "crop_chance", "mix", "merge", "paste", "place",
)  # fmt: skip
"""Strengths of an AugmentConfig by which a scan differs from one draw to the next."""


@dataclass(frozen=True)
class SoftTargets:
    """Divergence from the teacher's softened class probabilities."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    weight: float = 1.0
    """Of this term where every voxel has a teacher's scores; a batch in which few have some counts
    as much less."""
    temperature: float = 2.0
    """Above 1 the teacher's second thoughts count more."""
    voxels: Literal["labelled", "all"] = "labelled"
    """labelled: voxels without a label count only in scans that have none; all: every voxel."""
    kept: bool = False
    """Class scores that networks gave to whole scans before training stand in for the teacher's:
    those of training.pseudo_label --soft in scans that it labelled …"""
    folder: str = ""
    """… and, in any scan, those of training.score_scans in this folder."""
    alone: bool = False
    """Kept scores are all there is: a teacher is asked only in steps where other terms need it, and
    scans without scores, such as simulated ones, have their labels."""


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
class TeacherSweeps:
    """Multi-to-single: the teacher sees sweeps around a scan, where the data have poses."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    count: int = 1
    """Sweeps that the teacher sees, the scan's own included; 1 = as the student …"""
    after: int = 0
    """… of which so many were taken after the scan."""
    reach: float = 15.0
    """Sweeps taken farther away than this are left out, metres."""
    drop: Drop = "moving"
    """What goes from other sweeps: what moved, all that can move, nothing."""
    max_voxels: int = 120_000
    """Of a sample with all its sweeps; it is cropped to the sector that fits."""


@dataclass(frozen=True)
class CameraTerms(CrossModalConfig):
    """Cross-modal: voxels that an image shows learn from a camera teacher (--camera)."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    images: str = "semantickitti_images"
    """Folder of real images inside the run's data folder; empty = none."""
    rendered: bool = False
    """Whether simulated streets have pictures, too; rendered on first use, which takes minutes."""


@dataclass(frozen=True)
class DistillConfig(TrainConfig):
    """Everything that decides a distillation run, except where data and weights lie."""

    teacher: Literal["frozen", "together", "none"] = "frozen"
    """frozen: trained weights (--teacher); none: only kept scores and a camera teach; together: a
    new network, trained in the same run …"""
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
    sweeps: TeacherSweeps = field(default_factory=TeacherSweeps)
    camera: CameraTerms | None = None
    """null = no camera."""
    cache_answers: bool = False
    """Ask a frozen teacher once about every scan and keep what it says, in float16, in the cache
    folder; without augmentation only. Steps with gradient guidance ask it all the same."""

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
        if self.soft_targets.folder and not self.soft_targets.kept:
            raise ConfigError("soft_targets: a folder of scores is used with kept: true only")
        if self.soft_targets.alone and not self.soft_targets.kept:
            raise ConfigError("soft_targets: alone means kept scores alone; set kept: true")
        self._check_sweeps()
        if self.teacher == "none":
            self._check_no_teacher()
        if self.cache_answers:
            self._check_cache()

    def _check_sweeps(self) -> None:
        sweeps = self.sweeps
        if sweeps.count < 1 or not 0 <= sweeps.after < sweeps.count:
            raise ConfigError(
                "sweeps: count must be at least 1 and after less than count, "
                f"got {sweeps.count} and {sweeps.after}"
            )
        if not sweeps.reach > 0 or sweeps.max_voxels < 1:
            raise ConfigError("sweeps: reach must be above 0 and max_voxels at least 1")

    def _check_no_teacher(self) -> None:
        """Terms that only a lidar teacher can give."""
        asked = [name for name, weight in self.term_weights().items() if weight]
        free = {"camera_scores", "camera_features"}
        free |= {"soft_targets"} if self.soft_targets.kept else set()
        if wrong := [name for name in asked if name not in free]:
            raise ConfigError(
                f"teacher: none, but {wrong[0]} needs one; set its weight to 0"
                + (", or soft_targets.kept: true" if wrong[0] == "soft_targets" else "")
            )
        if self.sweeps.count > 1:
            raise ConfigError("teacher: none, but sweeps are for a teacher; set sweeps.count to 1")

    def _check_cache(self) -> None:
        if self.teacher != "frozen":
            raise ConfigError("cache_answers needs teacher: frozen; what others say changes")
        if self.sweeps.count > 1:
            raise ConfigError(
                "cache_answers keeps what is said of single scans; set sweeps.count: 1"
            )
        used = [name for name in _AUGMENTS if getattr(self.augment, name)]
        if used:
            raise ConfigError(
                "cache_answers needs scans as they are, without augmentation; set to 0 in "
                f"augment: {', '.join(used)}"
            )

    def term_weights(self) -> dict[str, float]:
        """Name of every term beside the task → its weight."""
        return {
            "soft_targets": self.soft_targets.weight,
            "gradient_guidance": self.gradient_guidance.weight,
            "topology": self.topology.weight,
            "features": self.features.weight,
            "affinity": self.relations.affinity,
            "structure": self.relations.structure,
            **(
                {"camera_scores": self.camera.scores, "camera_features": self.camera.features}
                if self.camera
                else {}
            ),
        }
