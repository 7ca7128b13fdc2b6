# SPDX-License-Identifier: Apache-2.0
"""The block, stem and unpooling of the network with norms, residuals and GELU fused."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pointdistill_ros.model.ptv3 import Block, Stem, Unpooling
from pointdistill_ros.model.pyramid import Stage, VoxelPyramid
from training.compiled.elementwise import batch_norm_gelu, residual_norm, serves
from training.compiled.feed_forward import feed_forward
from training.compiled.library import Precision


class CompiledBlock(Block):
    """xCPE, attention, MLP; the same function and the same random draws as ``Block``."""

    precision: Precision

    def forward(
        self, x: Tensor, conv_input: Tensor, stage: Stage, slot: int
    ) -> tuple[Tensor, Tensor]:
        """x: [n, C] residual stream; ``slot`` picks the curve. Returns new x and MLP branch."""
        first = self.attention_norm or self.mlp_norm
        if self.conv is None or self.conv_linear is None:
            y = first(x)
        else:
            branch = self.conv_linear(self.conv(conv_input, stage, stage.neighbours))
            x, y = _join(x, branch, self.conv_norm, first, None)
        if self.attention is not None:
            branch = self.attention(y, stage, stage.orders[slot % len(stage.orders)])
            x, y = _join(x, branch, None, self.mlp_norm, self._mask(x))
        fc1, fc2 = self.fc1, self.fc2
        branch = feed_forward(y, fc1.weight, fc1.bias, fc2.weight, fc2.bias, self.precision)
        mask = self._mask(x)
        branch = branch if mask is None else branch * mask
        return x + branch, branch

    def _mask(self, x: Tensor) -> Tensor | None:
        """What ``_drop`` multiplies with, [n, 1]; None for 1."""
        if not self.training or self.drop_rate == 0.0:
            return None
        keep = 1.0 - self.drop_rate
        return torch.empty(len(x), 1, dtype=x.dtype).bernoulli_(keep).div_(keep)


def _join(
    x: Tensor, branch: Tensor, inner: nn.LayerNorm | None, outer: nn.LayerNorm, mask: Tensor | None
) -> tuple[Tensor, Tensor]:
    """x + mask · inner(branch) and ``outer`` of that; in one sweep where the kernel serves it."""
    if serves(outer) and (inner is None or serves(inner)):
        return residual_norm(x, branch, inner, outer, mask)
    branch = branch if inner is None else inner(branch)
    x = x + (branch if mask is None else branch * mask)
    return x, outer(x)


class CompiledStem(Stem):
    """5³ (or 3³) convolution without bias; norm and GELU in one."""

    def forward(self, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        """features: [n, in] → [n, channels]."""
        x = self.conv(features, pyramid.stages[0], self.table(pyramid))
        return batch_norm_gelu(x, self.norm)


class CompiledUnpooling(Unpooling):
    """Coarse features back to their children, added to the projected skip."""

    def forward(self, x: Tensor, skip: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
        """x: [parents, in], skip: [n, skip]. Returns the sum and the skip branch, [n, channels]."""
        assert stage.parent is not None
        up = batch_norm_gelu(self.proj(x), self.norm)
        skip = batch_norm_gelu(self.skip_proj(skip), self.skip_norm)
        return skip + up.index_select(0, stage.parent), skip
