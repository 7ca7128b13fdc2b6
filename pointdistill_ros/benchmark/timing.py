# SPDX-License-Identifier: Apache-2.0
"""Several calls timed in turns, so that whatever else happens on the machine meets all of them.

- one run of every call per round, each round starting at another one
- where the time does not suffice for all runs, calls that are slow run in fewer of the rounds,
  evenly spread; how many runs were really made stands with the figures
- medians and percentiles of all runs, never the best of some
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np

Key = TypeVar("Key", bound=Hashable)
LEAST = 3
"""Runs that every call gets, however little time there is."""
_WARM_UP_SHARE = 0.2


@dataclass(frozen=True)
class Clock:
    """Seconds; tests put their own here."""

    wall: Callable[[], float] = time.perf_counter
    cpu: Callable[[], float] = time.process_time
    """Of all threads of this process."""


class Progress(Protocol):
    """What is told while a measurement runs."""

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """A new step that will take about so many seconds; 0 = unknown."""

    def advance(self, seconds: float) -> None:
        """So much of it is done."""


class Silent:
    """No progress shown."""

    def begin(self, title: str, seconds: float = 0.0) -> None:
        """See ``Progress``."""

    def advance(self, seconds: float) -> None:
        """See ``Progress``."""


@dataclass
class Samples:
    """All timed runs of one call, milliseconds."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    parts: list[Mapping[str, float]] = field(default_factory=list)
    """What each run said of its own parts."""
    warm_up: int = 0
    """Untimed runs before the first."""


@dataclass(frozen=True)
class Spread:
    """Wall and CPU time of ``n`` runs, milliseconds."""

    n: int
    warm_up: int
    p50: float
    p90: float
    p99: float
    min: float
    cpu: float
    """Median CPU time of the process, all threads."""


def spread(samples: Samples) -> Spread:
    """Percentiles between the two nearest runs where none lies exactly there."""
    p50, p90, p99 = (float(p) for p in np.percentile(samples.wall, (50, 90, 99)))
    cpu = float(np.median(samples.cpu))
    return Spread(len(samples.wall), samples.warm_up, p50, p90, p99, min(samples.wall), cpu)


def median_parts(samples: Samples) -> dict[str, float]:
    """Median of every part, milliseconds."""
    names = samples.parts[0] if samples.parts else ()
    return {name: float(np.median([p[name] for p in samples.parts])) for name in names}


def plan_runs(costs: list[float], runs: int, budget: float, least: int = LEAST) -> list[int]:
    """Runs per call of ``costs`` seconds each, together within ``budget`` seconds.

    All get ``runs`` where that fits; else the cheap ones do and the others equal shares of the
    time, but at least ``least`` runs.
    """
    planned = [runs] * len(costs)
    cheapest_first = sorted(range(len(costs)), key=costs.__getitem__)
    for position, i in enumerate(cheapest_first):
        share = max(0.0, budget) / (len(costs) - position)
        if costs[i] * runs > share:
            for slow in cheapest_first[position:]:
                planned[slow] = min(runs, max(least, int(share / costs[slow])))
            break
        budget -= costs[i] * runs
    return planned


class Rounds(Generic[Key]):
    """Runs of several calls in turns."""

    def __init__(
        self,
        calls: Mapping[Key, Callable[[], Mapping[str, float]]],
        clock: Clock | None = None,
        progress: Progress | None = None,
    ) -> None:
        """A call does one run and answers what it says of its parts, milliseconds."""
        self._calls = dict(calls)
        self._clock = clock or Clock()
        self._progress = progress or Silent()
        self.samples = {key: Samples() for key in self._calls}

    def measure(self, title: str, runs: int, warm_up: int, seconds: float) -> dict[Key, Samples]:
        """Warm up, then time ``runs`` runs of each call, or fewer of the slow ones.

        ``seconds`` bounds the whole, except that every call runs ``LEAST`` times.
        """
        keys = list(self._calls)
        if not keys:
            return self.samples
        begin = self._clock.wall()
        self._progress.begin(f"{title}: warming up")
        costs = [self._once(key) for key in keys]
        more = plan_runs(costs, max(0, warm_up - 1), seconds * _WARM_UP_SHARE - sum(costs), least=0)
        self._progress.begin(f"{title}: warming up", _dot(costs, more))
        for i in _turns(more):  # the last warm-up is the best guess of what a run costs
            costs[i] = self._once(keys[i])
            self._progress.advance(costs[i])
        deadline = begin + seconds
        planned = plan_runs(costs, max(runs, 1), deadline - self._clock.wall(), min(LEAST, runs))
        self._progress.begin(title, _dot(costs, planned))
        made = [0] * len(keys)
        for i in _turns(planned):
            if self._clock.wall() > deadline and made[i] >= LEAST:
                continue
            self._timed(keys[i])
            made[i] += 1
            self._progress.advance(costs[i])
        return self.samples

    def _once(self, key: Key) -> float:
        begin = self._clock.wall()
        self._calls[key]()
        self.samples[key].warm_up += 1
        return max(self._clock.wall() - begin, 1e-9)

    def _timed(self, key: Key) -> None:
        call, samples = self._calls[key], self.samples[key]
        cpu, wall = self._clock.cpu(), self._clock.wall()
        parts = call()
        wall, cpu = self._clock.wall() - wall, self._clock.cpu() - cpu
        samples.wall.append(1e3 * wall)
        samples.cpu.append(1e3 * cpu)
        samples.parts.append(parts)


def _turns(planned: list[int]) -> list[int]:
    """Order of the runs: ``planned[i]`` times i, evenly spread over the rounds."""
    rounds, count = max(planned, default=0), len(planned)
    turns: list[int] = []
    for r in range(rounds):
        order = [(r + k) % count for k in range(count)]
        turns += [i for i in order if (r + 1) * planned[i] // rounds > r * planned[i] // rounds]
    return turns


def _dot(costs: list[float], counts: list[int]) -> float:
    return sum(cost * count for cost, count in zip(costs, counts, strict=True))
