# SPDX-License-Identifier: Apache-2.0
"""Point Transformer V3 (arXiv 2312.10035, variant "m1"), top to bottom, over a VoxelPyramid.

- encoder with pooling, decoder with skips, one linear head; 46.16 M (teacher) or 2.78 M (student)
- beyond the paper, for real time: blocks without attention (0 heads) or without convolution
  (deep_xcpe), no decoder blocks, a 3³ stem
- pure tensor algebra: every shape and index comes from the pyramid
- ``xcpe`` reproduces what published weights were trained with. The public code keeps two tensors
  per point set, and a convolution may read the stale one:
    stale_off  the residual stream everywhere (the intent; networks trained here)
    stale_on   first decoder block of a stage: the skip branch alone (public code since 2024-03-26)
    legacy     as stale_on, and later blocks of a stage: the previous block's MLP branch without its
               residual (public code before; the published nuScenes and Waymo weights)
Not here: loading public weights (public_weights.py), faster forms of the same function (engine/).
"""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor, nn
from torch.nn import functional

from pointdistill_ros.model.attention import PatchAttention
from pointdistill_ros.model.config import PTv3Config, XcpeMode
from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.pyramid import Stage, VoxelPyramid
from pointdistill_ros.model.sparse_conv import ConvBackend, SubmanifoldConv

__all__ = ["PTv3", "PTv3Config"]


class PTv3(nn.Module):
    """The network: voxel features and their pyramid → logits per voxel."""

    def __init__(self, config: PTv3Config, conv_backend: ConvBackend = "auto") -> None:
        super().__init__()
        self.config = config
        channels = config.encoder_channels
        self.stem = Stem(config.in_channels, channels[0], config.stem_size, conv_backend)
        rates = _drop_rates(config.drop_path, config.encoder_depths)
        self.encoder = nn.ModuleList(
            EncoderStage(
                pooling=Pooling(channels[s - 1], channels[s]) if s else None,
                blocks=[
                    Block(
                        channels[s],
                        config.encoder_heads[s],
                        config.patch_sizes[s],
                        config.mlp_ratio,
                        rate,
                        conv_backend,
                        config.convolves(i, config.encoder_heads[s]),
                    )
                    for i, rate in enumerate(rates[s])
                ],
                xcpe=config.xcpe,
            )
            for s in range(len(channels))
        )
        rates = _drop_rates(config.drop_path, config.decoder_depths)
        inputs = (*config.decoder_channels[1:], channels[-1])
        self.decoder = nn.ModuleList(
            DecoderStage(
                unpooling=Unpooling(inputs[s], channels[s], width),
                blocks=[
                    Block(
                        width,
                        config.decoder_heads[s],
                        config.patch_sizes[s],
                        config.mlp_ratio,
                        rate,
                        conv_backend,
                        config.convolves(i, config.decoder_heads[s]),
                    )
                    for i, rate in enumerate(reversed(rates[s]))
                ],
                xcpe=config.xcpe,
            )
            for s, width in enumerate(config.decoder_channels)
        )
        self.head = nn.Linear((*config.decoder_channels, channels[-1])[0], config.num_classes)

    def forward(self, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        """features: float [n, in_channels], one row per voxel. Returns logits [n, classes]."""
        logits: Tensor = self.head(self.decode(self.encode(features, pyramid), pyramid))
        return logits

    def encode(self, features: Tensor, pyramid: VoxelPyramid) -> list[Tensor]:
        """Encoder output of every stage, fine to coarse: [n_s, C_s]; the decoder changes none."""
        x = self.stem(features, pyramid)
        outputs: list[Tensor] = []
        for s, level in enumerate(self.encoder):
            x = level(x, pyramid, s)
            outputs.append(x)
        return outputs

    def decode(self, outputs: list[Tensor], pyramid: VoxelPyramid) -> Tensor:
        """Encoder outputs → features of the finest stage, [n, decoder_channels[0]]."""
        x = outputs[-1]
        for s in range(len(self.decoder) - 1, -1, -1):
            x = self.decoder[s](x, outputs[s], pyramid.stages[s])
        return x


class EncoderStage(nn.Module):
    """Pooling (all but the finest stage), then blocks."""

    def __init__(self, pooling: Pooling | None, blocks: list[Block], xcpe: XcpeMode) -> None:
        super().__init__()
        self.pooling = pooling
        self.blocks = nn.ModuleList(blocks)
        self.xcpe = xcpe

    def forward(self, x: Tensor, pyramid: VoxelPyramid, s: int) -> Tensor:
        stage = pyramid.stages[s]
        if self.pooling is not None:
            x = self.pooling(x, pyramid.stages[s - 1], len(stage))
        return _run_blocks(self.blocks, x, x, stage, self.xcpe)


class DecoderStage(nn.Module):
    """Unpooling, then blocks."""

    def __init__(self, unpooling: Unpooling, blocks: list[Block], xcpe: XcpeMode) -> None:
        super().__init__()
        self.unpooling = unpooling
        self.blocks = nn.ModuleList(blocks)
        self.xcpe = xcpe

    def forward(self, x: Tensor, skip: Tensor, stage: Stage) -> Tensor:
        x, skip = self.unpooling(x, skip, stage)
        return _run_blocks(
            self.blocks, x, x if self.xcpe == "stale_off" else skip, stage, self.xcpe
        )


def _run_blocks(
    blocks: nn.ModuleList, x: Tensor, conv_input: Tensor, stage: Stage, xcpe: XcpeMode
) -> Tensor:
    for slot, block in enumerate(blocks):
        x, branch = block(x, conv_input, stage, slot)
        conv_input = branch if xcpe == "legacy" else x
    return x


class Stem(nn.Module):
    """5³ (or 3³) convolution without bias, norm, GELU."""

    def __init__(self, in_channels: int, channels: int, size: int, backend: ConvBackend) -> None:
        super().__init__()
        self.conv = SubmanifoldConv(in_channels, channels, size, bias=False, backend=backend)
        self.norm = _batch_norm(channels)

    def forward(self, features: Tensor, pyramid: VoxelPyramid) -> Tensor:
        x = self.conv(features, pyramid.stages[0], self.table(pyramid))
        return functional.gelu(self.norm(x))

    def table(self, pyramid: VoxelPyramid) -> NeighbourTable:
        """Pairs of its kernel; a pyramid has those of both sizes."""
        return pyramid.stages[0].neighbours if self.conv.size == 3 else pyramid.stem


class Block(nn.Module):
    """xCPE, attention (none with 0 heads), MLP, each on a residual branch with its norm."""

    conv: SubmanifoldConv | None
    conv_linear: nn.Linear | None
    conv_norm: nn.LayerNorm | None
    attention: PatchAttention | None
    attention_norm: nn.LayerNorm | None

    def __init__(
        self,
        channels: int,
        heads: int,
        patch_size: int,
        mlp_ratio: int,
        drop_rate: float,
        backend: ConvBackend,
        convolves: bool = True,
    ) -> None:
        super().__init__()
        self.conv = self.conv_linear = self.conv_norm = None
        if convolves:
            self.conv = SubmanifoldConv(channels, channels, 3, bias=True, backend=backend)
            self.conv_linear = nn.Linear(channels, channels)
            self.conv_norm = nn.LayerNorm(channels)
        self.attention_norm = nn.LayerNorm(channels) if heads else None
        self.attention = PatchAttention(channels, heads, patch_size) if heads else None
        self.mlp_norm = nn.LayerNorm(channels)
        self.fc1 = nn.Linear(channels, mlp_ratio * channels)
        self.fc2 = nn.Linear(mlp_ratio * channels, channels)
        self.drop_rate = drop_rate

    def forward(
        self, x: Tensor, conv_input: Tensor, stage: Stage, slot: int
    ) -> tuple[Tensor, Tensor]:
        """x: [n, C] residual stream; ``slot`` picks the curve. Returns new x and MLP branch."""
        if self.conv is not None and self.conv_linear is not None and self.conv_norm is not None:
            position = self.conv(conv_input, stage, stage.neighbours)
            x = x + self.conv_norm(self.conv_linear(position))
        if self.attention is not None and self.attention_norm is not None:
            walk = stage.orders[slot % len(stage.orders)]
            x = x + self._drop(self.attention(self.attention_norm(x), stage, walk))
        branch = self._drop(self.fc2(functional.gelu(self.fc1(self.mlp_norm(x)))))
        return x + branch, branch

    def _drop(self, branch: Tensor) -> Tensor:
        """Drop path per voxel, as the public code does on its [n, C] tensors."""
        if not self.training or self.drop_rate == 0.0:
            return branch
        keep = 1.0 - self.drop_rate
        mask = torch.empty(len(branch), 1, dtype=branch.dtype, device=branch.device)
        return branch * mask.bernoulli_(keep).div_(keep)


class Pooling(nn.Module):
    """Linear, maximum over the children of a voxel, norm, GELU."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, channels)
        self.norm = _batch_norm(channels)

    def forward(self, x: Tensor, stage: Stage, parents: int) -> Tensor:
        """x: [n, in] of ``stage`` → [parents, channels] of the next."""
        assert stage.parent is not None
        x = self.proj(x)
        index = stage.parent[:, None].expand_as(x)
        # Not an empty tensor: backward shares gradients with whatever equals the maximum.
        pooled = x.new_full((parents, x.shape[1]), -torch.inf)
        pooled = pooled.scatter_reduce(0, index, x, "amax", include_self=False)
        return functional.gelu(self.norm(pooled))


class Unpooling(nn.Module):
    """Coarse features back to their children, added to the projected skip."""

    def __init__(self, in_channels: int, skip_channels: int, channels: int) -> None:
        super().__init__()
        self.proj = nn.Linear(in_channels, channels)
        self.norm = _batch_norm(channels)
        self.skip_proj = nn.Linear(skip_channels, channels)
        self.skip_norm = _batch_norm(channels)

    def forward(self, x: Tensor, skip: Tensor, stage: Stage) -> tuple[Tensor, Tensor]:
        """x: [parents, in], skip: [n, skip]. Returns the sum and the skip branch, [n, channels]."""
        assert stage.parent is not None
        up = functional.gelu(self.norm(self.proj(x)))
        skip = functional.gelu(self.skip_norm(self.skip_proj(skip)))
        return skip + up.index_select(0, stage.parent), skip


def _batch_norm(channels: int) -> nn.BatchNorm1d:
    return nn.BatchNorm1d(channels, eps=1e-3, momentum=0.01)


def _drop_rates(largest: float, depths: tuple[int, ...]) -> list[list[float]]:
    """Rates rising linearly over all blocks, per stage."""
    rates = torch.linspace(0, largest, sum(depths), device="cpu").tolist()
    ends = list(accumulate(depths))
    return [rates[end - depth : end] for end, depth in zip(ends, depths, strict=True)]
