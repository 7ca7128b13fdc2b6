# SPDX-License-Identifier: Apache-2.0
"""ModelThread: the one thread of a process that loads and runs the network.

OpenMP keeps a pool of threads for every thread that ever ran a parallel region. With two such
pools on the same cores GNU OpenMP stops spinning and sends its threads to sleep between regions:
a scan took 1.3 s instead of 0.8 s when the model was loaded in one thread and used in another.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Protocol, TypeVar

T = TypeVar("T")


class Worker(Protocol):
    """What a model thread serves: `worker.NewestFrameWorker`."""

    wake: threading.Event

    @property
    def stopping(self) -> bool: ...  # noqa: D102
    def turn(self) -> float: ...  # noqa: D102
    def run(self) -> None: ...  # noqa: D102


def _settle(future: Future[T], job: Callable[[], T]) -> None:
    """Do a job for its Future."""
    try:
        future.set_result(job())
    except BaseException as error:  # handed to whoever asks for the result
        future.set_exception(error)
        # This frame is in the error's traceback and the error in the Future: without this they keep
        # each other, and all that the failed job held, alive until Python looks for cycles.
        del future


class ModelThread:
    """Runs jobs one after the other; a daemon, so that a job that hangs cannot hold up the exit."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job; its result or exception comes with the Future."""
        future: Future[T] = Future()
        self._jobs.put(partial(_settle, future, job))
        return future

    def serve(self, worker: Worker) -> Future[None]:
        """Work off the worker's frames until it is stopped; then the Future is done."""
        return self.submit(worker.run)

    def end(self, timeout: float) -> None:
        """End the thread after the jobs that wait; wait so many seconds for it, not longer."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # else it keeps the model of its last job alive while it waits
