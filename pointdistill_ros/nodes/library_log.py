# SPDX-License-Identifier: Apache-2.0
"""What the library logs (Python's ``logging``) → the log of a node, from the level INFO on.

Without this, warnings of the engine bypass /rosout and what is good news is never told.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

LIBRARY = "pointdistill_ros"


class NodeLog(logging.Handler):
    """Hands records over to a logger of rclpy."""

    def __init__(self, logger: Any) -> None:
        super().__init__(logging.INFO)
        self._logger = logger

    def emit(self, record: logging.LogRecord) -> None:
        """One record; rclpy wants a line of code of its own for each level."""
        text = record.getMessage()
        if record.levelno >= logging.ERROR:
            self._logger.error(text)
        elif record.levelno >= logging.WARNING:
            self._logger.warning(text)
        else:
            self._logger.info(text)


@contextmanager
def library_log(logger: Any) -> Iterator[None]:
    """While the block runs, ``logger`` (of rclpy) tells what the library logs."""
    library, handler = logging.getLogger(LIBRARY), NodeLog(logger)
    level = library.level
    library.addHandler(handler)
    library.setLevel(logging.INFO)
    try:
        yield
    finally:
        library.removeHandler(handler)
        library.setLevel(level)
