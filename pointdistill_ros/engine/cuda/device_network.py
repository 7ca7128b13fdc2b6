# SPDX-License-Identifier: Apache-2.0
"""PTv3 over a DevicePyramid: the function of model/ptv3.py with folded weights and fused steps.

A block is six steps: convolution with norm, residual and the norm before attention | qkv |
attention | projection with residual and the norm before the MLP | first linear with GELU | second
linear with residual. A block without attention has the first and the last two.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pointdistill_ros.engine.cuda.attention import attend_patches
from pointdistill_ros.engine.cuda.operations import Operations
from pointdistill_ros.engine.cuda.pyramid import DevicePyramid, DeviceStage
from pointdistill_ros.engine.cuda.weights import BlockWeights, NetworkWeights
from pointdistill_ros.model.config import XcpeMode


@dataclass(frozen=True)
class Chunks:
    """How much is computed at once, where memory is short."""

    patches: int = 8
    """Patches of one attention call."""
    rows: int = 8192
    """Rows of one MLP; its hidden rows are four times as wide."""


@dataclass(frozen=True, eq=False)
class _Stream:
    """What runs from block to block."""

    x: Tensor
    """float32 [N, C] residual stream."""
    copy: Tensor
    """[N, C] the same in the engine's dtype."""
    conv_input: Tensor
    """[N, C] what the next convolution reads."""


class DeviceNetwork:
    """Weights and operations; holds nothing of a scan."""

    def __init__(
        self,
        weights: NetworkWeights,
        xcpe: XcpeMode,
        operations: Operations,
        dtype: torch.dtype,
        chunks: Chunks | None = None,
    ) -> None:
        self._weights = weights
        self._xcpe = xcpe
        self._operations = operations
        self._dtype = dtype
        self._chunks = chunks

    def __call__(self, features: Tensor, pyramid: DevicePyramid) -> Tensor:
        """features: float32 [N0, F], padded. Returns float32 logits [N0, classes], padded."""
        weights, ops, stages = self._weights, self._operations, pyramid.stages
        x, copy = ops.stem(features, pyramid.stem, weights.stem, stages[0].size, self._dtype)
        skips = []
        for s, blocks in enumerate(weights.encoder):
            if s:
                x, copy = self._pool(copy, s, stages)
            copy = self._run(blocks, _Stream(x, copy, copy), stages[s])
            skips.append(copy)
        for s in range(len(weights.decoder) - 1, -1, -1):
            unpool = weights.unpools[s]
            up = ops.dense(copy, unpool.up, stages[s + 1].size, gelu=True)
            skip = ops.dense(skips[s], unpool.skip, stages[s].size, gelu=True)
            parent = stages[s].parent
            assert parent is not None
            x, copy = ops.unpool(up, skip, parent, stages[s].size)
            first = copy if self._xcpe == "stale_off" else skip
            copy = self._run(weights.decoder[s], _Stream(x, copy, first), stages[s])
        return ops.logits(copy, weights.head, stages[0].size)

    def _pool(self, copy: Tensor, s: int, stages: tuple[DeviceStage, ...]) -> tuple[Tensor, Tensor]:
        parent, begin = stages[s - 1].parent, stages[s].child_begin
        assert parent is not None
        assert begin is not None
        sizes = (stages[s - 1].size, stages[s].size)
        return self._operations.pool(copy, self._weights.pools[s - 1], parent, begin, sizes)

    def _run(self, blocks: tuple[BlockWeights, ...], stream: _Stream, stage: DeviceStage) -> Tensor:
        for slot, block in enumerate(blocks):
            stream = self._block(block, stream, stage, slot)
        return stream.copy

    def _block(
        self, block: BlockWeights, stream: _Stream, stage: DeviceStage, slot: int
    ) -> _Stream:
        ops, size = self._operations, stage.size
        position = stage.positions[slot % len(stage.positions)] if block.qkv else None
        x, normed = ops.conv_norm(
            stream.x, stream.conv_input, stage.neighbours, block, position, size
        )
        if block.qkv and block.proj:
            qkv = ops.dense(normed, block.qkv, size)
            patches = None if self._chunks is None else self._chunks.patches
            attended = attend_patches(qkv, block.heads, block.patch, size, patches)
            x, normed = ops.proj_norm(x, attended, block.proj, block.mlp_eps, position, size)
        x, copy, branch = self._mlp(block, x, normed, size)
        return _Stream(x, copy, branch if self._xcpe == "legacy" else copy)

    def _mlp(
        self, block: BlockWeights, x: Tensor, normed: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x + MLP, its copy and the branch alone."""
        ops = self._operations
        if self._chunks is None:
            hidden = ops.dense(normed, block.fc1, size, gelu=True)
            return ops.add_dense(x, hidden, block.fc2, size)
        step = self._chunks.rows
        copy, branch = torch.empty_like(normed), torch.empty_like(normed)
        for begin in range(0, len(x), step):
            rows = slice(begin, begin + step)
            part = normed[rows]
            left = (size - begin).clamp(max=len(part))
            hidden = ops.dense(part, block.fc1, left, gelu=True)
            x[rows], copy[rows], branch[rows] = ops.add_dense(x[rows], hidden, block.fc2, left)
        return x, copy, branch
