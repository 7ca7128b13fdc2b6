# SPDX-License-Identifier: Apache-2.0
"""How far a figure would move with other drives: percentile bootstrap over scenes.

Scans of one drive show one place and are no independent evidence, so whole drives are drawn. With
few drives the answer means nothing; then there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.confusion import Scores

MIN_SCENES = 8
"""Fewer drives give no interval: their resamples hardly differ or miss whole classes."""
DRAWS = 1000
LEVEL = 0.95


def by_scene(counts: Sequence[NDArray[Any]], scenes: Sequence[str]) -> NDArray[np.int64]:
    """Counts of scans, each [C, C + 1], summed per drive: [S, C, C + 1], drives in first order."""
    index = {scene: i for i, scene in enumerate(dict.fromkeys(scenes))}
    total = np.zeros((len(index), *counts[0].shape), np.int64)
    for matrix, scene in zip(counts, scenes, strict=True):
        total[index[scene]] += matrix
    return total


def too_few(scenes: int) -> str:
    """Why there is no interval; empty where there is one."""
    if scenes >= MIN_SCENES:
        return ""
    return f"no intervals: {scenes} drives, at least {MIN_SCENES} are needed to mean anything"


def interval(
    scenes: NDArray[np.int64],
    statistic: Callable[[NDArray[np.int64]], Scores],
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """[2, ...] lower and upper end of the 95 % interval of a figure; NaN with too few drives.

    scenes: int64 [S, C, C + 1], one matrix per drive; statistic: counts [draws, C, C + 1] →
    [draws, ...], NaN where a resample has no such figure. The same seed gives the same interval.
    """
    rng = np.random.default_rng(seed)
    shape = statistic(scenes[:1]).shape[1:]
    if too_few(len(scenes)):
        return np.full((2, *shape), np.nan)
    chosen = rng.multinomial(len(scenes), np.full(len(scenes), 1 / len(scenes)), draws)
    samples = statistic(np.tensordot(chosen, scenes, axes=1))
    ends = np.full((2, *shape), np.nan)
    known = np.isfinite(samples).any(axis=0)
    ends[:, known] = np.nanquantile(samples[:, known], ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
    return ends
