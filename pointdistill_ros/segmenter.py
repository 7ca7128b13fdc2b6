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

from pointdistill_ros.checkpoint import CheckpointMeta, file_sha256, load_checkpoint
from pointdistill_ros.errors import CheckpointError, ConfigError, ScanError
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.model.voxels import canonical_points, voxelise
from pointdistill_ros.resources import weights_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

Engine = Literal["auto", "torch"]

_LOG = logging.getLogger(__name__)


class Segmenter:
    """A trained network with everything around it."""

    def __init__(
        self,
        network: PTv3,
        meta: CheckpointMeta,
        device: str = "cpu",
        weights_sha256: str = "",
    ) -> None:
        self.network = network.to(device).eval()
        self.meta = meta
        self.device = device
        self.engine = "torch"
        self.weights_sha256 = weights_sha256
        self._warned_intensity = False

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "student",
        device: str = "auto",
        engine: Engine = "auto",
        threads: int | None = None,
    ) -> Segmenter:
        """A shipped network by name, or any checkpoint by path.

        device: ``auto`` (GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` …
        engine: ``torch`` is the only one so far; ``auto`` takes it.
        threads: CPU threads of this process; None leaves torch's choice.
        Raises CheckpointError or ConfigError.
        """
        if engine not in ("auto", "torch"):
            raise ConfigError(f"unknown engine {engine!r}; known: auto, torch")
        path = _find_weights(name_or_path)
        network, meta = load_checkpoint(path)
        if threads is not None:
            if threads < 1:
                raise ConfigError(f"threads must be ≥ 1, got {threads}")
            torch.set_num_threads(threads)
        return cls(network, meta, _pick_device(device), file_sha256(path))

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
        """One small scan through everything, so that the first real one is not slower."""
        rng = np.random.default_rng(0)
        xyz = rng.uniform(-20, 20, (5000, 3)).astype(np.float32)
        intensity = np.full(len(xyz), self.meta.intensity.median, np.float32)
        self(LidarScan(xyz, intensity))

    def batch(self, scans: Iterable[LidarScan]) -> list[Segmentation]:
        """Segment several scans; each gets exactly the labels it gets alone."""
        return [self(scan) for scan in scans]

    @torch.inference_mode()
    def __call__(self, scan: LidarScan) -> Segmentation:
        """Segment one scan. Raises ScanError where the network needs intensity the scan lacks."""
        begin = time.perf_counter()
        valid = (np.abs(scan.xyz) <= self.max_range).all(axis=1)  # False for NaN and Inf, too
        labels = np.full(len(scan), UNLABELLED, np.uint8)
        probability = np.zeros(len(scan), np.float32)
        entropy = np.zeros(len(scan), np.float32)
        xyz, intensity = scan.xyz, self._intensity(scan)
        if not valid.all():
            xyz, intensity = xyz[valid], intensity[valid]
        if len(xyz) == 0:
            return Segmentation(labels, probability, entropy, self.label_set, _timing(begin))

        # 1. points → voxels, and the geometry of all stages
        voxels = voxelise(xyz, self.meta.grid_size)
        point = canonical_points(voxels, xyz, intensity, self.meta.grid_size)
        features = np.column_stack([xyz[point], intensity[point]])
        coords = torch.from_numpy(voxels.coords).to(self.device)
        scan_index = torch.zeros(len(voxels), dtype=torch.int64, device=self.device)
        pyramid = build_pyramid(coords, scan_index, self.meta.config, depth=MAX_DEPTH)
        geometry = time.perf_counter()

        # 2. voxels → class, probability, entropy
        logits = self.network(torch.from_numpy(features).to(self.device), pyramid).float()
        log_softmax = torch.log_softmax(logits, 1)
        best, label = log_softmax.max(1)
        spread = -(log_softmax.exp() * log_softmax).sum(1) / np.log(max(2, logits.shape[1]))
        columns = [t.cpu().numpy() for t in (label.to(torch.uint8), best.exp(), spread)]
        network = time.perf_counter()

        # 3. voxels → every point
        label_column, best_column, spread_column = columns
        labels[valid] = label_column[voxels.inverse]
        probability[valid] = best_column[voxels.inverse]
        entropy[valid] = spread_column[voxels.inverse]
        return Segmentation(
            labels,
            probability,
            np.clip(entropy, 0.0, 1.0, out=entropy),
            self.label_set,
            _timing(begin, geometry, network),
            len(voxels),
        )

    def _intensity(self, scan: LidarScan) -> NDArray[np.float32]:
        """[N] finite intensities; missing ones as in training."""
        missing = self.meta.intensity.missing
        if scan.intensity is None:
            if missing is None:
                raise ScanError(f"network {self.model_id} needs intensity, the scan has none")
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
        finite = intensity[np.isfinite(intensity)]
        if len(finite) == 0:
            return None
        known, median = self.meta.intensity, float(np.median(finite))
        if known.low <= median <= known.high:
            return None
        return (
            f"intensity median {median:.3g} lies outside what {self.model_id} was trained on "
            f"({known.low:.3g} to {known.high:.3g}, scale 0..1): set the input's intensity scale"
        )


def _timing(begin: float, geometry: float = 0.0, network: float = 0.0) -> dict[str, float]:
    end = time.perf_counter()
    geometry, network = geometry or end, network or end
    return {
        "geometry": 1e3 * (geometry - begin),
        "network": 1e3 * (network - geometry),
        "points": 1e3 * (end - network),
        "total": 1e3 * (end - begin),
    }


def _find_weights(name_or_path: str | Path) -> Path:
    path = Path(name_or_path)
    if path.suffix or path.parent != Path():
        return path
    shipped = weights_path(str(name_or_path))
    if not shipped.is_file():
        known = sorted(p.stem for p in shipped.parent.glob("*.safetensors"))
        raise CheckpointError(
            f"no shipped network {str(name_or_path)!r} (shipped: {', '.join(known) or 'none'}); "
            "give the path of a .safetensors checkpoint"
        )
    return shipped


def _pick_device(device: str) -> str:
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"device {device!r} cannot be used: {reason}") from error
    return device
