# SPDX-License-Identifier: Apache-2.0
"""How sure a paired difference is: intervals over seeds, over streets, over both.

- seeds: percentile bootstrap of the mean difference, and Student's t beside it, because a bootstrap
  of few values never leaves their range: it covers the true mean with at most 1 − 2^(1 − n)
- streets: the networks stay, the streets are drawn anew, the same ones for both rows and all seeds
- both: seeds and streets are drawn, each on its own
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.evaluation.bootstrap import DRAWS, LEVEL, too_few
from pointdistill_ros.evaluation.confusion import iou_per_class, mean_over

Interval = tuple[float, float]
MIN_SEEDS = 3
"""Fewer give no interval."""
SEED_DRAWS = 10_000
_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def over_seeds(differences: Sequence[float]) -> Interval | None:
    """95 % bootstrap interval of the mean of paired differences; None below three seeds.

    >>> over_seeds([1.0, 2.0, 3.0])
    (1.0, 3.0)
    """
    if len(differences) < MIN_SEEDS:
        return None
    values, rng = np.asarray(differences, np.float64), np.random.default_rng(0)
    drawn = values[rng.integers(len(values), size=(SEED_DRAWS, len(values)))]
    return _ends(drawn.mean(axis=1))


def most_coverage(seeds: int) -> float:
    """Probability with which ``over_seeds`` can at most hold the mean, for symmetric differences.

    It lies within the range of the differences, and all of them lie on one side of their median
    with 2^(1 − n).
    """
    return 1 - 2.0 ** (1 - seeds)


def student_t(differences: Sequence[float]) -> Interval | None:
    """95 % interval of the mean of normally distributed differences; None below three seeds."""
    n = len(differences)
    if n < MIN_SEEDS:
        return None
    mean, error = np.mean(differences), np.std(differences, ddof=1) / np.sqrt(n)
    reach = t_quantile(n - 1) * error
    return float(mean - reach), float(mean + reach)


def t_quantile(degrees: int) -> float:
    """Two-sided 95 % quantile of Student's t.

    With t = √ν · tan θ its density is cos^(ν − 1) θ.
    """
    angle = np.linspace(0, np.pi / 2, 100_001)
    density = np.cos(angle) ** (degrees - 1)
    share = np.cumsum((density[1:] + density[:-1]) / 2)
    return float(np.sqrt(degrees) * np.tan(np.interp(LEVEL * share[-1], share, angle[1:])))


def over_streets(
    ours: NDArray[np.int64],
    theirs: NDArray[np.int64],
    counted: NDArray[np.bool_],
    draws: int = DRAWS,
) -> tuple[Interval | None, Interval | None]:
    """95 % intervals of the mean difference of mIoUs: over streets, over seeds and streets.

    ours, theirs: int64 [K, S, C, C + 1] of K seeds on S streets, seed by seed and street by street
    the same; counted: bool [C] classes of the mean. The first is None with too few streets, the
    second with too few streets or seeds.
    """
    seeds, streets = ours.shape[:2]
    if too_few(streets):
        return None, None
    rng = np.random.default_rng(0)
    chosen = rng.multinomial(streets, np.full(streets, 1 / streets), draws).astype(np.float64)

    def drawn(counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """[draws] mIoU of one network."""
        summed = chosen @ counts.reshape(streets, -1).astype(np.float64)  # exact below 2^53
        return mean_over(iou_per_class(summed.reshape(draws, *counts.shape[1:])), counted)

    differences = np.stack([drawn(a) - drawn(b) for a, b in zip(ours, theirs, strict=True)], 1)
    fixed = _ends(differences.mean(axis=1))
    if seeds < MIN_SEEDS:
        return fixed, None
    weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    return fixed, _ends((differences * weights).sum(axis=1))


def _ends(samples: NDArray[np.float64]) -> Interval:
    low, high = np.nanquantile(samples, _ENDS)
    return float(low), float(high)
