# SPDX-License-Identifier: Apache-2.0
"""Networks on disk: safetensors with everything a scan needs to be segmented in the header.

A checkpoint knows its model shape, convolution mode and curve permutation, its label set, grid size
and intensity statistics, and where it comes from. Files appear whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pointdistill_ros.config import parse_config
from pointdistill_ros.errors import CheckpointError, ConfigError, PointDistillError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import shipped_weights, weights_path

_FORMAT = 1


@dataclass(frozen=True)
class IntensityStatistics:
    """Intensity of the training scans, 0..1."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    low: float
    """5 % quantile."""
    median: float
    """50 % quantile."""
    high: float
    """95 % quantile."""
    missing: float | None = None
    """What training fed where a scan has no intensity; None = the network needs intensity."""
    used: bool = True
    """False: training fed ``missing`` for every point, and so does whoever uses the network."""

    def __post_init__(self) -> None:
        if not self.used and self.missing is None:
            raise ConfigError("a network that uses no intensity says what it is fed: missing")


@dataclass(frozen=True)
class CheckpointMeta:
    """The header of a checkpoint."""

    model_id: str
    """Short name, e.g. ``student``."""
    config: PTv3Config
    """Shape of the network, its convolution mode and evaluation permutation."""
    label_set: LabelSet
    """Meaning of the head's classes."""
    grid_size: float
    """Voxel edge, metres."""
    intensity: IntensityStatistics
    """What intensities the network has seen."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Provenance: data, command, steps, seed, revision, licence."""


def save_checkpoint(
    path: Path, network: PTv3, meta: CheckpointMeta, dtype: torch.dtype = torch.float16
) -> None:
    """Write weights (floating entries as ``dtype``) and header atomically."""
    if len(meta.label_set) != network.config.num_classes or meta.config != network.config:
        raise CheckpointError(f"{path}: header and network disagree on shape or classes")
    header = {
        "format": _FORMAT,
        "model_id": meta.model_id,
        "config": asdict(meta.config),
        "label_set": meta.label_set.to_dict(),
        "grid_size": meta.grid_size,
        "intensity": asdict(meta.intensity),
        "training": dict(meta.training),
    }
    tensors = {
        name: (t.to(dtype) if t.is_floating_point() else t).contiguous().cpu()
        for name, t in network.state_dict().items()
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"pointdistill": json.dumps(header)})


def find_weights(name_or_path: str | Path) -> Path:
    """Path of weights given by a shipped name or a path. Raises CheckpointError."""
    path = Path(name_or_path)
    if path.suffix or path.parent != Path():
        return path
    shipped = weights_path(str(name_or_path))
    if not shipped.is_file():
        known = ", ".join(shipped_weights()) or "none"
        raise CheckpointError(
            f"no shipped network {str(name_or_path)!r} (shipped: {known}); "
            "give the path of a .safetensors checkpoint"
        )
    return shipped


def load_checkpoint(path: Path) -> tuple[PTv3, CheckpointMeta]:
    """Read a network in float32, evaluation mode, on the CPU. Raises CheckpointError."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged or not safetensors ({error})") from error
    meta = _parse_header(path, metadata)
    network = PTv3(meta.config)
    expected = network.state_dict()
    problems = [f"missing {name}" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"surplus {name}" for name in sorted(tensors.keys() - expected.keys())]
    problems += [
        f"misshapen {name}: {list(tensors[name].shape)}, expected {list(expected[name].shape)}"
        for name in sorted(expected.keys() & tensors.keys())
        if tensors[name].shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError(f"{path}: {len(problems)} entries do not fit: " + "; ".join(problems))
    network.load_state_dict({name: t.to(expected[name].dtype) for name, t in tensors.items()})
    if not all(t.isfinite().all() for t in network.state_dict().values()):
        raise CheckpointError(f"{path}: weights contain NaN or Inf")
    return network.eval(), meta


def _parse_header(path: Path, metadata: Mapping[str, str]) -> CheckpointMeta:
    if "pointdistill" not in metadata:
        raise CheckpointError(
            f"{path}: no PointDistill header; public weights are converted by "
            "pointdistill_ros.public_weights, which asks for their xcpe mode"
        )
    try:
        header = json.loads(metadata["pointdistill"])
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']}, not {_FORMAT}")  # noqa: TRY301
        meta = CheckpointMeta(
            model_id=str(header["model_id"]),
            config=parse_config(PTv3Config, header["config"], f"{path} config"),
            label_set=LabelSet.from_dict(header["label_set"]),
            grid_size=float(header["grid_size"]),
            intensity=parse_config(
                IntensityStatistics, header["intensity"], f"{path} intensity statistics"
            ),
            training=header["training"],
        )
    except (PointDistillError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: header does not parse ({error!r})") from error
    if len(meta.label_set) != meta.config.num_classes or not meta.grid_size > 0:
        raise CheckpointError(f"{path}: header contradicts itself (classes or grid size)")
    return meta


def file_sha256(path: Path) -> str:
    """Hex digest of a file; identifies weights in messages and reports."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
