# SPDX-License-Identifier: Apache-2.0
"""Learning from labels alone: one network, cross entropy and Lovász."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from training.batch import Batch
from training.config import TrainConfig
from training.device import full_precision
from training.heads import logits_of
from training.losses.segmentation import segmentation_loss
from training.networks import build_network, model_config
from training.run import Places, Task
from training.sources import SourceMix
from training.state import Loss

TaskLoss = Callable[[Tensor, Batch], tuple[Tensor, dict[str, Tensor]]]
"""Logits [N, C] and their batch → total and its parts, detached."""


def supervised(config: TrainConfig, places: Places, mix: SourceMix, fabric: Fabric) -> Task:
    """A network, new or from given weights, and the loss of its labels."""
    model = model_config(config, places.initial)
    network = build_network(config, model, mix, fabric, places.initial)
    return Task(network, make_loss(config, mix, fabric), model)


def make_loss(config: TrainConfig, mix: SourceMix, fabric: Fabric) -> Loss:
    """``task_loss`` of what a network says about a batch."""
    task = task_loss(config, mix, fabric.device)

    def loss(network: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = logits_of(network, batch)
        with full_precision(fabric.device):
            return task(logits, batch)

    return loss


def task_loss(config: TrainConfig, mix: SourceMix, device: torch.device) -> TaskLoss:
    """Cross entropy and Lovász in the classes of the batch's head."""
    sets = {head: targets.to(device) for head, targets in mix.sets.items()}
    weights = {head: target_weights(mix, config.class_balance, head) for head in mix.heads}
    weights = {h: None if w is None else w.to(device) for h, w in weights.items()}

    def loss(logits: Tensor, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        head = batch.head
        return segmentation_loss(
            logits, batch.targets, sets[head], weights[head], config.lovasz_weight
        )

    return loss


def target_weights(mix: SourceMix, balance: float, head: str | None = None) -> Tensor | None:
    """[T] frequency^-balance of the targets, mean 1 over the classes that occur; None for 0.

    A union is as frequent as its members together: were it to weigh their mean, building or fence
    or pole would count twice as much as building.
    """
    if balance == 0:
        return None
    members = mix.sets[head or mix.heads[0]].members.double().numpy()  # [T, C]
    counts = mix.class_counts(head)
    weights = np.maximum(members @ counts, 1.0) ** -balance * (members @ counts > 0)
    exact = weights[: len(counts)]
    return torch.from_numpy(weights / exact[counts > 0].mean()).float()
