# SPDX-License-Identifier: Apache-2.0
"""One backbone, one linear head per label set: joint training without any common classes.

A batch comes from sources of one label set and names its head. What is kept in the end is the
backbone with one of the heads, an ordinary network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import VoxelPyramid
from training.batch import Batch


class Composite(Protocol):
    """Modules that are trained as one and hold the network that is released."""

    def export(self, name: str) -> PTv3:
        """The plain network for a head."""


class MultiHead(nn.Module):
    """PTv3 whose head is chosen per batch."""

    def __init__(self, config: PTv3Config, heads: Mapping[str, int]) -> None:
        """``heads``: name (of a label set) → classes. ``config.num_classes`` does not matter."""
        super().__init__()
        if not heads:
            raise ConfigError("a network with a head per data set needs at least one data set")
        self.backbone = PTv3(config)
        width = self.backbone.head.in_features
        self.backbone.add_module("head", nn.Identity())  # the heads below take its place
        self.heads = nn.ModuleDict({name: nn.Linear(width, n) for name, n in heads.items()})

    @property
    def config(self) -> PTv3Config:
        """Shape of the backbone."""
        return self.backbone.config

    def forward(self, features: Tensor, pyramid: VoxelPyramid, head: str) -> Tensor:
        """features: float [n, in_channels]. Returns logits [n, classes of the head].

        Raises ConfigError for a head that there is not.
        """
        logits: Tensor = self._head(head)(self.backbone(features, pyramid))
        return logits

    def export(self, name: str) -> PTv3:
        """The backbone with one head as a plain network, with weights of its own.

        Raises ConfigError for a head that there is not.
        """
        head = self._head(name)
        network = PTv3(replace(self.config, num_classes=head.out_features))
        state = self.backbone.state_dict()
        state |= {f"head.{key}": value for key, value in head.state_dict().items()}
        network.load_state_dict(state)
        return network.train(self.training)

    def _head(self, name: str) -> nn.Linear:
        if name not in self.heads:
            raise ConfigError(f"no head {name!r}; this network has {', '.join(self.heads)}")
        head = self.heads[name]
        assert isinstance(head, nn.Linear)
        return head


def logits_of(network: nn.Module, batch: Batch) -> Tensor:
    """Logits [n, classes] of a batch from a plain network or, by the batch's head, a MultiHead.

    Works through wrappers (data parallel, mixed precision), too.
    """
    if batch.head == "common":
        logits: Tensor = network(batch.features, batch.pyramid)
    else:
        logits = network(batch.features, batch.pyramid, batch.head)
    return logits
