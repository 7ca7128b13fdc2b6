# SPDX-License-Identifier: Apache-2.0
"""Batches prepared ahead of the step, always in the order of their numbers.

By a thread, or by worker processes (torch's DataLoader) where preparing a batch takes longer than
the step. Which worker made a batch does not matter: a batch is a function of its number.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pointdistill_ros.errors import PointDistillError
from training.interrupt import ignore_signals
from training.packing import Packed, pack

T = TypeVar("T")


@contextmanager
def prepared(
    make: Callable[[int], T], numbers: range, workers: int, ahead: int, pin: bool
) -> Iterator[Iterator[T]]:
    """make(n) for all n of ``numbers``, in order, ``ahead`` of them ready (per worker).

    An exception of ``make`` is raised at its turn. Threads and processes end with the context.
    ``pin`` puts tensors into page-locked memory; without workers ``make``'s result must offer
    ``pin_memory()`` for that.
    """
    batches = (
        by_processes(make, numbers, workers, ahead, pin)
        if workers
        else by_thread(make, numbers, ahead, pin)
    )
    try:
        yield batches
    finally:
        batches.close()


def by_thread(
    make: Callable[[int], T], numbers: range, ahead: int, pin: bool = False
) -> Generator[T]:
    """Prepared by a background thread; closing the iterator ends it."""
    ready: queue.Queue[Any] = queue.Queue(ahead)
    stop = threading.Event()

    def work() -> None:
        torch.set_num_threads(1)  # this thread's only: the step keeps its own threads
        for number in numbers:
            try:
                item: Any = make(number)
                item = item.pin_memory() if pin else item
            except BaseException as error:  # handed over, raised by the consumer
                item = _Failure(error)
            while not stop.is_set():
                try:
                    ready.put(item, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if stop.is_set() or isinstance(item, _Failure):
                return

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        for _ in numbers:
            yield _result(ready.get())
    finally:
        stop.set()
        thread.join()


def by_processes(
    make: Callable[[int], T], numbers: range, workers: int, ahead: int, pin: bool = False
) -> Generator[T]:
    """Prepared by ``workers`` processes that get a copy of ``make``."""
    context = get_context("forkserver")  # a plain fork would inherit the threads of torch
    context.set_forkserver_preload(["training.batch"])  # imported once, not once per worker
    loader = DataLoader(
        _Made(make),
        batch_size=None,
        sampler=_Numbers(numbers),
        num_workers=workers,
        prefetch_factor=ahead,
        pin_memory=pin,
        worker_init_fn=ignore_signals,
        multiprocessing_context=context,
        in_order=True,
    )
    for item in loader:
        result = _result(item)
        yield result.unpack() if isinstance(result, Packed) else result


class _Failure:
    """An exception on its way to the consumer."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


def _result(item: Any) -> Any:
    if isinstance(item, _Failure):
        raise item.error
    return item


class _Numbers(Sampler[int]):
    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers)


class _Made(Dataset[Any], Generic[T]):
    """Item n is make(n), as one block of memory."""

    def __init__(self, make: Callable[[int], T]) -> None:
        self.make = make

    def __getitem__(self, number: int) -> Packed | _Failure:
        try:
            return pack(self.make(number))
        except PointDistillError as error:  # anything else is a bug and keeps its traceback
            return _Failure(error)
