# SPDX-License-Identifier: Apache-2.0
"""How old a cloud is, by a ROS clock that may stand still, jump, or start anew.

- a stamp far from the clock belongs to another clock (a bag played without /clock): the age counts
  from the reception. Every cloud is judged on its own, so one odd stamp decides nothing for later
- a stamp in the near future is a clock that runs ahead: the age counts from the reception, too
- the clock may jump while a cloud waits (first /clock message, bag loop, simulation reset, time
  set): what a steady clock says about the wait then counts
Not here: what is too old (worker.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

FOREIGN_CLOCK = 10.0
"""Seconds between stamp and clock beyond which the stamp belongs to another clock, and by which
the clock must outrun a steady one to have jumped."""


@dataclass(frozen=True)
class Arrival:
    """A cloud came in."""

    age: float
    """Seconds from the stamp to the reception; 0 for stamps of another clock or of the future."""
    foreign: bool
    """The stamp follows another clock."""
    at: float
    """Reception, seconds of the ROS clock."""
    steady: float
    """Reception, seconds of a clock that never jumps."""


class AgeClock:
    """Ages of clouds. From any thread; both clocks are functions, so tests turn them by hand."""

    def __init__(
        self, now: Callable[[], float] = time.time, steady: Callable[[], float] = time.monotonic
    ) -> None:
        self._now, self._steady = now, steady

    def arrival(self, stamp: float) -> Arrival:
        """A cloud with this stamp, seconds, has just come in."""
        now = self._now()
        behind = now - stamp
        foreign = abs(behind) > FOREIGN_CLOCK
        return Arrival(0.0 if foreign else max(behind, 0.0), foreign, now, self._steady())

    def age(self, arrival: Arrival) -> float:
        """Seconds since the cloud's stamp; since its reception where the stamp tells nothing."""
        waited = self._now() - arrival.at
        steady = self._steady() - arrival.steady
        if not 0 <= waited <= steady + FOREIGN_CLOCK:
            waited = steady
        return arrival.age + waited
