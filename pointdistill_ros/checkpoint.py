# SPDX-License-Identifier: Apache-2.0
"""Networks on disk: safetensors with everything a scan needs to be segmented in the header.

A checkpoint knows its model shape, convolution mode and curve permutation, its label set, grid size
and intensity statistics, and where it comes from. Files appear whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from pointdistill_ros.config import parse_config
from pointdistill_ros.errors import CheckpointError, ConfigError, PointDistillError
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.io.regular import why_no_file
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.resources import shipped_weights, weights_path

_FORMAT = 1
_TEXT_LIMIT = 200
_PROBLEMS_SHOWN = 10


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
    if "://" in str(name_or_path):
        raise CheckpointError(f"{name_or_path}: nothing is downloaded; give the path of a file")
    path = Path(name_or_path)
    if path.suffix or path.parent != Path():
        return path
    shipped = weights_path(str(name_or_path))
    if why_no_file(shipped):
        known = ", ".join(shipped_weights()) or "none"
        raise CheckpointError(
            f"no shipped network {str(name_or_path)!r} (shipped: {known}); "
            "give the path of a .safetensors checkpoint"
        )
    return shipped


def load_checkpoint(path: Path) -> tuple[PTv3, CheckpointMeta]:
    """Read a network in float32, evaluation mode, on the CPU. Raises CheckpointError.

    Memory is taken for what the file holds, never for what its header promises.
    """
    if problem := why_no_file(path):
        missing = problem == os.strerror(errno.ENOENT)
        raise CheckpointError(f"{path}: {'no such checkpoint' if missing else problem}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # SafetensorError, and torch's on number types that it lacks
        raise CheckpointError(f"{path}: damaged or not safetensors ({error})") from error
    meta = _parse_header(path, metadata)
    _check_entries(path, meta.config, tensors)
    network = PTv3(meta.config)
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: weights do not convert ({error})") from error
    if not all(t.isfinite().all() for t in network.state_dict().values()):
        raise CheckpointError(f"{path}: weights contain NaN or Inf")
    return network.eval(), meta


def _check_entries(path: Path, config: PTv3Config, tensors: Mapping[str, Tensor]) -> None:
    """Compare the file's entries with the header's network, of which only the shape is made."""
    blocks = sum(map(abs, config.encoder_depths + config.decoder_depths))
    if blocks > len(tensors):
        raise CheckpointError(f"{path}: header promises {blocks} blocks of {len(tensors)} entries")
    try:
        with torch.device("meta"):
            expected = PTv3(config).state_dict()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: no network has the header's shape ({error})") from error
    problems = [f"missing {name}" for name in sorted(expected.keys() - tensors.keys())]
    problems += [f"surplus {name}" for name in sorted(tensors.keys() - expected.keys())]
    for name in sorted(expected.keys() & tensors.keys()):
        held, wanted = tensors[name], expected[name]
        if held.shape != wanted.shape:
            problems.append(f"misshapen {name}: {list(held.shape)}, expected {list(wanted.shape)}")
        elif held.is_floating_point() != wanted.is_floating_point():
            problems.append(f"mistyped {name}: {held.dtype}, expected {wanted.dtype}")
    if problems:
        listed = "; ".join(problems[:_PROBLEMS_SHOWN])
        more = "; …" if len(problems) > _PROBLEMS_SHOWN else ""
        raise CheckpointError(f"{path}: {len(problems)} entries do not fit: {listed}{more}")


def _parse_header(path: Path, metadata: Mapping[str, str]) -> CheckpointMeta:
    if "pointdistill" not in metadata:
        raise CheckpointError(
            f"{path}: no PointDistill header; public weights are converted by "
            "pointdistill_ros.public_weights, which asks for their xcpe mode"
        )
    try:
        header = json.loads(metadata["pointdistill"])
        if header["format"] != _FORMAT:
            raise ValueError(f"format {header['format']}, not {_FORMAT}")
        meta = CheckpointMeta(
            model_id=str(header["model_id"]),
            config=parse_config(PTv3Config, header["config"], f"{path} config"),
            label_set=LabelSet.from_dict(header["label_set"]),
            grid_size=float(header["grid_size"]),
            intensity=parse_config(
                IntensityStatistics, header["intensity"], f"{path} intensity statistics"
            ),
            training=dict(header["training"]),
        )
    except (
        *(PointDistillError, KeyError, TypeError, ValueError),
        *(ArithmeticError, AttributeError, RecursionError),
    ) as error:
        raise CheckpointError(f"{path}: header does not parse ({_short(error)})") from error
    if len(meta.label_set) != meta.config.num_classes or not 0 < meta.grid_size < math.inf:
        raise CheckpointError(f"{path}: header contradicts itself (classes or grid size)")
    _check_texts(path, meta)
    return meta


def _check_texts(path: Path, meta: CheckpointMeta) -> None:
    """Names go into logs, messages and pages: one printable line each, in every encoding."""
    labels = meta.label_set
    for text in (meta.model_id, labels.name, *labels.names):
        if not text.isprintable() or len(text) > _TEXT_LIMIT:
            raise CheckpointError(
                f"{path}: header holds the name {_short(text)}; expected at most {_TEXT_LIMIT} "
                "printable characters"
            )
    if not labels.ignore or not all(labels.raw_ids):
        raise CheckpointError(f"{path}: a class of the header's label set has no raw id")


def _short(value: object) -> str:
    """``repr`` of a value, its middle left out where it is long."""
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= 300 else f"{text[:150]} … {text[-150:]}"


def file_sha256(path: Path) -> str:
    """Hex digest of a file; identifies weights in messages and reports."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
