# SPDX-License-Identifier: Apache-2.0
"""Out of device memory: the next, smaller way of computing the same, and back again later.

A ladder of rungs, fastest first. A rung that runs out of memory is left with one warning; after a
back-off of some scans, twice as many after every vain try, the rung above is tried again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

_LOG = logging.getLogger(__name__)

FIRST_BACK_OFF = 16
"""Scans until the rung above is tried again."""
LONGEST_BACK_OFF = 1024
"""… at most, after vain tries."""

Engine = TypeVar("Engine")
Result = TypeVar("Result")


def is_out_of_memory(error: BaseException | None) -> bool:
    """True also where another error hides it: ending a failed graph capture raises its own."""
    while error is not None:
        if isinstance(error, torch.cuda.OutOfMemoryError):
            return True
        error = error.__cause__ or error.__context__
    return False


class FallbackLadder(Generic[Engine]):
    """Works with the fastest engine that has memory."""

    def __init__(
        self,
        rungs: Sequence[tuple[str, Callable[[], Engine]]],
        release: Callable[[], None],
    ) -> None:
        """rungs: (name for the log, engine), fastest first. release: frees what it can."""
        self._rungs = tuple(rungs)
        self._release = release
        self._current = 0
        self._wait = 0
        self._back_off = FIRST_BACK_OFF

    @property
    def level(self) -> int:
        """0 for the fastest."""
        return self._current

    @property
    def name(self) -> str:
        """The rung in use."""
        return self._rungs[self._current][0]

    def __call__(self, work: Callable[[Engine], Result]) -> Result:
        """``work`` with an engine. Raises what the last rung raises, and errors of other kinds."""
        if self._current > 0 and self._wait <= 0:
            climbed, result = self._try(self._current - 1, work)
            if climbed and result is not None:
                self._current -= 1
                self._wait = self._back_off = FIRST_BACK_OFF
                _LOG.info("device memory is back: %s again", self.name)
                return result
            self._back_off = min(2 * self._back_off, LONGEST_BACK_OFF)
            self._wait = self._back_off
        self._wait -= 1
        while self._current < len(self._rungs) - 1:
            done, result = self._try(self._current, work)
            if done and result is not None:
                return result
            left = self.name
            self._current += 1
            self._wait = self._back_off
            _LOG.warning("out of device memory with %s: going on with %s", left, self.name)
        return work(self._rungs[-1][1]())

    def _try(self, rung: int, work: Callable[[Engine], Result]) -> tuple[bool, Result | None]:
        """(False, None) where memory ran out; then all that can be freed is free."""
        try:
            return True, work(self._rungs[rung][1]())
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        # outside of the handler: the traceback no longer holds the tensors of the failed try
        self._release()
        return False, None
