# SPDX-License-Identifier: Apache-2.0
"""linear, GELU, linear as one function: backward computes the hidden layer anew, piece by piece.

The hidden layer, four times as wide as the rest of a block, never goes to memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.compiled.library import Precision, address, call, check_floats, check_precision, tier


def feed_forward(
    x: Tensor,
    up_weight: Tensor,
    up_bias: Tensor,
    down_weight: Tensor,
    down_bias: Tensor,
    precision: Precision = "float32",
) -> Tensor:
    """x: [n, in], weights [hidden, in] and [out, hidden], float32. Returns [n, out].

    GELU is the exact one (erf). Raises ConfigError for other dtypes or a precision this CPU lacks.
    """
    out: Tensor = _FeedForward.apply(  # type: ignore[no-untyped-call]
        x, up_weight, up_bias, down_weight, down_bias, precision
    )
    return out


class _FeedForward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        *parameters, precision = arguments
        for name, tensor in zip(("input", *4 * ("parameter",)), (x, *parameters), strict=True):
            check_floats(name, tensor)
        x, up, up_bias, down, down_bias = (t.contiguous() for t in (x, *parameters))
        (hidden, inputs), outputs = up.shape, len(down)
        if (
            x.dim() != 2
            or x.shape[1] != inputs
            or down.shape[1] != hidden
            or (up_bias.shape, down_bias.shape) != ((hidden,), (outputs,))
        ):
            raise ValueError(f"input {tuple(x.shape)} and layers {inputs}, {hidden}, {outputs}")
        ctx.save_for_backward(x, up, up_bias, down)
        ctx.precision = precision
        y = x.new_empty(len(x), outputs)
        _call("", x, up, up_bias, down, [down_bias, y], precision)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, up, up_bias, down = ctx.saved_tensors
        grad = grads[0].contiguous()
        check_floats("gradient", grad)
        x_grad = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        found = [torch.empty_like(up), torch.empty_like(up_bias), torch.empty_like(down)]
        found.append(grad.new_empty(len(down)))
        _call("_gradient", x, up, up_bias, down, [grad, x_grad, *found], ctx.precision)
        return x_grad, *found, None


def _call(
    suffix: str,
    x: Tensor,
    up: Tensor,
    up_bias: Tensor,
    down: Tensor,
    more: list[Tensor | None],
    precision: Precision,
) -> None:
    (hidden, inputs), outputs = up.shape, len(down)
    call(
        f"pd_train_feed_forward{suffix}",
        tier(),
        check_precision(precision),
        torch.get_num_threads(),
        len(x),
        inputs,
        hidden,
        outputs,
        *(address(tensor) for tensor in (x, up, up_bias, down, *more)),
    )
