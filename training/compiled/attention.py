# SPDX-License-Identifier: Apache-2.0
"""Patch attention with compiled forward and backward: the twin of ``model/attention.py``.

- gathers along the curve inside the kernel; scores are never stored, backward computes them again
  from one saved number per row and head
- bit-identical for any number of threads
- head widths that are multiples of 16; for others compile_network keeps the plain module
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor

from pointdistill_ros.model.attention import PatchAttention
from pointdistill_ros.model.pyramid import CurveOrder, Stage
from training.compiled import library
from training.compiled.library import Precision

HEAD_WIDTH_UNIT = 16


class CompiledAttention(PatchAttention):
    """Multi-head attention inside patches of one curve; see the module's text."""

    precision: Precision

    @staticmethod
    def fits(module: PatchAttention) -> bool:
        """Whether the kernel serves the widths of ``module``."""
        width, rest = divmod(module.qkv.in_features, module.heads)
        return rest == 0 and width % HEAD_WIDTH_UNIT == 0

    def forward(self, x: Tensor, stage: Stage, walk: CurveOrder) -> Tensor:
        """x: [n, C] rows of ``stage``; ``walk``: the curve. Returns [n, C]."""
        attended = patch_attention(
            self.qkv(x), stage.offsets, walk.order, self.heads, self.patch_size, self.precision
        )
        out: Tensor = self.proj(attended)
        return out


def patch_attention(
    qkv: Tensor,
    offsets: tuple[int, ...],
    order: Tensor,
    heads: int,
    patch_size: int,
    precision: Precision = "float32",
) -> Tensor:
    """softmax(q·kᵀ / √d)·v inside the patches of every scan. Returns [n, C] float32.

    qkv: float32 [n, 3·C] in row order: q, k, v, each head by head; offsets: [B + 1] first position
    of each scan along the curve; order: int64 [n] row at each position.
    precision: of the factors in products. Raises ConfigError for other dtypes or a precision this
    CPU lacks, ValueError where shapes do not fit.
    """
    out: Tensor = _Attention.apply(  # type: ignore[no-untyped-call]
        qkv, offsets, order, heads, patch_size, precision
    )
    return out


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        qkv: Tensor,
        offsets: tuple[int, ...],
        order: Tensor,
        heads: int,
        patch_size: int,
        precision: Precision,
    ) -> Tensor:
        library.check_floats("qkv", qkv)
        number = library.check_precision(precision)
        n, width = qkv.shape
        if order.shape != (n,) or order.dtype != torch.int64 or width % 3:
            raise ValueError(
                f"qkv {tuple(qkv.shape)} and order {order.dtype} {tuple(order.shape)} do not fit"
            )
        qkv, order = qkv.contiguous(), order.contiguous()
        out = qkv.new_empty(n, width // 3)
        log_sum = qkv.new_empty(heads, n)
        ctx.save_for_backward(qkv, order, out, log_sum)
        ctx.shape = (n, width // 3, heads, patch_size, len(offsets) - 1)
        ctx.offsets = (ctypes.c_int32 * len(offsets))(*offsets)
        ctx.setting = (library.tier(), number)
        library.call(
            "pd_training_attention_forward",
            *ctx.setting,
            torch.get_num_threads(),
            *ctx.shape,
            ctx.offsets,
            *(library.address(x) for x in (order, qkv, out, log_sum)),
        )
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        library.check_floats("the gradient of attention", grad)
        qkv, order, out, log_sum = ctx.saved_tensors
        grad, grad_qkv = grad.contiguous(), torch.empty_like(qkv)
        library.call(
            "pd_training_attention_backward",
            *ctx.setting,
            torch.get_num_threads(),
            *ctx.shape,
            ctx.offsets,
            *(library.address(x) for x in (order, qkv, out, log_sum, grad, grad_qkv)),
        )
        return grad_qkv, None, None, None, None, None
