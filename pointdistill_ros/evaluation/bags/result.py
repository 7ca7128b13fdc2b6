# SPDX-License-Identifier: Apache-2.0
"""Everything the evaluation of a bag found: sums over its frames, as data for tables and pages.

``results`` depends on the data and the networks only, ``timing`` on the machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.evaluation.agreement import Agreement
from pointdistill_ros.evaluation.bags.finding import BagCheck
from pointdistill_ros.evaluation.bags.frame_record import FrameRecord
from pointdistill_ros.evaluation.bags.labelling import STUDENT, TEACHER
from pointdistill_ros.evaluation.bags.live import Live, simulate
from pointdistill_ros.evaluation.bags.stability import FrameStability
from pointdistill_ros.evaluation.distance import EDGES, band_name
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.motion.trajectory import Pose
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet

FORMAT = 1
PERCENTS = (50, 90, 99, 100)
_STEPS = ("decode", "geometry", "network", "points", "encode", "total", "cpu", TEACHER)


@dataclass(frozen=True)
class Network:
    """Student or teacher."""

    name: str
    sha256: str
    parameters: int
    grid_size: float
    engine: str
    label_set: LabelSet

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        plain = ("name", "sha256", "parameters", "grid_size", "engine")
        return {**{k: getattr(self, k) for k in plain}, "label_set": self.label_set.name}


@dataclass(frozen=True, eq=False)
class BagEvaluation:
    """One bag, one or two networks."""

    data: Mapping[str, Any]
    """``bag``, ``topic``, ``clouds``, ``labels`` (where from), ``workers``, ``input`` options."""
    networks: Mapping[str, Network]
    """``student``, and ``teacher`` where there is one."""
    records: Sequence[FrameRecord]
    """Every frame of the bag, in order."""
    stabilities: Mapping[int, FrameStability]
    """By frame; only those that have scans before them."""
    motion: Mapping[str, Any]
    """``source``, ``notes``, ``known``, ``metres``, of the ego-motion."""
    poses: Sequence[Pose | None]
    """Of the sensor, one a frame."""
    scores: Mapping[str, Figures]
    """Of student and teacher, where there are true labels."""
    agreement_set: LabelSet | None
    """Classes in which teacher and student are compared."""
    truth_set: LabelSet | None
    check: BagCheck
    command: str = ""
    version: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def labelled(self) -> list[FrameRecord]:
        """Frames that could be read."""
        return [record for record in self.records if not record.error]

    @property
    def failed(self) -> list[FrameRecord]:
        """Frames that could not."""
        return [record for record in self.records if record.error]

    @cached_property
    def agreement(self) -> Agreement | None:
        """Of teacher and student over all frames."""
        found = [r.agreement for r in self.labelled if r.agreement is not None]
        return _sum(found)

    @cached_property
    def stability(self) -> dict[str, Agreement]:
        """Of each labelling over all frames: label carried over, label now."""
        names = dict.fromkeys(n for s in self.stabilities.values() for n in s.tables)
        tables = {
            name: _sum([s.tables[name] for s in self.stabilities.values() if name in s.tables])
            for name in names
        }
        return {name: table for name, table in tables.items() if table is not None}

    def flips(self, index: int, name: str = STUDENT) -> float | None:
        """Share of a frame's static points that flip; None where it is not known."""
        found = self.stabilities.get(index)
        if found is None or name not in found.tables or not found.tables[name].points:
            return None
        return 1 - found.tables[name].agreement

    @cached_property
    def arrivals(self) -> list[float]:
        """Seconds since the first frame at which each readable one was recorded."""
        first = self.records[0].time_ns
        return [(record.time_ns - first) * 1e-9 for record in self.labelled]

    @cached_property
    def live(self) -> Live:
        """What a node fed at the bag's pace would have done on this machine."""
        return simulate(self.arrivals, [1e-3 * r.milliseconds["total"] for r in self.labelled])

    @property
    def seconds(self) -> float:
        """Length of the recording."""
        return (self.records[-1].time_ns - self.records[0].time_ns) * 1e-9

    @cached_property
    def digest(self) -> str:
        """Of all labelled clouds in order."""
        return hashlib.sha256("".join(r.sha256 for r in self.records).encode()).hexdigest()

    def timing(self) -> dict[str, Any]:
        """Percentiles of every step in milliseconds, and throughput."""
        steps = list(dict.fromkeys(step for r in self.labelled for step in r.milliseconds))
        steps.sort(key=lambda step: _STEPS.index(step) if step in _STEPS else len(_STEPS))
        values = {
            step: [r.milliseconds[step] for r in self.labelled if step in r.milliseconds]
            for step in steps
        }
        mean = float(np.mean(values["total"])) if values.get("total") else float("nan")
        points = sum(r.points for r in self.labelled) / max(len(self.labelled), 1)
        pace = len(self.records) / self.seconds if self.seconds else None
        return {
            "milliseconds": {
                step: {
                    **{_percent(p): round(float(np.percentile(v, p)), 2) for p in PERCENTS},
                    "mean": round(float(np.mean(v)), 2),
                }
                for step, v in values.items()
            },
            "scans_per_second": short(1e3 / mean, 3),
            "points_per_second": short(1e3 * points / mean, 0),
            "of_the_sensors_pace": short(1e3 / mean / pace, 3) if pace else None,
            "workers": self.data.get("workers", 1),
            "live": {
                "labelled": len(self.live.labelled),
                "of": len(self.labelled),
                "age_ms": {_percent(p): short(1e3 * self.live.age(p), 1) for p in PERCENTS},
            },
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "format": FORMAT,
            "version": self.version,
            "command": self.command,
            "data": dict(self.data),
            "networks": {name: network.to_dict() for name, network in self.networks.items()},
            "results": self.results(),
            "timing": self.timing(),
            "check": self.check.to_dict(),
            "notes": list(self.notes),
        }

    def results(self) -> dict[str, Any]:
        """The same for any number of processes, on every run."""
        found: dict[str, Any] = {
            "frames": len(self.records),
            "labelled": len(self.labelled),
            "failed": {r.index: r.error for r in self.failed},
            "points": sum(r.points for r in self.labelled),
            "sha256": self.digest,
            "classes": self.class_points(),
            "ego_motion": dict(self.motion),
            "by_frame": [self._frame(record) for record in self.records],
        }
        if self.agreement is not None and self.agreement_set is not None:
            found["agreement"] = agreement_dict(self.agreement, self.agreement_set)
        if self.scores:
            found["labels"] = {name: figures.to_dict() for name, figures in self.scores.items()}
        if self.stability:
            found["stability"] = {
                name: {
                    "frames": len(self.stabilities),
                    "flips": short(1 - table.agreement),
                    **agreement_dict(table, self.set_of(name)),
                }
                for name, table in self.stability.items()
            }
        return found

    def class_points(self) -> dict[str, int]:
        """Points per class of the student, without a class last."""
        names = (*self.networks[STUDENT].label_set.names, "unlabelled")
        total = np.sum([r.counts for r in self.labelled], axis=0) if self.labelled else [0] * 256
        return {name: int(n) for name, n in zip(names, total, strict=False) if n}

    def set_of(self, labelling: str) -> LabelSet:
        """Classes of student, teacher or the true labels."""
        if labelling in self.networks:
            return self.networks[labelling].label_set
        assert self.truth_set is not None
        return self.truth_set

    def _frame(self, record: FrameRecord) -> dict[str, Any]:
        score = record.scores.get(STUDENT)
        return {
            "index": record.index,
            "stamp_ns": record.stamp_ns,
            "points": record.points,
            "sha256": record.sha256,
            "probability": short(record.probability),
            "agreement": short(record.agreement.agreement) if record.agreement else None,
            "accuracy": short(score.accuracy) if score else None,
            "flips": short(self.flips(record.index)),
        }

    def save(self, path: Path) -> None:
        """Write JSON; the file appears whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(self.to_dict(), indent=1) + "\n")


def agreement_dict(found: Agreement, label_set: LabelSet) -> dict[str, Any]:
    """Plain data of an agreement; classes that occur only."""
    names = (*label_set.names, "nothing")
    return {
        "points": found.points,
        "agreement": short(found.agreement),
        "mean_iou": short(found.mean_iou),
        "divergence": short(found.divergence),
        "basis": found.basis,
        "classes": {
            name: short(iou)
            for name, iou in zip(label_set.names, found.class_iou, strict=True)
            if np.isfinite(iou)
        },
        "differences": [
            {
                "first": names[min(a, len(label_set))],
                "second": names[min(b, len(label_set))],
                "points": n,
            }
            for a, b, n in found.greatest_differences(8)
        ],
        "distance": [
            {
                "band": band_name(band),
                "from": EDGES[band],
                "points": int(found.points_by_band[band]),
                "agreement": short(found.agreement_by_band[band]),
                "divergence": short(found.divergence_by_band[band]),
            }
            for band in range(len(EDGES))
        ],
    }


def short(value: float | None, digits: int = 4) -> float | None:
    """Rounded; None where there is no figure."""
    return None if value is None or not np.isfinite(value) else round(float(value), digits)


def _sum(parts: Sequence[Agreement]) -> Agreement | None:
    if not parts:
        return None
    return Agreement(
        np.sum([part.counts for part in parts], axis=0),
        np.sum([part.divergences for part in parts], axis=0),
        parts[0].basis,
    )


def _percent(percent: int) -> str:
    return "max" if percent == 100 else f"p{percent}"
