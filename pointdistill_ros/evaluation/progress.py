# SPDX-License-Identifier: Apache-2.0
"""Progress of walks over many scans: how many are done and how long the rest will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SECONDS = 60.0
"""Between two lines where there is no terminal."""
Bar = Callable[[str, int], Callable[[int], None]]
"""(title, scans) → what to call with the number of scans that are done."""


@contextmanager
def progress() -> Iterator[Bar]:
    """Bars below each other, one per walk; where stderr is no terminal, a line now and then."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:

        def begin(title: str, scans: int) -> Callable[[int], None]:
            task = bars.add_task(title, total=scans)
            return lambda done: bars.update(task, completed=done)

        yield begin


def _lines(title: str, scans: int) -> Callable[[int], None]:
    """A line on stderr when one is due, with the time the rest will take at this pace."""
    begin = last = time.monotonic()

    def on_scan(done: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= SECONDS and done < scans:
            last = now
            left = (now - begin) / done * (scans - done)
            print(f"{title}: {done} of {scans} scans, {left / 60:.0f} min left", file=sys.stderr)

    return on_scan
