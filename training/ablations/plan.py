# SPDX-License-Identifier: Apache-2.0
"""The plan of an ablation: a base recipe, rows that change it, seeds.

    base: cpu                       # a recipe of config/training/distilled/, or its fields
    seeds: [0, 1, 2]
    rows:
      - {name: none, changes: {soft_targets: {weight: 0}}}
      - {name: soft-targets, against: none, changes: {soft_targets: {weight: 1}}}

Rows differ in what they learn from, never in how much of it: length, batch and seed are the base's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from pointdistill_ros.config import load_config, parse_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.resources import config_path
from training.config import TrainConfig
from training.distillation.config import DistillConfig
from training.recipes import LENGTHS, recipe_path

BUDGET = (*LENGTHS, "scans_per_step", "accumulate", "devices", "max_voxels", "seed")
"""Fields that a row may not change."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_.-]*")


@dataclass(frozen=True)
class Row:
    """One way to train."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    name: str
    """Of its folder and in tables."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Fields of the recipe that differ from the base; mappings are merged, lists replaced."""
    against: str | None = None
    """Row it is compared with, seed by seed."""
    teacher: str | None = None
    """Weights to learn from, a shipped name or a file; null = those of the command line."""
    note: str = ""
    """What it is, for the report."""


@dataclass(frozen=True)
class Plan:
    """Every row is trained with every seed."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    base: str | dict[str, Any]
    """A distillation recipe: a shipped name, a file, or its fields."""
    rows: tuple[Row, ...]
    """In the order of the tables."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of weights, data order and augmentation; three are the fewest that give an interval."""

    def __post_init__(self) -> None:
        names = [row.name for row in self.rows]
        if not names or not self.seeds:
            raise ConfigError("rows and seeds must each have at least one entry")
        for name in names:
            if not _NAME.fullmatch(name):
                raise ConfigError(
                    f"row {name!r}: a name is letters, digits and + _ . -, and names a folder"
                )
        for what, entries in (("rows", names), ("seeds", list(self.seeds))):
            if len(set(entries)) < len(entries):
                raise ConfigError(f"{what}: one of {entries} is there twice")
        if min(self.seeds) < 0:
            raise ConfigError(f"seeds must be ≥ 0, got {min(self.seeds)}")
        for row in self.rows:
            if row.against is not None and (row.against not in names or row.against == row.name):
                others = ", ".join(name for name in names if name != row.name)
                raise ConfigError(f"row {row.name}: against must be another row: {others}")


def plan_names() -> list[str]:
    """Shipped plans."""
    return sorted(p.stem for p in config_path("training/ablation").glob("*.yaml"))


def plan_path(plan: str) -> Path:
    """File of a shipped plan, or the file named. Raises ConfigError listing the shipped ones."""
    if plan in plan_names():
        return config_path(f"training/ablation/{plan}.yaml")
    if not Path(plan).is_file():
        raise ConfigError(f"{plan}: neither a file nor a plan; plans are {', '.join(plan_names())}")
    return Path(plan)


def load_plan(path: Path) -> Plan:
    """Read a plan. Raises ConfigError naming file and field."""
    try:
        return load_config(Plan, path)
    except ConfigError as error:
        raise _in_file(path, error) from error


def recipes(
    plan: Plan, path: Path, changes: dict[str, Any] | None = None
) -> dict[str, TrainConfig]:
    """Recipe of every row, by its name; the seed is still the base's.

    ``path`` names the plan in errors; ``changes`` are made to the base first (other lengths go).
    A row without any term and without a second network learns from labels alone: its recipe is a
    plain TrainConfig, and no teacher is run for it. Raises ConfigError naming file, row and field.
    """
    base = _base_fields(plan, path)
    changes = changes or {}
    if any(name in changes for name in LENGTHS):
        base = {name: value for name, value in base.items() if name not in LENGTHS}
    base = merged(base, changes)
    plain = _parse(base, f"{path}: base")
    if all(getattr(plain, name) is None for name in LENGTHS):
        raise ConfigError(f"{path}: base: no length; give steps, epochs or minutes")
    found: dict[str, TrainConfig] = {}
    for row in plan.rows:
        where = f"{path}: row {row.name}"
        config = _parse(merged(base, row.changes), where)
        for name in BUDGET:
            if getattr(config, name) != getattr(plain, name):
                raise ConfigError(
                    f"{where}: changes {name}; rows of an ablation have equal budgets"
                )
        found[row.name] = supervised_part(config) if learns_from_labels_alone(config) else config
    return found


def learns_from_labels_alone(config: DistillConfig) -> bool:
    """Whether nothing is distilled."""
    return config.teacher != "together" and not any(config.term_weights().values())


def supervised_part(config: DistillConfig) -> TrainConfig:
    """The same run without distillation."""
    return TrainConfig(**{f.name: getattr(config, f.name) for f in fields(TrainConfig)})


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes`` laid over it, mapping by mapping."""
    result = dict(base)
    for name, value in changes.items():
        old = result.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            value = merged(old, value)  # noqa: PLW2901
        result[name] = value
    return result


def _base_fields(plan: Plan, path: Path) -> dict[str, Any]:
    if isinstance(plan.base, dict):
        return plan.base
    try:
        recipe = recipe_path("distilled", plan.base)
        data = yaml.safe_load(recipe.read_text()) or {}
    except (ConfigError, OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: base: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: base: {recipe} holds no fields of a recipe")
    return data


def _parse(fields_of: dict[str, Any], where: str) -> DistillConfig:
    try:
        return parse_config(DistillConfig, fields_of, where)
    except ConfigError as error:
        raise _in_file(where, error) from error


def _in_file(where: str | Path, error: ConfigError) -> ConfigError:
    return error if str(error).startswith(str(where)) else ConfigError(f"{where}: {error}")
