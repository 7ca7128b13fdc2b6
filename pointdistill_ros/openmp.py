# SPDX-License-Identifier: Apache-2.0
"""How the threads of a matrix product wait for each other, in processes that we start.

By default a waiting OpenMP thread spins for long. On a machine where something else runs, too, it
then burns the very core its sibling needs: one scan took 3 to 8 s instead of 1.6 s beside a process
that used both cores. The price on idle cores: 0.79 s a scan instead of 0.63 s (docs/decisions.md).
"""

import os

SPINS = "2000"


def bound_spinning() -> None:
    """Set GNU OpenMP's spin count unless the user chose how to wait; call before torch loads."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
