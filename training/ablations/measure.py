# SPDX-License-Identifier: Apache-2.0
"""Figures of a finished run: measured once, kept beside it as counts, read for every report.

Counts are kept per drive (for simulated scans: per street), because an interval over streets
needs them. They are valid for the weights, the data folder and the streets they were taken with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.engine.interface import EngineName
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bootstrap import by_scene
from pointdistill_ros.evaluation.confusion import iou_per_class, mean_over, overall_accuracy
from pointdistill_ros.evaluation.confusion import true_points as points_of
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.protocols.labellers import ProtocolName
from pointdistill_ros.segmenter import Segmenter
from training.ablations.cell import Cell
from training.evaluate import evaluate
from training.validation import MAIN, Part

MAIN_FIGURE = "main figure"
ACCURACY = "accuracy"
SIMULATED = "simulated"


@dataclass(frozen=True)
class Scope:
    """What is measured on, as far as figures depend on it."""

    data: bool
    """Real scans."""
    drives: int
    """Unseen simulated streets."""


@dataclass(frozen=True, eq=False)
class PartCounts:
    """Everything that is kept of one part of the validation."""

    scenes: tuple[str, ...]
    """Drives or streets."""
    counts: NDArray[np.int64]
    """[S, C, C + 1] confusion per scene."""
    min_points: int
    """Classes with fewer true points enter no mean."""

    @classmethod
    def of(cls, figures: Figures) -> PartCounts:
        """From figures of scans."""
        tallies = figures.tallies
        counts = by_scene([t.counts for t in tallies], [t.sequence for t in tallies])
        return cls(figures.sequences, counts, figures.min_points)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """[C] the classes that enter the mean."""
        return np.asarray(points_of(self.counts.sum(axis=0)) >= max(self.min_points, 1))

    @property
    def miou(self) -> float:
        """Mean IoU of the whole part."""
        return float(mean_over(iou_per_class(self.counts.sum(axis=0)), self.counted))

    @property
    def accuracy(self) -> float:
        """Share of right points."""
        return float(overall_accuracy(self.counts.sum(axis=0)))

    def same_scans(self, other: PartCounts) -> bool:
        """Whether both were counted on the same points, scene by scene."""
        mine, theirs = points_of(self.counts), points_of(other.counts)
        return self.scenes == other.scenes and np.array_equal(mine, theirs)


Parts = dict[str, PartCounts]
"""By title."""


def figures_of(parts: Mapping[str, PartCounts]) -> dict[str, float]:
    """What rows are compared by, shares; without real scans there is no main figure."""
    main = [part for title, part in parts.items() if title.startswith(f"{MAIN} ")]
    values = {}
    if main:
        values[MAIN_FIGURE] = float(np.mean([part.miou for part in main]))
        values[ACCURACY] = float(np.mean([part.accuracy for part in main]))
    values |= {t: p.miou for t, p in parts.items() if not t.startswith(f"{MAIN} ")}
    return {name: value for name, value in values.items() if np.isfinite(value)}


def measure(
    cell: Cell,
    protocol: ProtocolName,
    scope: Scope,
    parts: Sequence[Part],
    bar: Bar = lambda title, scans: lambda done: None,
    engine: EngineName | Literal["auto"] = "auto",
) -> None:
    """Evaluate a trained cell on ``parts`` and keep the counts. Raises CheckpointError."""
    weights = cell.trained()
    assert weights is not None
    segmenter = Segmenter.load(weights, engine=engine)
    found = evaluate(segmenter, parts, protocol, bar)
    kept = {title: PartCounts.of(figures) for title, figures in found.items()}
    cell.write(f"figures-{protocol}", {"key": _key(cell, scope), "parts": _plain(kept)})


def measured(cell: Cell, protocol: ProtocolName, scope: Scope) -> Parts | None:
    """What ``measure`` kept; None where that was never, or for other weights or scans."""
    found = cell.read(f"figures-{protocol}")
    if found is None or cell.trained() is None or found.get("key") != _key(cell, scope):
        return None
    try:
        return {
            title: PartCounts(
                tuple(part["scenes"]), np.array(part["counts"], np.int64), part["min_points"]
            )
            for title, part in found["parts"].items()
        }
    except (KeyError, TypeError, ValueError) as error:
        path = cell.folder / f"figures-{protocol}.json"
        raise InputError(f"{path}: not the figures of a run ({error!r}); delete it") from error


def _key(cell: Cell, scope: Scope) -> dict[str, Any]:
    digest = (cell.read("trained") or {}).get("sha256")
    return {"weights": digest, "data": scope.data, "drives": scope.drives}


def _plain(parts: Parts) -> dict[str, Any]:
    return {
        title: {
            "scenes": part.scenes,
            "min_points": part.min_points,
            "counts": part.counts.tolist(),
        }
        for title, part in parts.items()
    }
