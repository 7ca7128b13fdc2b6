# SPDX-License-Identifier: Apache-2.0
"""The machine's peaks, measured: fused multiply-adds per second and bytes copied per second.

The one place of the benchmark where the best of several tries counts: a peak is what is possible.
"""

from __future__ import annotations

import ctypes
import time

import torch

from pointdistill_ros.benchmark.roofline import Peaks
from pointdistill_ros.engine.library import EngineMissingError, load_library

_TRIES = 7
_TURNS = 20
_KINDS = ("float32", "bfloat16")
_COPY_BYTES = 1 << 28
"""Well above any cache."""
_SQUARE = 1536


def measure_peaks(device: str, threads: int) -> Peaks:
    """Peaks of ``threads`` CPU threads, or of a GPU."""
    probe = None if device != "cpu" else _native_probe()
    if probe is None:
        return _torch_peaks(device, threads)
    # in turns: what disturbs the machine for a moment must not halve one of them alone
    turns = [probe(threads) for _ in range(_TURNS)]
    *rates, copy = (max(kind) for kind in zip(*turns, strict=True))
    flops = dict(zip(_KINDS, rates, strict=True))
    return Peaks(
        {kind: rate for kind, rate in flops.items() if rate > 0},
        copy,
        "multiply-adds in registers, copy of 256 MiB, by the threads' own time",
    )


class _Probe:
    """``pd_probe`` of the compiled library: kind 0 float32, 1 bfloat16, 2 copy; 0 = cannot."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._probe = library.pd_probe
        self._probe.restype = ctypes.c_double
        self._probe.argtypes = [ctypes.c_int32, ctypes.c_int32]

    def __call__(self, threads: int) -> list[float]:
        """FLOP/s of both kinds and bytes/s, each measured once."""
        return [float(self._probe(kind, threads)) for kind in (0, 1, 2)]


def _native_probe() -> _Probe | None:
    try:
        return _Probe(load_library())
    except (EngineMissingError, AttributeError):
        return None


def _torch_peaks(device: str, threads: int) -> Peaks:
    if device == "cpu":
        torch.set_num_threads(threads)
    size = _SQUARE if device == "cpu" else 8192
    flops = {}
    for kind in (*_KINDS, *(("float16",) if device != "cpu" else ())):
        a = torch.randn(size, size).to(device=device, dtype=getattr(torch, kind))
        out = torch.empty_like(a)
        flops[kind] = 2 * size**3 / _best_seconds(lambda a=a, out=out: torch.mm(a, a, out=out))
    source = torch.zeros(_COPY_BYTES // 4, device=device)
    target = torch.zeros_like(source)
    seconds = _best_seconds(lambda: target.copy_(source))
    return Peaks(flops, 2 * _COPY_BYTES / seconds, f"torch: product of {size}², copy of 256 MiB")


def _best_seconds(work: object) -> float:
    assert callable(work)
    best = float("inf")
    for _ in range(_TRIES):
        begin = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return best
