# SPDX-License-Identifier: Apache-2.0
"""Data parallelism by threads: each micro-batch on a copy of the network, gradients added up.

A CPU shared with other work stalls at every barrier of a multi-threaded operator; independent
single-threaded copies meet once per step.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import nn

B = TypeVar("B")
R = TypeVar("R")


class Replicas:
    """A network and its copies, one per micro-batch of a step."""

    def __init__(self, network: nn.Module, count: int) -> None:
        self.networks = [network, *(copy.deepcopy(network) for _ in range(count - 1))]
        self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    def backward(self, batches: Sequence[B], one: Callable[[nn.Module, B], R]) -> list[R]:
        """Run ``one(network, batch)`` (which calls backward) for all batches at once.

        Afterwards the first network's gradients are the sums and its normalisation statistics the
        means over all copies.
        """
        master, *copies = self.networks[: len(batches)]
        with torch.no_grad():
            for replica in copies:
                for mine, theirs in zip(_tensors(replica), _tensors(master), strict=True):
                    mine.copy_(theirs)
                replica.zero_grad(set_to_none=True)
        results = list(self._pool.map(one, self.networks, batches))
        with torch.no_grad():
            for replica in copies:
                for total, part in zip(master.parameters(), replica.parameters(), strict=True):
                    if part.grad is not None:
                        total.grad = part.grad if total.grad is None else total.grad + part.grad
            for buffers in zip(*(n.buffers() for n in self.networks[: len(batches)]), strict=True):
                if buffers[0].is_floating_point():
                    buffers[0].copy_(torch.stack(buffers).mean(0))
        return results


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]
