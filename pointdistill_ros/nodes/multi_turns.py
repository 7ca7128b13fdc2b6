# SPDX-License-Identifier: Apache-2.0
"""TurnThread: one model thread that serves several workers, a turn each, always in the same order.

- a turn is one frame, the newest its worker has; a worker without one, or at rest, is passed over
- so between two turns of a worker every other one gets a turn if it has a frame: a fast lidar
  cannot starve a slow one, and nobody waits for longer than one frame of each of the others
- jobs (loading, lifecycle) come between two turns; a worker that stops waits for its own turn only
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from pointdistill_ros.nodes.model_thread import ModelThread, Worker
from pointdistill_ros.nodes.worker import POLL

T = TypeVar("T")


class _Served(threading.Event):
    """A worker and its place among the others: what it sets when it has a frame, or stops."""

    def __init__(self, worker: Worker, wake: threading.Event) -> None:
        super().__init__()
        self.ended: Future[None] = Future()
        self._worker, self._wake = worker, wake
        self._at_work = threading.Lock()

    def set(self) -> None:
        """Wake the thread; a worker that stops outside of its turn has ended."""
        if self._worker.stopping and self._at_work.acquire(blocking=False):
            self._end()
            self._at_work.release()
        self._wake.set()

    def turn(self) -> float:
        """A frame of the worker, if it has one; seconds until its next turn, 0 = at once."""
        with self._at_work:
            pause = 0.0
            try:
                if not self._worker.stopping:
                    pause = self._worker.turn()
            except BaseException as error:  # for whoever stops the worker; the others go on
                self.ended.set_exception(error)
            if self._worker.stopping:
                self._end()
            return pause

    def _end(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


class TurnThread(ModelThread):
    """A ModelThread whose ``serve`` may be called for several workers."""

    def __init__(self) -> None:
        self._wake = threading.Event()
        self._served: list[_Served] = []  # in the order of their turns; of this thread only
        self._over = False
        super().__init__()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job; it runs after the turn in work."""
        future = super().submit(job)
        self._wake.set()
        return future

    def serve(self, worker: Worker) -> Future[None]:
        """Give the worker turns until it is stopped; then the Future is done."""
        served = _Served(worker, self._wake)
        worker.wake = served
        self.submit(lambda: self._served.append(served))
        return served.ended

    def end(self, timeout: float) -> None:
        """End the thread after the turn in work; wait so many seconds for it, not longer."""
        self._jobs.put(None)
        self._wake.set()
        self._thread.join(timeout)

    def _run(self) -> None:
        while not self._over:
            self._wake.clear()  # before looking: what comes from now on is not missed
            self._work_off_jobs()
            if pause := self._round():
                self._wake.wait(pause)

    def _round(self) -> float:
        """A turn for each worker; seconds until the next round, 0 = at once."""
        pauses = [POLL]
        for served in [*self._served]:
            pauses.append(served.turn())
            if served.ended.done():
                self._served.remove(served)
            self._work_off_jobs()
            if self._over:
                break
        return min(pauses)

    def _work_off_jobs(self) -> None:
        """Run what was submitted, up to the end where that was asked for."""
        while not self._over:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                return
            self._over = job is None
            if job is not None:
                job()
