# SPDX-License-Identifier: Apache-2.0
"""Patch attention: voxels attend to the K − 1 others of their stretch of a curve.

Patches are per scan (variable-length semantics): ⌊n/K⌋ full patches; the last n mod K voxels are
queries over the last K voxels; a scan of at most K voxels is one patch. No position term, no mask,
no padding, so a scan never depends on its batch mates.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from pointdistill_ros.model.pyramid import CurveOrder, Stage


class PatchAttention(nn.Module):
    """Multi-head attention inside patches of one curve."""

    def __init__(self, channels: int, heads: int, patch_size: int) -> None:
        super().__init__()
        self.heads = heads
        self.patch_size = patch_size
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, stage: Stage, walk: CurveOrder) -> Tensor:
        """x: [n, C] rows of ``stage``; ``walk``: the curve. Returns [n, C]."""
        n, channels = x.shape
        qkv = permute_rows(self.qkv(x), walk.order, walk.inverse)
        qkv = qkv.view(n, 3, self.heads, channels // self.heads)
        pieces = []
        for first, last in zip(stage.offsets[:-1], stage.offsets[1:], strict=True):
            pieces += self._attend_scan(qkv[first:last])
        out: Tensor = self.proj(permute_rows(torch.cat(pieces), walk.inverse, walk.order))
        return out

    def _attend_scan(self, qkv: Tensor) -> list[Tensor]:
        """qkv: [m, 3, H, d] of one scan along the curve. Returns pieces [·, C], m rows in all."""
        m, size = len(qkv), min(self.patch_size, len(qkv))
        full = m - m % size if m else 0
        pieces = []
        if full:
            patches = qkv[:full].view(full // size, size, *qkv.shape[1:])
            q, k, v = patches.permute(2, 0, 3, 1, 4)  # each [patches, H, K, d]
            out = attend(q, k, v)
            pieces.append(out.transpose(1, 2).reshape(full, -1))
        if full < m:
            q = qkv[full:, 0].transpose(0, 1)[None]  # [1, H, m mod K, d]
            k, v = qkv[m - size :, 1:].permute(1, 2, 0, 3)[:, None]  # [1, H, K, d]
            out = attend(q, k, v)
            pieces.append(out.transpose(1, 2).reshape(m - full, -1))
        return pieces


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q·kᵀ / √d)·v over the last two axes."""
    if q.dtype == torch.bfloat16 and q.requires_grad and not q.is_cuda:
        # training on a CPU: the fused kernel's bfloat16 backward is 2 to 4 times slower than this
        with torch.autocast("cpu", enabled=False):
            weights: Tensor = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
            return weights.matmul(v)
    return scaled_dot_product_attention(q, k, v)


def permute_rows(x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
    """``x[order]`` for a permutation; its gradient is a gather too, faster than a scatter-add."""
    out: Tensor = _PermuteRows.apply(x, order, inverse)  # type: ignore[no-untyped-call]
    return out


class _PermuteRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(inverse)
        return x.index_select(0, order)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (inverse,) = ctx.saved_tensors
        return grads[0].index_select(0, inverse), None, None
