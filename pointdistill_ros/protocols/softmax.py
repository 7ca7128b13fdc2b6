# SPDX-License-Identifier: Apache-2.0
"""Class probabilities of voxels, by the compiled CPU engine or the plain network on any device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from pointdistill_ros.engine.cpu import CpuNetwork
from pointdistill_ros.model.curves import MAX_DEPTH
from pointdistill_ros.model.ptv3 import PTv3
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.segmenter import Segmenter

Softmax = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Features [M, 4] of the prepared voxels → probabilities [M, C]."""


class VoxelSoftmax(Protocol):
    """A network that says how probable every class is, not only which one wins."""

    def prepare(self, coords: NDArray[np.int64]) -> Softmax:
        """coords: int64 [M, 3] unique cells ≥ 0 in z order; several passes share the geometry."""


class NativeSoftmax:
    """The compiled CPU engine."""

    def __init__(self, network: CpuNetwork) -> None:
        self.network = network

    def prepare(self, coords: NDArray[np.int64]) -> Softmax:
        """See ``VoxelSoftmax``."""
        return lambda features: _softmax(self.network.logits(features, coords))


class TorchSoftmax:
    """The plain network; the geometry of a view is computed once for all its fragments."""

    def __init__(self, network: PTv3, device: str = "cpu") -> None:
        self.network, self.device = network.to(device).eval(), device

    def prepare(self, coords: NDArray[np.int64]) -> Softmax:
        """See ``VoxelSoftmax``."""
        rows = torch.from_numpy(coords).to(self.device)
        scan = torch.zeros(len(rows), dtype=torch.int64, device=self.device)
        pyramid = build_pyramid(rows, scan, self.network.config, depth=MAX_DEPTH)

        @torch.inference_mode()
        def forward(features: NDArray[np.float32]) -> NDArray[np.float32]:
            logits = self.network(torch.from_numpy(features).to(self.device), pyramid)
            return np.asarray(torch.softmax(logits.float(), 1).cpu().numpy())

        return forward


def voxel_softmax(segmenter: Segmenter, threads: int | None = None) -> VoxelSoftmax:
    """The network of a segmenter: compiled where the segmenter runs compiled on the CPU."""
    if segmenter.engine == "native":
        return NativeSoftmax(CpuNetwork(segmenter.network, segmenter.precision, threads))
    return TorchSoftmax(segmenter.network, segmenter.device)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), np.float32)
