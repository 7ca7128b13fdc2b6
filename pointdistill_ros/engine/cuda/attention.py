# SPDX-License-Identifier: Apache-2.0
"""Patch attention in buffers of fixed capacity; see model/attention.py for what a patch is.

- full patches are views of the qkv rows, without a mask; those beyond the size compute padding
- the rows after the last full patch attend to the last K rows: one gathered patch whose place
  follows from the size on the device; its mask hides what lies before the first row where a stage
  is shorter than K
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


def attend_patches(
    qkv: Tensor, heads: int, patch: int, size: Tensor, chunk: int | None = None
) -> Tensor:
    """qkv: [N, 3C] along the curve, the first ``size`` (int32 [1], < N) rows valid. Returns [N, C].

    chunk: patches computed at once, None = all.
    """
    rows, width = qkv.shape
    channels = width // 3
    qkv = qkv.view(rows, 3, heads, channels // heads)
    out = qkv.new_empty(rows, channels)
    step = patch * (chunk or max(1, rows // patch))
    for begin in range(0, rows // patch * patch, step):
        part = qkv[begin : min(begin + step, rows // patch * patch)]
        q, k, v = part.view(-1, patch, *qkv.shape[1:]).permute(2, 0, 3, 1, 4)  # each [P, H, K, d]
        attended = scaled_dot_product_attention(q, k, v)
        out[begin : begin + len(part)] = attended.transpose(1, 2).reshape(len(part), channels)
    _attend_last(qkv, min(patch, rows), size, out)
    return out


def _attend_last(qkv: Tensor, patch: int, size: Tensor, out: Tensor) -> None:
    """The rows after the last full patch, written into ``out``. qkv: [N, 3, H, d]."""
    row = torch.arange(patch, device=qkv.device) + (size - patch)  # [K] the last K rows
    q, k, v = qkv.index_select(0, row.clamp(min=0)).permute(1, 2, 0, 3)[:, None]  # [1, H, K, d]
    hidden = torch.where(row < 0, -torch.inf, 0.0).to(qkv.dtype)
    mask = hidden.expand(1, 1, patch, patch)
    attended = scaled_dot_product_attention(q, k, v, attn_mask=mask)
    ragged = row >= size // patch * patch
    target = torch.where(ragged & (row >= 0), row, len(qkv) - 1)  # the last row is padding
    out.index_copy_(0, target, attended.transpose(1, 2).reshape(patch, -1))
