# SPDX-License-Identifier: Apache-2.0
"""One feature, several users, and a bound on what a side term may do to it.

The published bound (arXiv 2505.08101, Eq. 10; absent from the public code) limits the gradient of
the topological loss by a constant α. Here it is enforced where the gradients meet, at the shared
feature: ‖g_term‖ ≤ α ‖g_main‖, whatever the weight of the term, the scale of float16's gradients or
the number of accumulated batches, which multiply both sides alike. g_main is what comes back
through the decoder: the task's gradient, soft targets included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.losses.weighting import bound_gradient


def branch(feature: Tensor, alphas: Sequence[float | None]) -> tuple[Tensor, list[Tensor], Tensor]:
    """Copies of a feature: the main one, and one per side term with its bound (None = unbounded).

    feature: [n, C]. Returns main, branches and a float32 tensor [1 + terms, 2] that backward fills:
    row 0 the norm of the main gradient and 1, row k that of term k before the bound and the factor
    applied. Rows of branches without a gradient stay NaN.
    """
    record = torch.full((1 + len(alphas), 2), torch.nan, device=feature.device)
    main, *branches = _Branch.apply(feature, tuple(alphas), record)  # type: ignore[no-untyped-call]
    return main, branches, record


class _Branch(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, feature: Tensor, alphas: tuple[float | None, ...], record: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        ctx.alphas, ctx.record = alphas, record
        return tuple(feature.view_as(feature) for _ in range(1 + len(alphas)))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, main: Tensor | None, *others: Tensor | None) -> tuple[Any, None, None]:
        total = main
        if main is not None:
            ctx.record[0, 0], ctx.record[0, 1] = main.float().norm(), 1.0
        for k, (other, alpha) in enumerate(zip(others, ctx.alphas, strict=True), 1):
            if other is None:
                continue
            gradient = other
            ctx.record[k, 0], ctx.record[k, 1] = gradient.float().norm(), 1.0
            if alpha is not None and main is not None:
                gradient, factor = bound_gradient(main, gradient, alpha)
                ctx.record[k, 1] = factor
            total = gradient if total is None else total + gradient
        return total, None, None
