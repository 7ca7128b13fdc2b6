# SPDX-License-Identifier: Apache-2.0
"""A machine that others use, too: one process per core that does nothing but burn it.

Also the program of those processes (``python busy.py PARENT``): standard library only, so that they
start at once and share nothing with the measurement.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_STEPS = 200_000
"""Loop steps between two looks at the parent, some milliseconds."""


@contextmanager
def busy_machine(processes: int) -> Iterator[list[int]]:
    """So many spinning processes while the block runs; yields their process ids.

    They are killed when it ends, however it ends, and stop by themselves should this process be
    killed without a chance to do that.
    """
    spinning: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(processes):
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(os.getpid())],
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # a Ctrl-C is for us; we end them
            )
            spinning.append(process)
        yield [process.pid for process in spinning]
    finally:
        for process in spinning:
            process.kill()
        for process in spinning:
            process.wait()


def spin(parent: int) -> None:
    """Burn a core for as long as ``parent`` is the parent of this process."""
    while os.getppid() == parent:
        for _ in range(_STEPS):
            pass


if __name__ == "__main__":
    spin(int(sys.argv[1]))
