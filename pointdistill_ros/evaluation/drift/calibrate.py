# SPDX-License-Identifier: Apache-2.0
"""Calibration: clean frames of many places → DriftReference.

- a place counts once, however many frames show it
- limits come from places that are left out, one after another; beyond the highest fifth of their
  distances an exponential tail is assumed: few places say little about rare ones
- scans that stand out by far among the clean ones are set aside, and named
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.drift.gauges import GAUGES
from pointdistill_ros.evaluation.drift.reference import (
    FARTHEST,
    SHRINKAGE,
    DriftReference,
    distances,
    inverses,
)

LEAST_PLACES = 20
"""Places without which nothing is calibrated."""
TAIL = 0.2
"""Share of the places, those of the highest distances, that tell how distances fall off."""
SET_ASIDE = 0.05
"""Share of the places that may stand out so far that they are left out."""
STRANGE = 2.0
"""What stands out so far: so many times the limit that the other places give."""
LEAST_LIMIT = 1.5
"""No limit lies nearer to what is usual, spreads."""


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
        over = (worst / _limits(worst[kept], false_alarms, robust=True)).max(axis=1)
        strangest = int(np.where(kept, over, 0.0).argmax())
        if over[strangest] <= STRANGE:
            break
        kept[strangest] = False
    limits = _limits(_left_out(frames, means, kept)[kept], false_alarms, robust=False)
    centre, spread, covariance = _statistics(means[kept])
    return DriftReference(
        model_id,
        weights_sha256,
        tuple(GAUGES),
        _numbers(centre),
        _numbers(spread),
        tuple(_numbers(row) for row in covariance),
        _numbers(limits),
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
    """[P, F] worst distances of each place from what the other kept places show."""
    rows = []
    for i, own in enumerate(frames):
        others = kept.copy()
        others[i] = False
        rows.append(_worst(own, *_statistics(means[others])))
    return np.array(rows)


def _statistics(
    means: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Centre [G], spread [G], covariance [G, G] of places [P, G]; a gauge nobody shows is void."""
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
    return centre, spread, covariance


def _worst(
    frames: NDArray[np.float64],
    centre: NDArray[np.float64],
    spread: NDArray[np.float64],
    covariance: NDArray[np.float64],
) -> NDArray[np.float64]:
    """[F] over the frames [N, G] of a place."""
    z = np.clip(np.nan_to_num((frames - centre) / spread), -FARTHEST, FARTHEST)
    found: NDArray[np.float64] = distances(z, inverses(covariance)).max(axis=0)
    return found


def _limits(worst: NDArray[np.float64], share: float, *, robust: bool) -> NDArray[np.float64]:
    """[F] from distances [P, F]: half of the false alarms for all gauges, half for the families."""
    families = worst.shape[1] - 1
    parts = [share / 2, *[share / 2 / families] * families]
    limits = [
        _limit(column, part, robust=robust) for column, part in zip(worst.T, parts, strict=True)
    ]
    return np.maximum(limits, LEAST_LIMIT)


def _limit(scores: NDArray[np.float64], share: float, *, robust: bool) -> float:
    """What a share of the places exceeds: exponential beyond the highest TAIL of them.

    The mean of what lies beyond gives the slope; where ``robust`` its median, which one strange
    place does not change.
    """
    begin = float(np.quantile(scores, 1 - TAIL))
    beyond = scores[scores > begin] - begin
    if not len(beyond):
        return begin
    slope = float(np.median(beyond) / np.log(2))
    slope = slope if robust else max(slope, float(beyond.mean()))
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
