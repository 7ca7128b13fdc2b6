# SPDX-License-Identifier: Apache-2.0
"""Scores during a run, on scans that are never validation data, and the last batch-norm statistics.

By default three scans of the train split: they tell that training works, not how well the network
generalises. Where the recipe asks for it, simulated streets that the run never trains on.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.model.config import PTv3Config
from training.batch import Batch, collate
from training.config import TrainConfig
from training.heads import logits_of
from training.sources import SourceMix
from training.transforms import LabelledPoints, crop_range

MONITOR_SCANS = 3
"""Of the train split, where no streets are set aside."""
FIRST_MONITOR_SEED = 90_000
"""Streets from here on are for monitoring; training uses 0, 1, …, evaluation 100 000, ."""

N = TypeVar("N", bound=nn.Module)


def with_weights(network: N, state: dict[str, Tensor]) -> N:
    """A copy with other weights, in evaluation mode."""
    other = copy.deepcopy(network)
    other.load_state_dict(state)
    return other.eval()


class Monitor:
    """A few whole scans, the same in every run of a recipe, and how to score them."""

    def __init__(self, config: TrainConfig, mix: SourceMix, model: PTv3Config, cache: Path) -> None:
        """Raises ConfigError where streets are asked for and no head knows their classes."""
        head = mix.heads[0]
        if config.monitor_streets:
            head, scans = _unseen_streets(config, mix, cache)
            self.title = f"{len(scans)} simulated streets never trained on"
        else:
            rng = np.random.default_rng([config.seed, 1])
            scans = [mix.draw(rng, head) for _ in range(MONITOR_SCANS)]
            self.title = f"{len(scans)} scans of the train split"
        self.label_set: LabelSet = mix.sets[head].label_set
        self.batches = [whole_scan(points, model, config, head) for points in scans]

    @torch.no_grad()
    def score(self, network: nn.Module) -> dict[str, float]:
        """Accuracy and mIoU (classes with ≥ 100 voxels) over the voxels with exact labels."""
        network.eval()
        matrix = ConfusionMatrix(len(self.label_set))
        device = next(network.parameters()).device
        for batch in self.batches:
            labels = logits_of(network, batch.to(device)).argmax(1).cpu()
            exact = batch.targets.where(batch.targets < len(self.label_set), UNLABELLED)
            matrix.update(labels.numpy().astype(np.uint8), exact.numpy().astype(np.uint8))
        return {"accuracy": round(matrix.accuracy(), 4), "miou": round(matrix.miou(100), 4)}


def whole_scan(points: LabelledPoints, model: PTv3Config, config: TrainConfig, head: str) -> Batch:
    """One scan as evaluation sees it: no augmentation, no cropping but to the range."""
    points = crop_range(points, config.max_range)
    if not config.augment.uses_intensity:
        points = replace(points, intensity=np.zeros_like(points.intensity))
    return collate([points], model, config.grid_size, config.max_voxels, None, head)


def _unseen_streets(
    config: TrainConfig, mix: SourceMix, cache: Path
) -> tuple[str, list[LabelledPoints]]:
    """The head that knows their classes, and one scan of each street."""
    from pointdistill_ros.datasets.simulated import SimulatedStreets

    lidars = [lidar for s in config.sources if s.kind == "simulated" for lidar in s.lidars]
    seeds = range(FIRST_MONITOR_SEED, FIRST_MONITOR_SEED + config.monitor_streets)
    streets = SimulatedStreets(cache, seeds, 1, 1, lidars or ["hdl64e"], workers=2)
    head = "common" if "common" in mix.sets else streets.label_set.name
    if head not in mix.sets:
        raise ConfigError("monitor_streets needs a head for the classes of semantic-kitti")
    label_set = mix.sets[head].label_set
    single = SourceMix([(streets, 1.0)], label_set)
    rng = np.random.default_rng([config.seed, 5])
    return head, single.draw_apart(rng, config.monitor_streets)


@torch.no_grad()
def renew_norms(network: nn.Module, mix: SourceMix, config: TrainConfig, model: PTv3Config) -> None:
    """Take batch-norm statistics anew over unmixed scans: averaged weights never had their own."""
    network.eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain mean over all batches
        norm.train()
    rng = np.random.default_rng([config.seed, 2])
    device = next(network.parameters()).device
    for _ in range(config.norm_batches):
        head = mix.draw_head(rng)
        logits_of(network, whole_scan(mix.draw(rng, head), model, config, head).to(device))
    network.eval()
