# SPDX-License-Identifier: Apache-2.0
"""Train a cell in a process of its own: what one run does to memory, GPU or itself harms no other.

- the command is one that can be given by hand; the log begins with it
- a signal goes on to the run, which ends after its step with a checkpoint
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path

from pointdistill_ros.checkpoint import file_sha256
from pointdistill_ros.errors import PointDistillError
from training.ablations.cell import Cell
from training.child_process import run_child
from training.interrupt import Interrupted, InterruptGuard


class CellError(PointDistillError):
    """A run of an ablation ended early."""


def command(cell: Cell, data: Path | None, cache: Path) -> list[str]:
    """Words of the command that trains a cell, or goes on with it."""
    words = ["-m", f"training.{cell.program}", "--recipe", cell.recipe, "--seed", cell.seed]
    words += ["--run", cell.folder, "--cache", cache]
    if data is not None:
        words += ["--data", data]
    if cell.teacher is not None:
        words += ["--teacher", cell.teacher.path]
    if cell.camera is not None:
        words += ["--camera", cell.camera.path]
    if cell.begun:
        words.append("--resume")
    return [sys.executable, *map(str, words)]


def train(
    cell: Cell, claim: int, data: Path | None, cache: Path, guard: InterruptGuard | None = None
) -> None:
    """Train to the end and write ``trained.json``; ``claim``: what ``Cell.claimed`` gave.

    Raises CellError with the run's last line, Interrupted after a signal.
    """
    cell.begin()
    words = command(cell, data, cache)
    with cell.log.open("a") as log:
        log.write(f"$ {shlex.join(words)}\n")
        log.flush()
        code = run_child(
            words,
            guard,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=[claim],  # a run that outlives us keeps others out
        )
    if guard and guard.received:
        raise Interrupted(guard.received)
    weights = cell.folder / f"{Path(cell.config.model).stem}.safetensors"
    if code:
        raise CellError(_reason(code, cell.log))
    if not weights.is_file():
        raise CellError(f"the run ended without {weights.name}; see {cell.log}")
    cell.write("trained", {"weights": weights.name, "sha256": file_sha256(weights)})


def _reason(code: int, log: Path) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}; see {log}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1].strip()} (exit code {code}; see {log})"
