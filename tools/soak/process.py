# SPDX-License-Identifier: Apache-2.0
"""Process: what another process holds, from /proc (Linux)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class State(NamedTuple):
    """One look at a process."""

    resident: int
    """Bytes of memory in use, shared pages included."""
    private: int
    """Bytes of these that are its own: without libraries, and without the shared memory of DDS, of
    which more and more pages count until the ring has gone round once."""
    threads: int
    handles: int
    """Open file descriptors."""
    cpu: float
    """Seconds of CPU time so far, of all threads."""


class Process:
    """A process by its number."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._folder = Path("/proc") / str(pid)

    def state(self) -> State:
        """Now. Raises FileNotFoundError or ProcessLookupError where the process is gone."""
        lines = (self._folder / "status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines if ":" in line)
        kibibytes = {key: int(status[key].split()[0]) for key in ("RssAnon", "RssFile", "RssShmem")}
        # the name in parentheses may hold anything, blanks too
        fields = (self._folder / "stat").read_text().rpartition(")")[2].split()
        ticks = int(fields[11]) + int(fields[12])
        return State(
            resident=1024 * sum(kibibytes.values()),
            private=1024 * kibibytes["RssAnon"],
            threads=int(status["Threads"]),
            handles=len(os.listdir(self._folder / "fd")),  # noqa: PTH208 - names are enough
            cpu=ticks / os.sysconf("SC_CLK_TCK"),
        )
