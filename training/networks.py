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

from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics, save_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.resources import config_path
from training.config import TrainConfig
from training.device import compiled_precision
from training.environment import anonymous_command
from training.heads import Composite, MultiHead
from training.sources import SourceMix

INTENSITY_SCANS = 20
"""Scans whose intensities are described in the header of the weights."""


def model_config(config: TrainConfig) -> PTv3Config:
    """The network's shape: config/models/ with the run's patch size and drop path."""
    model = load_config(PTv3Config, config_path(f"models/{config.model}.yaml"))
    changes: dict[str, Any] = {}
    if config.patch_size is not None:
        changes["patch_sizes"] = (config.patch_size,) * len(model.patch_sizes)
    if config.drop_path is not None:
        changes["drop_path"] = config.drop_path
    return replace(model, **changes)


def build_network(
    config: TrainConfig, model: PTv3Config, mix: SourceMix, fabric: Fabric
) -> PTv3 | MultiHead:
    """New weights from the run's seed, in compiled form where the run asks for it and can."""
    torch.manual_seed(config.seed)
    classes = {head: len(sets.label_set) for head, sets in mix.sets.items()}
    network = (
        MultiHead(model, classes)
        if config.head == "per-dataset"
        else PTv3(replace(model, num_classes=classes["common"]))
    )
    compile_for(network, config, fabric)
    return network


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
            folder / f"{config.model}{'' if single else '-' + head}.safetensors"
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
        training = {"command": anonymous_command(), **facts, "config": asdict(self.config)}
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
