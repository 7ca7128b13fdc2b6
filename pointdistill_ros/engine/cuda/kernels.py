# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the network. Their twins in plain torch, and their meaning, are operations.py.

- one program computes ``block_m`` rows; it ends at once where they are padding (size on the device)
- products accumulate in float32; a norm needs its whole row: ``block_n`` covers all channels there
- convolution as implicit GEMM: gather by the neighbour table, offsets without any neighbour in the
  block are skipped; no gathered copy of the features exists
Widths are multiples of 16 and, before a norm, at most 512; triton_operations.py sees to that.
"""

from typing import Any

import triton
import triton.language as tl

from pointdistill_ros.engine.cuda.kernel_parts import (
    add_product,
    gelu,
    store_stream,
    tile,
    unit_norm,
)

Pointer = Any
"""A tensor outside of a kernel, its address inside."""


@triton.jit
def stem_kernel(
    features: "Pointer",
    table: "Pointer",
    weight: "Pointer",
    bias: "Pointer",
    size: "Pointer",
    x_out: "Pointer",
    copy_out: "Pointer",
    stride: int,
    offsets: tl.constexpr,
    inputs: tl.constexpr,
    channels: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """gelu(5³ or 3³ convolution): offsets and input channels form one dimension of the product."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.arange(0, block_n)
    depth: tl.constexpr = offsets * inputs
    sums = tl.zeros((block_m, block_n), tl.float32)
    for begin in range(0, depth, block_k):
        k = begin + tl.arange(0, block_k)
        offset, channel = k // inputs, k % inputs
        inside = valid[:, None] & (k < depth)[None, :]
        neighbour = tl.load(table + offset[None, :] * stride + row[:, None], mask=inside, other=-1)
        present = neighbour >= 0
        gathered = tl.load(
            features + neighbour.to(tl.int64) * inputs + channel[None, :], mask=present, other=0.0
        )
        weights = tl.load(
            weight + k[:, None] * channels + column[None, :],
            mask=(k < depth)[:, None] & (column < channels)[None, :],
            other=0.0,
        )
        sums = tl.dot(gathered, weights, sums, input_precision="ieee")
    sums += tl.load(bias + column, mask=column < channels, other=0.0)[None, :]
    place, inside = tile(row, valid, column, channels)
    store_stream(x_out + place, copy_out + place, gelu(sums), inside)


@triton.jit
def conv_norm_kernel(
    x: "Pointer",
    conv_input: "Pointer",
    table: "Pointer",
    weight: "Pointer",
    bias: "Pointer",
    scale: "Pointer",
    shift: "Pointer",
    position: "Pointer",
    size: "Pointer",
    x_out: "Pointer",
    normed_out: "Pointer",
    stride: int,
    norm_eps: float,
    next_eps: float,
    along_curve: tl.constexpr,
    channels: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """3³ convolution, norm, residual; then the norm before attention, stored along the curve."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.arange(0, block_n)
    real = column < channels
    sums = tl.zeros((block_m, block_n), tl.float32)
    for k in range(27):
        neighbour = tl.load(table + k * stride + row, mask=valid, other=-1)
        if tl.max(neighbour, 0) >= 0:
            sums = add_product(
                sums, conv_input, neighbour, neighbour >= 0, weight + k * channels * channels,
                column, real, channels, channels, block_k,
            )  # fmt: skip
    sums += tl.load(bias + column, mask=real, other=0.0)[None, :]
    sums = unit_norm(sums, real, channels, norm_eps)
    sums = sums * tl.load(scale + column, mask=real, other=0.0)[None, :]
    sums += tl.load(shift + column, mask=real, other=0.0)[None, :]

    place, inside = tile(row, valid, column, channels)
    stream = sums + tl.load(x + place, mask=inside, other=0.0)
    tl.store(x_out + place, stream, mask=inside)
    normed = unit_norm(stream, real, channels, next_eps)
    if along_curve:
        row = tl.load(position + row, mask=valid, other=0)
        place, inside = tile(row, valid, column, channels)
    tl.store(normed_out + place, normed.to(normed_out.dtype.element_ty), mask=inside)


@triton.jit
def dense_kernel(
    inputs: "Pointer",
    weight: "Pointer",
    bias: "Pointer",
    size: "Pointer",
    out: "Pointer",
    activate: tl.constexpr,
    depth: tl.constexpr,
    width: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """inputs @ weight + bias, GELU where asked."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.program_id(1) * block_n + tl.arange(0, block_n)
    real = column < width
    sums = tl.zeros((block_m, block_n), tl.float32)
    sums = add_product(sums, inputs, row, valid, weight, column, real, depth, width, block_k)
    sums += tl.load(bias + column, mask=real, other=0.0)[None, :]
    if activate:
        sums = gelu(sums)
    place, inside = tile(row, valid, column, width)
    tl.store(out + place, sums.to(out.dtype.element_ty), mask=inside)


@triton.jit
def add_dense_kernel(
    x: "Pointer",
    inputs: "Pointer",
    weight: "Pointer",
    bias: "Pointer",
    size: "Pointer",
    x_out: "Pointer",
    copy_out: "Pointer",
    branch_out: "Pointer",
    depth: tl.constexpr,
    width: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """x + inputs @ weight + bias, its copy, and the summand alone."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.program_id(1) * block_n + tl.arange(0, block_n)
    real = column < width
    sums = tl.zeros((block_m, block_n), tl.float32)
    sums = add_product(sums, inputs, row, valid, weight, column, real, depth, width, block_k)
    sums += tl.load(bias + column, mask=real, other=0.0)[None, :]
    place, inside = tile(row, valid, column, width)
    tl.store(branch_out + place, sums.to(branch_out.dtype.element_ty), mask=inside)
    stream = sums + tl.load(x + place, mask=inside, other=0.0)
    store_stream(x_out + place, copy_out + place, stream, inside)


@triton.jit
def proj_norm_kernel(
    x: "Pointer",
    attended: "Pointer",
    weight: "Pointer",
    bias: "Pointer",
    position: "Pointer",
    size: "Pointer",
    x_out: "Pointer",
    normed_out: "Pointer",
    next_eps: float,
    along_curve: tl.constexpr,
    channels: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
    block_k: tl.constexpr,
) -> None:
    """Projection of the row at its place along the curve, residual, and the norm before the MLP."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.arange(0, block_n)
    real = column < channels
    source = row
    if along_curve:
        source = tl.load(position + row, mask=valid, other=0)
    sums = tl.zeros((block_m, block_n), tl.float32)
    sums = add_product(
        sums, attended, source, valid, weight, column, real, channels, channels, block_k
    )
    sums += tl.load(bias + column, mask=real, other=0.0)[None, :]
    place, inside = tile(row, valid, column, channels)
    stream = sums + tl.load(x + place, mask=inside, other=0.0)
    tl.store(x_out + place, stream, mask=inside)
    normed = unit_norm(stream, real, channels, next_eps)
    tl.store(normed_out + place, normed.to(normed_out.dtype.element_ty), mask=inside)
