# SPDX-License-Identifier: Apache-2.0
"""Trials: every scan of a split, clean and under every corruption, labelled and judged.

A trial keeps the confusion matrix and the gauges of its frame; what the drift score makes of them
is decided later, so that another reference needs no new pass through the network.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.evaluation.confusion import Counts, count
from pointdistill_ros.evaluation.corruptions.suite import corrupt
from pointdistill_ros.evaluation.drift.gauges import GAUGES, read_gauges
from pointdistill_ros.evaluation.walk import Labeller
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet

CLEAN = "clean"
"""Name of no corruption; its strength is 0."""


@dataclass(frozen=True, order=True)
class Cause:
    """What was done to a scan."""

    name: str
    strength: int


@dataclass(frozen=True, eq=False)
class Trial:
    """What one scan gave under one cause."""

    cause: Cause
    scan: int
    sequence: str
    counts: Counts
    """[C, C + 1] of the points that a surface returned."""
    gauges: NDArray[np.float64]
    """[G] of the frame."""

    def to_dict(self) -> dict[str, Any]:
        """JSON of numbers; NaN becomes None."""
        return {
            "name": self.cause.name,
            "strength": self.cause.strength,
            "scan": self.scan,
            "sequence": self.sequence,
            "counts": self.counts.tolist(),
            "gauges": [round(float(g), 5) if np.isfinite(g) else None for g in self.gauges],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Trial:
        """Inverse of ``to_dict``. Raises KeyError, TypeError, ValueError."""
        gauges = np.array(data["gauges"], np.float64)
        counts = np.array(data["counts"], np.int64)
        if gauges.shape != (len(GAUGES),) or counts.ndim != 2:
            raise ValueError("not a trial")
        cause = Cause(str(data["name"]), int(data["strength"]))
        return cls(cause, int(data["scan"]), str(data["sequence"]), counts, gauges)


def causes(names: Sequence[str], strengths: Sequence[int]) -> list[Cause]:
    """Clean first, then every corruption at every strength."""
    return [Cause(CLEAN, 0), *(Cause(name, strength) for name in names for strength in strengths)]


def fingerprint() -> str:
    """Of the code that corrupts and reads: other code gives other trials."""
    here = Path(__file__).resolve().parent
    files = [*here.glob("*.py"), *(here.parent / "drift" / f"{n}.py" for n in ("gauges", "ground"))]
    digest = hashlib.sha256()
    for file in sorted(f for f in files if f.name not in ("table.py", "trial.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def run_trials(
    labeller: Labeller,
    scans: LabelledScans,
    label_set: LabelSet,
    wanted: Sequence[Cause],
    seed: int = 0,
    journal: TrialJournal | None = None,
    on_trial: Callable[[int], None] = lambda done: None,
) -> Iterator[Trial]:
    """One trial per scan and cause; dice differ from scan to scan. Raises InputError, LabelError.

    ``journal`` keeps trials as soon as they are known and hands out those of an earlier run.
    """
    to_judged = scans.label_set.remap_to(label_set)
    from_network = labeller.label_set.remap_to(label_set)
    done = 0
    for i in range(len(scans)):
        loaded = None
        for cause in wanted:
            trial = journal.known.get((cause, i)) if journal else None
            if trial is None:
                loaded = loaded or scans[i]
                scan, truth = loaded
                if cause.name != CLEAN:
                    found = corrupt(cause.name, scan, truth, cause.strength, seed + i)
                    scan, truth = found.scan, found.labels
                result = labeller(scan)
                counts = count(from_network[result.labels], to_judged[truth], len(label_set))
                gauges = read_gauges(scan, result)
                trial = Trial(cause, i, scans.sequences[i], counts, gauges)
                if journal:
                    journal.add(trial)
            done += 1
            on_trial(done)
            yield trial


class TrialJournal:
    """Trials on disk, one JSON line each, under a first line that says what was measured."""

    def __init__(self, path: Path, measured: dict[str, Any]) -> None:
        """Continue ``path`` where its first line equals ``measured``, else begin it anew."""
        self.path = path
        self.known: dict[tuple[Cause, int], Trial] = {}
        """Trials of an earlier run."""
        head = json.dumps({**measured, "code": fingerprint()}, sort_keys=True)
        lines = [head]
        if path.is_file():
            first, *rest = path.read_text().splitlines() or [""]
            for line in rest if first == head else []:
                try:
                    trial = Trial.from_dict(json.loads(line))
                except (ValueError, KeyError, TypeError):  # cut off by a crash
                    break
                self.known[trial.cause, trial.scan] = trial
                lines.append(line)
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def add(self, trial: Trial) -> None:
        """Keep a trial."""
        with self.path.open("a") as file:
            file.write(json.dumps(trial.to_dict()) + "\n")
