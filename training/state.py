# SPDX-License-Identifier: Apache-2.0
"""All that a run changes: weights, their average, the optimiser, the counters; saved as one piece.

Batch-norm statistics belong to each process, which sees its own batches. Running averages are
linear, so the mean over the processes, which is what is saved and scored, is the running average of
the processes' mean; no process ever needs another's statistics to train.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from pointdistill_ros.errors import CheckpointError
from training.batch import Batch
from training.config import TrainConfig
from training.optimizer import AveragedWeights, belongs_to_loss, make_optimizer


class Sealed:
    """A batch that passes through Fabric's and DDP's hands as it is."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


Loss = Callable[[nn.Module, Batch], tuple[Tensor, dict[str, Tensor]]]
"""Network and batch → total and its parts, detached. Called under the run's precision, so a loss
leaves that for what must be exact (device.full_precision)."""


class Objective(nn.Module):
    """The loss of a network, called with a batch: what precision and DDP wrap."""

    def __init__(self, network: nn.Module, loss: Loss) -> None:
        super().__init__()
        self.network, self.loss = network, loss

    def forward(self, sealed: Sealed) -> tuple[Tensor, dict[str, Tensor]]:
        """Total and parts of a sealed batch."""
        return self.loss(self.network, sealed.batch)


class TrainState:
    """Network and optimiser on their device, wrapped for precision and processes."""

    def __init__(self, network: nn.Module, loss: Loss, config: TrainConfig, fabric: Fabric) -> None:
        """Moves ``network`` to the device; every process must come with the same weights."""
        self.network, self.fabric = network, fabric
        self.unwrapped = Objective(network, loss)
        optimizer = make_optimizer(network, config)
        self.objective, self.optimizer = fabric.setup(self.unwrapped, optimizer)
        self.average = AveragedWeights(network, config.ema_decay)
        named = list(network.named_parameters())
        self.parameters = [p for name, p in named if not belongs_to_loss(name)]
        """Of the network, whose gradients are clipped together …"""
        self.loss_parameters = [p for name, p in named if belongs_to_loss(name)]
        """… and learned weights and scales of the loss."""
        self.step = 0
        """Optimiser steps taken, which the schedule counts."""
        self.drawn = 0
        """Steps whose batches were used: more, where float16 skipped some."""
        self.seconds = 0.0
        """Time trained."""

    @property
    def scaler(self) -> torch.amp.GradScaler | None:
        """Of float16; None otherwise."""
        return getattr(self.fabric.strategy.precision, "scaler", None)

    def to_dict(self) -> dict[str, Any]:
        """Everything, as tensors and plain values. All processes must call this together."""
        return {
            "network": self._mean_buffers(self.network.state_dict()),
            "average": self._mean_buffers(self.average.state),
            "optimizer": self.optimizer.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
            "step": self.step,
            "drawn": self.drawn,
            "seconds": self.seconds,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Take over what to_dict gave. Raises CheckpointError where it is another network's."""
        try:
            self.network.load_state_dict(state["network"])
            self.average.load(state["average"])
            self.optimizer.optimizer.load_state_dict(state["optimizer"])
            if self.scaler and state["scaler"]:
                self.scaler.load_state_dict(state["scaler"])
            self.step, self.drawn = state["step"], state["drawn"]
            self.seconds = state["seconds"]
        except (KeyError, RuntimeError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"the checkpoint does not fit this run: {first}") from error

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights. All processes must call this together."""
        return self._mean_buffers(self.average.state)

    def _mean_buffers(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """``state`` with floating buffers replaced by their mean over the processes."""
        if self.fabric.world_size == 1:
            return state
        names = [n for n, b in self.network.named_buffers() if b.is_floating_point()]
        if not names:
            return state
        flat = torch.cat([state[name].detach().flatten().float() for name in names])
        mean = cast(Tensor, self.fabric.all_reduce(flat, reduce_op="mean"))
        sizes = [state[name].numel() for name in names]
        parts = zip(names, torch.split(mean, sizes), strict=True)
        return state | {name: part.view_as(state[name]).clone() for name, part in parts}
