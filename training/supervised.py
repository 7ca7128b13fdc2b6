# SPDX-License-Identifier: Apache-2.0
"""Supervised training of one network: data, loss, monitoring and weights around the loop."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from pointdistill_ros.errors import InputError
from training.batch import Batch, BatchStream
from training.config import TrainConfig
from training.device import full_precision, is_first_process, open_device
from training.environment import describe_start
from training.heads import logits_of
from training.interrupt import InterruptGuard
from training.loop import Run
from training.losses.segmentation import segmentation_loss
from training.monitor import Monitor, renew_norms, with_weights
from training.networks import Release, build_network, model_config
from training.opening import cache_bytes, open_source
from training.run_folder import RunFolder
from training.schedule import Budget
from training.sources import SourceMix
from training.state import Loss
from training.summary import rehearse, summary


@dataclass(frozen=True)
class Places:
    """Where a run finds and leaves things."""

    run: Path
    """Folder of the run."""
    data: Path | None = None
    """Folder that the recipe's data sources lie in."""
    cache: Path = Path("runs/streets")
    """Rendered streets."""


def train_supervised(
    config: TrainConfig, places: Places, guard: InterruptGuard | None = None
) -> Path:
    """Train in the folder of the run and return the path of the weights.

    Continues a run found there. Raises InputError, ConfigError, NonFiniteError, Interrupted.
    """
    folder, first = RunFolder(places.run), is_first_process()
    with folder.locked() if first else nullcontext():
        if first:  # before others are started, which would wait in vain
            facts = {"data": str(places.data or ""), "cache": str(places.cache)}
            folder.begin(config, describe_start(facts))
        console = Console(quiet=not first)
        return _train(config, places, open_device(config), folder, console, guard)


def _train(
    config: TrainConfig,
    places: Places,
    fabric: Fabric,
    folder: RunFolder,
    console: Console,
    guard: InterruptGuard | None,
) -> Path:
    first = fabric.global_rank == 0
    mix = open_mix(config, places, fabric, console)
    model = model_config(config)
    network = build_network(config, model, mix, fabric)
    loss = make_loss(config, mix, fabric)
    watch = Monitor(config, mix, model, places.cache) if first else None
    release = Release(places.run, config, model, mix)
    budget = Budget.of(config, sum(len(s) for s in mix.sources), fabric.world_size)
    per_step = config.accumulate * fabric.world_size
    stream = BatchStream(mix, model, config, budget.first_of_last(config.whole_scans, per_step))

    def monitor(state: dict[str, Tensor]) -> dict[str, float]:
        assert watch is not None
        return watch.score(with_weights(network, state))

    def store(state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        release.store(with_weights(network, state), facts)

    trainer = Run(folder, network, loss, config, budget, fabric, monitor, store, console)
    if first:
        rehearsal = rehearse(trainer.state, stream)
        data = [source_line(config, mix, i) for i in range(len(mix.sources))]
        kept = cache_bytes(
            [(s, len(scans)) for s, scans in zip(config.sources, mix.sources, strict=True)]
        )
        console.print(summary(config, budget, network, data, kept, rehearsal, fabric))
    fabric.barrier()
    average = trainer.fit(stream, guard)
    if watch is not None:
        final = with_weights(network, average)
        if config.norm_batches:
            renew_norms(final, mix, config, model)
        scores = watch.score(final)
        facts = {"steps": trainer.state.step, "seconds": round(trainer.state.seconds)}
        release.store(final, facts | {"monitor": scores})
        listed = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
        console.print(f"done: {release.paths[0]}; {listed} on {watch.title}", soft_wrap=True)
    fabric.barrier()
    return release.paths[0]


def open_mix(config: TrainConfig, places: Places, fabric: Fabric, console: Console) -> SourceMix:
    """All sources of the recipe; the first process opens, and renders, what others then find."""
    if any(source.kind == "simulated" for source in config.sources):
        console.print("opening data; streets are rendered on first use, which takes minutes")
    mix: SourceMix | None = None
    for turn in (True, False):
        if (fabric.global_rank == 0) == turn:
            opened = [open_source(source, places.data, places.cache) for source in config.sources]
            for scans, source in zip(opened, config.sources, strict=True):
                if not len(scans):
                    raise InputError(f"source {source.kind} {source.name}: it has no scans")
            mix = SourceMix.of(config, opened)
        fabric.barrier()
    assert mix is not None
    return mix


def make_loss(config: TrainConfig, mix: SourceMix, fabric: Fabric) -> Loss:
    """Cross entropy and Lovász in the classes of the batch's head, on the run's device."""
    sets = {head: targets.to(fabric.device) for head, targets in mix.sets.items()}
    weights = {head: class_weights(mix, config.class_balance, head) for head in mix.heads}
    weights = {h: None if w is None else w.to(fabric.device) for h, w in weights.items()}

    def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits, head = logits_of(network, batch), batch.head
        with full_precision(fabric.device):
            return segmentation_loss(
                logits, batch.targets, sets[head], weights[head], config.lovasz_weight
            )

    return loss


def class_weights(mix: SourceMix, balance: float, head: str | None = None) -> Tensor | None:
    """[C] frequency^-balance with mean 1 over the classes that occur; None for balance 0."""
    if balance == 0:
        return None
    counts = mix.class_counts(head)
    weights = np.maximum(counts, 1.0) ** -balance * (counts > 0)
    return torch.from_numpy(weights / weights[counts > 0].mean()).float()


def source_line(config: TrainConfig, mix: SourceMix, i: int) -> str:
    """What source i contributes, for people."""
    source, scans = config.sources[i], mix.sources[i]
    title = " ".join(word for word in (source.kind, source.name, source.folder) if word)
    return (
        f"{title}: {len(scans)} scans of {len(set(scans.sequences))} sequences, "
        f"{mix.weights[i]:.0%} of the draws"
    )
