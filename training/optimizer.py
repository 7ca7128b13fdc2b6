# SPDX-License-Identifier: Apache-2.0
"""AdamW in groups, and the moving average of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.config import TrainConfig

_OF_THE_LOSS = ("log_variance", "log_scale")


def belongs_to_loss(name: str) -> bool:
    """Whether a parameter is a learned weight or scale of a loss, not part of a network."""
    return name.endswith(_OF_THE_LOSS)


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with the transformer blocks and the rest as two groups; each knows its peak rate.

    Learned weights and scales of a loss are a third group, without decay. Fused: one kernel per
    group, and it leaves everything alone where ``found_inf`` is 1.
    """
    blocks: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if belongs_to_loss(name):
            free.append(parameter)
        else:
            (blocks if "block" in name else rest).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": blocks, "peak": config.block_learning_rate},
        {"params": rest, "peak": config.learning_rate},
        {"params": free, "peak": config.learning_rate, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
    )


class AveragedWeights:
    """Exponential moving average of all weights and buffers, with a short memory at the start."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move towards the weights after optimiser step number ``step`` (from 1)."""
        decay = min(self.decay, step / (step + 10))
        current = network.state_dict()
        moving = [name for name, value in current.items() if value.is_floating_point()]
        torch._foreach_lerp_(  # one launch for all; no public name yet
            [self.state[name] for name in moving], [current[name] for name in moving], 1 - decay
        )
        for name in current.keys() - set(moving):
            self.state[name].copy_(current[name])

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over a saved average, on whatever device this one lives."""
        for name, value in state.items():
            self.state[name].copy_(value)
