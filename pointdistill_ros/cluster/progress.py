# SPDX-License-Identifier: Apache-2.0
"""Progress over a cluster: inputs done, processes at work, and how long the rest will take."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pointdistill_ros.cluster.job import Job, Outcome

SECONDS = 60.0
"""Between two lines where there is no terminal."""


@dataclass(frozen=True)
class State:
    """Where a walk stands."""

    outcomes: Sequence[Outcome]
    nodes: Sequence[str]
    """Of the processes at work, one entry each."""

    def describe(self, jobs: int) -> str:
        """For people."""
        failed = sum(bool(outcome.error) for outcome in self.outcomes)
        at_work = f"{len(self.nodes)} processes on {len(set(self.nodes))} nodes"
        return f"{len(self.outcomes)} of {jobs} inputs, {at_work}" + (
            f", {failed} failed" if failed else ""
        )

    @property
    def size(self) -> int:
        """Of the inputs that are done; one byte more each, so that empty ones count."""
        return sum(outcome.job.size + 1 for outcome in self.outcomes)


@contextmanager
def cluster_progress(
    title: str, jobs: Sequence[Job]
) -> Iterator[tuple[Callable[[State], None], Callable[[str], None]]]:
    """What to call with the state of things, and what prints a line on stderr meanwhile."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    total = sum(job.size + 1 for job in jobs)
    if not console.is_terminal:
        yield _lines(title, len(jobs), total), lambda line: print(line, file=sys.stderr)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(title, total=total)

        def on_tick(state: State) -> None:
            said = f"{title}: {state.describe(len(jobs))}"
            bars.update(task, completed=state.size, description=said)

        yield on_tick, lambda line: console.print(line, markup=False, highlight=False)


def _lines(title: str, jobs: int, total: int) -> Callable[[State], None]:
    begin = last = time.monotonic()

    def on_tick(state: State) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS or len(state.outcomes) == jobs:
            return
        last = now
        left = ""
        if state.size:
            minutes = (now - begin) / state.size * (total - state.size) / 60
            left = f", {minutes:.0f} min left"
        print(f"{title}: {state.describe(jobs)}{left}", file=sys.stderr)

    return on_tick
