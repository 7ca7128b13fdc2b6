# SPDX-License-Identifier: Apache-2.0
"""DriftReference: what is usual for a network and a sensor, and how unusual one frame is.

- usual is what clean scans of many places showed; frames of one place count as one
- score = Mahalanobis distance of the gauges (covariance shrunk towards independence) / limit
- 1 is the limit: scores of places left out of the calibration, with an exponential tail, exceed it
  at the wanted rate. That tail is an assumption: few places say little about rare ones
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.config import parse_config
from pointdistill_ros.errors import ConfigError, InputError, PointDistillError
from pointdistill_ros.evaluation.drift.gauges import GAUGES
from pointdistill_ros.io.atomic import atomic_path

FORMAT = 1
SHRINKAGE = 0.2
"""Weight of independence in the covariance of the gauges."""
LEAST_PLACES = 8
"""Places without which nothing is calibrated."""
TAIL = 0.2
"""Share of the places, those of the highest scores, that tell how scores fall off."""
SET_ASIDE = 0.05
"""Share of the places that may stand out so far that they are left out."""
FARTHEST = 50.0
"""Spreads beyond which all is equally strange."""


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
    precision: tuple[tuple[float, ...], ...]
    """Inverse covariance of the gauges in spreads."""
    limit: float
    """Distance (root mean square over the decorrelated gauges) that means a score of 1."""
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
        if {len(self.centre), len(self.spread), len(self.precision)} != {n} or any(
            len(row) != n for row in self.precision
        ):
            raise ConfigError(f"needs {n} numbers per field, one per gauge")
        numbers = np.array([*self.centre, *self.spread, *np.ravel(self.precision), self.limit])
        if not np.isfinite(numbers).all() or min(*self.spread, self.limit) <= 0:
            raise ConfigError("spreads and limit must be above 0, everything finite")

    def __call__(self, gauges: NDArray[np.float64]) -> Drift:
        """Drift of one frame from its gauges [G]; NaN ones are taken as usual."""
        z = self.standardised(gauges)
        score = float(_distances(z[None], np.array(self.precision))[0]) / self.limit
        order = np.argsort(-np.abs(z), kind="stable")
        groups = list(dict.fromkeys(GAUGES[self.gauges[i]].group for i in order[:6] if z[i]))
        return Drift(score, tuple(groups[:3]))

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
        try:
            data: dict[str, Any] = json.loads(path.read_text())
            return parse_config(cls, data, str(path))
        except (OSError, ValueError, TypeError, RecursionError, PointDistillError) as error:
            raise InputError(f"{path}: not a drift reference ({error})") from error


def reference_path(weights: Path) -> Path:
    """Where the reference of a checkpoint lies: beside it, ``NAME.drift.json``."""
    return weights.with_suffix(".drift.json")


def calibrate(
    gauges: NDArray[np.float64],
    places: Sequence[str],
    *,
    model_id: str,
    weights_sha256: str,
    false_alarms: float = 1 / 500,
    data: str = "",
) -> DriftReference:
    """A reference from clean frames [F, G] and the place that each of them shows.

    false_alarms: share of places whose worst frame may exceed the limit. Raises ConfigError.
    """
    names = np.array(places)
    known = sorted(set(places))
    if len(known) < LEAST_PLACES:
        raise ConfigError(f"{len(known)} places are too few; expected at least {LEAST_PLACES}")
    if not 0 < false_alarms < 1:
        raise ConfigError(f"false alarms must be a share between 0 and 1, got {false_alarms}")
    means = np.array([_mean(gauges[names == place]) for place in known])
    frames = [gauges[names == place] for place in known]
    kept = np.ones(len(known), np.bool_)
    for _ in range(round(SET_ASIDE * len(known))):  # one at a time: each hides others
        worst = _left_out(frames, means, kept)
        strangest = int(np.where(kept, worst, 0.0).argmax())
        if worst[strangest] <= _limit(worst[kept], false_alarms):
            break
        kept[strangest] = False
    worst = _left_out(frames, means, kept)[kept]
    centre, spread, precision = _statistics(means[kept])
    return DriftReference(
        model_id,
        weights_sha256,
        tuple(GAUGES),
        _numbers(centre),
        _numbers(spread),
        tuple(_numbers(row) for row in precision),
        round(_limit(worst, false_alarms), 5),
        len(known),
        len(gauges),
        false_alarms,
        tuple(place for place, ok in zip(known, kept, strict=True) if not ok),
        data,
    )


def _left_out(
    frames: Sequence[NDArray[np.float64]],
    means: NDArray[np.float64],
    kept: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """[P] worst distance of each place from what the other kept places show."""
    rows = []
    for i, own in enumerate(frames):
        others = kept.copy()
        others[i] = False
        rows.append(_worst(own, *_statistics(means[others])))
    return np.array(rows)


def _statistics(
    means: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre [G], spread [G], precision [G, G] of places [P, G]; a gauge nobody shows is void."""
    seen = np.isfinite(means)
    void = ~seen.any(axis=0)
    means = np.where(void, 0.0, means)
    centre = np.nanmedian(means, axis=0)
    away = np.where(np.isfinite(means), means - centre, 0.0)
    number = np.maximum(np.where(void, 1, seen.sum(axis=0)), 1)
    least = np.array([gauge.floor for gauge in GAUGES.values()])
    spread = np.sqrt((away**2).sum(axis=0) / number + least**2)
    spread[void] = 1e6
    z = away / spread
    covariance = (1 - SHRINKAGE) * z.T @ z / len(z) + SHRINKAGE * np.eye(len(centre))
    return centre, spread, np.linalg.inv(covariance)


def _distances(z: NDArray[np.float64], precision: NDArray[np.float64]) -> NDArray[np.float64]:
    """[F] root of the mean square of gauges [F, G] in spreads, decorrelated."""
    found: NDArray[np.float64] = np.sqrt(np.einsum("fi,ij,fj->f", z, precision, z) / z.shape[1])
    return found


def _worst(
    frames: NDArray[np.float64],
    centre: NDArray[np.float64],
    spread: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> float:
    z = np.clip(np.nan_to_num((frames - centre) / spread), -FARTHEST, FARTHEST)
    return float(_distances(z, precision).max())


def _limit(scores: NDArray[np.float64], share: float) -> float:
    """What a share of the places exceeds: exponential beyond the highest TAIL of them.

    The median of what lies beyond gives the slope: one strange place does not.
    """
    begin = float(np.quantile(scores, 1 - TAIL))
    beyond = scores[scores > begin] - begin
    slope = float(np.median(beyond) / np.log(2)) if len(beyond) else 0.0
    return begin + slope * float(np.log(max(TAIL / share, 1.0)))


def _mean(frames: NDArray[np.float64]) -> NDArray[np.float64]:
    """[G] mean of the frames that show a gauge; NaN where none does."""
    seen = np.isfinite(frames)
    number = seen.sum(axis=0)
    total = np.where(seen, frames, 0.0).sum(axis=0)
    found: NDArray[np.float64] = np.where(number, total / np.maximum(number, 1), np.nan)
    return found


def _numbers(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)
