# SPDX-License-Identifier: Apache-2.0
"""Triton kernels between two stages: pooling and unpooling. Twins are in operations.py."""

from typing import Any

import triton
import triton.language as tl

from pointdistill_ros.engine.cuda.kernel_parts import gelu, store_stream, tile

Pointer = Any
"""A tensor outside of a kernel, its address inside."""


@triton.jit
def pool_kernel(
    values: "Pointer",
    child_begin: "Pointer",
    scale: "Pointer",
    shift: "Pointer",
    size: "Pointer",
    x_out: "Pointer",
    copy_out: "Pointer",
    channels: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
) -> None:
    """gelu(affine(maximum over children)); the children of a row are neighbours in memory."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.program_id(1) * block_n + tl.arange(0, block_n)
    real = column < channels
    begin = tl.load(child_begin + row, mask=valid, other=0)
    count = tl.load(child_begin + row + 1, mask=valid, other=0) - begin
    largest = tl.full((block_m, block_n), float("-inf"), tl.float32)
    most = tl.max(count, 0)
    i = 0
    while i < most:
        place, inside = tile(begin + i, i < count, column, channels)
        child = tl.load(values + place, mask=inside, other=float("-inf")).to(tl.float32)
        largest = tl.maximum(largest, child, propagate_nan=tl.PropagateNan.ALL)
        i += 1
    scales = tl.load(scale + column, mask=real, other=0.0)[None, :]
    shifts = tl.load(shift + column, mask=real, other=0.0)[None, :]
    place, inside = tile(row, valid, column, channels)
    largest = tl.where(inside, largest, 0.0)
    store_stream(x_out + place, copy_out + place, gelu(largest * scales + shifts), inside)


@triton.jit
def unpool_kernel(
    up: "Pointer",
    skip: "Pointer",
    parent: "Pointer",
    size: "Pointer",
    x_out: "Pointer",
    copy_out: "Pointer",
    channels: tl.constexpr,
    block_m: tl.constexpr,
    block_n: tl.constexpr,
) -> None:
    """skip + up of the parent."""
    rows = tl.load(size)
    first = tl.program_id(0) * block_m
    if first >= rows:
        return
    row = first + tl.arange(0, block_m)
    valid = row < rows
    column = tl.program_id(1) * block_n + tl.arange(0, block_n)
    coarse, inside = tile(tl.load(parent + row, mask=valid, other=0), valid, column, channels)
    place, inside = tile(row, valid, column, channels)
    stream = tl.load(skip + place, mask=inside, other=0.0).to(tl.float32)
    stream += tl.load(up + coarse, mask=inside, other=0.0).to(tl.float32)
    store_stream(x_out + place, copy_out + place, stream, inside)
