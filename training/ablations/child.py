# SPDX-License-Identifier: Apache-2.0
"""Train a cell in a process of its own: what one run does to memory, GPU or itself harms no other.

- the command is one that can be given by hand; the log begins with it
- under torchrun a run knows nothing of its siblings: the launcher's variables are not passed on
- a signal goes on to the run, which ends after its step with a checkpoint
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from pointdistill_ros.checkpoint import file_sha256
from pointdistill_ros.errors import PointDistillError
from training.ablations.cell import Cell
from training.interrupt import Interrupted, InterruptGuard

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.5
"""Seconds between two looks at a signal."""
_OF = ("", "LOCAL_", "GROUP_", "ROLE_")
_LAUNCHER = {prefix + name for prefix in _OF for name in ("RANK", "WORLD_SIZE")}
_LAUNCHER |= {"NODE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"}


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


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Variables of a run: ours without those of the launcher, the project on the path."""
    kept = {
        name: value
        for name, value in own.items()
        if name not in _LAUNCHER and not name.startswith("TORCHELASTIC_")
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH", "")]))
    return kept


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
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment(os.environ),
            pass_fds=[claim],  # a run that outlives us keeps others out
        )
        try:
            code = wait(child, guard)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
    if guard and guard.received:
        raise Interrupted(guard.received)
    weights = cell.folder / f"{Path(cell.config.model).stem}.safetensors"
    if code:
        raise CellError(_reason(code, cell.log))
    if not weights.is_file():
        raise CellError(f"the run ended without {weights.name}; see {cell.log}")
    cell.write("trained", {"weights": weights.name, "sha256": file_sha256(weights)})


def wait(child: subprocess.Popen[bytes], guard: InterruptGuard | None) -> int:
    """Exit code of the child, to which a signal is passed on once."""
    passed = False
    if guard:
        guard.held = True
    try:
        while child.poll() is None:
            time.sleep(POLL)
            if guard and guard.received and not passed:
                child.send_signal(guard.received)
                passed = True
        return child.wait()
    finally:
        if guard:
            guard.held = False


def _reason(code: int, log: Path) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}; see {log}"
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return f"{lines[-1].strip()} (exit code {code}; see {log})"
