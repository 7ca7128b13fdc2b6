# SPDX-License-Identifier: Apache-2.0
"""The one training loop: numbered batches in, averaged weights out.

- batch number (step · accumulate + i) · processes + rank: more processes are more batches per step
- what is random in a forward pass is seeded by the batch's number; with the checkpoint's counters
  a resumed run therefore goes on as if nothing had happened, bit for bit on a CPU
- losses stay on the device and are looked at every few steps; steps after a bad one change nothing
- a signal ends the run after the step, with a checkpoint
Not here: where batches come from (batch.py) and what the loss is (losses/).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from signal import SIGTERM
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from rich.console import Console
from torch import Tensor, nn

from training.bad_batch import BadBatch, NonFiniteError, save_bad_batch
from training.batch import Batch
from training.checkpoints import read_state
from training.config import TrainConfig
from training.device import open_device
from training.interrupt import Interrupted, InterruptGuard
from training.loading import prepared
from training.progress import ProgressReport
from training.records import Records, Row, voxels
from training.run_folder import Metrics, RunFolder
from training.schedule import Budget, OneCycle
from training.state import Loss, Sealed, TrainState

MOST_SKIPPED = 50
"""Steps in a row that float16 may skip while it looks for a scale."""


class Run:
    """A training run in a folder. ``fit`` trains to the end of the budget, resuming if it can."""

    def __init__(
        self,
        folder: RunFolder,
        network: nn.Module,
        loss: Loss,
        config: TrainConfig,
        budget: Budget,
        fabric: Fabric | None = None,
        monitor: Callable[[dict[str, Tensor]], dict[str, float]] | None = None,
        on_checkpoint: Callable[[dict[str, Tensor], dict[str, Any]], None] | None = None,
        console: Console | None = None,
    ) -> None:
        """``monitor`` scores averaged weights, ``on_checkpoint`` stores them, on the first process.

        The time both take counts towards the budget.
        """
        self.folder, self.config, self.budget = folder, config, budget
        self.monitor, self.on_checkpoint = monitor, on_checkpoint
        self.fabric = open_device(config) if fabric is None else fabric
        self.first = self.fabric.global_rank == 0
        self.state = TrainState(network, loss, config, self.fabric)
        self.schedule = OneCycle.of(config)
        self.records = Records()
        self.checkpoint_seconds = 60 * config.checkpoint_minutes
        self.every = 1 if self.fabric.device.type == "cpu" else config.log_every
        self._saved_step = -1
        self._begin = self._looked = self._saved = time.monotonic()
        self._waited = 0.0
        """Seconds since the last look in which no batch was ready."""
        self._bad = torch.zeros((), device=self.fabric.device)
        self._skipped = 0
        self._report = ProgressReport(console or Console(quiet=not self.first), budget.steps)

    def fit(
        self, make_batch: Callable[[int], Batch], guard: InterruptGuard | None = None
    ) -> dict[str, Tensor]:
        """Train on make_batch(0), make_batch(1), … and return the averaged weights.

        Raises Interrupted after a signal that ``guard`` received, NonFiniteError.
        """
        self.resume()
        state, world = self.state, self.fabric.world_size
        start = state.drawn * self.config.accumulate * world + self.fabric.global_rank
        metrics = Metrics(self.folder, state.step) if self.first else None
        if metrics and not metrics.has_board:
            self._report.say("TensorBoard is not installed; metrics go to metrics.jsonl alone")
        self._begin, self._saved = time.monotonic() - state.seconds, time.monotonic()
        self._looked = time.monotonic()
        try:
            with (
                prepared(
                    make_batch,
                    range(start, sys.maxsize, world),
                    self.config.workers,
                    self.config.prefetch,
                    pin=self.fabric.device.type == "cuda",
                ) as batches,
                self._report,
            ):
                if guard:
                    guard.held = True
                while self.budget.share(state.step, state.seconds) < 1:
                    self.train_step(batches)
                    ended = self.budget.share(state.step, state.seconds) >= 1
                    if ended or state.drawn % self.every == 0:
                        self._look(make_batch, metrics, guard)
            if state.step > self._saved_step:
                self.checkpoint(metrics)
        finally:
            if guard:
                guard.held = False
            if metrics:
                metrics.close()
        return state.averaged()

    def train_step(self, batches: Iterator[Batch]) -> None:
        """One optimiser step over ``accumulate`` batches; nothing in it waits for a GPU."""
        state, config, device = self.state, self.config, self.fabric.device
        state.network.train()
        factor, beta1 = self.schedule(self.budget.share(state.step, state.seconds))
        for group in state.optimizer.param_groups:
            group["lr"] = factor * group["peak"]
            group["betas"] = (beta1, group["betas"][1])
        asked = time.monotonic()
        ready = [next(batches) for _ in range(config.accumulate)]
        self._waited += time.monotonic() - asked
        number = self._number(state.drawn)
        parts = []
        for i, batch in enumerate(batch.to(device) for batch in ready):
            seed_forward(config.seed, number + i * self.fabric.world_size)
            last = i == len(ready) - 1
            several = self.fabric.world_size > 1 and not last
            with self.fabric.no_backward_sync(state.objective) if several else nullcontext():
                loss, terms = state.objective(Sealed(batch))
                self.fabric.backward(loss / config.accumulate)
            parts.append({"loss": loss.detach(), **terms})
        norm = self._apply_gradient(parts)
        host = {"rate": factor, "voxels": voxels(ready)}
        self.records.add(number, host, parts, norm)
        state.drawn += 1
        state.step += 1
        state.average.update(state.network, state.step)

    def _apply_gradient(self, parts: list[dict[str, Tensor]]) -> Tensor:
        """Clip and step, unless this or an earlier gradient is no number. Returns the norm.

        Learned weights of a loss are clipped apart: what they pull takes nothing from the network.
        """
        state = self.state
        optimizer = state.optimizer.optimizer
        if state.scaler:
            state.scaler.unscale_(optimizer)
        limit = self.config.clip_norm
        limit = float("inf") if limit is None else limit
        norm = nn.utils.clip_grad_norm_(state.parameters, limit)
        norm = norm + 0 * nn.utils.clip_grad_norm_(state.loss_parameters, limit)  # NaN shows
        if state.scaler:  # skips by itself what overflowed
            state.scaler.step(optimizer)
            state.scaler.update()
        else:
            total = norm + torch.stack([p["loss"] for p in parts]).sum()
            self._bad = torch.maximum(self._bad, (~total.isfinite()).float())
            optimizer.found_inf = self._bad  # a fused optimiser obeys it without being waited for
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm.detach()

    def _number(self, drawn: int) -> int:
        """Number of this process's first batch of a step."""
        world = self.fabric.world_size
        return drawn * self.config.accumulate * world + self.fabric.global_rank

    def _look(
        self,
        make_batch: Callable[[int], Batch],
        metrics: Metrics | None,
        guard: InterruptGuard | None,
    ) -> None:
        """Read the losses, agree with the other processes, write, stop or save where it is time."""
        state, now, count = self.state, time.monotonic(), len(self.records)
        due = now - self._saved > self.checkpoint_seconds
        shared = [float(guard.received if guard else 0)]
        shared += [now - self._begin, float(due)] if self.first else [0.0, 0.0]
        rows, (signal, state.seconds, due_sum) = self.records.fetch(self.fabric, shared)
        now = time.monotonic()
        passed, waiting = now - self._looked, self._waited / (now - self._looked)
        self._looked, self._waited = now, 0.0
        first_step = state.step - count
        for row in rows:
            if not row.finite() and not (state.scaler and row.finite_loss()):
                self._stop(row, first_step, make_batch)
            if not row.finite():
                state.step -= 1
                self._skipped += 1
                continue
            self._skipped, first_step = 0, first_step + 1
            record: dict[str, Any] = row.mean | row.host
            record |= {"seconds": round(state.seconds, 3), "waiting": round(waiting, 4)}
            record["voxels_per_second"] = round(
                sum(r.host["voxels"] for r in rows) * self.fabric.world_size / passed
            )
            if metrics:
                metrics.write(first_step, record)
            share = self.budget.share(first_step, state.seconds)
            self._report.update(share, first_step, record)
        if self._skipped > MOST_SKIPPED:
            raise NonFiniteError(
                f"step {state.step}: float16 gradients overflow at any scale; use bfloat16"
            )
        if signal:
            self.checkpoint(metrics, score=False)
            raise Interrupted(guard.received if guard and guard.received else SIGTERM)
        if due_sum:
            self.checkpoint(metrics)

    def _stop(self, row: Row, step: int, make_batch: Callable[[int], Batch]) -> None:
        """Save the batches of a bad step, made again by number, and raise NonFiniteError."""
        own = not all(np.isfinite(row.losses))
        path = self.folder.path / f"bad_batch{f'_{self.fabric.global_rank}' * (not self.first)}.pt"
        if own or self.first:
            world = self.fabric.world_size
            numbers = tuple(row.first_number + i * world for i in range(self.config.accumulate))
            weights = self.state.network.state_dict()
            batches = tuple(make_batch(number) for number in numbers)
            save_bad_batch(path, BadBatch(step, numbers, batches, weights))
        else:
            raise NonFiniteError(f"step {step}: not a finite number; the first process says more")
        what = "gradient" if row.finite_loss() else "loss"
        raise NonFiniteError(
            f"step {step}: the {what} is not a finite number; batches {path} (look at them: python "
            f"-m training.bad_batch {path}), weights before the step inside; the last checkpoint "
            "is whole. A lower learning rate or clip_norm is the usual cure"
        )

    def checkpoint(self, metrics: Metrics | None = None, score: bool = True) -> None:
        """Write everything a resume needs, then score and store the averaged weights.

        All processes must call this together.
        """
        state = self.state
        saved, average = state.to_dict(), state.averaged()
        if self.first:
            self.folder.checkpoints.save(state.step, saved)
            scores = self.monitor(average) if self.monitor and score else {}
            if scores:
                self._report.scored(scores)
                if metrics:
                    metrics.write(state.step, scores)
                listed = ", ".join(f"{name} {value:.3f}" for name, value in scores.items())
                self._report.say(f"step {state.step}: checkpoint, {listed}")
            if self.on_checkpoint:
                facts = {"steps": state.step, "seconds": round(state.seconds), "monitor": scores}
                self.on_checkpoint(average, facts)
        self._saved, self._saved_step = time.monotonic(), state.step

    def resume(self) -> None:
        """Continue from the last whole checkpoint where there is one. Raises CheckpointError."""
        path = self.folder.checkpoints.find(self._report.say) if self.first else None
        path = self.fabric.broadcast(path)
        if path is not None:
            self.state.load(read_state(path))
            self._saved_step = self.state.step
            self._report.say(f"continuing after step {self.state.step}")


def seed_forward(seed: int, number: int) -> None:
    """Seed what is random in a forward pass (drop path) by the number of the batch."""
    torch.manual_seed(int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0]))
