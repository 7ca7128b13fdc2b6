# SPDX-License-Identifier: Apache-2.0
"""Pairing: brings together what two sides say of one stamp, in bounded memory.

- either side may come first, lag, leave stamps out, repeat them, go back in time, fall silent
- each side keeps at most ``depth`` items that wait for the other side; beyond, the one that has
  waited longest expires
- so a pair is lost only where one side delivers ``depth`` newer stamps before the other side
  answers
Not here: ROS, clocks, threads (one thread calls), and what an item is.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Generic, Literal, TypeAlias, TypeVar, get_args

T = TypeVar("T")

Side: TypeAlias = Literal["student", "teacher"]
SIDES: tuple[Side, ...] = get_args(Side)


@dataclass(frozen=True)
class Pair(Generic[T]):
    """What both sides said of one stamp."""

    stamp: int
    """Nanoseconds."""
    student: T
    teacher: T


@dataclass(frozen=True)
class PairingCounters:
    """Items of one side since the start: received = paired + expired + repeated + waiting."""

    received: int = 0
    paired: int = 0
    expired: int = 0
    """Waited in vain: the other side left the stamp out, or is further behind than ``depth``."""
    repeated: int = 0
    """Replaced by a later item of the same side and stamp."""

    @property
    def waiting(self) -> int:
        """Items kept."""
        return self.received - self.paired - self.expired - self.repeated


class Pairing(Generic[T]):
    """Two waiting rooms, student's and teacher's, each of at most ``depth`` items."""

    def __init__(self, depth: int) -> None:
        """depth: items kept per side, at least 1."""
        self._depth = depth
        self._waiting: dict[Side, OrderedDict[int, T]] = {s: OrderedDict() for s in SIDES}
        self._counters: dict[Side, PairingCounters] = {s: PairingCounters() for s in SIDES}

    @property
    def depth(self) -> int:
        """Items kept per side; what is beyond a new, smaller depth expires at once."""
        return self._depth

    @depth.setter
    def depth(self, depth: int) -> None:
        self._depth = depth
        for side in SIDES:
            self._expire(side)

    def counters(self, side: Side) -> PairingCounters:
        """Counts of one side."""
        return self._counters[side]

    def put(self, side: Side, stamp: int, item: T) -> Pair[T] | None:
        """Take an item; the pair if the other side's item of this stamp waits here."""
        other: Side = "teacher" if side == "student" else "student"
        self._count(side, "received")
        if stamp in self._waiting[other]:
            partner = self._waiting[other].pop(stamp)
            self._count(side, "paired")
            self._count(other, "paired")
            first, second = (item, partner) if side == "student" else (partner, item)
            return Pair(stamp, first, second)
        if self._waiting[side].pop(stamp, None) is not None:
            self._count(side, "repeated")
        self._waiting[side][stamp] = item
        self._expire(side)
        return None

    def _expire(self, side: Side) -> None:
        while len(self._waiting[side]) > self._depth:
            self._waiting[side].popitem(last=False)
            self._count(side, "expired")

    def _count(self, side: Side, name: str) -> None:
        counters = self._counters[side]
        self._counters[side] = replace(counters, **{name: getattr(counters, name) + 1})
