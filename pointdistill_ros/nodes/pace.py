# SPDX-License-Identifier: Apache-2.0
"""Pace: a node that leaves the machine to another one. Which clouds, how much rest, what priority.

- every k-th cloud is taken, the others are not even queued
- after a cloud the model thread rests, so that work takes at most a share of the time; the newest
  cloud waits meanwhile, older ones are overwritten as under any load
- the model thread and the OpenMP threads it spawns get a lower scheduling priority

The priority is that of the model thread, not of the process: the threads of DDS hold locks in
shared memory that other processes wait for, and a thread that never gets a CPU never lets go.
Linux weighs priorities only among the processes of one session where it groups tasks by session
(kernel.sched_autogroup_enabled): start student and teacher from one launch file or one shell.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from pointdistill_ros.config import PaceConfig

LOW, IDLE = 10, 19
"""Nice values."""
_GROUPING = Path("/proc/sys/kernel/sched_autogroup_enabled")
_GROUP = Path("/proc/self/autogroup")


class EveryNth:
    """Takes one cloud of so many, the first one always."""

    def __init__(self) -> None:
        self._arrived = 0
        self.skipped = 0
        """Clouds left out on purpose."""

    def takes(self, every: int) -> bool:
        """Whether the cloud that has just arrived is one to label."""
        turn = self._arrived % every == 0
        self._arrived += 1
        self.skipped += not turn
        return turn


def rest(worked: float, max_load: float) -> float:
    """Seconds to rest after so many of work, so that work is at most ``max_load`` of the time."""
    return worked * (1 / max_load - 1)


def set_priority(pace: PaceConfig) -> tuple[str, str]:
    """Lower the calling thread, and all it will start, to ``pace.priority``.

    Returns the priority in force, for people, and the system's reason where it refused what was
    asked for; empty where it did not.
    """
    if pace.priority == "normal":
        return f"normal{_scope()}", ""
    policy, nice = (os.SCHED_BATCH, LOW) if pace.priority == "low" else (os.SCHED_IDLE, IDLE)
    got, reasons = [], []
    thread = threading.get_native_id()
    try:
        os.sched_setscheduler(thread, policy, os.sched_param(0))
        got.append("SCHED_BATCH" if policy == os.SCHED_BATCH else "SCHED_IDLE")
    except OSError as error:
        reasons.append(f"scheduling policy: {error.strerror}")
    try:
        if os.getpriority(os.PRIO_PROCESS, thread) < nice:
            os.setpriority(os.PRIO_PROCESS, thread, nice)
        got.append(f"nice {os.getpriority(os.PRIO_PROCESS, thread)}")
    except OSError as error:
        reasons.append(f"nice: {error.strerror}")
    return f"{pace.priority}: {', '.join(got) or 'refused'}{_scope()}", "; ".join(reasons)


def _scope() -> str:
    """Among which processes the priority counts; empty where that is all of this machine."""
    try:
        grouped = _GROUPING.read_text().strip() == "1"
        group = _GROUP.read_text().split()[0].lstrip("/") if grouped else ""
    except (OSError, IndexError):
        return ""
    return f", within {group}" if group else ""
