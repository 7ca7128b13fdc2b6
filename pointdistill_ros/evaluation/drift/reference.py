# SPDX-License-Identifier: Apache-2.0
"""DriftReference: what is usual for a network and a sensor, and how unusual one frame is.

- usual is what clean scans of many places showed; frames of one place count as one
- score = Mahalanobis distance of the gauges (covariance shrunk towards independence) / its limit:
  that of all gauges, or of one family where that is higher
- limits: distances of places left out of the calibration, with an exponential tail, exceed one of
  them at the wanted rate. That tail is an assumption: few places say little about rare ones
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.config import parse_config
from pointdistill_ros.errors import ConfigError, InputError, PointDistillError
from pointdistill_ros.evaluation.drift.gauges import GAUGES
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.io.regular import require_file

FORMAT = 1
SHRINKAGE = 0.2
"""Weight of independence in the covariance of the gauges."""
FARTHEST = 50.0
"""Spreads beyond which all is equally strange."""


FAMILIES: tuple[NDArray[np.int64], ...] = (
    np.arange(len(GAUGES)),
    *(
        np.flatnonzero([gauge.family == family for gauge in GAUGES.values()])
        for family in dict.fromkeys(gauge.family for gauge in GAUGES.values())
    ),
)
"""Indices of the gauges that a limit is for: all of them, then each family."""


@dataclass(frozen=True)
class Drift:
    """How far one frame is from what is usual."""

    score: float
    """0 = in the middle of what is usual, 1 = the limit."""
    reasons: tuple[str, ...]
    """What is furthest off, in words, worst first; at most three."""


@dataclass(frozen=True)
class DriftReference:
    """Statistics of clean scans, one number per gauge."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    model_id: str
    """Network they belong to …"""
    weights_sha256: str
    """… and its file."""
    gauges: tuple[str, ...]
    """Names, in the order of the other fields."""
    centre: tuple[float, ...]
    """Median over the places."""
    spread: tuple[float, ...]
    """Standard deviation of the places around it, with the gauge's own least."""
    covariance: tuple[tuple[float, ...], ...]
    """Of the gauges in spreads, shrunk."""
    limits: tuple[float, ...]
    """Distance (root mean square over the decorrelated gauges) that means a score of 1: of all
    gauges, then of each family in the order in which gauges name them."""
    places: int
    """That the calibration saw."""
    frames: int
    """That the calibration saw."""
    false_alarms: float
    """Share of places above the limit that the limit was made for."""
    set_aside: tuple[str, ...] = ()
    """Places that stood out so far that they count for nothing; each may be a false alarm."""
    data: str = ""
    """Where they come from, in words."""
    format: int = FORMAT

    def __post_init__(self) -> None:
        n = len(self.gauges)
        if self.format != FORMAT or self.gauges != tuple(GAUGES):
            raise ConfigError("made for other gauges; run training.calibrate_drift again")
        if {len(self.centre), len(self.spread), len(self.covariance)} != {n} or any(
            len(row) != n for row in self.covariance
        ):
            raise ConfigError(f"needs {n} numbers per field, one per gauge")
        numbers = np.array([*self.centre, *self.spread, *np.ravel(self.covariance), *self.limits])
        if not np.isfinite(numbers).all() or min(*self.spread, *self.limits) <= 0:
            raise ConfigError("spreads and limits must be above 0, everything finite")
        if len(self.limits) != len(FAMILIES):
            raise ConfigError(f"needs {len(FAMILIES)} limits, one per family")
        if np.linalg.eigvalsh(np.array(self.covariance)).min() < SHRINKAGE / 2:
            raise ConfigError("covariance is none: not positive definite")

    def __call__(self, gauges: NDArray[np.float64]) -> Drift:
        """Drift of one frame from its gauges [G]; NaN ones are taken as usual."""
        z = self.standardised(gauges)
        shares = distances(z[None], self._precisions)[0] / np.array(self.limits)
        score = float(shares.max())
        order = np.argsort(-np.abs(z), kind="stable")
        groups = list(dict.fromkeys(GAUGES[self.gauges[i]].group for i in order[:6] if z[i]))
        return Drift(score, tuple(groups[:3]))

    @cached_property
    def _precisions(self) -> list[NDArray[np.float64]]:
        return inverses(np.array(self.covariance))

    def standardised(self, gauges: NDArray[np.float64]) -> NDArray[np.float64]:
        """[..., G] signed distances from the centre in spreads; 0 for NaN."""
        z = (gauges - np.array(self.centre)) / np.array(self.spread)
        found: NDArray[np.float64] = np.clip(np.nan_to_num(z), -FARTHEST, FARTHEST)
        return found

    def save(self, path: Path) -> None:
        """Write JSON, whole or not at all."""
        text = json.dumps(asdict(self), separators=(",", ":"))
        with atomic_path(path) as temporary:
            temporary.write_text(text.replace(',"', ',\n"') + "\n")

    @classmethod
    def load(cls, path: Path) -> DriftReference:
        """Read what ``save`` wrote. Raises InputError."""
        require_file(path)
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            return parse_config(cls, data, str(path))
        except (OSError, ValueError, TypeError, RecursionError, PointDistillError) as error:
            raise InputError(f"{path}: not a drift reference ({error})") from error


def reference_path(weights: Path) -> Path:
    """Where the reference of a checkpoint lies: beside it, ``NAME.drift.json``."""
    return weights.with_suffix(".drift.json")


def inverses(covariance: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Of the block of each family."""
    return [np.asarray(np.linalg.inv(covariance[np.ix_(f, f)]), np.float64) for f in FAMILIES]


def distances(
    z: NDArray[np.float64], precisions: Sequence[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """[N, F] root of the mean square of each family's gauges in spreads [N, G], decorrelated."""
    squares = [
        np.einsum("ni,ij,nj->n", z[:, family], inverse, z[:, family]) / len(family)
        for family, inverse in zip(FAMILIES, precisions, strict=True)
    ]
    found: NDArray[np.float64] = np.sqrt(np.array(squares).T)
    return found
