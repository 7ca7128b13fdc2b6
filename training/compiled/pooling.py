# SPDX-License-Identifier: Apache-2.0
"""Maximum over the children of a voxel with compiled forward and backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.compiled.library import address, call, check_floats


def pool_max(x: Tensor, parent: Tensor, parents: int) -> Tensor:
    """x: float32 [n, C], parent: int64 [n] in [0, parents). Returns [parents, C].

    -inf where a parent has no child; NaN where a child has it. The gradient goes to the first child
    (lowest row) that has the maximum; the torch form shares it among equal children instead.
    Raises ConfigError for other dtypes, ValueError where a parent is out of range.
    """
    out: Tensor = _PoolMax.apply(x, parent, parents)  # type: ignore[no-untyped-call]
    return out


class _PoolMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, parent: Tensor, parents: int) -> Tensor:
        check_floats("input", x)
        if x.dim() != 2 or parent.shape != (len(x),) or parent.dtype != torch.int64:
            raise ValueError("expected x [n, C] and int64 parents [n]")
        x, parent = x.contiguous(), parent.contiguous()
        y = x.new_empty(parents, x.shape[1])
        source = torch.empty(y.shape, dtype=torch.int32)
        call(
            "pd_train_pool",
            len(x),
            parents,
            x.shape[1],
            address(parent),
            address(x),
            address(y),
            address(source),
            torch.get_num_threads(),
        )
        ctx.save_for_backward(parent, source)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        parent, source = ctx.saved_tensors
        grad = grads[0].contiguous()
        check_floats("gradient", grad)
        x_grad = grad.new_empty(len(parent), grad.shape[1])
        call(
            "pd_train_pool_gradient",
            len(parent),
            len(grad),
            grad.shape[1],
            address(parent),
            address(grad),
            address(source),
            address(x_grad),
            torch.get_num_threads(),
        )
        return x_grad, None, None
