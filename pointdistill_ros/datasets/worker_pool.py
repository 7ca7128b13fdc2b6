# SPDX-License-Identifier: Apache-2.0
"""Worker processes that end with the process that started them, however that one ends.

The standard pool's workers outlive a parent that was killed, and go on computing for nobody.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process
from typing import Any


def worker_pool(
    workers: int, initializer: Callable[..., None] | None = None, args: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of ``workers`` fresh processes; ``initializer(*args)`` runs first in each."""
    spawn = get_context("spawn")  # a fork would inherit the threads of torch
    return ProcessPoolExecutor(workers, spawn, _begin, (initializer, args))


def _begin(initializer: Callable[..., None] | None, args: tuple[Any, ...]) -> None:
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    if initializer is not None:
        initializer(*args)


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
