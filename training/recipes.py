# SPDX-License-Identifier: Apache-2.0
"""Recipes: files of config/training/ROLE/, or any file, with a few changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.resources import config_path
from training.config import TrainConfig

Role = Literal["teacher", "student", "distilled", "adapted"]
C = TypeVar("C", bound=TrainConfig)
LENGTHS = ("steps", "epochs", "minutes")


def recipe_names(role: Role) -> list[str]:
    """Shipped recipes for a role."""
    return sorted(p.stem for p in config_path(f"training/{role}").glob("*.yaml"))


def recipe_path(role: Role, recipe: str) -> Path:
    """File of a shipped recipe, or the file named. Raises ConfigError listing the shipped ones."""
    if recipe in recipe_names(role):
        return config_path(f"training/{role}/{recipe}.yaml")
    path = Path(recipe)
    if not path.is_file():
        names = ", ".join(recipe_names(role))
        raise ConfigError(f"{recipe}: neither a file nor a {role} recipe; recipes are {names}")
    return path


def load_recipe(path: Path, changes: dict[str, Any], kind: type[C]) -> C:
    """A recipe with the given fields replaced; a length replaces the recipe's.

    Raises ConfigError naming the file.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    if any(name in changes for name in LENGTHS):
        changes = dict.fromkeys(LENGTHS) | changes
    try:
        return replace(load_config(kind, path), **changes)
    except ConfigError as error:
        if str(path) in str(error):
            raise
        raise ConfigError(f"{path}: {error}") from error
