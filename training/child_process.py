# SPDX-License-Identifier: Apache-2.0
"""Run a training in a process of its own: a signal goes on to it, and it never outlives an error.

Under torchrun it knows nothing of its siblings: the launcher's variables are not passed on.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.interrupt import InterruptGuard

ROOT = Path(__file__).resolve().parents[1]
POLL = 0.5
"""Seconds between two looks at a signal."""
_OF = ("", "LOCAL_", "GROUP_", "ROLE_")
_LAUNCHER = {prefix + name for prefix in _OF for name in ("RANK", "WORLD_SIZE")}
_LAUNCHER |= {"NODE_RANK", "ROLE_NAME", "MASTER_ADDR", "MASTER_PORT"}


def run_child(words: Sequence[str], guard: InterruptGuard | None, **options: Any) -> int:
    """Exit code of a command; ``options`` of Popen. Where we are ended ourselves it is killed."""
    child = subprocess.Popen(words, env=environment(os.environ), **options)
    try:
        return _wait(child, guard)
    finally:
        if child.poll() is None:
            child.kill()
            child.wait()


def environment(own: Mapping[str, str]) -> dict[str, str]:
    """Variables of a run: ours without those of the launcher, the project on the path."""
    kept = {
        name: value
        for name, value in own.items()
        if name not in _LAUNCHER and not name.startswith("TORCHELASTIC_")
    }
    kept["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH", "")]))
    return kept


def _wait(child: subprocess.Popen[bytes], guard: InterruptGuard | None) -> int:
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
