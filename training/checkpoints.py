# SPDX-License-Identifier: Apache-2.0
"""What a run resumes from: the last two states of a run, each recognised as whole or damaged.

- a file's name carries its step and the SHA-256 of its content: one rename makes both appear
- only tensors and plain values are read (weights_only)
"""

from __future__ import annotations

import hashlib
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pointdistill_ros.errors import CheckpointError
from pointdistill_ros.io.atomic import atomic_path

KEEP = 2
"""Checkpoints of a run that stay."""
_NAME = re.compile(r"step_(\d{8})-([0-9a-f]{16})\.pt")


class Checkpoints:
    """The states in a folder, oldest first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def paths(self) -> list[Path]:
        """Files that are named like a state, oldest first."""
        found = [p for p in self.folder.glob("step_*.pt") if _NAME.fullmatch(p.name)]
        return sorted(found, key=lambda p: (p.name.split("-")[0], p.stat().st_mtime_ns))

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write a state whole or not at all; then remove all but the last two."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        content = buffer.getbuffer()
        path = self.folder / f"step_{step:08d}-{_digest(content)}.pt"
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)
        for old in [p for p in self.paths() if p != path][: -(KEEP - 1)]:
            old.unlink()
        return path

    def find(self, say: Callable[[str], None]) -> Path | None:
        """The last whole state; None where there is none.

        A damaged file is named to ``say`` and the one before it used. Raises CheckpointError where
        all are damaged.
        """
        for leftover in self.folder.glob(".step_*.tmp"):  # of a process killed while writing
            leftover.unlink()
        paths = self.paths()
        for path in reversed(paths):
            if damage := _damage(path):
                say(f"{damage}; using the one before")
            else:
                return path
        if paths:
            raise CheckpointError(f"{self.folder}: all {len(paths)} checkpoints are damaged")
        return None


def read_state(path: Path) -> dict[str, Any]:
    """One state. Raises CheckpointError if the file is truncated, damaged or something else."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from error
    match = _NAME.fullmatch(path.name)
    if match is None or match[2] != _digest(content):
        raise CheckpointError(f"{path}: damaged or cut short (its checksum differs)")
    try:
        state: dict[str, Any] = torch.load(
            io.BytesIO(content), weights_only=True, map_location="cpu"
        )
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path}: holds more than tensors and plain values") from error
    return state


def _damage(path: Path) -> str:
    try:
        read_state(path)
    except CheckpointError as error:
        return str(error)
    return ""


def _digest(content: bytes | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
