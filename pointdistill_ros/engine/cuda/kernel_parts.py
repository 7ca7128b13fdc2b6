# SPDX-License-Identifier: Apache-2.0
"""What several Triton kernels share."""

from typing import Any

import triton
import triton.language as tl

Pointer = Any
"""A tensor outside of a kernel, its address inside."""


@triton.jit
def add_product(
    sums: "Any",
    inputs: "Pointer",
    row: "Any",
    present: "Any",
    weight: "Pointer",
    column: "Any",
    real: "Any",
    depth: tl.constexpr,
    width: tl.constexpr,
    block_k: tl.constexpr,
) -> "Any":
    """sums + inputs[row] @ weight[:, column]; rows that are not present count as zero."""
    inner = tl.arange(0, block_k)
    source = inputs + row.to(tl.int64)[:, None] * depth + inner[None, :]
    weights = weight + inner[:, None] * width + column[None, :]
    for begin in range(0, depth, block_k):
        left = tl.load(source + begin, mask=present[:, None], other=0.0)
        right = tl.load(weights + begin * width, mask=real[None, :], other=0.0)
        sums = tl.dot(left, right, sums, input_precision="ieee")
    return sums


@triton.jit
def unit_norm(values: "Any", real: "Any", width: tl.constexpr, eps: float) -> "Any":
    """Rows with mean 0 and variance 1; columns that are not real are 0, before and after."""
    mean = tl.sum(values, 1) / width
    centred = tl.where(real[None, :], values - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, 1) / width
    return centred / tl.sqrt(variance + eps)[:, None]


@triton.jit
def gelu(x: "Any") -> "Any":
    """The exact form, by the error function."""
    return 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))


@triton.jit
def tile(row: "Any", valid: "Any", column: "Any", width: tl.constexpr) -> "Any":
    """Where the elements of a tile lie, and which of them exist."""
    place = row.to(tl.int64)[:, None] * width + column[None, :]
    return place, valid[:, None] & (column < width)[None, :]


@triton.jit
def store_stream(x: "Pointer", copy: "Pointer", values: "Any", inside: "Any") -> None:
    """The residual stream in float32 and its copy in the engine's dtype."""
    tl.store(x, values, mask=inside)
    tl.store(copy, values.to(copy.dtype.element_ty), mask=inside)
