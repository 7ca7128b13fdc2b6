# SPDX-License-Identifier: Apache-2.0
"""Submanifold convolution with compiled forward and backward. Twin of model/sparse_conv.py."""

from __future__ import annotations

import ctypes
import threading
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pointdistill_ros.errors import ScanError
from pointdistill_ros.model.neighbours import NeighbourTable
from training.compiled.library import (
    Precision,
    address,
    call,
    check_floats,
    check_precision,
    tier,
)

_tables: WeakKeyDictionary[NeighbourTable, Tensor] = WeakKeyDictionary()
_tables_lock = threading.Lock()


def sparse_convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    table: NeighbourTable,
    precision: Precision = "float32",
) -> Tensor:
    """x: [n, in], weight: [out, k, k, k, in], bias: [out], float32. Returns [n, out].

    Raises ConfigError for other dtypes or a precision this CPU lacks, ScanError where the table
    does not belong to n voxels.
    """
    out: Tensor = Convolution.apply(  # type: ignore[no-untyped-call]
        x, weight.flatten(1, 3), bias, dense_table(table, len(x)), precision
    )
    return out


def dense_table(table: NeighbourTable, rows: int) -> Tensor:
    """int32 [k³, rows]: input row of every output row and offset, -1 = none; kept with the table.

    Raises ScanError unless the pairs are those of ``rows`` voxels, each with its mirror image.
    """
    with _tables_lock:
        dense = _tables.get(table)
    if dense is not None and dense.shape[1] == rows:
        return dense
    offsets = table.size**3
    dense = torch.empty(offsets, rows, dtype=torch.int32)
    outputs, inputs = (t.long().contiguous() for t in (table.output_rows, table.input_rows))
    counts = torch.tensor(table.counts, dtype=torch.int64)
    if len(counts) != offsets or len(outputs) != len(inputs):
        raise ScanError(f"neighbour table: expected {offsets} counts and lists of one length")
    pairs = ctypes.c_int64(len(outputs))
    threads = torch.get_num_threads()
    try:
        call(
            "pd_train_table",
            rows,
            offsets,
            address(counts),
            pairs,
            address(outputs),
            address(inputs),
            address(dense),
            threads,
        )
    except ValueError as error:
        raise ScanError(
            f"neighbour table: expected pairs of {rows} voxels, each with its mirror image"
        ) from error
    with _tables_lock:
        _tables[table] = dense
    return dense


class Convolution(torch.autograd.Function):
    """Also a linear layer: table None, weight [out, 1, in]."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        table: Tensor | None,
        precision: Precision,
    ) -> Tensor:
        """x: [n, in], weight: [out, offsets, in], bias: [out], table: int32 [offsets, n]."""
        for name, tensor in (("input", x), ("weight", weight), ("bias", bias)):
            if tensor is not None:
                check_floats(name, tensor)
        x, weight = x.contiguous(), weight.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.table, ctx.precision = table, precision
        y = x.new_empty(len(x), len(weight))
        _convolve(x, weight, bias, table, y, precision, transposed=False)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of x, weight and bias."""
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        check_floats("gradient", grad)
        need_x, need_weight, need_bias = ctx.needs_input_grad[:3]
        x_grad = weight_grad = bias_grad = None
        if need_x:
            x_grad = torch.empty_like(x)
            _convolve(grad, weight, None, ctx.table, x_grad, ctx.precision, transposed=True)
        if need_weight:
            weight_grad = torch.empty_like(weight)
            bias_grad = grad.new_empty(len(weight)) if need_bias else None
            _weight_gradient(x, grad, ctx.table, weight_grad, bias_grad, ctx.precision)
        elif need_bias:
            bias_grad = grad.sum(0)
        return x_grad, weight_grad, bias_grad, None, None


def _convolve(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    table: Tensor | None,
    y: Tensor,
    precision: Precision,
    transposed: bool,
) -> None:
    outputs, offsets, inputs = weight.shape
    width = outputs if transposed else inputs
    if x.dim() != 2 or x.shape[1] != width or (bias is not None and bias.shape != (outputs,)):
        raise ValueError(f"input {tuple(x.shape)} and weight {tuple(weight.shape)} do not match")
    if (offsets > 1 or table is not None) and (table is None or table.shape != (offsets, len(x))):
        raise ValueError("the table belongs to other voxels or another kernel size")
    call(
        "pd_train_convolution",
        tier(),
        check_precision(precision),
        torch.get_num_threads(),
        len(x),
        inputs,
        outputs,
        offsets,
        address(table),
        address(x),
        address(weight),
        address(None if bias is None else bias.contiguous()),
        int(transposed),
        address(y),
    )


def _weight_gradient(
    x: Tensor,
    grad: Tensor,
    table: Tensor | None,
    weight_grad: Tensor,
    bias_grad: Tensor | None,
    precision: Precision,
) -> None:
    outputs, offsets, inputs = weight_grad.shape
    call(
        "pd_train_weight_gradient",
        tier(),
        check_precision(precision),
        torch.get_num_threads(),
        len(x),
        inputs,
        outputs,
        offsets,
        address(table),
        address(x),
        address(grad),
        address(weight_grad),
        address(bias_grad),
    )
