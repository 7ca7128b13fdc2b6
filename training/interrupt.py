# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM: before training they end the process at once, during it after the step."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType, TracebackType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(Exception):  # noqa: N818 - nothing went wrong
    """A signal ended the process in an orderly way; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What a shell reports for a process ended by this signal."""
        return 128 + self.number


class InterruptGuard:
    """Context in which signals raise Interrupted, or wait in ``received`` while ``held``.

    A second signal raises at once, unless it follows within a second: terminals and launchers send
    the same one to every process and pass on their own.
    """

    def __init__(self) -> None:
        self.held = False
        self.received = 0
        self._since = 0.0
        self._before: list[object] = []

    def __enter__(self) -> InterruptGuard:
        self._before = [signal.signal(number, self._handle) for number in SIGNALS]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        for number, handler in zip(SIGNALS, self._before, strict=True):
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received and time.monotonic() - self._since < 1:
            return
        if not self.held or self.received:
            raise Interrupted(number)
        self.received, self._since = number, time.monotonic()
        name = signal.Signals(number).name
        print(f"\n{name}: finishing the step; once more ends at once", file=sys.stderr, flush=True)


def ignore_signals(_worker: int = 0) -> None:
    """In a process that prepares batches: its parent decides when it ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
