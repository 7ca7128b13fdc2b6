# SPDX-License-Identifier: Apache-2.0
"""Norms with compiled forward and backward, fused with what stands beside them.

- residual_norm: x + mask · norm(branch) and its LayerNorm in one sweep, backward too
- batch_norm_gelu: BatchNorm over the rows in training, then GELU (exact form: value to 2e-7, slope
  to 3e-6); running statistics as torch's
- sums over rows are made per 512 rows and added in order: bit-identical for any number of threads
Channels must be a multiple of 16.
"""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.compiled import library

CHANNEL_UNIT = 16
_P, _I32, _I64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_EPSILON = 1e-5


class _Norm(ctypes.Structure):
    """Twin of ``TrainingNorm`` in native/training/norm_work.h."""

    _fields_ = tuple(
        (name, _P) for name in ("scale", "shift", "moments", "grad_scale", "grad_shift")
    )


class _Residual(ctypes.Structure):
    """Twin of ``TrainingResidual``."""

    _fields_ = (
        ("rows", _I64),
        ("channels", _I32),
        *((name, _P) for name in ("x", "branch", "mask")),
        ("inner", _Norm),
        ("outer", _Norm),
        *(
            (name, _P)
            for name in (
                "sum", "out", "grad_sum", "grad_out", "grad_x", "grad_branch", "partial"
            )
        ),
    )  # fmt: skip


class _BatchNorm(ctypes.Structure):
    """Twin of ``TrainingBatchNorm``."""

    _fields_ = (
        ("rows", _I64),
        ("channels", _I32),
        *((name, _P) for name in ("x", "scale", "shift")),
        ("epsilon", ctypes.c_float),
        *(
            (name, _P)
            for name in (
                "out", "mean", "variance", "grad", "grad_x", "grad_scale", "grad_shift", "partial"
            )
        ),
    )  # fmt: skip


def residual_norm(
    x: Tensor,
    branch: Tensor,
    inner: nn.LayerNorm | None,
    outer: nn.LayerNorm,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """``sum = x + mask · inner(branch)`` and ``outer(sum)``, both float32 [n, C].

    x, branch: float32 [n, C]; mask: [n, 1] per row, no gradient; default 1, inner: default none.
    Raises ConfigError for other dtypes, ValueError for norms or channels that the kernel does not
    serve (see ``serves``).
    """
    if not (serves(outer) and (inner is None or serves(inner))):
        raise ValueError(f"no compiled form of {outer} after {inner}")
    pair: tuple[Tensor, Tensor] = _ResidualNorm.apply(  # type: ignore[no-untyped-call]
        x,
        branch,
        mask,
        *((None, None) if inner is None else (inner.weight, inner.bias)),
        outer.weight,
        outer.bias,
    )
    return pair


def serves(norm: nn.LayerNorm | nn.BatchNorm1d) -> bool:
    """Whether the kernels compute ``norm``: float32 scale and shift, channels they can take."""
    if not isinstance(norm.weight, Tensor) or not isinstance(norm.bias, Tensor):
        return False
    if isinstance(norm, nn.LayerNorm) and (norm.eps != _EPSILON or norm.weight.dim() != 1):
        return False
    return len(norm.weight) % CHANNEL_UNIT == 0 and norm.weight.dtype == torch.float32


class _ResidualNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor,
        mask: Tensor | None,
        inner_scale: Tensor | None,
        inner_shift: Tensor | None,
        scale: Tensor,
        shift: Tensor,
    ) -> tuple[Tensor, Tensor]:
        n, channels = x.shape
        given = (x, branch, mask, inner_scale, inner_shift, scale, shift)
        for tensor in given:
            if tensor is not None:
                library.check_floats("a residual branch", tensor)
        shapes = ((n, channels), (n, channels), (n, 1), *((channels,),) * 4)
        if any(t is not None and t.shape != s for t, s in zip(given, shapes, strict=True)):
            raise ValueError(f"shapes {[None if t is None else tuple(t.shape) for t in given]}")
        x, branch, scale, shift = (t.contiguous() for t in (x, branch, scale, shift))
        mask, inner_scale, inner_shift = (
            None if t is None else t.contiguous() for t in (mask, inner_scale, inner_shift)
        )
        total, out = torch.empty_like(x), torch.empty_like(x)
        inner_moments = None if inner_scale is None else x.new_empty(2, n)
        moments = x.new_empty(2, n)
        work = _Residual(n, channels, _at(x), _at(branch), _at(mask))
        work.inner = _Norm(_at(inner_scale), _at(inner_shift), _at(inner_moments))
        work.outer = _Norm(_at(scale), _at(shift), _at(moments))
        work.sum, work.out = _at(total), _at(out)
        ctx.tier = library.tier()
        library.call("pd_training_residual", ctx.tier, _threads(), _by_reference(work))
        # the branch itself is needed only to go back through its norm
        kept = branch if inner_scale is not None else None
        ctx.save_for_backward(total, kept, mask, inner_scale, inner_moments, scale, moments)
        return total, out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        total, branch, mask, inner_scale, inner_moments, scale, moments = ctx.saved_tensors
        n, channels = total.shape
        for grad in grads:
            library.check_floats("the gradient of a residual branch", grad)
        grad_sum, grad_out = (g.contiguous() for g in grads)
        grad_x = torch.empty_like(total)
        apart = mask is not None or inner_scale is not None
        grad_branch = torch.empty_like(total) if apart else None
        grad_norms = total.new_empty(4, channels)
        work = _Residual(n, channels, None, _at(total if branch is None else branch), _at(mask))
        if inner_scale is not None:
            work.inner = _Norm(
                _at(inner_scale), None, _at(inner_moments), _at(grad_norms[0]), _at(grad_norms[1])
            )
        work.outer = _Norm(_at(scale), None, _at(moments), _at(grad_norms[2]), _at(grad_norms[3]))
        work.sum, work.grad_sum, work.grad_out = _at(total), _at(grad_sum), _at(grad_out)
        work.grad_x, work.grad_branch = _at(grad_x), _at(grad_branch)
        library.call("pd_training_residual_backward", ctx.tier, _threads(), _by_reference(work))
        if grad_branch is None:
            grad_branch = grad_x
        inner = (None, None) if inner_scale is None else (grad_norms[0], grad_norms[1])
        return grad_x, grad_branch, None, *inner, grad_norms[2], grad_norms[3]


def batch_norm_gelu(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    """``gelu(norm(x))`` of float32 [n, C]; compiled in training, where the statistics are x's.

    Raises ValueError for a single row in training, as torch does.
    """
    if not norm.training or type(norm) is not nn.BatchNorm1d or not serves(norm):
        return functional.gelu(norm(x))
    if len(x) < 2:
        raise ValueError(f"Expected more than 1 value per channel when training, got {len(x)}")
    out, mean, variance = _BatchNormGelu.apply(  # type: ignore[no-untyped-call]
        x, norm.weight, norm.bias, norm.eps
    )
    if norm.track_running_stats:
        _track(norm, mean, variance, len(x))
    result: Tensor = out
    return result


@torch.no_grad()
def _track(norm: nn.BatchNorm1d, mean: Tensor, variance: Tensor, rows: int) -> None:
    """Move the running statistics, as nn.BatchNorm1d does."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    share = norm.momentum
    if share is None:  # plain mean over all batches
        share = 1.0 / float(norm.num_batches_tracked)
    norm.running_mean.mul_(1 - share).add_(mean, alpha=share)
    norm.running_var.mul_(1 - share).add_(variance, alpha=share * rows / (rows - 1))


class _BatchNormGelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, shift: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        for tensor in (x, scale, shift):
            library.check_floats("x", tensor)
        if x.dim() != 2 or x.shape[1] != len(scale):
            raise ValueError(f"x {tuple(x.shape)} and norm of {len(scale)} channels do not fit")
        x, scale, shift = x.contiguous(), scale.contiguous(), shift.contiguous()
        out = torch.empty_like(x)
        mean, variance = x.new_empty(2, len(scale))
        work = _BatchNorm(*x.shape, *(_at(t) for t in (x, scale, shift)), epsilon)
        work.out, work.mean, work.variance = _at(out), _at(mean), _at(variance)
        ctx.tier, ctx.epsilon = library.tier(), epsilon
        library.call("pd_training_batch_norm", ctx.tier, _threads(), 0, _by_reference(work))
        ctx.save_for_backward(x, scale, shift, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, scale, shift, mean, variance = ctx.saved_tensors
        library.check_floats("the gradient of a norm", grads[0])
        grad, grad_x = grads[0].contiguous(), torch.empty_like(x)
        grad_scale, grad_shift = torch.empty_like(scale), torch.empty_like(shift)
        work = _BatchNorm(*x.shape, *(_at(t) for t in (x, scale, shift)), ctx.epsilon)
        work.mean, work.variance, work.grad = _at(mean), _at(variance), _at(grad)
        work.grad_x, work.grad_scale, work.grad_shift = (
            _at(t) for t in (grad_x, grad_scale, grad_shift)
        )
        library.call("pd_training_batch_norm", ctx.tier, _threads(), 1, _by_reference(work))
        return grad_x, grad_scale, grad_shift, None


def _threads() -> int:
    return torch.get_num_threads()


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def _by_reference(work: ctypes.Structure) -> ctypes.c_void_p:
    return ctypes.c_void_p(ctypes.addressof(work))
