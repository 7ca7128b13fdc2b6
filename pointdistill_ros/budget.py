# SPDX-License-Identifier: Apache-2.0
"""LatencyBudget: which step of load shedding keeps a scan within its time, decided scan by scan.

- predicts the cost of every step from the voxels this very scan would leave, before any is dropped:
  a crowded scan is met at once, not after it was late
- down at once, as far as needed; up only after ``PATIENCE`` scans with a margin, and twice as many
  to a step where that proved wrong the last time; the first ``LEARNING`` scans go both ways
- one slow scan changes nothing: speeds are medians
Not here: dropping voxels (model/thinning.py), threads, ROS.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from math import exp, isfinite, log
from statistics import median, median_low
from typing import TYPE_CHECKING

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.degradation import LADDER, Degradation

if TYPE_CHECKING:
    from pointdistill_ros.model.config import PTv3Config

FITS, RETURNS = 0.9, 0.8
"""Share of the budget that a prediction may take to stay, and to come back."""
PATIENCE, MOST_PATIENCE = 20, 640
"""Scans with margin before coming back: at first, and after it failed again and again."""
LEARNING = 4
"""Scans at the start that are followed both ways at once: the first ones are cold and slow."""
PROBATION = 60
"""Scans within which a new descent means that coming back had failed."""

_RECENT = 6
_PRIOR_EXPONENT, _PRIOR_WEIGHT, _MEMORY = 0.8, 0.25, 4.0
_EXPONENTS = 0.2, 1.2
_SLOPES = -0.5, 2.0
_NOISE = 0.05


class CostModel:
    """Seconds of a scan = pace · work ^ exponent.

    The pace is the median of the last five scans. The exponent (below 1 where part of the cost is
    fixed) is a least-squares fit to changes, log seconds against log work, between the medians of
    three scans and of the three before; so a machine that turns slow for a while does not pass for
    a costly step. Old evidence fades only as new evidence comes: a constant load teaches nothing
    and forgets nothing.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[float, float]] = deque(maxlen=_RECENT)
        self._squares, self._products = _PRIOR_WEIGHT, _PRIOR_WEIGHT * _PRIOR_EXPONENT

    @property
    def exponent(self) -> float:
        """Relative change of the cost per relative change of the work."""
        low, high = _EXPONENTS
        return min(max(self._products / self._squares, low), high)

    def observe(self, work: float, seconds: float) -> None:
        """Learn from a finished scan."""
        x, y = log(max(work, 1.0)), log(max(seconds, 1e-6))
        self._recent.append((x, y))
        if len(self._recent) < _RECENT:
            return
        works, times = zip(*self._recent, strict=True)
        dx = median(works[3:]) - median(works[:3])
        dy = median(times[3:]) - median(times[:3])
        if abs(dx) > _NOISE:
            low, high = _SLOPES
            self._squares += dx * dx
            self._products += dx * dx * min(max(dy / dx, low), high)
        if self._squares > _MEMORY:
            self._products *= _MEMORY / self._squares
            self._squares = _MEMORY

    @property
    def learning(self) -> bool:
        """Too few scans yet to tell a slow machine from a cold start."""
        return len(self._recent) < LEARNING

    def predict(self, work: float) -> float:
        """Expected seconds; 0 before anything was observed."""
        if not self._recent:
            return 0.0
        exponent = self.exponent
        # the low median: among the first scans, which pay for warming up, the fastest counts
        pace = median_low(y - exponent * x for x, y in list(self._recent)[-5:])
        return exp(pace + exponent * log(max(work, 1.0)))


class LatencyBudget:
    """Per scan ``begin``, ``choose``, ``end``; a scan is labelled before its ``end``."""

    def __init__(
        self,
        max_latency_ms: float,
        row_costs: Sequence[float],
        steps: Sequence[Degradation] = LADDER,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """row_costs: relative cost of a voxel per stage, see ``row_costs``; steps: first = none.

        Raises ConfigError.
        """
        if not steps or not row_costs:
            raise ConfigError("a latency budget needs at least one step and one stage")
        self.steps = tuple(steps)
        self.max_latency_ms = max_latency_ms
        self.model = CostModel()
        self._row_costs = tuple(row_costs)
        self._clock = clock
        self._step = self._target = self._waited = 0
        self._patience = [PATIENCE] * len(self.steps)  # before coming back to each
        self._since_return = PROBATION
        self._begin: float | None = None
        self._work: float | None = None
        self._predicted = [0.0] * len(self.steps)

    @property
    def max_latency_ms(self) -> float:
        """Milliseconds a scan may take; may be changed at any time."""
        return 1e3 * self._limit

    @max_latency_ms.setter
    def max_latency_ms(self, value: float) -> None:
        if not (isfinite(value) and value > 0):
            raise ConfigError(f"max_latency_ms must be > 0, got {value:g}")
        self._limit = value / 1e3

    @property
    def degradation(self) -> Degradation:
        """The step in force."""
        return self.steps[self._step]

    @property
    def predicted_ms(self) -> float:
        """What the last chosen step was expected to take; 0 before the first scan ended."""
        return 1e3 * self._predicted[self._step]

    @property
    def exhausted(self) -> bool:
        """Even the last step is not expected to fit."""
        return self._step == len(self.steps) - 1 and self._predicted[-1] > self._limit

    def begin(self) -> None:
        """A scan was taken: its time runs."""
        self._begin, self._work = self._clock(), None

    def choose(self, rows: Sequence[Sequence[int]]) -> Degradation:
        """The step for this scan. rows: [steps][stages] voxels, from ``VoxelCounts.rows``."""
        if len(rows) != len(self.steps) or any(len(row) != len(self._row_costs) for row in rows):
            raise ValueError(f"rows must be [{len(self.steps)}][{len(self._row_costs)}]")
        work = [
            sum(cost * float(n) for cost, n in zip(self._row_costs, row, strict=True))
            for row in rows
        ]
        self._predicted = [self.model.predict(w) for w in work]
        self._move()
        self._work = work[self._step]
        return self.degradation

    def end(self) -> float:
        """The labels are out; learns from the time since ``begin`` and returns it in seconds."""
        if self._begin is None:
            return 0.0
        seconds = self._clock() - self._begin
        if self._work is not None:
            self.model.observe(self._work, seconds)
        self._begin = self._work = None
        return seconds

    def _move(self) -> None:
        self._since_return += 1
        if self._since_return == PROBATION:
            self._patience[self._step] = PATIENCE
        lowest = self._first_within(FITS)
        if lowest > self._step:
            if self._since_return < PROBATION:
                self._patience[self._step] = min(2 * self._patience[self._step], MOST_PATIENCE)
            self._step, self._waited, self._since_return = lowest, 0, PROBATION
            return
        if self.model.learning:
            self._step, self._waited = lowest, 0
            return
        candidate = self._first_within(RETURNS)
        if candidate >= self._step:
            self._waited = 0
            return
        self._target = max(candidate, self._target) if self._waited else candidate
        self._waited += 1
        for step in range(self._target, self._step):
            if self._waited >= self._patience[step]:
                self._step, self._waited, self._since_return = step, 0, 0
                return

    def _first_within(self, share: float) -> int:
        """The first step expected to take at most this share of the budget, else the last."""
        limit = share * self._limit
        for step, seconds in enumerate(self._predicted):
            if seconds <= limit:
                return step
        return len(self._predicted) - 1


def row_costs(config: PTv3Config) -> tuple[float, ...]:
    """Multiplications that one more voxel costs, per stage, where each has some 5 neighbours."""
    costs = [0.0] * len(config.encoder_depths)
    for depths, channels, heads in (
        (config.encoder_depths, config.encoder_channels, config.encoder_heads),
        (config.decoder_depths, config.decoder_channels, config.decoder_heads),
    ):
        for stage, (depth, width) in enumerate(zip(depths, channels, strict=True)):
            for block in range(depth):
                neighbours = 5 if config.convolves(block, heads[stage]) else 0
                costs[stage] += (neighbours + 2 * config.mlp_ratio) * width * width
                if heads[stage]:
                    costs[stage] += 4 * width * width + 2 * config.patch_sizes[stage] * width
            costs[stage] += width * width  # pooling or unpooling
    return tuple(costs)
