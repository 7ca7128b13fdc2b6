# SPDX-License-Identifier: Apache-2.0
"""Operations by the Triton kernels; a layer they do not cover stays with the plain form."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from pointdistill_ros.engine.cuda import geometry_kernels, kernels, pooling_kernels
from pointdistill_ros.engine.cuda.operations import NeighbourOffsets, Operations
from pointdistill_ros.engine.cuda.weights import BlockWeights, Dense, PoolWeights
from pointdistill_ros.model.curves import Curve

LARGEST_NORM = 512
"""Channels of a row that one program can hold together with its norm."""


@dataclass(frozen=True)
class Tiles:
    """Block sizes of one product."""

    m: int
    n: int
    k: int
    warps: int

    @classmethod
    def of(cls, depth: int, width: int, whole_row: bool, dtype: torch.dtype) -> Tiles:
        """For [rows, depth] @ [depth, width]. whole_row: one program computes all columns.

        By the compiler's report for sm_90 (registers spill at 512 channels only), not by time.
        """
        single = dtype == torch.float32  # no tensor cores: operands, too, live in registers
        n = max(16, triton.next_power_of_2(width))
        n = n if whole_row else min(n, 64 if single else 128)
        k = 16 if single else 32 if n >= 256 else 64
        while depth % k:
            k //= 2
        return cls(m=64, n=n, k=k, warps=16 if n >= 512 else 8 if n >= 128 else 4)

    def keywords(self) -> dict[str, int]:
        """As kernel arguments."""
        blocks = {"block_m": self.m, "block_n": self.n, "block_k": self.k}
        return blocks | {"num_warps": self.warps, "num_stages": 2, "enable_fp_fusion": True}


class TritonOperations(Operations):
    """The compiled form."""

    name = "triton"

    def curve_codes(self, code: Tensor, curve: Curve) -> Tensor:
        """One kernel."""
        return geometry_kernels.curve_codes(code, curve)

    def neighbours(self, keys: Tensor, base: Tensor, offsets: NeighbourOffsets) -> Tensor:
        """One kernel; half of the offsets, mirrored."""
        return geometry_kernels.neighbours(keys, base, offsets)

    def stem(
        self, features: Tensor, table: Tensor, weight: Dense, size: Tensor, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """One kernel."""
        channels = weight.weight.shape[1]
        x = features.new_empty(len(features), channels)
        copy = torch.empty_like(x, dtype=dtype)
        tiles = Tiles.of(16, channels, whole_row=True, dtype=torch.float32)
        kernels.stem_kernel[(triton.cdiv(len(x), tiles.m),)](
            features, table, weight.weight, weight.bias, size, x, copy,
            table.stride(0), len(table), features.shape[1], channels, **tiles.keywords(),
        )  # fmt: skip
        return x, copy

    def conv_norm(
        self,
        x: Tensor,
        conv_input: Tensor,
        table: Tensor,
        weights: BlockWeights,
        position: Tensor | None,
        size: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One kernel up to 512 channels."""
        channels = x.shape[1]
        if not _covered(channels) or channels > LARGEST_NORM:
            return super().conv_norm(x, conv_input, table, weights, position, size)
        out, normed = torch.empty_like(x), torch.empty_like(conv_input)
        tiles = Tiles.of(channels, channels, whole_row=True, dtype=normed.dtype)
        conv, norm = weights.conv, weights.conv_norm
        kernels.conv_norm_kernel[(triton.cdiv(len(x), tiles.m),)](
            x, conv_input, table, conv.weight, conv.bias, norm.scale, norm.shift,
            size if position is None else position, size, out, normed,
            table.stride(0), norm.eps, weights.attention_eps, position is not None, channels,
            **tiles.keywords(),
        )  # fmt: skip
        return out, normed

    def dense(self, rows: Tensor, layer: Dense, size: Tensor, gelu: bool = False) -> Tensor:
        """One kernel."""
        if not _covered(rows.shape[1]):
            return super().dense(rows, layer, size, gelu)
        return _dense(rows, layer, size, gelu, rows.dtype)

    def logits(self, rows: Tensor, layer: Dense, size: Tensor) -> Tensor:
        """One kernel."""
        if not _covered(rows.shape[1]):
            return super().logits(rows, layer, size)
        return _dense(rows, layer, size, False, torch.float32)

    def proj_norm(
        self,
        x: Tensor,
        attended: Tensor,
        proj: Dense,
        eps: float,
        position: Tensor | None,
        size: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """One kernel up to 512 channels."""
        channels = x.shape[1]
        if not _covered(channels) or channels > LARGEST_NORM:
            return super().proj_norm(x, attended, proj, eps, position, size)
        out, normed = torch.empty_like(x), torch.empty_like(attended)
        tiles = Tiles.of(channels, channels, whole_row=True, dtype=normed.dtype)
        kernels.proj_norm_kernel[(triton.cdiv(len(x), tiles.m),)](
            x, attended, proj.weight, proj.bias,
            size if position is None else position, size, out, normed,
            eps, position is not None, channels, **tiles.keywords(),
        )  # fmt: skip
        return out, normed

    def add_dense(
        self, x: Tensor, rows: Tensor, layer: Dense, size: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One kernel."""
        depth, width = layer.weight.shape
        if not _covered(depth):
            return super().add_dense(x, rows, layer, size)
        out = torch.empty_like(x)
        copy, branch = (torch.empty_like(x, dtype=rows.dtype) for _ in range(2))
        tiles = Tiles.of(depth, width, whole_row=False, dtype=rows.dtype)
        kernels.add_dense_kernel[(triton.cdiv(len(x), tiles.m), triton.cdiv(width, tiles.n))](
            x, rows, layer.weight, layer.bias, size, out, copy, branch,
            depth, width, **tiles.keywords(),
        )  # fmt: skip
        return out, copy, branch

    def pool(
        self,
        rows: Tensor,
        weights: PoolWeights,
        parent: Tensor,
        child_begin: Tensor,
        sizes: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Linear, then one kernel."""
        values = self.dense(rows, weights.linear, sizes[0])
        parents, channels = len(child_begin) - 1, values.shape[1]
        x = values.new_empty(parents, channels, dtype=torch.float32)
        copy = values.new_empty(parents, channels)
        block_n = min(64, triton.next_power_of_2(channels))
        pooling_kernels.pool_kernel[(triton.cdiv(parents, 64), triton.cdiv(channels, block_n))](
            values, child_begin, weights.affine.scale, weights.affine.shift, sizes[1], x, copy,
            channels, block_m=64, block_n=block_n, enable_fp_fusion=True,
        )  # fmt: skip
        return x, copy

    def unpool(
        self, up: Tensor, skip: Tensor, parent: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One kernel."""
        channels = skip.shape[1]
        x = torch.empty_like(skip, dtype=torch.float32)
        copy = torch.empty_like(skip)
        block_n = min(64, triton.next_power_of_2(channels))
        pooling_kernels.unpool_kernel[(triton.cdiv(len(x), 64), triton.cdiv(channels, block_n))](
            up, skip, parent, size, x, copy,
            channels, block_m=64, block_n=block_n, enable_fp_fusion=True,
        )  # fmt: skip
        return x, copy


def _covered(depth: int) -> bool:
    """Products run over blocks of at least 16."""
    return depth % 16 == 0


def _dense(rows: Tensor, layer: Dense, size: Tensor, gelu: bool, dtype: torch.dtype) -> Tensor:
    depth, width = layer.weight.shape
    out = rows.new_empty(len(rows), width, dtype=dtype)
    tiles = Tiles.of(depth, width, whole_row=False, dtype=rows.dtype)
    kernels.dense_kernel[(triton.cdiv(len(rows), tiles.m), triton.cdiv(width, tiles.n))](
        rows, layer.weight, layer.bias, size, out, gelu, depth, width, **tiles.keywords()
    )
    return out
