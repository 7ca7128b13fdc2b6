# SPDX-License-Identifier: Apache-2.0
"""How well candidates label: trained by training.train_student, scored on what they never saw.

A run is a cell of an ablation (training/ablations/cell.py): a folder and a process of its own,
claimed by a lock, resumable, measured once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from torch import cuda

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.engine.interface import EngineName
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.progress import progress
from training.ablations.cell import Cell
from training.ablations.child import train
from training.ablations.measure import Scope, figures_of, measure, measured
from training.ablations.plan import Row
from training.ablations.queue import work_off
from training.architecture.candidate import Candidate
from training.architecture.plan import HeldOut
from training.config import TrainConfig
from training.interrupt import InterruptGuard
from training.monitor import FIRST_MONITOR_SEED
from training.opening import open_source
from training.validation import Part


@dataclass(frozen=True)
class Score:
    """Of one candidate on one rung, shares."""

    value: float
    """Mean of the figures."""
    figures: Mapping[str, float]


Scorer = Callable[[Sequence[Candidate], int, int], tuple[dict[str, Score], dict[str, str]]]
"""(candidates, rung, steps) → scores by name, and why a candidate has none."""


def held_out_apart(
    config: TrainConfig, held: HeldOut | None, data: Path | None, cache: Path
) -> TrainConfig:
    """The recipe without the held-out sequences. Raises ConfigError where nothing would be left."""
    if held is None or data is None:
        return config
    sources = []
    for source in config.sources:
        if source.kind == "packed" and source.name == held.name:
            every = dict.fromkeys(open_source(source, data, cache).sequences)
            kept = tuple(name for name in every if name not in held.sequences)
            if not kept:
                raise ConfigError(f"held_out: no sequence of {held.name} would be left to train on")
            source = replace(source, sequences=kept)  # noqa: PLW2901
        sources.append(source)
    return replace(config, sources=tuple(sources))


def scored_on(held: HeldOut | None, streets: int, data: Path | None, cache: Path) -> list[Part]:
    """Held-out drives of the train split and streets of the monitor's seeds. Raises InputError."""
    parts = []
    if held is not None and data is not None:
        convention = SensorConvention.named(held.name)
        for sequence in held.sequences:
            scans = PackedScans(data, convention, "train", [sequence])
            parts.append(Part(f"{held.name} {sequence}", held.name, scans))
    if streets:
        seeds = range(FIRST_MONITOR_SEED, FIRST_MONITOR_SEED + streets)
        simulated = SimulatedStreets(cache, seeds, frames=2, stride=25)
        parts.append(Part("simulated", "simulated", simulated))
    if not parts:
        raise ConfigError("nothing to score on: give streets, or --data for held_out")
    return parts


class TrainedScores:
    """Scores by training; several processes may share the work."""

    def __init__(
        self,
        base: TrainConfig,
        parts: Sequence[Part],
        out: Path,
        data: Path | None,
        cache: Path,
        guard: InterruptGuard,
        say: Callable[[str], None] = print,
    ) -> None:
        """base: the recipe, without shape and length."""
        self.base, self.parts, self.out = base, parts, out
        self.data, self.cache, self.guard, self.say = data, cache, guard, say
        streets = sum(len(set(p.scans.sequences)) for p in parts if p.title == "simulated")
        self.scope = Scope(data is not None, streets)
        # not "auto" on a CPU, which would time every engine anew for each shape
        self.engine: EngineName | Literal["auto"] = "auto" if cuda.is_available() else "native"

    def cell(self, candidate: Candidate, rung: int, steps: int) -> Cell:
        """Its run on a rung. Raises ConfigError where the folder holds another one."""
        shape = candidate.write(self.out / "shapes")
        config = replace(
            self.base,
            model=str(shape),
            grid_size=candidate.grid_size,
            patch_size=None,  # the shape has its own
            steps=steps,
        )
        folder = self.out / f"rung{rung}" / candidate.name / f"seed{config.seed}"
        cell = Cell(Row(candidate.name), config.seed, folder, config, None)
        cell.check_same()
        return cell

    def __call__(
        self, candidates: Sequence[Candidate], rung: int, steps: int
    ) -> tuple[dict[str, Score], dict[str, str]]:
        """Train and measure what is left to do, whoever does it; then read all scores."""
        cells = {c.name: self.cell(c, rung, steps) for c in candidates}

        def is_done(cell: Cell) -> bool:
            return measured(cell, "p1", self.scope) is not None

        def work(cell: Cell, claim: int) -> None:
            if cell.trained() is None:
                verb = "going on" if cell.begun else f"training, {steps} steps"
                self.say(f"rung {rung}, {cell.row.name}: {verb}; {cell.log}")
                train(cell, claim, self.data, self.cache, self.guard)
            self.say(f"rung {rung}, {cell.row.name}: measuring")
            with progress() as bar:
                measure(cell, "p1", self.scope, self.parts, bar, self.engine)

        work_off(list(cells.values()), is_done, work, self.say)
        scores, missing = {}, {}
        for name, cell in cells.items():
            counts = measured(cell, "p1", self.scope)
            if counts is None:
                missing[name] = (cell.read("failed") or {}).get("message", "has no figures")
                continue
            figures = {t: f for t, f in figures_of(counts).items() if t != "accuracy"}
            scores[name] = Score(float(np.mean(list(figures.values()))), figures)
        return scores, missing
