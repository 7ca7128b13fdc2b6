# SPDX-License-Identifier: Apache-2.0
"""Freed memory stays with the process: a training step asks for the same sizes again and again.

glibc hands large blocks back to the system and gets them anew page by page, which costs a training
step on a CPU up to a third of its time.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # malloc.h


@cache
def keep_freed_memory() -> bool:
    """Tell glibc's allocator, once per process. False where there is another allocator."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1), (_TOP_PAD, 64 << 20))
    answers = [mallopt(option, value) for option, value in options]
    return answers == [1, 1, 1]
