# SPDX-License-Identifier: Apache-2.0
"""Segmenter: scan → segmentation, for all raw points in input order.

- the same labels on every run, alone or in a batch, and for any order of the points: one canonical
  point represents a voxel, rows come in z order, curves have a fixed depth and permutation
- points that are not finite, or further from the sensor than the grid reaches, get 255
Not here: reading files (io/), ROS (nodes/).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pointdistill_ros.budget import LatencyBudget, row_costs
from pointdistill_ros.checkpoint import (
    CheckpointMeta,
    file_sha256,
    find_weights,
    load_checkpoint,
)
from pointdistill_ros.engine.choice import make_engine
from pointdistill_ros.engine.interface import EngineName, Precision
from pointdistill_ros.errors import ConfigError, ScanError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

_LOG = logging.getLogger(__name__)


class Segmenter:
    """A trained network with everything around it."""

    def __init__(
        self,
        network: PTv3,
        meta: CheckpointMeta,
        device: str = "cpu",
        weights_sha256: str = "",
        engine: EngineName | Literal["auto"] = "torch",
        threads: int | None = None,
        precision: Precision = "float32",
        max_latency_ms: float = 0.0,
    ) -> None:
        """Options as in ``load``."""
        self.network = network.to(device).eval()
        self.meta = meta
        self.device = device
        self.precision = precision
        self.weights_sha256 = weights_sha256
        self._warned_intensity = False
        self._engine = make_engine(
            engine, self.network, meta.grid_size, self.max_range, device, precision, threads
        )
        if max_latency_ms and self.engine == "cuda":
            raise ConfigError("engine 'cuda' cannot shed load; use max_latency_ms 0")
        self.budget: LatencyBudget | None = None
        """What sheds load where a scan would take too long; None = nothing does."""
        self.max_latency_ms = max_latency_ms

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "student",
        device: str = "auto",
        engine: EngineName | Literal["auto"] = "auto",
        threads: int | None = None,
        precision: Precision = "float32",
        max_latency_ms: float = 0.0,
    ) -> Segmenter:
        """A shipped network by name, or any checkpoint by path.

        device: ``auto`` (GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` …
        engine: a form of the network (``engine.interface.ENGINES``); ``auto`` takes the fastest one
        here, found by a short measurement that is remembered per machine.
        threads: CPU threads; None takes all cores this process may use.
        precision: ``float32`` gives the same labels in every engine; ``bfloat16`` and ``float16``
        are faster where the engine has them, and a few labels in a thousand differ.
        max_latency_ms: above 0, scans that would take longer are thinned, as listed in
        ``model/degradation.py``; every point keeps its label, ``Segmentation.degradation`` tells.
        Raises CheckpointError or ConfigError.
        """
        path = find_weights(name_or_path)
        network, meta = load_checkpoint(path)
        device = _pick_device(device)
        return cls(
            network, meta, device, file_sha256(path), engine, threads, precision, max_latency_ms
        )

    @property
    def engine(self) -> str:
        """The form of the network that runs."""
        return self._engine.name

    @property
    def engine_detail(self) -> str:
        """What exactly runs: precision, CPU tier, threads, device."""
        return self._engine.detail

    @property
    def sheds_load(self) -> bool:
        """Whether the engine that runs can keep a ``max_latency_ms``."""
        return self._engine.sheds_load

    @property
    def max_latency_ms(self) -> float:
        """Milliseconds a scan may take, 0 = no limit.

        May be set at any time from any thread; it holds from the next scan on. Raises ConfigError.
        """
        budget = self.budget
        return 0.0 if budget is None else budget.max_latency_ms

    @max_latency_ms.setter
    def max_latency_ms(self, value: float) -> None:
        budget = self.budget
        if value == 0:
            self.budget = None
        elif not self.sheds_load:
            raise ConfigError(f"engine {self.engine!r} cannot shed load; use max_latency_ms 0")
        elif budget is None:
            self.budget = LatencyBudget(value, row_costs(self.meta.config))
        else:
            budget.max_latency_ms = value

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""
        return self.meta.label_set

    @property
    def model_id(self) -> str:
        """Short name of the network."""
        return self.meta.model_id

    @property
    def num_parameters(self) -> int:
        """Trainable parameters."""
        return sum(p.numel() for p in self.network.parameters())

    @property
    def max_range(self) -> float:
        """Largest absolute coordinate that gets a label, metres."""
        return float(self.meta.grid_size * (1 << (MAX_DEPTH - 1)) - self.meta.grid_size)

    def warm_up(self) -> None:
        """One small scan through everything, so that the first real one is not slower.

        Without the budget: a cold scan is no measure of what a real one takes.
        """
        rng = np.random.default_rng(0)
        xyz = rng.uniform(-20, 20, (5000, 3)).astype(np.float32)
        intensity = np.full(len(xyz), self.meta.intensity.median, np.float32)
        self._engine(xyz, intensity)

    def batch(self, scans: Iterable[LidarScan]) -> list[Segmentation]:
        """Segment several scans; each gets exactly the labels it gets alone."""
        return [self(scan) for scan in scans]

    def __call__(self, scan: LidarScan) -> Segmentation:
        """Segment one scan. Raises ScanError where the network needs intensity the scan lacks."""
        begin = time.perf_counter()
        budget = self.budget
        if budget is None:
            scores = self._engine(scan.xyz, self.intensity(scan))
        else:
            budget.begin()
            scores = self._engine(
                scan.xyz,
                self.intensity(scan),
                lambda counts: budget.choose(counts.rows(budget.steps)),
            )
            budget.end()
        return Segmentation(
            scores.label,
            scores.probability,
            scores.entropy,
            self.label_set,
            {**scores.timing, "total": 1e3 * (time.perf_counter() - begin)},
            scores.voxels,
            "none" if budget is None else budget.degradation.name,
        )

    def intensity(self, scan: LidarScan) -> NDArray[np.float32]:
        """[N] finite intensities; missing ones as in training. Raises ScanError."""
        missing = self.meta.intensity.missing
        if scan.intensity is None and missing is None:
            raise ScanError(f"network {self.model_id} needs intensity, the scan has none")
        if scan.intensity is None or not self.meta.intensity.used:
            return np.full(len(scan), missing, np.float32)
        warning = self.intensity_warning(scan.intensity)
        if warning and not self._warned_intensity:
            self._warned_intensity = True
            _LOG.warning("%s", warning)
        fill = self.meta.intensity.median if missing is None else missing
        finite = np.isfinite(scan.intensity)
        return (
            scan.intensity if finite.all() else np.where(finite, scan.intensity, np.float32(fill))
        )

    def intensity_warning(self, intensity: NDArray[np.float32]) -> str | None:
        """One sentence where the median intensity lies outside the training quantiles."""
        known = self.meta.intensity
        finite = intensity[np.isfinite(intensity)]
        if len(finite) == 0 or not known.used:
            return None
        median = float(np.median(finite))
        if known.low <= median <= known.high:
            return None
        return (
            f"intensity median {median:.3g} lies outside what {self.model_id} was trained on "
            f"({known.low:.3g} to {known.high:.3g}, scale 0..1): set the input's intensity scale"
        )


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used: {reason}") from error
    return device
