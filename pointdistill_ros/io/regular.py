# SPDX-License-Identifier: Apache-2.0
"""Only regular files are read: a pipe would block, a device never ends, a folder is a mistake."""

import os
import stat
from pathlib import Path

from pointdistill_ros.errors import InputError


def why_no_file(path: Path) -> str | None:
    """Why a path cannot be read as a file, in a few words; None where it can. Never blocks."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116  # pathlib hides some of these errors
    except OSError as error:
        return error.strerror or str(error)
    except ValueError as error:
        return f"not a path ({error})"
    if stat.S_ISDIR(mode):
        return "a folder; expected a file"
    return None if stat.S_ISREG(mode) else "a device, pipe or socket; expected a file"


def require_file(path: Path) -> None:
    """Raise InputError naming the path unless it is a regular file, or leads to one."""
    if problem := why_no_file(path):
        raise InputError(f"{path}: {problem}")
