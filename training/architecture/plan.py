# SPDX-License-Identifier: Apache-2.0
"""What a search does: files of config/training/search/."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pointdistill_ros.config import load_config, parse_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.resources import config_path
from training.ablations.plan import merged
from training.architecture.space import Space
from training.config import TrainConfig
from training.recipes import LENGTHS, recipe_path


@dataclass(frozen=True)
class HeldOut:
    """Real scans that no candidate is trained on, and all are scored on; never validation data."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    name: str = "semantic-kitti"
    """A packed source of the recipe."""
    sequences: tuple[str, ...] = ("05", "09")
    """Drives of its train split."""


@dataclass(frozen=True)
class SearchPlan:
    """Everything that decides a search, except where the data lie."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    recipe: str
    """A recipe of config/training/student/, or a file: how candidates are trained."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of it that differ; mappings are merged, lists replaced."""
    space: Space = field(default_factory=Space)
    """What is drawn from."""
    reference: str = "student"
    """Shape of config/models/ that latency is a ratio to, and that takes part to the end."""
    starts: tuple[str, ...] = ("student-rt-g", "student-rt-d", "student-rt-litept")
    """Shapes of config/models/ that are candidates whatever is drawn."""
    proposals: int = 120
    """Shapes drawn, and timed …"""
    candidates: int = 24
    """… of which so many, evenly spread over the latencies, are trained."""
    max_latency: float = 0.6
    """Slowest that is trained, as a share of the reference's CPU time."""
    rungs: tuple[int, ...] = (150, 450, 1350)
    """Optimiser steps of the rungs; every rung trains from new weights, on a whole schedule."""
    keep: float = 0.34
    """Share of a rung's candidates that the next one trains."""
    precision: str = "bfloat16"
    """Of the timed engine, where the CPU has it; else float32."""
    timed_runs: int = 5
    """Timed runs of every proposal, in turns with the reference."""
    held_out: HeldOut | None = field(default_factory=HeldOut)
    """Real scans to score on; null = simulated streets alone."""
    streets: int = 16
    """Unseen simulated streets to score on."""
    seed: int = 0
    """Of the draws, and of every run."""

    def __post_init__(self) -> None:
        least = {"proposals": 0, "candidates": 0, "timed_runs": 1, "streets": 0, "seed": 0}
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise ConfigError(f"{name} must be at least {bound}, got {getattr(self, name)}")
        if not self.rungs or min(self.rungs) < 1 or list(self.rungs) != sorted(set(self.rungs)):
            raise ConfigError(f"rungs must be rising numbers of steps, got {list(self.rungs)}")
        if not 0 < self.keep <= 1:
            raise ConfigError(f"keep must lie above 0 and at most at 1, got {self.keep:g}")
        if not self.max_latency > 0:
            raise ConfigError(f"max_latency must be above 0, got {self.max_latency:g}")
        if self.precision not in ("float32", "bfloat16"):
            raise ConfigError(f"precision must be float32 or bfloat16, got {self.precision}")
        if not self.streets and self.held_out is None:
            raise ConfigError("nothing to score on: give streets or held_out")
        if self.candidates > self.proposals:
            raise ConfigError(
                f"candidates ({self.candidates}) must not exceed proposals ({self.proposals})"
            )


def plan_names() -> list[str]:
    """Shipped plans."""
    return sorted(p.stem for p in config_path("training/search").glob("*.yaml"))


def plan_path(plan: str) -> Path:
    """File of a shipped plan, or the file named. Raises ConfigError listing the shipped ones."""
    if plan in plan_names():
        return config_path(f"training/search/{plan}.yaml")
    if not Path(plan).is_file():
        raise ConfigError(f"{plan}: neither a file nor a plan; plans are {', '.join(plan_names())}")
    return Path(plan)


def load_plan(path: Path) -> SearchPlan:
    """Read a plan. Raises ConfigError naming file and field."""
    try:
        return load_config(SearchPlan, path)
    except ConfigError as error:
        raise error if str(path) in str(error) else ConfigError(f"{path}: {error}") from error


def base_recipe(plan: SearchPlan, path: Path, data: Path | None) -> TrainConfig:
    """How every candidate is trained, but for its shape and length. Raises ConfigError.

    Grid and patch size are those of the named shapes. Without ``data``, sources that are no
    simulated streets are left out.
    """
    recipe = recipe_path("student", plan.recipe)
    try:
        fields_of = yaml.safe_load(recipe.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{recipe}: {error}") from error
    fields_of = {name: value for name, value in fields_of.items() if name not in LENGTHS}
    where = f"{path}: recipe {plan.recipe}"
    config = parse_config(TrainConfig, merged(fields_of, plan.changes), where)
    config = replace(config, steps=None, epochs=None, minutes=None, seed=plan.seed)
    if data is not None:
        return config
    simulated = tuple(source for source in config.sources if source.kind == "simulated")
    if not simulated:
        raise ConfigError(f"{where}: all its sources are recordings; name their folder with --data")
    return replace(config, sources=simulated)
