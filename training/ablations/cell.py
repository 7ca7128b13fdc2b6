# SPDX-License-Identifier: Apache-2.0
"""One run of an ablation: a row with a seed, its folder, and what is known of it.

OUT/ROW/recipe.yaml      of all seeds; what training programs take as --recipe
OUT/ROW/seedN/           a run's folder (training/run_folder.py) and beside its files
    .claim               locked by the process that works here, and by the run it starts
    cell.json            program and teacher
    log.txt              what the run said
    trained.json         there when training has ended: weights and their digest
    failed.json          why the last attempt failed
    figures-P.json       figures under protocol P (measure.py)
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pointdistill_ros.checkpoint import file_sha256, find_weights
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import CheckpointError, ConfigError
from pointdistill_ros.io.atomic import atomic_path
from training.ablations.plan import Plan, Row
from training.config import TrainConfig
from training.distillation.config import DistillConfig
from training.run_folder import RunFolder


@dataclass(frozen=True)
class Teacher:
    """Trained weights to learn from."""

    path: Path
    sha256: str

    @classmethod
    def named(cls, name_or_path: str) -> Teacher:
        """By a shipped name or a path. Raises CheckpointError where there is no such file."""
        return cls.of(find_weights(name_or_path))

    @classmethod
    def of(cls, path: Path) -> Teacher:
        """By a path. Raises CheckpointError where there is no such file."""
        if not path.is_file():
            raise CheckpointError(f"{path}: no such weights for a teacher")
        return cls(path, file_sha256(path))


@dataclass(frozen=True)
class Cell:
    """A row with a seed."""

    row: Row
    seed: int
    folder: Path
    config: TrainConfig
    """With the seed; a DistillConfig where there is something to distil."""
    teacher: Teacher | None
    camera: Teacher | None = None
    """Weights of a camera teacher."""

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.row.name}, seed {self.seed}"

    @property
    def program(self) -> str:
        """Module of training/ that trains it."""
        return "distill_student" if isinstance(self.config, DistillConfig) else "train_student"

    @property
    def recipe(self) -> Path:
        """File of the row's recipe."""
        return self.folder.parent / "recipe.yaml"

    @property
    def log(self) -> Path:
        """What the run printed."""
        return self.folder / "log.txt"

    @property
    def begun(self) -> bool:
        """Whether there is a run to resume."""
        return RunFolder(self.folder).exists()

    @contextmanager
    def claimed(self) -> Iterator[int | None]:
        """Hold the cell: the file descriptor of its lock; None where another process holds it.

        A process that inherits the descriptor holds the lock, too, until it ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.folder / ".claim", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield lock
        finally:
            os.close(lock)

    def taken(self) -> bool:
        """Whether a process works here now."""
        if not self.folder.is_dir():
            return False
        with self.claimed() as claim:
            return claim is None

    def begin(self) -> None:
        """Write recipe and ``cell.json``; call it with the claim held."""
        fields = asdict(replace(self.config, seed=0))
        with atomic_path(self.recipe) as temporary:
            temporary.write_text(yaml.safe_dump(fields, sort_keys=False))
        facts: dict[str, str | None] = {"program": self.program}
        for name, weights in self._weights().items():
            facts[name] = str(weights.path) if weights else None
            facts[f"{name}_sha256"] = weights.sha256 if weights else None
        self.write("cell", facts)

    def check_same(self) -> None:
        """Raises ConfigError where the folder holds a run of another recipe or teacher."""
        other = "name another folder with --out, or delete that run"
        if self.begun:
            path = RunFolder(self.folder).config_path
            try:
                old = asdict(load_config(type(self.config), path))
            except ConfigError as error:
                raise ConfigError(f"{error}; the plan has changed since, {other}") from error
            new = asdict(self.config)
            changed = [n for n in new if json.dumps(old[n]) != json.dumps(new[n])]
            if changed:
                raise ConfigError(f"{path}: the plan differs in {', '.join(changed)}; {other}")
        facts = self.read("cell") or {}
        for name, weights in self._weights().items():
            digest = facts.get(f"{name}_sha256")
            if digest and (weights is None or weights.sha256 != digest):
                raise ConfigError(f"{self.folder}: was distilled from other weights; {other}")

    def _weights(self) -> dict[str, Teacher | None]:
        """What it learns from, by the option of the command that names it."""
        return {"teacher": self.teacher, "camera": self.camera}

    def trained(self) -> Path | None:
        """Weights of the finished training; None before."""
        facts = self.read("trained")
        return self.folder / facts["weights"] if facts else None

    def read(self, name: str) -> dict[str, Any] | None:
        """Content of NAME.json; None without it, or where it is not whole."""
        try:
            found = json.loads((self.folder / f"{name}.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def write(self, name: str, content: Mapping[str, Any]) -> None:
        """NAME.json, whole or not at all."""
        with atomic_path(self.folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n")

    def fail(self, message: str) -> None:
        """Note why it failed."""
        self.write("failed", {"message": message})

    def forget_failure(self) -> None:
        """It went well in the end."""
        (self.folder / "failed.json").unlink(missing_ok=True)

    def failed_after(self, moment: float) -> bool:
        """Whether the last failure is newer than a time (seconds since 1970)."""
        try:
            return (self.folder / "failed.json").stat().st_mtime > moment
        except OSError:
            return False


def cells(
    plan: Plan,
    recipes: Mapping[str, TrainConfig],
    out: Path,
    teacher: str | None,
    camera: Path | None = None,
) -> list[Cell]:
    """All cells, seed by seed, so that what is done early can be compared.

    ``teacher``: weights for rows that name none; ``camera``: of the camera teacher. Raises
    ConfigError where one is needed and not named, or a folder holds another run; CheckpointError.
    """
    films = [row.name for row in plan.rows if _has_camera(recipes[row.name])]
    if films and camera is None:
        raise ConfigError(f"row {films[0]} has a camera: name its teacher's weights with --camera")
    eye = Teacher.of(camera) if films and camera else None
    teachers = {row.name: _teacher(row, recipes[row.name], teacher) for row in plan.rows}
    known = {name: Teacher.named(name) for name in dict.fromkeys(teachers.values()) if name}
    found = [
        Cell(
            row,
            seed,
            out / row.name / f"seed{seed}",
            replace(recipes[row.name], seed=seed),
            known.get(teachers[row.name] or ""),
            eye if row.name in films else None,
        )
        for seed in plan.seeds
        for row in plan.rows
    ]
    for cell in found:
        cell.check_same()
    return found


def _teacher(row: Row, config: TrainConfig, default: str | None) -> str | None:
    """Name of the weights that a row learns from; None where it needs none."""
    if not isinstance(config, DistillConfig) or config.teacher != "frozen":
        return None
    if row.teacher is None and default is None:
        raise ConfigError(f"row {row.name} learns from trained weights: name them with --teacher")
    return row.teacher or default


def _has_camera(config: TrainConfig) -> bool:
    return isinstance(config, DistillConfig) and config.camera is not None
