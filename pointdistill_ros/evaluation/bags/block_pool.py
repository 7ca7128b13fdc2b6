# SPDX-License-Identifier: Apache-2.0
"""Runs of frames shared among processes; with one worker, in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Protocol

from pointdistill_ros.datasets.worker_pool import worker_pool
from pointdistill_ros.errors import PointDistillError


class BlockWorker(Protocol):
    """Does the frames of a block. A context manager."""

    def __enter__(self) -> BlockWorker: ...

    def __exit__(self, *error: object) -> None: ...

    def __call__(self, block: range, on_frame: Callable[[], None]) -> None:
        """Do it; ``on_frame`` is called after every frame."""


def run_blocks(
    make_worker: Callable[[], BlockWorker],
    blocks: Sequence[range],
    workers: int,
    on_done: Callable[[int], None] = lambda done: None,
) -> None:
    """Do all blocks with ``workers`` processes; ``on_done`` hears how many frames are done.

    ``make_worker`` must be picklable where there are several workers. The first exception of a
    worker ends everything and is raised here.
    """
    if not blocks:
        return
    done = 0
    if workers == 1 or len(blocks) == 1:

        def on_frame() -> None:
            nonlocal done
            done += 1
            on_done(done)

        with make_worker() as worker:
            for block in blocks:
                worker(block, on_frame)
        return
    with worker_pool(min(workers, len(blocks)), _begin, (make_worker,)) as pool:
        futures = [pool.submit(_do, block) for block in blocks]
        try:
            for future in as_completed(futures):
                done += future.result()
                on_done(done)
        except BrokenProcessPool as error:
            raise PointDistillError(
                "a worker process died, perhaps for want of memory; what is done is kept: "
                "run again with fewer --workers"
            ) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_make: Callable[[], BlockWorker] | None = None
_worker: BlockWorker | None = None
"""Of this process, where it is one of a pool."""


def _begin(make_worker: Callable[[], BlockWorker]) -> None:
    global _make  # noqa: PLW0603 - a pool's processes have no other place
    _make = make_worker


def _do(block: range) -> int:
    global _worker  # noqa: PLW0603
    if _worker is None:  # here and not in _begin, so that what it raises reaches the parent
        assert _make is not None
        _worker = _make().__enter__()
    _worker(block, lambda: None)
    return len(block)
