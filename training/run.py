# SPDX-License-Identifier: Apache-2.0
"""A training run from its recipe to its weights: data, monitoring and releases around the loop.

What is trained, and by which loss, is the run's task (supervised.py, distillation/).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from pointdistill_ros.errors import InputError
from pointdistill_ros.model.config import PTv3Config
from training.batch import BatchStream
from training.config import TrainConfig
from training.device import is_first_process, open_device
from training.environment import describe_start
from training.interrupt import InterruptGuard
from training.lineage import learned_from
from training.loop import Run
from training.monitor import Monitor, renew_norms, with_weights
from training.networks import Release, model_config
from training.opening import cache_bytes, open_source
from training.run_folder import RunFolder
from training.schedule import Budget
from training.sources import SourceMix
from training.state import Loss
from training.summary import rehearse, summary

C = TypeVar("C", bound=TrainConfig)


@dataclass(frozen=True)
class Places:
    """Where a run finds and leaves things."""

    run: Path
    """Folder of the run."""
    data: Path | None = None
    """Folder that the recipe's data sources lie in."""
    cache: Path = Path("runs/streets")
    """Rendered streets."""
    teacher: Path | None = None
    """Weights that a student learns from."""
    camera: Path | None = None
    """Weights of a camera teacher that it learns from, too."""
    initial: Path | None = None
    """Weights to start from."""


@dataclass(frozen=True)
class Task:
    """What a run trains."""

    network: nn.Module
    """Called with features and pyramid it gives logits; its weights are what a run changes."""
    loss: Loss
    geometry: PTv3Config
    """Shape that batches' pyramids are built for; every network in ``network`` must fit it."""
    stream: Callable[[int | None], BatchStream] | None = None
    """Number of the first batch of whole scans → batches; None = those of the run's data alone."""


TaskMaker = Callable[[C, Places, SourceMix, Fabric], Task]


def train_run(
    config: C,
    places: Places,
    make_task: TaskMaker[C],
    guard: InterruptGuard | None = None,
) -> Path:
    """Train in the folder of the run and return the path of the weights.

    Continues a run found there. Raises InputError, ConfigError, NonFiniteError, Interrupted.
    """
    folder, first = RunFolder(places.run), is_first_process()
    with folder.locked() if first else nullcontext():
        if first:  # before others are started, which would wait in vain
            names = ("data", "cache", "teacher", "camera", "initial")
            facts = {name: str(getattr(places, name) or "") for name in names}
            folder.begin(config, describe_start(facts))
        console = Console(quiet=not first)
        return _train(config, places, make_task, open_device(config), folder, console, guard)


def _train(
    config: C,
    places: Places,
    make_task: TaskMaker[C],
    fabric: Fabric,
    folder: RunFolder,
    console: Console,
    guard: InterruptGuard | None,
) -> Path:
    first = fabric.global_rank == 0
    mix = open_mix(config, places, fabric, console)
    model = model_config(config, places.initial)
    task = make_task(config, places, mix, fabric)
    network = task.network
    watch = Monitor(config, mix, model, places.cache) if first else None
    release = Release(places.run, config, model, mix, learned_from(config, places))
    budget = Budget.of(config, sum(len(s) for s in mix.sources), fabric.world_size)
    per_step = config.accumulate * fabric.world_size
    whole_from = budget.first_of_last(config.whole_scans, per_step)
    stream = (
        task.stream(whole_from)
        if task.stream
        else BatchStream(mix, task.geometry, config, whole_from)
    )

    def monitor(state: dict[str, Tensor]) -> dict[str, float]:
        assert watch is not None
        return watch.score(with_weights(network, state))

    def store(state: dict[str, Tensor], facts: dict[str, Any]) -> None:
        release.store(with_weights(network, state), facts)

    trainer = Run(folder, network, task.loss, config, budget, fabric, monitor, store, console)
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


def source_line(config: TrainConfig, mix: SourceMix, i: int) -> str:
    """What source i contributes, for people."""
    source, scans = config.sources[i], mix.sources[i]
    title = " ".join(word for word in (source.kind, source.name, source.folder) if word)
    return (
        f"{title}: {len(scans)} scans of {len(set(scans.sequences))} sequences, "
        f"{mix.weights[i]:.0%} of the draws"
    )
