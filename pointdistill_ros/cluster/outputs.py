# SPDX-License-Identifier: Apache-2.0
"""What killed attempts leave: files and folders under temporary names beside the real ones."""

from __future__ import annotations

import shutil
from pathlib import Path


def remove_halves(place: Path) -> None:
    """Remove what was being written for one output, file or folder, when a process was killed.

    Only while nobody writes there. Names are those of ``atomic_path`` and ``BagWriter``.
    """
    halves = list(place.parent.glob(f".{_literal(place.name)}.*"))
    if place.is_dir():
        halves += place.glob(".*.tmp")
    for half in halves:
        if half.is_dir():
            shutil.rmtree(half, ignore_errors=True)
        else:
            half.unlink(missing_ok=True)


def _literal(name: str) -> str:
    """A name in which no sign is a pattern."""
    return "".join(f"[{sign}]" if sign in "[*?" else sign for sign in name)
