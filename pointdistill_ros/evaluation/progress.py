# SPDX-License-Identifier: Apache-2.0
"""A bar on stderr for walks over many scans: how many are done and how long the rest will take."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Bar = Callable[[str, int], Callable[[int], None]]
"""(title, scans) → what to call with the number of scans that are done."""


@contextmanager
def progress() -> Iterator[Bar]:
    """Bars below each other, one per walk; on a terminal only."""
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
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def begin(title: str, scans: int) -> Callable[[int], None]:
            task = bars.add_task(title, total=scans)
            return lambda done: bars.update(task, completed=done)

        yield begin
