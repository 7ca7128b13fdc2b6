# SPDX-License-Identifier: Apache-2.0
"""What the GPU engine computes, in plain torch: the twin of every Triton kernel, on any device.

Rows at and beyond ``size`` are padding: their input may hold anything, NaN included, and so may
their output; no valid row reads them. ``x`` is the residual stream in float32; what a product reads
is a copy in the engine's dtype. A "unit norm" has its scale and shift in the next weights.
Only operations that a CUDA graph can capture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from pointdistill_ros.engine.cuda.weights import Affine, BlockWeights, Dense, PoolWeights
from pointdistill_ros.model.curves import MAX_DEPTH, Curve, encode

LEVEL_BIT = 52
"""A key is a z code below this bit, its stage above; 17 bits an axis, for cells outside."""
AXIS_MASKS = tuple(sum(1 << (3 * bit + axis) for bit in range(MAX_DEPTH + 1)) for axis in (2, 1, 0))
"""The bits of x, y and z in a z code."""


@dataclass(frozen=True, eq=False)
class NeighbourOffsets:
    """The offsets (kx, ky, kz) − size // 2 of a size³ kernel as summands of z codes."""

    size: int
    steps: Tensor
    """int64 [(size³ − 1) / 2, 3] bits of x, y, z to add: the first half, which the rest mirrors."""

    @classmethod
    def of(cls, size: int, device: torch.device) -> NeighbourOffsets:
        """Offset k = (kx·size + ky)·size + kz."""
        half = size // 2
        steps = []
        for k in range(size**3 // 2):
            offset = (k // size**2 - half, k // size % size - half, k % size - half)
            steps.append([_spread(d, mask) for d, mask in zip(offset, AXIS_MASKS, strict=True)])
        return cls(size, torch.tensor(steps, device=device))


class Operations:
    """The plain form."""

    name = "torch"

    def curve_codes(self, code: Tensor, curve: Curve) -> Tensor:
        """int64 [n] positions along a curve of the cells of z codes; padding stays padding."""
        coords = torch.stack([_compact(code >> 2), _compact(code >> 1), _compact(code)], 1)
        padding = torch.iinfo(torch.int64).max
        return torch.where(code == padding, padding, encode(coords, MAX_DEPTH, curve))

    def neighbours(self, keys: Tensor, base: Tensor, offsets: NeighbourOffsets) -> Tensor:
        """int32 [size³, T] row, counted from ``base`` of its stage, at each offset; -1 = none.

        keys: int64 [T] ascending, base: int64 [T] first row of each row's stage.
        """
        count, middle = len(keys), len(offsets.steps)
        rows = torch.arange(count, device=keys.device)
        level = keys >> LEVEL_BIT << LEVEL_BIT
        real = (keys + 1) & ((1 << LEVEL_BIT) - 1) != 0
        table = keys.new_full((2 * middle + 1, count + 1), -1, dtype=torch.int32)
        table[middle, :count] = torch.where(real, rows - base, -1)
        for k, steps in enumerate(offsets.steps):
            wanted = level
            for step, mask in zip(steps, AXIS_MASKS, strict=True):
                wanted = wanted | ((keys | ~mask) + step) & mask
            found = torch.searchsorted(keys, wanted).clamp(max=count - 1)
            hit = (keys[found] == wanted) & real
            table[k, :count] = torch.where(hit, found - base, -1)
            mirror = torch.where(hit, found, count)
            table[-1 - k].scatter_(0, mirror, (rows - base).int())
        return table[:, :count]

    def stem(
        self, features: Tensor, table: Tensor, weight: Dense, size: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """gelu(5³ or 3³ convolution). features: float32 [N, F]. Returns x and its copy, [N, C]."""
        del size
        absent = (table < 0).T[..., None]  # [N, offsets, 1]
        gathered = features[table.clamp(min=0).T]  # [N, offsets, F]
        rows = gathered.masked_fill(absent, 0.0).flatten(1)
        x = functional.gelu(rows @ weight.weight + weight.bias)
        return x, x.to(dtype)

    def conv_norm(
        self,
        x: Tensor,
        conv_input: Tensor,
        table: Tensor,
        weights: BlockWeights,
        position: Tensor | None,
        size: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """x + norm(convolution of conv_input), and its unit norm at the row's ``position``."""
        out = conv_input.new_zeros(conv_input.shape, dtype=torch.float32)
        for row, weight in zip(table, weights.conv.weight, strict=True):
            gathered = conv_input.index_select(0, row.clamp(min=0))
            out += gathered.masked_fill((row < 0)[:, None], 0.0) @ weight
        norm = weights.conv_norm
        out = unit_norm(out + weights.conv.bias, norm.eps) * norm.scale + norm.shift
        x = x + out
        normed = unit_norm(x, weights.attention_eps).to(conv_input.dtype)
        if position is None:
            return x, normed
        return x, torch.empty_like(normed).index_copy_(0, position.long(), normed)

    def dense(self, rows: Tensor, layer: Dense, size: Tensor, gelu: bool = False) -> Tensor:
        """rows @ weight + bias in the dtype of ``rows``."""
        del size
        out = (rows @ layer.weight).float() + layer.bias
        return (functional.gelu(out) if gelu else out).to(rows.dtype)

    def logits(self, rows: Tensor, layer: Dense, size: Tensor) -> Tensor:
        """rows @ weight + bias as float32."""
        del size
        return (rows @ layer.weight).float() + layer.bias

    def proj_norm(
        self,
        x: Tensor,
        attended: Tensor,
        proj: Dense,
        eps: float,
        position: Tensor | None,
        size: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """x + proj(attended at the row's ``position``), and its unit norm with ``eps``."""
        del size
        rows = attended if position is None else attended.index_select(0, position)
        x = x + ((rows @ proj.weight).float() + proj.bias)
        return x, unit_norm(x, eps).to(attended.dtype)

    def add_dense(
        self, x: Tensor, rows: Tensor, layer: Dense, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x + rows @ weight + bias, its copy, and a copy of the summand alone."""
        del size
        branch = (rows @ layer.weight).float() + layer.bias
        x = x + branch
        return x, x.to(rows.dtype), branch.to(rows.dtype)

    def pool(
        self,
        rows: Tensor,
        weights: PoolWeights,
        parent: Tensor,
        child_begin: Tensor,
        sizes: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """gelu(affine(maximum over children of linear(rows))): x and its copy, [parents, C].

        parent: int32 [N]; child_begin: int32 [parents + 1]; sizes: of children and parents.
        """
        values = self.dense(rows, weights.linear, sizes[0])
        shape = (len(child_begin) - 1, values.shape[1])
        index = parent.long()[:, None].expand_as(values)
        largest = values.new_full(shape, -torch.inf).scatter_reduce_(0, index, values, "amax")
        affine: Affine = weights.affine
        x = functional.gelu(largest.float() * affine.scale + affine.shift)
        return x, x.to(rows.dtype)

    def unpool(
        self, up: Tensor, skip: Tensor, parent: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """skip + up of the parent: x and its copy, [N, C]."""
        del size
        x = skip.float() + up.index_select(0, parent).float()
        return x, x.to(skip.dtype)


def unit_norm(x: Tensor, eps: float) -> Tensor:
    """Rows with mean 0 and variance 1, float32."""
    return functional.layer_norm(x, x.shape[-1:], eps=eps)


def _spread(value: int, mask: int) -> int:
    """The low 17 bits of ``value``, two's complement, at the bits of ``mask``."""
    lowest = (mask & -mask).bit_length() - 1
    return sum((value >> bit & 1) << (3 * bit + lowest) for bit in range(MAX_DEPTH + 1))


def _compact(code: Tensor) -> Tensor:
    """Every third bit: the inverse of ``curves.interleave`` for one axis."""
    code = code & 0x1249249249249249
    code = (code | code >> 2) & 0x10C30C30C30C30C3
    code = (code | code >> 4) & 0x100F00F00F00F00F
    code = (code | code >> 8) & 0x1F0000FF0000FF
    code = (code | code >> 16) & 0x1F00000000FFFF
    return (code | code >> 32) & 0xFFFF
