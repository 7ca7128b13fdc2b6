# SPDX-License-Identifier: Apache-2.0
"""The compiled kernels of training, as functions on tensors' memory. ctypes releases the GIL."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError

Precision = Literal["float32", "bfloat16"]
"""Of the factors in products; what is stored and every sum is float32 in both."""

TIERS = ("portable", "avx2", "avx512", "avx512-bf16")
_PRECISIONS = {"float32": 0, "bfloat16": 1}
_STATUS = {1: "bad argument", 4: "out of memory"}
_lowered: int | None = None


@contextmanager
def lowered_tier(tier: int) -> Iterator[None]:
    """Compute with the instructions of TIERS[tier] at most, so that one CPU tests them all."""
    global _lowered  # noqa: PLW0603 - one CPU, one process
    before, _lowered = _lowered, tier
    try:
        yield
    finally:
        _lowered = before


def tier() -> int:
    """Tier to compute with: this CPU's best unless lowered. ConfigError without library."""
    best = int(library().pd_best_tier())
    return best if _lowered is None else min(best, _lowered)


def library() -> ctypes.CDLL:
    """The engine's library. Raises ConfigError where it is not built."""
    try:
        return load_library()
    except EngineMissingError as error:
        raise ConfigError(f"compiled training: {error}") from error


def check_precision(precision: Precision) -> int:
    """The number of a precision. Raises ConfigError where this CPU does not have it."""
    number = _PRECISIONS.get(precision)
    if number is None:
        raise ConfigError(f"precision {precision!r}: expected one of {', '.join(_PRECISIONS)}")
    if number and tier() < TIERS.index("avx512-bf16"):
        raise ConfigError(
            "precision bfloat16: this CPU has no bfloat16 products (avx512-bf16); use float32"
        )
    return number


def check_floats(name: str, x: Tensor) -> None:
    """Raises ConfigError unless x is float32 on the CPU: nothing is converted silently."""
    if x.dtype != torch.float32 or x.device.type != "cpu":
        raise ConfigError(
            f"compiled training takes float32 tensors on the CPU, {name} is {x.dtype} on "
            f"{x.device}; switch autocast off, or do not compile the network"
        )


def address(x: Tensor | None) -> ctypes.c_void_p:
    """Address of a contiguous tensor, or null."""
    if x is None:
        return ctypes.c_void_p(None)
    if not x.is_contiguous():
        raise ValueError("tensor is not contiguous")
    return ctypes.c_void_p(x.data_ptr())


def call(name: str, *arguments: int | ctypes.c_void_p | ctypes.c_int64) -> None:
    """Call a function that returns a status; plain ints are int32. ValueError, MemoryError."""
    status = getattr(library(), name)(*arguments)
    if status == 4:
        raise MemoryError(f"{name}: {_STATUS[status]}")
    if status:
        raise ValueError(f"{name}: {_STATUS.get(status, status)}")
