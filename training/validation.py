# SPDX-License-Identifier: Apache-2.0
"""The project's own validation: which scans, in which classes, and what sums them up.

- SemanticKITTI 07 and 10 in 19 classes: the main figure is the mean of their two mIoUs
- PandaSet 003 and the end of the ika drive in the seven classes that all data sets share; both
  continue a drive of the training data and are smoke tests
- simulated streets whose seeds training never uses
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.evaluation.figures import MIN_POINTS, Figures
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.evaluation.walk import Labeller, shared_label_set, walk
from pointdistill_ros.labels import LabelSet

FIRST_UNSEEN_SEED = 100_000
"""Streets from here on are for evaluation only."""
MAIN = "semantic-kitti"
MAIN_SEQUENCES = ("07", "10")
FOREIGN = {"pandaset": ("003",), "ika-vlp32": None}
"""Judged in the common classes; None = every sequence of the split."""
CONFUSIONS = (
    ("road", "sidewalk"),
    ("sidewalk", "road"),
    ("building", "fence"),
    ("fence", "building"),
    ("terrain", "vegetation"),
    ("vegetation", "terrain"),
)
"""True class and what it is mistaken for."""


@dataclass(frozen=True)
class Part:
    """Scans that get figures of their own."""

    title: str
    dataset: str
    """Decides the views of P3."""
    scans: LabelledScans


def validation_parts(data: Path | None, cache: Path, drives: int) -> list[Part]:
    """All parts there is data for.

    data: folder of packed scans; cache: rendered streets; drives: unseen streets, two scans each.
    Raises InputError.
    """
    parts = []
    if data:
        convention = SensorConvention.named(MAIN)
        for sequence in MAIN_SEQUENCES:
            scans = PackedScans(data, convention, "val", [sequence])
            parts.append(Part(f"{MAIN} {sequence}", MAIN, scans))
        common = LabelSet.named("common7")
        for dataset, sequences in FOREIGN.items():
            convention = SensorConvention.named(dataset)
            scans = PackedScans(data, convention, "val", sequences, common)
            parts.append(Part(" ".join([dataset, *(sequences or ())]), dataset, scans))
    if drives:
        seeds = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + drives)
        streets = SimulatedStreets(cache, seeds, frames=2, stride=25)
        parts.append(Part("simulated", "simulated", streets))
    return parts


def validate(
    labeller_for: Callable[[str], Labeller],
    parts: Sequence[Part],
    bar: Bar = lambda title, scans: lambda done: None,
    min_points: int = MIN_POINTS,
) -> dict[str, Figures]:
    """Figures of every part; ``labeller_for`` makes the labeller of a data set."""
    figures = {}
    for part in parts:
        labeller = labeller_for(part.dataset)
        label_set = shared_label_set(labeller.label_set, part.scans.label_set)
        on_scan = bar(part.title, len(part.scans))
        tallies = walk(labeller, part.scans, label_set, on_scan=on_scan)
        figures[part.title] = Figures(tallies, label_set, min_points)
    return figures


def summary(figures: dict[str, Figures]) -> dict[str, float]:
    """What a run is judged by, as far as there is data; empty without the main sequences."""
    main = [part for title, part in figures.items() if title.startswith(f"{MAIN} ")]
    if not main:
        return {}
    pooled = ConfusionMatrix(len(main[0].label_set))
    for part in main:
        pooled += part.matrix
    least = main[0].min_points
    values: dict[str, Any] = {
        "main figure": np.mean([part.miou for part in main]),
        "mean accuracy": np.mean([part.accuracy for part in main]),
        "pooled accuracy": pooled.accuracy(),
        "pooled mIoU": pooled.miou(least),
        "pooled class accuracy": pooled.mean_class_accuracy(least),
        **{title: part.miou for title, part in figures.items()},
    }
    names = main[0].label_set.names
    for truth, mistaken in CONFUSIONS:
        if truth in names and mistaken in names:
            share = pooled.share(names.index(truth), names.index(mistaken))
            values[f"{truth} called {mistaken}"] = share
    return {name: round(float(v), 4) for name, v in values.items() if np.isfinite(v)}


def spread(summaries: Sequence[dict[str, float]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation (n − 1) of every figure over several weights."""
    return {
        name: {
            "mean": round(float(np.mean(values)), 4),
            "std": round(float(np.std(values, ddof=1)), 4) if len(values) > 1 else None,
            "n": len(values),
        }
        for name in dict.fromkeys(name for one in summaries for name in one)
        if (values := [one[name] for one in summaries if name in one])
    }
