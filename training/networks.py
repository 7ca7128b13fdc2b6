# SPDX-License-Identifier: Apache-2.0
"""From a recipe to its network, and from a trained network to files that segment scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from pointdistill_ros.checkpoint import (
    CheckpointMeta,
    IntensityStatistics,
    load_checkpoint,
    save_checkpoint,
)
from pointdistill_ros.config import load_config
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.resources import config_path
from training.config import TrainConfig
from training.device import compiled_precision
from training.environment import anonymous_command
from training.heads import Composite, MultiHead
from training.lineage import nameable
from training.sources import SourceMix

INTENSITY_SCANS = 20
"""Scans whose intensities are described in the header of the weights."""


def model_config(config: TrainConfig, initial: Path | None = None) -> PTv3Config:
    """The network's shape: its file with the run's patch size and drop path.

    ``initial``: weights to start from, whose order of curves at evaluation stays.
    """
    model = load_config(PTv3Config, shape_path(config.model))
    changes: dict[str, Any] = {}
    if initial is not None:
        changes["permutation"] = load_checkpoint(initial)[1].config.permutation
    if config.patch_size is not None:
        changes["patch_sizes"] = (config.patch_size,) * len(model.patch_sizes)
    if config.drop_path is not None:
        changes["drop_path"] = config.drop_path
    return replace(model, **changes)


def shape_path(model: str) -> Path:
    """File of a shape: one of config/models/ by its name, or the file named."""
    return Path(model) if model.endswith(".yaml") else config_path(f"models/{model}.yaml")


def build_network(
    config: TrainConfig,
    model: PTv3Config,
    mix: SourceMix,
    fabric: Fabric,
    initial: Path | None = None,
) -> PTv3 | MultiHead:
    """New weights from the run's seed, in compiled form where the run asks for it and can.

    ``initial``: weights to start from. Raises CheckpointError, ConfigError where they do not fit.
    """
    torch.manual_seed(config.seed)
    classes = {head: len(sets.label_set) for head, sets in mix.sets.items()}
    network = (
        MultiHead(model, classes)
        if config.head == "per-dataset"
        else PTv3(replace(model, num_classes=classes["common"]))
    )
    if initial is not None:
        if not isinstance(network, PTv3):
            raise ConfigError(f"{initial}: one head; weights to start from need head: common")
        start_from(network, initial, config, mix.sets["common"].label_set)
    compile_for(network, config, fabric)
    return network


def start_from(network: PTv3, path: Path, config: TrainConfig, label_set: LabelSet) -> None:
    """Give a new network the weights and batch-norm statistics of a checkpoint.

    Raises CheckpointError, ConfigError where they are of another shape, classes, voxels or input.
    """
    given, meta = load_checkpoint(path)
    if meta.label_set.names != label_set.names:
        raise ConfigError(f"{path}: classes of {meta.label_set.name}, the run's {label_set.name}")
    if meta.grid_size != config.grid_size:
        raise ConfigError(
            f"{path}: voxels of {meta.grid_size:g} m, the run's {config.grid_size:g} m; set "
            f"grid_size: {meta.grid_size:g}"
        )
    if shape_of(meta.config) != shape_of(network.config):
        raise ConfigError(f"{path}: not of the shape of {shape_path(config.model)}")
    if not meta.intensity.used and config.augment.uses_intensity:
        raise ConfigError(f"{path}: trained without intensity; set augment.intensity_drop: 1")
    network.load_state_dict(given.state_dict())


def shape_of(model: PTv3Config) -> PTv3Config:
    """What networks of equal weights share: not how far they attend, nor in which order."""
    plain = (1,) * len(model.patch_sizes)
    return replace(model, patch_sizes=plain, drop_path=0.0, permutation=())


def compile_for(network: nn.Module, config: TrainConfig, fabric: Fabric) -> None:
    """Give a network its compiled form, in place, where the run asks for it and can."""
    precision: Any = compiled_precision(config, fabric.device)[0]
    if precision:
        from training.compiled.network import compile_network

        module: Any = network  # any module that holds the network's
        compile_network(module, precision)


class Release:
    """The weight files of a run: one, or one per head."""

    def __init__(
        self,
        folder: Path,
        config: TrainConfig,
        model: PTv3Config,
        mix: SourceMix,
        learned_from: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Draws scans to describe their intensity; ``learned_from``: see lineage.py."""
        self.config, self.sets = config, mix.sets
        self.learned_from = list(learned_from)
        single = mix.heads == ("common",)
        self.paths = [
            folder / f"{Path(config.model).stem}{'' if single else '-' + head}.safetensors"
            for head in mix.heads
        ]
        rng = np.random.default_rng([config.seed, 3])
        drawn = (mix.draw(rng, mix.draw_head(rng)) for _ in range(INTENSITY_SCANS))
        values = np.concatenate([points.intensity for points in drawn])
        low, median, high = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
        # scans without intensity are fed what drop-out trained on
        missing = 0.0 if config.augment.intensity_drop else None
        used = config.augment.uses_intensity
        self.intensity = IntensityStatistics(low, median, high, missing, used)

    def store(self, network: nn.Module, facts: dict[str, Any]) -> None:
        """Write all files; ``facts`` (steps, seconds, scores) go into their headers."""
        recipe = {**asdict(self.config), "model": Path(self.config.model).stem}
        for named in (*recipe["sources"], recipe.get("soft_targets", {})):
            named["folder"] = nameable(named.get("folder", ""))
        training = {"command": anonymous_command(), **facts, "config": recipe}
        if self.learned_from:
            training["learned_from"] = self.learned_from
        for path, (head, sets) in zip(self.paths, self.sets.items(), strict=True):
            single = network if isinstance(network, PTv3) else cast(Composite, network).export(head)
            meta = CheckpointMeta(
                path.stem,
                single.config,
                sets.label_set,
                self.config.grid_size,
                self.intensity,
                training,
            )
            save_checkpoint(path, single, meta)
