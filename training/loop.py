# SPDX-License-Identifier: Apache-2.0
"""The one training loop: batches in, averaged weights out; stops on time, resumes after a kill.

- length given in steps or in minutes; the schedule follows the elapsed share of either
- AdamW in two groups, one-cycle rate and momentum, gradient clipping, averaged weights (EMA)
- a run folder holds metrics.jsonl (one line per step), state.pt (resume) and the weights
Not here: where batches come from (batch.py) and what the loss is (losses/).
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.io.atomic import atomic_path
from training.batch import Batch, prefetch
from training.config import TrainConfig
from training.replicas import Replicas

Loss = Callable[[Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True)
class Budget:
    """How long a run lasts: optimiser steps or minutes of training, exactly one of them."""

    steps: int | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise ConfigError("give the length of the run either in steps or in minutes")

    def share(self, step: int, seconds: float) -> float:
        """Elapsed share of the run, 0..1."""
        if self.steps is not None:
            return min(step / self.steps, 1.0)
        assert self.minutes is not None
        return min(seconds / (60 * self.minutes), 1.0)


def one_cycle(share: float, warmup: float) -> tuple[float, float]:
    """Factor of the peak rate (0.1 → 1 → 0.001) and beta1 (0.95 → 0.85 → 0.95) at a share."""
    if share < warmup:
        up = (1 - math.cos(math.pi * share / warmup)) / 2
        return 0.1 + 0.9 * up, 0.95 - 0.10 * up
    down = (1 - math.cos(math.pi * (share - warmup) / (1 - warmup))) / 2
    return 1 - 0.999 * down, 0.85 + 0.10 * down


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with the transformer blocks and the rest as two groups; each knows its peak rate."""
    blocks, rest = [], []
    for name, parameter in network.named_parameters():
        (blocks if "block" in name else rest).append(parameter)
    groups = [
        {"params": blocks, "peak": config.block_learning_rate},
        {"params": rest, "peak": config.learning_rate},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)


class AveragedWeights:
    """Exponential moving average of all weights and buffers, with a short memory at the start."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the weights after optimiser step number ``step`` (from 1)."""
        decay = min(self.decay, step / (step + 10))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.state[name].lerp_(value, 1 - decay)
            else:
                self.state[name].copy_(value)


class Run:
    """A training run in a folder. ``fit`` trains to the end of the budget, resuming if it can."""

    def __init__(
        self,
        folder: Path,
        network: nn.Module,
        loss: Loss,
        config: TrainConfig,
        budget: Budget,
        monitor: Callable[[dict[str, Tensor]], dict[str, float]] | None = None,
        on_checkpoint: Callable[[dict[str, Tensor], dict[str, Any]], None] | None = None,
        checkpoint_seconds: float = 300,
    ) -> None:
        """``monitor`` scores averaged weights, ``on_checkpoint`` stores them.

        The time both take counts towards the budget.
        """
        self.folder, self.network, self.loss = folder, network, loss
        self.config, self.budget = config, budget
        self.monitor, self.on_checkpoint = monitor, on_checkpoint
        self.checkpoint_seconds = checkpoint_seconds
        self.optimizer = make_optimizer(network, config)
        self.average = AveragedWeights(network, config.ema_decay)
        self.replicas = Replicas(network, config.accumulate) if config.parallel else None
        self.step, self.seconds = 0, 0.0

    def fit(self, make_batch: Callable[[int], Batch]) -> dict[str, Tensor]:
        """Train on make_batch(0), make_batch(1), … and return the averaged weights."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.resume()
        console = Console()
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        batches = prefetch(make_batch, self.step * self.config.accumulate)
        before, saved = time.monotonic() - self.seconds, time.monotonic()
        with (
            Progress(*columns, console=console) as progress,
            (self.folder / "metrics.jsonl").open("a", buffering=1) as metrics,
        ):
            bar = progress.add_task("training", total=1.0)
            while (share := self.budget.share(self.step, self.seconds)) < 1:
                record = self.train_step(batches, share)
                self.seconds = time.monotonic() - before
                record |= {"step": self.step, "seconds": round(self.seconds, 2)}
                metrics.write(json.dumps(record) + "\n")
                title = f"step {self.step} loss {record['loss']:.3f}"
                progress.update(bar, completed=share, description=title)
                if not console.is_terminal and self.step % 50 == 0:
                    console.print(f"{title} share {share:.3f} wait {record['wait']:.2f} s")
                if time.monotonic() - saved > self.checkpoint_seconds:
                    scores = self.checkpoint()
                    saved = time.monotonic()
                    console.print(f"step {self.step}: {scores}")
                    metrics.write(json.dumps({"step": self.step} | scores) + "\n")
        batches.close()
        self.checkpoint()
        return self.average.state

    def train_step(self, batches: Any, share: float) -> dict[str, Any]:
        """One optimiser step over ``accumulate`` batches. FloatingPointError on a bad loss."""
        self.network.train()
        factor, beta1 = one_cycle(share, self.config.warmup)
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["peak"]
            group["betas"] = (beta1, group["betas"][1])
        self.optimizer.zero_grad(set_to_none=True)
        asked = time.monotonic()
        ready = [next(batches) for _ in range(self.config.accumulate)]
        record: dict[str, Any] = {"wait": round(time.monotonic() - asked, 3), "rate": factor}
        if self.replicas is None:
            parts = [self.forward_backward(self.network, batch) for batch in ready]
        else:
            parts = self.replicas.backward(ready, self.forward_backward)
        record |= {name: sum(p[name] for p in parts) / len(parts) for name in parts[0]}
        record["voxels"] = sum(len(batch.targets) for batch in ready)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm)
        if not math.isfinite(record["loss"]) or not bool(norm.isfinite()):
            raise FloatingPointError(f"step {self.step}: loss {record['loss']}, gradient {norm}")
        self.optimizer.step()
        self.step += 1
        self.average.update(self.network, self.step)
        return record | {"norm": float(norm)}

    def forward_backward(self, network: nn.Module, batch: Batch) -> dict[str, float]:
        """Add one batch's gradient, divided by the batches of a step; returns the loss parts."""
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bfloat16):
            logits = network(batch.features, batch.pyramid)
        loss, parts = self.loss(logits, batch.targets)
        (loss / self.config.accumulate).backward()
        parts |= {"loss": loss.detach()}
        return {name: float(value) for name, value in parts.items()}

    def checkpoint(self) -> dict[str, float]:
        """Write everything a resume needs, then score and store the averaged weights."""
        with atomic_path(self.folder / "state.pt") as temporary:
            torch.save(
                {
                    "network": self.network.state_dict(),
                    "average": self.average.state,
                    "optimizer": self.optimizer.state_dict(),
                    "torch_rng": torch.get_rng_state(),
                    "step": self.step,
                    "seconds": self.seconds,
                },
                temporary,
            )
        scores = self.monitor(self.average.state) if self.monitor else {}
        if self.on_checkpoint:
            provenance = {"steps": self.step, "seconds": round(self.seconds), "monitor": scores}
            self.on_checkpoint(self.average.state, provenance)
        return scores

    def resume(self) -> None:
        """Continue from ``state.pt`` where there is one."""
        path = self.folder / "state.pt"
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.average.state = state["average"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch_rng"])
        self.step, self.seconds = state["step"], state["seconds"]
