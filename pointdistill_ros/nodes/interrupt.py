# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C that cannot get lost.

Python drops an exception that is raised inside a destructor or a callback from C, and rclpy runs
plenty of both: a KeyboardInterrupt that strikes there leaves a loop running. So the signal only
sets a flag, and the loop asks for it.
"""

from __future__ import annotations

import signal
import threading
from types import TracebackType
from typing import Any


class Interrupt:
    """While the ``with`` block runs, SIGINT is noted; ``check`` and ``sleep`` raise it."""

    def __init__(self) -> None:
        self._noted = threading.Event()
        self._previous: Any = None

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = signal.signal(signal.SIGINT, lambda *_: self._noted.set())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._previous is not None:
            signal.signal(signal.SIGINT, self._previous)

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C came."""
        if self._noted.is_set():
            self._noted.clear()
            raise KeyboardInterrupt

    def sleep(self, seconds: float) -> None:
        """Sleep, at most until Ctrl-C."""
        self._noted.wait(seconds)
        self.check()
