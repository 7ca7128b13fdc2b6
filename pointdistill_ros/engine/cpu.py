# SPDX-License-Identifier: Apache-2.0
"""The CPU engine: the network compiled once (plan.py), then one native call per scan (native/)."""

from __future__ import annotations

import ctypes
import os
import weakref
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.engine.interface import Choose, EngineName, PointScores, Precision
from pointdistill_ros.engine.library import load_library, pointer
from pointdistill_ros.engine.plan import MAX_STAGES, compile_plan
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.model.curves import MAX_DEPTH, interleave
from pointdistill_ros.model.degradation import NEAR_RADIUS
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.thinning import VoxelCounts, near_limit

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
"""In the order of ``Precision`` in native/kernels.h."""
TIERS = ("portable", "avx2", "avx512", "avx512-bf16")
PARTS = (
    "voxels", "geometry", "stem", "convolution", "attention", "mlp", "pooling", "head", "points"
)  # fmt: skip
_CODE_BITS = 3 * MAX_DEPTH
_FAILURES: dict[int, tuple[type[Exception], str]] = {
    2: (
        ScanError,
        f"scan spans 2^{MAX_DEPTH} voxels or more along one axis; drop far outliers or use a "
        "larger grid_size",
    ),
    3: (ScanError, "a voxel appears twice; voxelise before building a pyramid"),
    4: (MemoryError, "the CPU engine ran out of memory"),
}


class _Counts(ctypes.Structure):
    """Twin of ``VoxelCounts`` in native/thinning.h."""

    _fields_ = (
        ("stages", ctypes.c_int32 * MAX_STAGES),
        ("coarse", ctypes.c_int32),
        ("near", ctypes.c_int32),
    )


class _Degradation(ctypes.Structure):
    """Twin of ``Degradation`` in native/thinning.h."""

    _fields_ = (
        ("near_limit", ctypes.c_int64),
        ("coarse", ctypes.c_int32),
        ("max_voxels", ctypes.c_int32),
    )


_Choose = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.POINTER(_Counts), ctypes.POINTER(_Degradation))


class _Report(ctypes.Structure):
    """Twin of ``Report`` in native/capi.cpp."""

    _fields_ = (
        ("voxels", ctypes.c_int64),
        ("arena_bytes", ctypes.c_int64),
        ("pairs", ctypes.c_int64),
        ("rows", ctypes.c_int32 * MAX_STAGES),
        ("seconds", ctypes.c_double * len(PARTS)),
    )


def available_tiers(precision: Precision = "float32") -> tuple[str, ...]:
    """Tiers this build has and this CPU runs, slowest first. Raises EngineMissingError."""
    name = load_library().pd_tier_name
    name.restype = ctypes.c_char_p
    if precision not in PRECISIONS:
        return ()
    number = PRECISIONS.index(precision)
    return tuple(TIERS[i] for i in range(len(TIERS)) if name(i, number))


def usable_threads() -> int:
    """Cores this process may use (its affinity), which is what containers and taskset set."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class CpuNetwork:
    """A network packed for this CPU. Calls from several threads take turns."""

    def __init__(
        self,
        network: PTv3,
        precision: Precision = "float32",
        threads: int | None = None,
        tier: str | None = None,
    ) -> None:
        """threads: default ``usable_threads()``; tier: default the fastest one.

        Raises EngineMissingError without the library, ConfigError where shape, tier or precision
        cannot be served.
        """
        library = load_library()
        tiers = available_tiers(precision)
        if not tiers:
            raise ConfigError(
                f"the CPU engine cannot run in {precision} here (bfloat16 needs a CPU with "
                "AVX512-BF16); use precision float32"
            )
        tier = tiers[-1] if tier is None else tier
        if tier not in tiers:
            raise ConfigError(f"tier {tier!r} cannot run here in {precision}; can: {tiers}")
        threads = usable_threads() if threads is None else threads
        if not 1 <= threads <= 256:
            raise ConfigError(f"threads must be 1 to 256, got {threads}")
        plan = compile_plan(network)
        self.precision, self.tier, self.threads = precision, tier, threads
        self.config = network.config
        self.last_report = _Report()
        self._library = library
        self._handle = ctypes.c_void_p()
        status = library.pd_create(
            ctypes.byref(plan.shape),
            pointer(plan.weights),
            ctypes.c_int64(plan.weights.size),
            TIERS.index(tier),
            PRECISIONS.index(precision),
            ctypes.byref(self._handle),
        )
        _check(status, "pd_create")
        weakref.finalize(self, library.pd_destroy, ctypes.c_void_p(self._handle.value))

    def segment(
        self,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        grid_size: float,
        max_range: float,
        choose: Choose | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        """Points to label (255 = not valid), probability and entropy, each [N].

        xyz: float32 [N, 3] metres, anything; intensity: float32 [N] finite. A point is valid where
        all its coordinates are within ±max_range. choose: see ``Engine``. Raises ScanError.
        """
        xyz = np.ascontiguousarray(xyz, np.float32)
        intensity = np.ascontiguousarray(intensity, np.float32)
        if xyz.ndim != 2 or xyz.shape[1] != 3 or intensity.shape != (len(xyz),):
            raise ScanError(f"xyz {xyz.shape} and intensity {intensity.shape} do not fit together")
        if self.config.in_channels != 4:
            raise ConfigError(
                f"scans give 4 input channels, the network takes {self.config.in_channels}"
            )
        label = np.empty(len(xyz), np.uint8)
        probability = np.empty(len(xyz), np.float32)
        entropy = np.empty(len(xyz), np.float32)
        report = _Report()
        asked = _Asked(choose, len(self.config.encoder_depths), grid_size)
        status = self._library.pd_segment(
            self._handle,
            pointer(xyz),
            pointer(intensity),
            ctypes.c_int64(len(xyz)),
            ctypes.c_double(grid_size),
            ctypes.c_float(max_range),
            self.threads,
            asked.callback,
            ctypes.c_int64(near_limit(NEAR_RADIUS, grid_size)),
            pointer(label),
            pointer(probability),
            pointer(entropy),
            ctypes.byref(report),
        )
        if asked.error is not None:
            raise asked.error
        _check(status, "pd_segment")
        self.last_report = report
        return label, probability, entropy

    def logits(
        self,
        features: NDArray[np.float32],
        coords: NDArray[np.int64],
        scan: NDArray[np.int64] | None = None,
    ) -> NDArray[np.float32]:
        """Logits [n, classes] of voxels, as ``PTv3`` over a pyramid of depth MAX_DEPTH.

        features: float32 [n, in_channels]; coords: int64 [n, 3] cells ≥ 0, unique per scan, any
        order; scan: int64 [n] scan index ascending from 0, default one scan. Raises ScanError.
        """
        n = len(coords)
        if n == 0:
            raise ScanError("cannot build a pyramid without voxels")
        scan = np.zeros(n, np.int64) if scan is None else scan
        if features.shape != (n, self.config.in_channels) or coords.shape != (n, 3):
            raise ScanError(f"features {features.shape} and coords {coords.shape} do not fit")
        if coords.min() < 0 or coords.max() >= 1 << MAX_DEPTH:
            raise ScanError(f"voxel cells must be 0 to {(1 << MAX_DEPTH) - 1}")
        if scan.min() < 0 or scan.max() >= 1 << 15:
            raise ScanError("scan indices must be 0 to 32767")
        code = interleave(coords[:, 0], coords[:, 1], coords[:, 2]) | (scan << _CODE_BITS)
        order = np.argsort(code)
        sorted_code = np.ascontiguousarray(code[order]).astype(np.uint64)
        rows = np.ascontiguousarray(features[order], np.float32)
        logits = np.empty((n, self.config.num_classes), np.float32)
        report = _Report()
        status = self._library.pd_logits(
            self._handle,
            pointer(sorted_code),
            ctypes.c_int64(n),
            int(scan.max()) + 1,
            pointer(rows),
            self.threads,
            pointer(logits),
            ctypes.byref(report),
        )
        _check(status, "pd_logits")
        self.last_report = report
        result = np.empty_like(logits)
        result[order] = logits
        return result

    def timing(self) -> dict[str, float]:
        """Milliseconds per part of the last call."""
        return {part: 1e3 * s for part, s in zip(PARTS, self.last_report.seconds, strict=True)}

    @property
    def arena_bytes(self) -> int:
        """Working memory after the last call; weights come on top."""
        return int(self.last_report.arena_bytes)


class _Asked:
    """``choose`` as C calls it; what it raises waits here until C has returned."""

    def __init__(self, choose: Choose | None, stages: int, grid_size: float) -> None:
        self.error: BaseException | None = None
        self._choose, self._stages, self._grid_size = choose, stages, grid_size
        self.callback = _Choose() if choose is None else _Choose(self._answer)

    def _answer(self, counts: Any, out: Any) -> int:
        assert self._choose is not None
        told = counts.contents
        try:
            step = self._choose(
                VoxelCounts(tuple(told.stages[: self._stages]), told.coarse, told.near)
            )
        except BaseException as error:
            self.error = error
            return 0
        near = near_limit(step.near_radius, self._grid_size) if step.near_radius > 0 else -1
        out.contents.near_limit = near
        out.contents.coarse = step.coarse
        out.contents.max_voxels = step.max_voxels or 0
        return 1


class CpuEngine:
    """A CpuNetwork with its grid: points in, labels out."""

    name: EngineName = "native"
    sheds_load = True

    def __init__(self, network: CpuNetwork, grid_size: float, max_range: float) -> None:
        self.network = network
        self.detail = f"{network.precision}, {network.tier}, {network.threads} threads"
        self._grid_size, self._max_range = grid_size, max_range

    def __call__(
        self,
        xyz: NDArray[np.float32],
        intensity: NDArray[np.float32],
        choose: Choose | None = None,
    ) -> PointScores:
        """One scan; see ``Engine``."""
        columns = self.network.segment(xyz, intensity, self._grid_size, self._max_range, choose)
        parts = self.network.timing()
        timing = {
            "geometry": parts.pop("voxels") + parts.pop("geometry"),
            "points": parts.pop("points"),
            "network": sum(parts.values()),
        }
        return PointScores(*columns, voxels=self.network.last_report.voxels, timing=timing)


def _check(status: int, call: str) -> None:
    if status:
        refused = (ValueError, f"{call} refused its arguments (status {status})")
        error, text = _FAILURES.get(status, refused)
        raise error(text)
