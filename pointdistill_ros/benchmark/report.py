# SPDX-License-Identifier: Apache-2.0
"""What a benchmark found, as data: rows, ratios, exponent, JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pointdistill_ros.benchmark.parity import Parity
from pointdistill_ros.benchmark.subjects import PLAIN
from pointdistill_ros.benchmark.timing import Spread
from pointdistill_ros.io.atomic import atomic_path

FORMAT = 1
RATIOS = (
    "student_vs_plain_student",
    "student_vs_plain_teacher",
    "teacher_vs_plain_teacher",
    "shipped_vs_plain_shipped",
)
"""Candidate and opponent; a ratio of 4 means that the candidate needs a quarter of the time."""


@dataclass
class Row:
    """One network in one form on one scan."""

    model: str
    form: str
    precision: str
    own: bool
    """One of our compiled engines."""
    detail: str
    """What exactly ran."""
    scan: str
    wall: Spread | None = None
    one_thread: Spread | None = None
    """The same with one thread; its CPU time is the figure to trust on a loaded machine."""
    parity: Parity | None = None
    parts: dict[str, float] = field(default_factory=dict)
    """Medians, milliseconds; ``total`` is the whole ``segmenter(scan)``."""
    peak_memory: int | None = None
    """Bytes above the loaded process, once warm."""
    first_memory: int | None = None
    """The same during the first scan of that size, while buffers grow."""
    arena: int | None = None
    """Of that, working memory the engine keeps, bytes."""
    memory_note: str = ""
    """Why there is no figure."""


@dataclass(frozen=True)
class ScanFacts:
    """A scan as one network sees it."""

    scan: str
    points: int
    model: str
    grid: float
    rows: tuple[int, ...]
    """Voxels per level."""
    pairs: tuple[int, ...]
    """Neighbour pairs of the 3³ kernel per level, self included."""
    stem_pairs: int
    """Of the 5³ stem."""


@dataclass(frozen=True)
class Missing:
    """A form that cannot run."""

    model: str
    form: str
    reason: str


@dataclass(frozen=True)
class ScalingPoint:
    """One size of the scaling run."""

    form: str
    points: int
    voxels: int
    n: int
    p50: float
    cpu: float


@dataclass(frozen=True)
class RooflineRow:
    """Work of one part (or ``total``) and the share of the machine's peak that it reached."""

    model: str
    form: str
    part: str
    gflop: float
    megabytes: float
    milliseconds: float | None
    share: float | None
    """FLOP/s over the peak, 0..1."""
    limit: float | None
    """Least milliseconds the machine's peaks allow."""


@dataclass(frozen=True)
class BusyRow:
    """One form alone, and beside one spinning process per core."""

    form: str
    idle: Spread
    busy: Spread


@dataclass
class Report:
    """Everything one run of the benchmark found."""

    machine: dict[str, str]
    options: dict[str, Any]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    reference_scan: str = ""
    """The scan of the ratios: the one with the most points."""
    scans: list[ScanFacts] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    scaling: list[ScalingPoint] = field(default_factory=list)
    roofline: list[RooflineRow] = field(default_factory=list)
    peaks: dict[str, Any] = field(default_factory=dict)
    busy: list[BusyRow] = field(default_factory=list)
    load: dict[str, Any] = field(default_factory=dict)
    """Load average before and after, the share of the cores' time that others used meanwhile."""

    def row(self, model: str, form: str, scan: str) -> Row:
        """The row of that cell. Raises KeyError."""
        for row in self.rows:
            if (row.model, row.form, row.scan) == (model, form, scan):
                return row
        raise KeyError((model, form, scan))

    def milliseconds(self, row: Row, one_thread: bool) -> float | None:
        """The median that ratios are made of: wall, or CPU time with one thread."""
        if one_thread:
            return row.one_thread.cpu if row.one_thread else None
        return row.wall.p50 if row.wall else None

    def ratio(
        self,
        candidate: str,
        opponent: str,
        scan: str,
        precision: str | None = None,
        one_thread: bool = False,
    ) -> float | None:
        """Plain ``opponent`` over the fastest own form of ``candidate`` that keeps parity.

        precision: only forms of that one. None where nothing was measured.
        """
        times = [
            time
            for row in self.rows
            if row.model == candidate and row.scan == scan and row.own
            if precision in (None, row.precision) and (row.parity is None or row.parity.kept)
            if (time := self.milliseconds(row, one_thread)) is not None
        ]
        plain = [
            time
            for row in self.rows
            if (row.model, row.form, row.scan) == (opponent, PLAIN.name, scan)
            if (time := self.milliseconds(row, one_thread)) is not None
        ]
        return plain[0] / min(times) if plain and times else None

    def ratios(
        self, scan: str = "", precision: str | None = None, one_thread: bool = False
    ) -> dict[str, float | None]:
        """All of ``RATIOS`` on one scan, by default the reference scan."""
        found = {}
        for name in RATIOS:
            candidate, opponent = name.split("_vs_plain_")
            found[name] = self.ratio(
                candidate, opponent, scan or self.reference_scan, precision, one_thread
            )
        return found

    def exponents(self, cpu: bool = False) -> dict[str, float]:
        """Per form: wall (or CPU) time grows as voxels to this power."""
        found = {}
        for form in dict.fromkeys(point.form for point in self.scaling):
            points = [p for p in self.scaling if p.form == form]
            slope = exponent([(p.voxels, p.cpu if cpu else p.p50) for p in points])
            if slope is not None:
                found[form] = slope
        return found

    def exponent(self) -> float | None:
        """Of the own form that is fastest at the largest scan; the plain one's without any."""
        exponents = self.exponents()
        if not exponents:
            return None
        largest = max(p.points for p in self.scaling)
        own = {row.form for row in self.rows if row.own}
        at_largest = {p.form: p.p50 for p in self.scaling if p.points == largest}
        candidates = [form for form in exponents if form in own] or list(exponents)
        return exponents[min(candidates, key=lambda form: at_largest.get(form, math.inf))]

    def parity(self) -> dict[str, dict[str, Any]]:
        """Per network and form the worst figures over all scans."""
        worst: dict[str, dict[str, Any]] = {}
        for row in self.rows:
            if row.parity is None or row.form == PLAIN.name:
                continue
            entry = worst.setdefault(
                f"{row.model} {row.form}",
                {"equal_labels": 1.0, "max_logit_error": None, "kept": True},
            )
            entry["equal_labels"] = min(entry["equal_labels"], row.parity.equal_labels)
            entry["kept"] = entry["kept"] and row.parity.kept
            if row.parity.max_logit_error is not None:
                known = entry["max_logit_error"] or 0.0
                entry["max_logit_error"] = max(known, row.parity.max_logit_error)
        return worst

    def to_dict(self) -> dict[str, Any]:
        """Plain data; what was not measured is null."""
        precisions = sorted({row.precision for row in self.rows if row.own})
        scans = dict.fromkeys(row.scan for row in self.rows)
        return {
            "format": FORMAT,
            "ratios": self.ratios(),
            **{f"ratios_{p}": self.ratios(precision=p) for p in precisions},
            "ratios_one_thread": self.ratios(one_thread=True),
            **{
                f"ratios_one_thread_{p}": self.ratios(precision=p, one_thread=True)
                for p in precisions
            },
            "ratios_by_scan": {scan: self.ratios(scan) for scan in scans},
            "exponent": self.exponent(),
            "exponents": self.exponents(),
            "exponents_cpu": self.exponents(cpu=True),
            "parity": self.parity(),
            **asdict(self),
        }

    def save(self, path: Path) -> None:
        """Write JSON; the file appears whole or not at all."""
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(_finite(self.to_dict()), indent=1) + "\n")


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Slope of log(y) over log(x) by least squares; None for fewer than two sizes."""
    if len({x for x, _ in points}) < 2:
        return None
    x, y = np.log(np.asarray(points, float)).T
    return float(np.polyfit(x, y, 1)[0])


def _finite(value: Any) -> Any:
    """JSON has no NaN and no Infinity."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
