# SPDX-License-Identifier: Apache-2.0
"""A computation between fixed buffers, captured as a CUDA graph at its first use and replayed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True, eq=False)
class Lane:
    """Where an engine works: one stream of one device, so that several lidars share a GPU."""

    device: torch.device
    stream: torch.cuda.Stream | None
    """None on a CPU."""
    pool: Any
    """Memory shared by all graphs of the lane, None = no graphs.

    Sharing is safe because nothing that one graph allocates is read after it ended, and only one
    runs at a time.
    """

    @classmethod
    def on(cls, device: torch.device, graphs: bool) -> Lane:
        """A lane of its own. graphs: capture what runs there; only on a GPU."""
        if device.type != "cuda":
            return cls(device, None, None)
        pool = torch.cuda.graph_pool_handle() if graphs else None
        return cls(device, torch.cuda.Stream(device), pool)  # type: ignore[no-untyped-call]

    @contextmanager
    def __call__(self) -> Iterator[torch.cuda.Stream | None]:
        """Work here, between what the caller enqueued before and after. Yields his stream."""
        if self.stream is None:
            yield None
            return
        caller = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(caller)
        try:
            with torch.cuda.stream(self.stream):
                yield caller
        finally:
            caller.wait_stream(self.stream)


class Region:
    """Calls ``run``, which works between buffers that outlive it and keeps nothing else."""

    def __init__(self, run: Callable[[], None], lane: Lane) -> None:
        self._run = run
        self._lane = lane
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        """Enqueue the computation; the current stream is that of the lane."""
        if self._lane.pool is None:
            self._run()
        elif self._graph is None:
            self._run()  # this scan's result; compiles kernels and creates library handles, too
            self._graph = self._capture()
        else:
            self._graph.replay()

    def _capture(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        # thread_local: other threads (another lidar's engine) may allocate meanwhile
        with torch.cuda.graph(
            graph,
            pool=self._lane.pool,
            stream=self._lane.stream,
            capture_error_mode="thread_local",
        ):
            self._run()
        return graph
