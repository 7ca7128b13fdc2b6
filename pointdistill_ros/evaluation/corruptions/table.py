# SPDX-License-Identifier: Apache-2.0
"""Trials → rows: mIoU and share of flagged frames per corruption and strength; Markdown, JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pointdistill_ros.evaluation.confusion import (
    Counts,
    iou_per_class,
    mean_over,
    overall_accuracy,
    true_points,
)
from pointdistill_ros.evaluation.corruptions.suite import CORRUPTIONS, STRONG
from pointdistill_ros.evaluation.corruptions.trial import CLEAN, Cause, Trial
from pointdistill_ros.evaluation.drift.reference import DriftReference

HARM = 0.05
"""Loss of mIoU from which a corruption is called harmful."""


@dataclass(frozen=True)
class Row:
    """One corruption at one strength, over all scans."""

    name: str
    strength: int
    scans: int
    miou: float
    """Of one matrix over all scans, over the classes with enough points in the clean ones."""
    loss: float
    """Clean mIoU − this."""
    accuracy: float
    flagged: float | None
    """Share of the frames with a score ≥ ``warn``; None without a reference."""
    score: tuple[float, float, float] | None
    """Lowest, median and highest drift score."""


def rows(
    trials: Iterable[Trial], min_points: int, reference: DriftReference | None, warn: float = 1.0
) -> list[Row]:
    """Rows in the order of the first trial of each cause; clean trials must be among them."""
    by_cause: dict[Cause, list[Trial]] = {}
    for trial in trials:
        by_cause.setdefault(trial.cause, []).append(trial)
    clean = _sum(by_cause[Cause(CLEAN, 0)])
    classes = np.asarray(true_points(clean) >= max(min_points, 1))
    whole = float(mean_over(iou_per_class(clean), classes))
    found = []
    for cause, members in by_cause.items():
        counts = _sum(members)
        miou = float(mean_over(iou_per_class(counts), classes))
        scores = np.sort([reference(t.gauges).score for t in members] if reference else [])
        found.append(
            Row(
                cause.name,
                cause.strength,
                len(members),
                miou,
                whole - miou,
                float(overall_accuracy(counts)),
                float((scores >= warn).mean()) if len(scores) else None,
                (float(scores[0]), float(np.median(scores)), float(scores[-1]))
                if len(scores)
                else None,
            )
        )
    return found


def _sum(trials: Sequence[Trial]) -> Counts:
    return np.asarray(np.sum([trial.counts for trial in trials], axis=0))


def summary(table: Sequence[Row]) -> dict[str, Any]:
    """Shares of flagged frames: clean, strong (strengths 4 and 5), and strong where it harms."""
    if not table or any(row.flagged is None for row in table):
        return {}
    strong = [row for row in table if row.strength in STRONG]
    groups = {
        "clean": [row for row in table if row.name == CLEAN],
        "strong": strong,
        "strong and harmful": [row for row in strong if row.loss >= HARM],
        "harmful": [row for row in table if row.loss >= HARM],
    }
    return {
        name: {
            "frames": sum(row.scans for row in members),
            "flagged": sum((row.flagged or 0.0) * row.scans for row in members)
            / sum(row.scans for row in members),
        }
        for name, members in groups.items()
        if members
    }


def markdown(table: Sequence[Row]) -> Iterator[str]:
    """Lines of a table: one per corruption, one column per strength; mIoU, flagged below."""
    strengths = sorted({row.strength for row in table if row.strength})
    cells = {(row.name, row.strength): row for row in table}
    clean = cells[CLEAN, 0]
    yield f"Clean: mIoU {clean.miou:.3f}, {_flag(clean)}."
    yield ""
    yield "| corruption | strengths mean | " + " | ".join(f"{s}" for s in strengths) + " |"
    yield "|---|---|" + "---:|" * len(strengths)
    for name in dict.fromkeys(row.name for row in table if row.name != CLEAN):
        found = CORRUPTIONS[name]
        grades = ", ".join(f"{found.grades[s - 1]:g}" for s in strengths)
        row = (_cell(cells.get((name, s))) for s in strengths)
        yield f"| {name} | {grades} {found.unit} | " + " | ".join(row) + " |"


def to_dict(table: Sequence[Row]) -> dict[str, Any]:
    """JSON of the rows and their summary."""
    return {"rows": [asdict(row) for row in table], "summary": summary(table)}


def _cell(row: Row | None) -> str:
    return "" if row is None else f"{row.miou:.3f}, {_flag(row)}"


def _flag(row: Row) -> str:
    return "not judged" if row.flagged is None else f"{row.flagged:.0%} flagged"
