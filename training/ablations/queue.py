# SPDX-License-Identifier: Apache-2.0
"""A queue without a master: every process takes the first cell that is not done and not taken.

Locks on the cells' folders say who has what, so processes may come and go at any time, on any
machine that sees the folder. What a process leaves behind when it is killed, another takes over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pointdistill_ros.errors import PointDistillError
from training.ablations.cell import Cell

WAIT = 2.0
"""Seconds between two looks at what others are doing."""


def work_off(
    cells: Sequence[Cell],
    is_done: Callable[[Cell], bool],
    work: Callable[[Cell, int], None],
    say: Callable[[str], None] = print,
    wait: float = WAIT,
) -> None:
    """Return when every cell is done or has failed, whoever did it.

    work(cell, claim) does a cell. A PointDistillError of it is noted, said and costs that cell
    alone, which is not tried again by those who were here then; a later call tries it again.
    """
    begin = time.time()
    done: set[str] = set()
    """Or given up, by us."""
    while True:
        taken = False
        for cell in cells:
            if cell.name in done or cell.failed_after(begin):
                continue
            with cell.claimed() as claim:
                if claim is None:
                    taken = True
                    continue
                if is_done(cell):
                    done.add(cell.name)
                    continue
                if cell.failed_after(begin):  # just now, by another
                    continue
                done.add(cell.name)
                try:
                    work(cell, claim)
                except PointDistillError as error:
                    cell.fail(str(error))
                    say(f"{cell.name}: {error}")
                else:
                    cell.forget_failure()
                break  # look again from the start: earlier seeds first
        else:
            if not taken:
                return
            time.sleep(wait)
