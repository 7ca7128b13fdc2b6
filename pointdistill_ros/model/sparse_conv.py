# SPDX-License-Identifier: Apache-2.0
"""Submanifold sparse convolution: output cells = input cells, cross-correlation, scan by scan.

Two forms of one function: plain torch (any device, differentiable, the reference) and spconv (used
when installed and the tensor lies on a GPU). Weights are [out, k, k, k, in] in both.
"""

from __future__ import annotations

import math
from functools import cache
from importlib.util import find_spec
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.pyramid import Stage

ConvBackend = Literal["auto", "torch", "spconv"]


@cache
def spconv_installed() -> bool:
    """True where spconv can be imported."""
    return find_spec("spconv") is not None


class SubmanifoldConv(nn.Module):
    """Convolution of size³ over occupied voxels."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        size: int,
        bias: bool,
        backend: ConvBackend = "auto",
    ) -> None:
        super().__init__()
        if backend == "spconv" and not spconv_installed():
            raise ConfigError("convolution backend spconv: spconv is not installed")
        self.size = size
        self.backend = backend
        self.weight = nn.Parameter(torch.empty(out_channels, size, size, size, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels)) if bias else None
        bound = 1 / math.sqrt(in_channels * size**3)  # kaiming uniform, a = √5
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor, stage: Stage, table: NeighbourTable) -> Tensor:
        """x: [n, in] features of the voxels of ``stage``. Returns [n, out]."""
        if self.backend == "spconv" or (
            self.backend == "auto" and x.is_cuda and spconv_installed()
        ):
            return _spconv(x, self.weight, self.bias, stage)
        # autocast does not see inside a custom function: cast here, as it would for a matmul
        dtype = x.dtype
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
        kernel = self.weight.permute(1, 2, 3, 4, 0).flatten(0, 2).to(dtype)  # [k³, in, out]
        out: Tensor = _PairConvolution.apply(  # type: ignore[no-untyped-call]
            x.to(dtype), kernel, table
        )
        return out if self.bias is None else out + self.bias


class _PairConvolution(torch.autograd.Function):
    """Σ over kernel offsets of gather → matmul → add; keeps only input and weights for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, kernel: Tensor, table: NeighbourTable) -> Tensor:
        ctx.save_for_backward(x, kernel)
        ctx.table = table
        out = x @ kernel[len(kernel) // 2]
        for k, outputs, inputs in _pairs(table):
            out.index_add_(0, outputs, x.index_select(0, inputs) @ kernel[k])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, kernel = ctx.saved_tensors
        (grad,) = grads
        centre = len(kernel) // 2
        need_x = ctx.needs_input_grad[0]
        grad_x = grad @ kernel[centre].T if need_x else None
        grad_kernel = torch.zeros_like(kernel)
        grad_kernel[centre] = x.T @ grad
        for k, outputs, inputs in _pairs(ctx.table):
            pair_grad = grad.index_select(0, outputs)
            grad_kernel[k] = x.index_select(0, inputs).T @ pair_grad
            if grad_x is not None:
                grad_x.index_add_(0, inputs, pair_grad @ kernel[k].T)
        return grad_x, grad_kernel, None


def _pairs(table: NeighbourTable) -> list[tuple[int, Tensor, Tensor]]:
    """(offset, output rows, input rows) for every offset that has pairs."""
    outputs = torch.split(table.output_rows, list(table.counts))
    inputs = torch.split(table.input_rows, list(table.counts))
    return [(k, o, i) for k, (o, i) in enumerate(zip(outputs, inputs, strict=True)) if len(o)]


def _spconv(x: Tensor, weight: Tensor, bias: Tensor | None, stage: Stage) -> Tensor:
    """The same sum by spconv's kernels; its weight layout is ours since 2.2."""
    import spconv.pytorch as spconv

    size = weight.shape[1]
    # 125 offsets exceed the 32-bit mask of the implicit-gemm kernels
    algorithm = spconv.ConvAlgo.Native if size > 3 or not x.is_cuda else None
    layer = spconv.SubMConv3d(
        weight.shape[-1], weight.shape[0], size, bias=False, algo=algorithm, indice_key=f"k{size}"
    ).to(x.device)
    del layer.weight
    layer.weight = weight
    sparse = spconv.SparseConvTensor(
        x.contiguous(),
        torch.cat([stage.scan[:, None], stage.coords], 1).int().contiguous(),
        (stage.coords.amax(0) + 1).tolist(),
        len(stage.offsets) - 1,
    )
    out: Tensor = layer(sparse).features
    return out if bias is None else out + bias
