# SPDX-License-Identifier: Apache-2.0
"""What a scan costs a candidate in the engine that will run it: measured, not modelled.

A forward pass of random weights takes under a second, less than any model of it would be wrong by.
Timed is the CPU time of the compiled engine with one thread on one scan, points to labels, in turns
with the reference: the ratio of the two medians hardly moves with what else the machine does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pointdistill_ros.benchmark.scans import Street, given_scans
from pointdistill_ros.benchmark.timing import Clock, Rounds, Samples
from pointdistill_ros.engine.cpu import CpuNetwork, available_tiers
from pointdistill_ros.engine.interface import Precision
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.scan import LidarScan
from training.architecture.candidate import Candidate

MAX_RANGE = 80.0
"""Points farther away are not labelled, metres."""
TOGETHER = 8
"""Candidates timed in turns with one reference."""


@dataclass(frozen=True)
class Latency:
    """Of one candidate."""

    ratio: float
    """CPU time over that of the reference, from the same minutes."""
    cpu_ms: float
    """Median CPU time of a scan."""
    voxels: int
    parts: Mapping[str, float]
    """Least wall milliseconds of the engine's parts."""


Timer = Callable[[Sequence[Candidate], Candidate], dict[str, Latency]]
"""(candidates, reference) → by name."""


def engine_precision(asked: str) -> Precision:
    """bfloat16 only where the CPU multiplies it. Raises EngineMissingError without the engine."""
    available_tiers()
    return "bfloat16" if asked == "bfloat16" and available_tiers("bfloat16") else "float32"


def representative_scan(path: str | None) -> LidarScan:
    """The scan of a file, or a simulated one of 64 beams. Raises InputError."""
    if path is None:
        return Street().usual_scans()[0].scan
    from pathlib import Path

    return given_scans([Path(path)], 1)[0].scan


class EngineTimer:
    """Times candidates on one scan."""

    def __init__(
        self, scan: LidarScan, precision: Precision, runs: int, clock: Clock | None = None
    ) -> None:
        self.scan, self.precision, self.runs, self.clock = scan, precision, runs, clock

    def __call__(self, candidates: Sequence[Candidate], reference: Candidate) -> dict[str, Latency]:
        """All candidates and the reference, in turns. Raises ConfigError for a shape it lacks."""
        networks = {c.name: self._network(c) for c in (reference, *candidates)}
        grids = {c.name: c.grid_size for c in (reference, *candidates)}
        calls = {name: self._call(networks[name], grids[name]) for name in networks}
        samples = Rounds(calls, self.clock).measure("latency", self.runs, 1, float("inf"))
        base = _median(samples[reference.name])
        return {
            name: Latency(
                ratio=_median(found) / base,
                cpu_ms=_median(found),
                voxels=int(networks[name].last_report.voxels),
                parts=_least(found),
            )
            for name, found in samples.items()
        }

    def _network(self, candidate: Candidate) -> CpuNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = PTv3(candidate.shape).eval()
        return CpuNetwork(network, self.precision, threads=1)

    def _call(self, network: CpuNetwork, grid_size: float) -> Callable[[], Mapping[str, float]]:
        xyz = self.scan.xyz
        intensity = self.scan.intensity
        values = np.zeros(len(xyz), np.float32) if intensity is None else np.nan_to_num(intensity)

        def once() -> Mapping[str, float]:
            network.segment(xyz, values, grid_size, MAX_RANGE)
            return network.timing()

        return once


def spread_over(
    latencies: Mapping[str, Latency], count: int, slowest: float, rng: np.random.Generator
) -> list[str]:
    """``count`` names (or all), one from each of as many bands of equal size along the latency."""
    fast = sorted(
        (n for n, latency in latencies.items() if latency.ratio <= slowest),
        key=lambda n: (latencies[n].ratio, n),
    )
    bands = [band for band in np.array_split(np.arange(len(fast)), max(count, 1)) if len(band)]
    return [fast[int(rng.choice(band))] for band in bands] if count else []


def _median(samples: Samples) -> float:
    return float(np.median(samples.cpu))


def _least(samples: Samples) -> dict[str, float]:
    return {part: round(min(p[part] for p in samples.parts), 3) for part in samples.parts[0]}
