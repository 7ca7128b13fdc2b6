# SPDX-License-Identifier: Apache-2.0
"""What a live node would have done: the newest cloud wins, those it replaces are lost.

The node's rule (one slot, one thread) applied to the times at which the clouds of a recording came
and how long each took to label here. Not here: time on the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Live:
    """The outcome."""

    labelled: tuple[int, ...]
    """Clouds that get labels."""
    ages: tuple[float, ...]
    """Seconds from arrival to labels, of each of them."""

    def age(self, percent: float) -> float:
        """A percentile; NaN without clouds."""
        return float(np.percentile(self.ages, percent)) if self.ages else float("nan")


def simulate(arrivals: Sequence[float], durations: Sequence[float]) -> Live:
    """Arrivals (rising) and durations of N clouds in seconds."""
    labelled, ages = [], []
    free, i = -np.inf, 0
    while i < len(arrivals):
        begin = max(arrivals[i], free)
        while i + 1 < len(arrivals) and arrivals[i + 1] <= begin:
            i += 1  # replaced before its turn came
        free = begin + durations[i]
        labelled.append(i)
        ages.append(free - arrivals[i])
        i += 1
    return Live(tuple(labelled), tuple(ages))
