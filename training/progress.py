# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a run: a bar with the time left on a terminal, lines elsewhere."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

LINE_SECONDS = 15.0
"""Between two lines where there is no terminal."""


class ProgressReport:
    """A context; ``update`` after every look at the losses."""

    def __init__(self, console: Console, steps: int | None) -> None:
        """``steps``: of the whole run, where they are known."""
        self.console, self._of = console, f" of {steps}" if steps else ""
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]} left"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("training", total=1.0, left="?")
        self._begin: tuple[float, float] | None = None
        self._line = 0.0
        self._scores = ""

    def __enter__(self) -> ProgressReport:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    def scored(self, scores: dict[str, float]) -> None:
        """Newest scores of the monitor."""
        self._scores = "".join(f" {name} {value:.3f}" for name, value in scores.items())

    def update(self, share: float, step: int, record: dict[str, Any]) -> None:
        """Elapsed share of the run and the newest record."""
        now = time.monotonic()
        self._begin = self._begin or (now, share)
        passed, done = now - self._begin[0], share - self._begin[1]
        left = _clock(passed / done * (1 - share)) if done > 0 else "?"
        text = (
            f"step {step}{self._of}: loss {record['loss']:.3f}{self._scores}, "
            f"{record['voxels_per_second'] / 1000:.1f} k voxels/s"
        )
        self._bar.update(self._task, completed=share, description=text, left=left)
        if not self.console.is_terminal and (now - self._line > LINE_SECONDS or share >= 1):
            self.say(f"{text}, waited {record['waiting']:.0%}, {share:.0%}, {left} left")
            self._line = now


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
