# SPDX-License-Identifier: Apache-2.0
"""From finished runs to what a report shows: means, spreads, paired differences, costs, gaps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pointdistill_ros.errors import InputError
from pointdistill_ros.protocols.labellers import ProtocolName
from training.ablations.cell import Cell
from training.ablations.intervals import Interval, over_seeds, over_streets, student_t
from training.ablations.measure import SIMULATED, Parts, Scope, figures_of, measured
from training.ablations.plan import Row
from training.ablations.steps import StepCost, step_cost


@dataclass(frozen=True)
class Spread:
    """A figure of a row over its seeds; shares or seconds."""

    mean: float
    std: float | None
    """Sample deviation; None for one seed."""
    values: dict[int, float]
    """By seed."""

    @classmethod
    def of(cls, values: dict[int, float]) -> Spread:
        """Of at least one value."""
        each = list(values.values())
        std = float(np.std(each, ddof=1)) if len(each) > 1 else None
        return cls(float(np.mean(each)), std, values)


@dataclass(frozen=True)
class Difference:
    """A row minus the row it is compared with, seed by seed; shares."""

    spread: Spread
    interval: Interval | None
    """Bootstrap over seeds."""
    t_interval: Interval | None
    """Student's t."""
    streets: int = 0
    """Of the two intervals below; simulated streets only."""
    over_streets: Interval | None = None
    over_seeds_and_streets: Interval | None = None


@dataclass(frozen=True)
class RowResult:
    """What is known of a row."""

    row: Row
    figures: dict[str, dict[str, Spread]] = field(default_factory=dict)
    """Protocol → figure → spread."""
    differences: dict[str, dict[str, Difference]] = field(default_factory=dict)
    """Protocol → figure → difference; empty for a row that is compared with none."""
    step_seconds: Spread | None = None
    step_ratio: Spread | None = None
    """Seconds per step ÷ those of the row it is compared with, seed by seed."""


@dataclass(frozen=True)
class Results:
    """Everything a report shows."""

    rows: tuple[RowResult, ...]
    protocols: tuple[ProtocolName, ...]
    seeds: tuple[int, ...]
    """Of the plan."""
    missing: dict[str, str]
    """Cell that has no figures → why not."""


def collect(cells: Sequence[Cell], protocols: Sequence[ProtocolName], scope: Scope) -> Results:
    """Read what the cells' folders hold. Raises InputError where runs cannot be compared."""
    parts: dict[tuple[str, int, str], Parts] = {}
    costs: dict[tuple[str, int], float] = {}
    missing = {}
    for cell in cells:
        for protocol in protocols:
            if (found := measured(cell, protocol, scope)) is not None:
                parts[cell.row.name, cell.seed, protocol] = found
        absent = [p for p in protocols if (cell.row.name, cell.seed, p) not in parts]
        cost = step_cost(cell.folder / "metrics.jsonl")
        if cell.trained() is not None and np.isfinite(cost.seconds):
            costs[cell.row.name, cell.seed] = cost.seconds
        if absent:
            missing[cell.name] = _why(cell, cost, absent)
    seeds = tuple(dict.fromkeys(cell.seed for cell in cells))

    def result(row: Row) -> RowResult:
        """One row of the tables."""
        other, title = row.against or "", f"{row.name} and {row.against}"
        runs = {
            p: [{s: parts[r, s, p] for s in seeds if (r, s, p) in parts} for r in (row.name, other)]
            for p in protocols
        }
        own = {s: costs[row.name, s] for s in seeds if (row.name, s) in costs}
        ratio = {s: v / costs[other, s] for s, v in own.items() if (other, s) in costs}
        return RowResult(
            row,
            {p: spreads(ours) for p, (ours, _) in runs.items()},
            {p: differences(ours, theirs, title) for p, (ours, theirs) in runs.items()},
            Spread.of(own) if own else None,
            Spread.of(ratio) if ratio else None,
        )

    rows = {cell.row.name: cell.row for cell in cells}
    return Results(tuple(map(result, rows.values())), tuple(protocols), seeds, missing)


def spreads(runs: Mapping[int, Parts]) -> dict[str, Spread]:
    """Every figure of one row's runs, by seed."""
    each = {seed: figures_of(parts) for seed, parts in runs.items()}
    names = dict.fromkeys(name for figures in each.values() for name in figures)
    return {n: Spread.of({s: f[n] for s, f in each.items() if n in f}) for n in names}


def differences(
    ours: Mapping[int, Parts], theirs: Mapping[int, Parts], title: str = "two rows"
) -> dict[str, Difference]:
    """Every figure, paired by the seeds that both have. Raises InputError on different scans."""
    both = [seed for seed in ours if seed in theirs]
    for seed in both:
        for part, counts in ours[seed].items():
            others = [runs.get(part) for runs in (theirs[seed], ours[both[0]])]
            if not all(other and counts.same_scans(other) for other in others):
                raise InputError(
                    f"{title}, seed {seed}: {part} was not measured on the same scans; "
                    "delete the older figures-*.json, it is measured again"
                )
    a, b = (spreads({s: runs[s] for s in both}) for runs in (ours, theirs))
    found = {}
    for name in a:
        values = {s: v - b[name].values[s] for s, v in a[name].values.items()}
        each = list(values.values())
        found[name] = Difference(Spread.of(values), over_seeds(each), student_t(each))
        if name == SIMULATED:
            found[name] = _with_streets(found[name], ours, theirs)
    return found


def _with_streets(
    difference: Difference, ours: Mapping[int, Parts], theirs: Mapping[int, Parts]
) -> Difference:
    seeds = list(difference.spread.values)
    first = ours[seeds[0]][SIMULATED]
    mine, other = (np.stack([runs[s][SIMULATED].counts for s in seeds]) for runs in (ours, theirs))
    streets, both = over_streets(mine, other, first.counted)
    return Difference(
        difference.spread,
        difference.interval,
        difference.t_interval,
        len(first.scenes),
        streets,
        both,
    )


def _why(cell: Cell, cost: StepCost, absent: Sequence[str]) -> str:
    """Why a cell has no figures."""
    length = f" of {cell.config.steps}" if cell.config.steps else ""
    if cell.trained() is not None:
        state = f"trained, not measured under {', '.join(absent)}"
    elif cost.steps:
        state = f"trained to step {cost.steps}{length}"
    else:
        state = "begun" if cell.begun else "not begun"
    if cell.taken():
        return f"{state}; in work"
    failure = cell.read("failed")
    return f"{state}; failed: {failure['message']}" if failure else state
