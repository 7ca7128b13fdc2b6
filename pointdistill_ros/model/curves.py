# SPDX-License-Identifier: Apache-2.0
"""Space-filling curves: the position of a voxel along a z-order or Hilbert curve.

- prefix property: ``encode(q, d) >> 3 == encode(q >> 1, d - 1)``, so a coarser stage shifts codes
- z codes do not depend on the depth; Hilbert codes do, with period 3
Source: METHOD of PTv3 (arXiv 2312.10035); Hilbert code by Skilling's transform (AIP 2004).
"""

from typing import Literal, TypeVar, get_args

from numpy import int64 as np_int64
from numpy.typing import NDArray
from torch import Tensor, int32, int64

Curve = Literal["z", "z-trans", "hilbert", "hilbert-trans"]
CURVES: tuple[Curve, ...] = get_args(Curve)
MAX_DEPTH = 16
"""Bits per axis; three axes and the scan index share 63 bits."""

Bits = TypeVar("Bits", Tensor, NDArray[np_int64])


def interleave(x: Bits, y: Bits, z: Bits) -> Bits:
    """Bit i of x, y, z → bit 3i+2, 3i+1, 3i. int64 (numpy or torch), at most 16 bits each."""
    return (_spread(x) << 2) | (_spread(y) << 1) | _spread(z)


def _spread(bits: Bits) -> Bits:
    """Insert two zeros after every bit."""
    bits = (bits | bits << 32) & 0x1F00000000FFFF
    bits = (bits | bits << 16) & 0x1F0000FF0000FF
    bits = (bits | bits << 8) & 0x100F00F00F00F00F
    bits = (bits | bits << 4) & 0x10C30C30C30C30C3
    return (bits | bits << 2) & 0x1249249249249249


def encode(coords: Tensor, depth: int, curve: Curve) -> Tensor:
    """Position of each voxel along a curve.

    coords: int64 [n, 3], each 0 ≤ q < 2**depth. Returns int64 [n] codes of 3·depth bits.
    """
    x, y, z = coords.unbind(1)
    if curve.endswith("-trans"):
        x, y = y, x
    if curve.startswith("z"):
        return interleave(x, y, z)
    x, y, z = _skilling(x.to(int32), y.to(int32), z.to(int32), depth)
    code = interleave(x.to(int64), y.to(int64), z.to(int64))
    for shift in (1, 2, 4, 8, 16, 32):  # Gray code → binary over the 3·depth bits
        if shift < 3 * depth:
            code = code ^ (code >> shift)
    return code


def _skilling(x: Tensor, y: Tensor, z: Tensor, depth: int) -> tuple[Tensor, Tensor, Tensor]:
    """Axes → transposed Hilbert index, top bit down."""
    for bit in range(depth - 1, -1, -1):
        low = (1 << bit) - 1
        x = x ^ (-((x >> bit) & 1) & low)
        x, y = _exchange(x, y, bit, low)
        x, z = _exchange(x, z, bit, low)
    return x, y, z


def _exchange(x: Tensor, other: Tensor, bit: int, low: int) -> tuple[Tensor, Tensor]:
    """Where ``other`` has the bit: invert the low bits of x; elsewhere swap the low bits."""
    has_bit = -((other >> bit) & 1)
    swap = (x ^ other) & low & ~has_bit
    return x ^ swap ^ (has_bit & low), other ^ swap
