# SPDX-License-Identifier: Apache-2.0
"""NewestFrameWorker: one slot, one thread. The newest frame wins, every loss is counted.

- a frame that a newer one replaces before work on it began is *overwritten*
- a frame older than the limit when its turn comes, or still waiting at the stop, is *stale*
- a frame the work refuses (PointDistillError) is *invalid*; any other exception is *failed*
Not here: ROS. The clock is a function, so tests turn it by hand.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pointdistill_ros.errors import PointDistillError
from pointdistill_ros.nodes.age import FOREIGN_CLOCK, AgeClock, Arrival
from pointdistill_ros.nodes.model_thread import ModelThread

__all__ = ["FOREIGN_CLOCK", "POLL", "Counters", "Frame", "NewestFrameWorker"]

M = TypeVar("M")
R = TypeVar("R")

POLL = 0.2
"""Seconds after which the thread looks at the stop request even if nobody wakes it."""


@dataclass(frozen=True)
class Counters:
    """Frames since the start. Always: received = processed + dropped + in_flight."""

    received: int = 0
    processed: int = 0
    overwritten: int = 0
    stale: int = 0
    invalid: int = 0
    failed: int = 0

    @property
    def dropped(self) -> int:
        """Frames without a result."""
        return self.overwritten + self.stale + self.invalid + self.failed

    @property
    def in_flight(self) -> int:
        """Frames waiting or being worked on: 0, 1 or 2."""
        return self.received - self.processed - self.dropped


@dataclass(frozen=True)
class Frame(Generic[M]):
    """A message and when it came."""

    message: M
    arrival: Arrival


class NewestFrameWorker(Generic[M, R]):
    """Runs ``work`` on the newest frame in the thread of the model.

    ``work`` gets a Frame and returns a result, or raises. ``done`` gets the result after it has
    been counted as processed. ``refused`` gets the exception of an invalid or failed frame and
    must not raise. All three run in the worker's thread. ``max_age`` is asked per frame (seconds,
    0 = no limit); ``clock`` may jump, ``steady`` does not. ``rest`` tells, from the seconds that a
    frame took, how long to rest after it; it is asked again while resting.
    """

    def __init__(
        self,
        work: Callable[[Frame[M]], R],
        *,
        done: Callable[[R], None] = lambda _: None,
        refused: Callable[[Exception], None] = lambda _: None,
        max_age: Callable[[], float] = lambda: 0.0,
        rest: Callable[[float], float] = lambda _: 0.0,
        clock: Callable[[], float] = time.time,
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._work, self._done, self._refused = work, done, refused
        self._max_age, self._rest, self._ages = max_age, rest, AgeClock(clock, steady)
        self._lock = threading.Lock()
        self._slot: Frame[M] | None = None
        self._counters = Counters()
        self.wake = threading.Event()
        """Set when a frame has come or the stop; a thread that serves several workers shares it."""
        self._stopping = threading.Event()
        self._last = self._worked = 0.0
        self._ended: Future[None] | None = None

    @property
    def counters(self) -> Counters:
        """A consistent snapshot."""
        with self._lock:
            return self._counters

    def put(self, message: M, stamp: float) -> Frame[M]:
        """Leave the newest frame in the slot; ``stamp`` in seconds of the message's own clock."""
        frame = Frame(message, self._ages.arrival(stamp))
        with self._lock:
            self._count("received")
            if self._slot is not None:
                self._count("overwritten")
            self._slot = frame
        self.wake.set()
        return frame

    def age(self, frame: Frame[M]) -> float:
        """Seconds since its stamp, or since its reception (age.py)."""
        return self._ages.age(frame.arrival)

    def step(self) -> bool:
        """Work off the frame in the slot; False when there is none."""
        with self._lock:
            frame, self._slot = self._slot, None
        if frame is None:
            return False
        max_age = self._max_age()
        if max_age and self.age(frame) > max_age:
            with self._lock:
                self._count("stale")
            return True
        try:
            result = self._work(frame)
        except Exception as error:
            with self._lock:
                self._count("invalid" if isinstance(error, PointDistillError) else "failed")
            self._refused(error)
            return True
        with self._lock:
            self._count("processed")
        try:
            self._done(result)
        except Exception as error:
            self._refused(error)
        return True

    @property
    def stopping(self) -> bool:
        """No further turn is wanted."""
        return self._stopping.is_set()

    def turn(self) -> float:
        """Work off the waiting frame unless at rest; seconds until the next turn, 0 = at once."""
        now = time.monotonic()
        left = self._last + self._rest(self._worked) - now if self._worked else 0.0
        if left > 0:
            return min(left, POLL)
        if not self.step():
            return POLL
        self._last = time.monotonic()
        self._worked = self._last - now
        return 0.0

    def run(self) -> None:
        """Take turns in the calling thread until the stop."""
        while not self.stopping:
            if pause := self.turn():
                self.wake.wait(pause)
                self.wake.clear()

    def start(self, thread: ModelThread) -> None:
        """Be served by ``thread`` until the stop. A worker starts once."""
        self._ended = thread.serve(self)

    def stop(self, timeout: float) -> bool:
        """Finish the frame in work, drop the waiting one; False if busy beyond ``timeout`` s."""
        self._stopping.set()
        self.wake.set()
        if self._ended is not None and not wait([self._ended], timeout).done:
            return False
        with self._lock:
            if self._slot is not None:
                self._slot = None
                self._count("stale")
        return True

    def _count(self, name: str) -> None:
        """Add one to a counter; the lock is held."""
        self._counters = replace(self._counters, **{name: getattr(self._counters, name) + 1})
