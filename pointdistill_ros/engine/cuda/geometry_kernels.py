# SPDX-License-Identifier: Apache-2.0
"""Triton kernels of the geometry: curve codes and neighbour tables. Twins are in operations.py."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pointdistill_ros.engine.cuda.operations import AXIS_MASKS, LEVEL_BIT, NeighbourOffsets
from pointdistill_ros.model.curves import MAX_DEPTH, Curve

Pointer = Any
"""A tensor outside of a kernel, its address inside."""

_BLOCK = 256
_PADDING = tl.constexpr(torch.iinfo(torch.int64).max)
_LEVEL_BIT = tl.constexpr(LEVEL_BIT)
_KEY_BITS = tl.constexpr((1 << LEVEL_BIT) - 1)
_X, _Y, _Z = (tl.constexpr(mask) for mask in AXIS_MASKS)
_NOT_X, _NOT_Y, _NOT_Z = (tl.constexpr(~mask) for mask in AXIS_MASKS)


def curve_codes(code: Tensor, curve: Curve) -> Tensor:
    """See Operations.curve_codes."""
    out = torch.empty_like(code)
    curve_kernel[(triton.cdiv(len(code), _BLOCK),)](
        code,
        out,
        len(code),
        curve.startswith("hilbert"),
        curve.endswith("-trans"),
        MAX_DEPTH,
        _BLOCK,
        enable_fp_fusion=True,
    )
    return out


def neighbours(keys: Tensor, base: Tensor, offsets: NeighbourOffsets) -> Tensor:
    """See Operations.neighbours."""
    count, half = len(keys), len(offsets.steps)
    table = keys.new_full((2 * half + 1, count), -1, dtype=torch.int32)
    neighbour_kernel[(triton.cdiv(count, _BLOCK), half)](
        keys,
        base,
        offsets.steps,
        table,
        count,
        half,
        count.bit_length(),
        _BLOCK,
        enable_fp_fusion=True,
    )
    return table


@triton.jit
def neighbour_kernel(
    keys: "Pointer",
    base: "Pointer",
    steps: "Pointer",
    table: "Pointer",
    count: int,
    half: int,
    rounds: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """One block of rows and one offset of the first half: a binary search, and its mirror."""
    row = tl.program_id(0) * block + tl.arange(0, block)
    k = tl.program_id(1)
    valid = row < count
    key = tl.load(keys + row, mask=valid, other=-1)
    here = tl.load(base + row, mask=valid, other=0).to(tl.int32)
    real = valid & (((key + 1) & _KEY_BITS) != 0)
    wanted = (key >> _LEVEL_BIT) << _LEVEL_BIT
    wanted |= ((key | _NOT_X) + tl.load(steps + 3 * k)) & _X
    wanted |= ((key | _NOT_Y) + tl.load(steps + 3 * k + 1)) & _Y
    wanted |= ((key | _NOT_Z) + tl.load(steps + 3 * k + 2)) & _Z

    low = tl.zeros((block,), tl.int32)
    high = low + count
    for _ in range(rounds):
        middle = (low + high) >> 1
        probe = tl.load(keys + middle, mask=low < high, other=0)
        less = (low < high) & (probe < wanted)
        low = tl.where(less, middle + 1, low)
        high = tl.where(less, high, middle)
    found = tl.minimum(low, count - 1)
    hit = real & (tl.load(keys + found) == wanted)

    stride = tl.full((), 1, tl.int64) * count
    tl.store(table + k * stride + row, tl.where(hit, found - here, -1), mask=valid)
    tl.store(table + (2 * half - k) * stride + found, row - here, mask=hit)
    if k == 0:
        tl.store(table + half * stride + row, row - here, mask=real)


@triton.jit
def curve_kernel(
    codes: "Pointer",
    out: "Pointer",
    count: int,
    hilbert: tl.constexpr,
    swapped: tl.constexpr,
    depth: tl.constexpr,
    block: tl.constexpr,
) -> None:
    """z code → position along another curve, padding unchanged; see model/curves.py."""
    row = tl.program_id(0) * block + tl.arange(0, block)
    code = tl.load(codes + row, mask=row < count, other=0)
    if swapped:
        x, y, z = _compact(code >> 1), _compact(code >> 2), _compact(code)
    else:
        x, y, z = _compact(code >> 2), _compact(code >> 1), _compact(code)
    if hilbert:
        for i in tl.static_range(depth):
            x, y, z = _skilling_step(x, y, z, depth - 1 - i)
    position = (_spread(x) << 2) | (_spread(y) << 1) | _spread(z)
    if hilbert:  # Gray code → binary
        for i in tl.static_range(6):
            position = position ^ (position >> (1 << i))
    position = tl.where(code == _PADDING, code, position)
    tl.store(out + row, position, mask=row < count)


@triton.jit
def _skilling_step(x: "Any", y: "Any", z: "Any", bit: tl.constexpr) -> "Any":
    """One bit of axes → transposed Hilbert index."""
    low: tl.constexpr = (1 << bit) - 1
    x = x ^ (-((x >> bit) & 1) & low)
    x, y = _exchange(x, y, bit, low)
    x, z = _exchange(x, z, bit, low)
    return x, y, z


@triton.jit
def _exchange(x: "Any", other: "Any", bit: tl.constexpr, low: tl.constexpr) -> "Any":
    """Where ``other`` has the bit: invert the low bits of x; elsewhere swap the low bits."""
    has_bit = -((other >> bit) & 1)
    swap = (x ^ other) & low & ~has_bit
    return x ^ swap ^ (has_bit & low), other ^ swap


@triton.jit
def _compact(code: "Any") -> "Any":
    """Every third bit, int32."""
    code = code & 0x1249249249249249
    code = (code | (code >> 2)) & 0x10C30C30C30C30C3
    code = (code | (code >> 4)) & 0x100F00F00F00F00F
    code = (code | (code >> 8)) & 0x1F0000FF0000FF
    code = (code | (code >> 16)) & 0x1F00000000FFFF
    return ((code | (code >> 32)) & 0xFFFF).to(tl.int32)


@triton.jit
def _spread(bits: "Any") -> "Any":
    """Insert two zeros after every bit, int64."""
    bits = bits.to(tl.int64)
    bits = (bits | (bits << 32)) & 0x1F00000000FFFF
    bits = (bits | (bits << 16)) & 0x1F0000FF0000FF
    bits = (bits | (bits << 8)) & 0x100F00F00F00F00F
    bits = (bits | (bits << 4)) & 0x10C30C30C30C30C3
    return (bits | (bits << 2)) & 0x1249249249249249
