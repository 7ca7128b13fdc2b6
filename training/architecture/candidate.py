# SPDX-License-Identifier: Apache-2.0
"""A candidate of a search: a shape on a grid, under a name that its content gives it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from pointdistill_ros.config import load_config
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.resources import config_path
from training.architecture.space import Drawn, parameters


@dataclass(frozen=True)
class Candidate:
    """One network of a search."""

    name: str
    """Of files, folders and tables."""
    shape: PTv3Config
    grid_size: float
    """Voxel edge, metres."""
    parameters: int
    """Trainable ones."""
    named: bool = False
    """A shape of config/models/ rather than a drawn one."""

    @classmethod
    def drawn(cls, drawn: Drawn) -> Candidate:
        """From the space; equal draws have equal names."""
        content = json.dumps([asdict(drawn.shape), drawn.grid_size], sort_keys=True)
        name = f"s-{hashlib.sha256(content.encode()).hexdigest()[:8]}"
        return cls(name, drawn.shape, drawn.grid_size, parameters(drawn.shape))

    @classmethod
    def of_file(cls, model: str, grid_size: float, patch_size: int | None = None) -> Candidate:
        """A shape of config/models/; patch_size: null = its own. Raises ConfigError."""
        shape = load_config(PTv3Config, config_path(f"models/{model}.yaml"))
        if patch_size is not None:
            shape = replace(shape, patch_sizes=(patch_size,) * len(shape.patch_sizes))
        return cls(model, shape, grid_size, parameters(shape), named=True)

    def to_plain(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    def write(self, folder: Path) -> Path:
        """Its shape as NAME.yaml, which recipes take as their model."""
        path = folder / f"{self.name}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        fields = json.loads(json.dumps(asdict(self.shape)))  # lists, which YAML can say
        with atomic_path(path) as temporary:
            temporary.write_text(yaml.safe_dump(fields, sort_keys=False, default_flow_style=None))
        return path

    def describe(self) -> str:
        """Its shape in a few words, fine to coarse."""
        s = self.shape
        depths = "".join(map(str, s.encoder_depths))
        attending = sum(heads > 0 for heads in s.encoder_heads)
        text = f"{'-'.join(map(str, s.encoder_channels))}, blocks {depths}"
        text += f", strides {''.join(map(str, s.strides))}, attention in the last {attending}"
        first = "" if s.deep_xcpe else ", convolution in their first blocks alone"
        text += f" (K {s.patch_sizes[-1]}{first})" if attending else ""
        text += f", decoder {'-'.join(map(str, s.decoder_channels))}"
        text += (
            f" with blocks {''.join(map(str, s.decoder_depths))}" if any(s.decoder_depths) else ""
        )
        return f"{text}, MLP ×{s.mlp_ratio}, stem {s.stem_size}, grid {self.grid_size:g} m"
