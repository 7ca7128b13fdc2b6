# SPDX-License-Identifier: Apache-2.0
"""The compiled library of the CPU engine, found and checked. Its absence changes speed only."""

from __future__ import annotations

import ctypes
import os
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.engine import build


class EngineMissingError(Exception):
    """The library is not there or not usable; the text says why and what to do."""


@cache
def load_library() -> ctypes.CDLL:
    """The library next to its sources, or the one ``$POINTDISTILL_LIBRARY`` names.

    Raises EngineMissingError where it is absent or was made from other sources.
    """
    # torch brings an OpenMP runtime of its own; loaded first, it is the only one of the process
    import torch  # noqa: F401

    named = os.environ.get("POINTDISTILL_LIBRARY")
    path = Path(named) if named else build.SOURCES / build.LIBRARY
    remedy = "build it with `python -m pointdistill_ros.engine.build`"
    if not path.is_file():
        raise EngineMissingError(f"{path} does not exist; {remedy}")
    try:
        library = ctypes.CDLL(str(path))
        library.pd_sources.restype = ctypes.c_char_p
        made_from = library.pd_sources().decode()
    except (OSError, AttributeError) as error:
        raise EngineMissingError(f"{path} cannot be loaded ({error}); {remedy}") from error
    if made_from != build.sources_hash():
        raise EngineMissingError(f"{path} was made from other sources; {remedy}")
    return library


def pointer(array: NDArray[np.generic] | None) -> ctypes.c_void_p:
    """Address of a C-contiguous array, or null."""
    if array is None:
        return ctypes.c_void_p(None)
    if not array.flags.c_contiguous:
        raise ValueError("array is not contiguous")
    return ctypes.c_void_p(array.ctypes.data)
