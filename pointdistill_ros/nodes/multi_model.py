# SPDX-License-Identifier: Apache-2.0
"""SharedModel: one network in memory for several nodes of a process.

- the first node that configures loads it, the last one that cleans up frees it
- network and engine are shared; a latency budget is each node's own, since it learns from the
  clouds of one lidar what they cost
- all of it in one thread, in turns (multi_turns.py)
The nodes agree on what is loaded: see ``multi_lidar_node.check_agreement``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from pointdistill_ros.config import ModelConfig
from pointdistill_ros.nodes.model import SegmenterLike, load_segmenter
from pointdistill_ros.nodes.model_thread import ModelThread, Worker
from pointdistill_ros.nodes.multi_turns import TurnThread

T = TypeVar("T")


class SharedModel:
    """A ``ModelHost`` for several nodes. Ask for threads and end them from one thread."""

    def __init__(self, load: Callable[[ModelConfig], SegmenterLike] = load_segmenter) -> None:
        self._load = load
        self._segmenter: SegmenterLike | None = None
        self._thread: TurnThread | None = None
        self._users = 0

    def thread(self) -> ModelThread:
        """A share of the thread; the thread ends with its last share."""
        if self._thread is None:
            self._thread = TurnThread()
        self._users += 1
        return _Share(self._thread, self._leave)

    def load(self, config: ModelConfig) -> SegmenterLike:
        """The network with a latency budget of its own; model thread."""
        if self._segmenter is None:
            self._segmenter = self._load(config)
        return copy.copy(self._segmenter)

    def _leave(self, timeout: float) -> None:
        self._users -= 1
        if self._users == 0 and self._thread is not None:
            self._thread.end(timeout)
            self._thread = self._segmenter = None


class _Share(ModelThread):
    """What a node has of a TurnThread: to the node, a thread of its own."""

    def __init__(self, shared: TurnThread, leave: Callable[[float], None]) -> None:
        # no thread is started here: all calls go to the shared one
        self._shared = shared
        self._leave: Callable[[float], None] | None = leave

    def submit(self, job: Callable[[], T]) -> Future[T]:
        return self._shared.submit(job)

    def serve(self, worker: Worker) -> Future[None]:
        return self._shared.serve(worker)

    def end(self, timeout: float) -> None:
        if self._leave is not None:
            leave, self._leave = self._leave, None
            leave(timeout)
