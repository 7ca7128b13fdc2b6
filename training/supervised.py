# SPDX-License-Identifier: Apache-2.0
"""Supervised training of one network: sources, loss, monitoring and checkpoints around the loop."""

from __future__ import annotations

import copy
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pointdistill_ros.checkpoint import CheckpointMeta, IntensityStatistics, save_checkpoint
from pointdistill_ros.config import load_config
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.resources import config_path
from training.batch import Batch, BatchStream, collate
from training.config import TrainConfig
from training.loop import Budget, Run
from training.losses.segmentation import segmentation_loss
from training.sources import SourceMix, open_source
from training.transforms import crop_range

MONITOR_SCANS = 3
"""Scans of the TRAIN split scored at every checkpoint; validation data stays untouched."""
NORM_BATCHES = 40
"""Unmixed scans over which the final normalisation statistics are taken."""


def train_supervised(
    config: TrainConfig, data: Path | None, cache: Path, run: Path, budget: Budget
) -> Path:
    """Train in the folder ``run`` and return the path of the weights. Resumes a run found there."""
    model = model_config(config)
    label_set = LabelSet.named("semantic-kitti")
    mix = SourceMix([(open_source(s, data, cache), s.weight) for s in config.sources])
    stream = BatchStream(mix, model, config)
    torch.manual_seed(config.seed)
    network = PTv3(model)
    weights = class_weights(mix, config.class_balance)
    run.mkdir(parents=True, exist_ok=True)
    (run / "config.json").write_text(json.dumps(asdict(config), indent=1))
    path = run / f"{config.model}.safetensors"

    def loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return segmentation_loss(logits, labels, None, weights, config.lovasz_weight)

    intensity = intensity_statistics(mix, config)
    fixed = monitor_batches(mix, model, config)

    def monitor(state: dict[str, Tensor]) -> dict[str, float]:
        return score(_with_weights(network, state), fixed)

    def store(state: dict[str, Tensor], provenance: dict[str, Any]) -> None:
        meta = CheckpointMeta(
            model_id=config.model,
            config=model,
            label_set=label_set,
            grid_size=config.grid_size,
            intensity=intensity,
            training={"command": _command(), **provenance, "config": asdict(config)},
        )
        save_checkpoint(path, _with_weights(network, state), meta)

    trainer = Run(run, network, loss, config, budget, monitor, store)
    final = _with_weights(network, trainer.fit(stream))
    renew_norms(final, mix, config, model, NORM_BATCHES)
    store(final.state_dict(), {"steps": trainer.step, "seconds": round(trainer.seconds)})
    return path


def model_config(config: TrainConfig) -> PTv3Config:
    """The network's shape: config/models/ with the run's patch size."""
    model = load_config(PTv3Config, config_path(f"models/{config.model}.yaml"))
    if config.patch_size is None:
        return model
    return replace(model, patch_sizes=(config.patch_size,) * len(model.patch_sizes))


def class_weights(mix: SourceMix, balance: float) -> Tensor | None:
    """[C] frequency^-balance with mean 1 over the classes that occur; None for balance 0."""
    if balance == 0:
        return None
    counts = mix.class_counts()
    weights = np.maximum(counts, 1.0) ** -balance * (counts > 0)
    return torch.from_numpy(weights / weights[counts > 0].mean()).float()


def monitor_batches(mix: SourceMix, model: PTv3Config, config: TrainConfig) -> list[Batch]:
    """Whole, unchanged scans, the same in every run with this seed."""
    rng = np.random.default_rng([config.seed, 1])
    scans = [crop_range(mix.draw(rng), config.max_range) for _ in range(MONITOR_SCANS)]
    return [collate([s], model, config.grid_size, config.max_voxels, None) for s in scans]


@torch.no_grad()
def score(network: nn.Module, batches: list[Batch]) -> dict[str, float]:
    """Accuracy and mIoU over the voxels of some batches."""
    network.eval()
    matrix = ConfusionMatrix(19)
    for batch in batches:
        labels = network(batch.features, batch.pyramid).argmax(1)
        matrix.update(labels.numpy().astype(np.uint8), batch.targets.numpy().astype(np.uint8))
    return {
        "train_accuracy": round(matrix.accuracy(), 4),
        "train_miou": round(matrix.miou(min_points=100), 4),
    }


@torch.no_grad()
def renew_norms(
    network: nn.Module, mix: SourceMix, config: TrainConfig, model: PTv3Config, batches: int
) -> None:
    """Take batch-norm statistics anew over unmixed scans: averaged weights never had their own."""
    network.eval()
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # plain mean over all batches
        norm.train()
    rng = np.random.default_rng([config.seed, 2])
    for _ in range(batches):
        points = crop_range(mix.draw(rng), config.max_range)
        batch = collate([points], model, config.grid_size, config.max_voxels, None)
        network(batch.features, batch.pyramid)
    network.eval()


def intensity_statistics(
    mix: SourceMix, config: TrainConfig, scans: int = 20
) -> IntensityStatistics:
    """Quantiles over drawn scans; scans without intensity are fed what drop-out trained on."""
    rng = np.random.default_rng([config.seed, 3])
    values = np.concatenate([mix.draw(rng).intensity for _ in range(scans)])
    low, median, high = (float(q) for q in np.quantile(values, [0.05, 0.5, 0.95]))
    return IntensityStatistics(low, median, high, 0.0 if config.augment.intensity_drop else None)


def _command() -> str:
    """The command line, absolute paths cut to their last part: they mean nothing elsewhere."""
    words = [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
    return " ".join(["python -m", f"training.{Path(sys.argv[0]).stem}", *words])


def _with_weights(network: PTv3, state: dict[str, Tensor]) -> PTv3:
    other = copy.deepcopy(network)
    other.load_state_dict(state)
    return other.eval()
