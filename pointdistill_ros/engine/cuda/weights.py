# SPDX-License-Identifier: Apache-2.0
"""The weights of a trained PTv3 as the GPU engine multiplies them: fewer layers, same function.

- the linear after a block's convolution goes into the convolution, norms into the linear after them
- the norm of a pooling stays: a maximum stands before it, and its scale may be negative
- matrices lie as [in, out] in the engine's dtype; biases, scales and the whole stem stay float32
  (coordinates in metres do not fit 16 bits)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.ptv3 import (
    Block,
    DecoderStage,
    EncoderStage,
    Pooling,
    PTv3,
    Stem,
    Unpooling,
)
from pointdistill_ros.model.sparse_conv import SubmanifoldConv

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Dense:
    """``input @ weight + bias``."""

    weight: Tensor
    """[in, out]."""
    bias: Tensor
    """float32 [out]."""


@dataclass(frozen=True, eq=False)
class Affine:
    """``input * scale + shift``, after a normalisation with ``eps``."""

    scale: Tensor
    """float32 [C]."""
    shift: Tensor
    """float32 [C]."""
    eps: float = 0.0


@dataclass(frozen=True, eq=False)
class BlockWeights:
    """One block; ``eps`` of the two norms that were folded into qkv and fc1.

    Without attention ``qkv`` and ``proj`` are None and the norm after the convolution is the MLP's.
    """

    conv: Dense
    """weight [27, C, C]: convolution and the linear after it."""
    conv_norm: Affine
    qkv: Dense | None
    proj: Dense | None
    fc1: Dense
    fc2: Dense
    attention_eps: float
    mlp_eps: float
    heads: int
    patch: int


@dataclass(frozen=True, eq=False)
class PoolWeights:
    """Linear, then maximum, then affine."""

    linear: Dense
    affine: Affine


@dataclass(frozen=True, eq=False)
class UnpoolWeights:
    """Both linears with their norms folded in."""

    up: Dense
    skip: Dense


@dataclass(frozen=True, eq=False)
class NetworkWeights:
    """The whole network, stages from fine to coarse."""

    stem: Dense
    """float32 [offsets * in, C]: 5³ (or 3³) convolution with its norm."""
    pools: tuple[PoolWeights, ...]
    """Pooling into stage 1, 2, …"""
    encoder: tuple[tuple[BlockWeights, ...], ...]
    unpools: tuple[UnpoolWeights, ...]
    decoder: tuple[tuple[BlockWeights, ...], ...]
    head: Dense


def check_shape(config: PTv3Config) -> None:
    """Raises ConfigError naming what the GPU engine cannot express; the torch form runs it all."""
    encoder = (config.encoder_depths, config.encoder_heads)
    decoder = (config.decoder_depths, config.decoder_heads)
    for depths, heads in (encoder, decoder):
        for depth, number in zip(depths, heads, strict=True):
            if not all(config.convolves(block, number) for block in range(depth)):
                raise ConfigError(
                    "engine 'cuda' has no blocks without convolution (deep_xcpe: false); "
                    "use engine='torch', or 'native' on the CPU"
                )


@torch.no_grad()
def fold(network: PTv3, device: torch.device, dtype: torch.dtype) -> NetworkWeights:
    """Folded copies of all weights on ``device``; folding is done in float64 on the CPU.

    Raises ConfigError where the engine cannot run the shape.
    """
    check_shape(network.config)
    folder = _Folder(device, dtype)
    encoder = [_as(EncoderStage, stage) for stage in network.encoder]
    decoder = [_as(DecoderStage, stage) for stage in network.decoder]
    return NetworkWeights(
        stem=folder.stem(network.stem),
        pools=tuple(folder.pool(_as(Pooling, stage.pooling)) for stage in encoder[1:]),
        encoder=tuple(folder.blocks(stage.blocks) for stage in encoder),
        unpools=tuple(folder.unpool(stage.unpooling) for stage in decoder),
        decoder=tuple(folder.blocks(stage.blocks) for stage in decoder),
        head=folder.dense(*_linear(network.head)),
    )


class _Folder:
    """Folds layers; results on one device in one dtype."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._device = device
        self._dtype = dtype

    def dense(self, weight: Tensor, bias: Tensor, dtype: torch.dtype | None = None) -> Dense:
        """weight: float64 [in, out] or [27, in, out]."""
        weight = weight.to(self._device, dtype or self._dtype).contiguous()
        return Dense(weight, self._float(bias))

    def affine(self, scale: Tensor, shift: Tensor, eps: float = 0.0) -> Affine:
        return Affine(self._float(scale), self._float(shift), eps)

    def stem(self, stem: Stem) -> Dense:
        scale, shift = _batch_norm(stem.norm)
        kernel = _kernel(stem.conv).flatten(0, 1) * scale
        return self.dense(kernel, shift, torch.float32)

    def blocks(self, blocks: nn.Module) -> tuple[BlockWeights, ...]:
        return tuple(self._block(_as(Block, block)) for block in blocks.children())

    def _block(self, block: Block) -> BlockWeights:
        conv, norm, attention = block.conv, block.conv_norm, block.attention
        assert conv is not None and conv.bias is not None  # check_shape
        assert norm is not None and block.conv_linear is not None
        linear, shift = _linear(block.conv_linear)
        kernel = _kernel(conv) @ linear
        bias = _double(conv.bias) @ linear + shift
        first = block.attention_norm or block.mlp_norm
        return BlockWeights(
            conv=self.dense(kernel, bias),
            conv_norm=self.affine(_double(norm.weight), _double(norm.bias), norm.eps),
            qkv=self._after_norm(first, attention.qkv) if attention else None,
            proj=self.dense(*_linear(attention.proj)) if attention else None,
            fc1=self._after_norm(block.mlp_norm, block.fc1),
            fc2=self.dense(*_linear(block.fc2)),
            attention_eps=first.eps,
            mlp_eps=block.mlp_norm.eps,
            heads=attention.heads if attention else 0,
            patch=attention.patch_size if attention else 0,
        )

    def pool(self, pooling: Pooling) -> PoolWeights:
        return PoolWeights(
            self.dense(*_linear(pooling.proj)), self.affine(*_batch_norm(pooling.norm))
        )

    def unpool(self, unpooling: Unpooling) -> UnpoolWeights:
        return UnpoolWeights(
            up=self._before_norm(unpooling.proj, unpooling.norm),
            skip=self._before_norm(unpooling.skip_proj, unpooling.skip_norm),
        )

    def _after_norm(self, norm: nn.LayerNorm, linear: nn.Linear) -> Dense:
        """(u * scale + shift) @ W + b = u @ (scale * W) + (shift @ W + b)."""
        weight, bias = _linear(linear)
        scale, shift = _double(norm.weight), _double(norm.bias)
        return self.dense(scale[:, None] * weight, shift @ weight + bias)

    def _before_norm(self, linear: nn.Linear, norm: nn.BatchNorm1d) -> Dense:
        weight, bias = _linear(linear)
        scale, shift = _batch_norm(norm)
        return self.dense(weight * scale, bias * scale + shift)

    def _float(self, tensor: Tensor) -> Tensor:
        return tensor.to(self._device, torch.float32).contiguous()


def _as(kind: type[Layer], module: object) -> Layer:
    assert isinstance(module, kind)
    return module


def _double(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().double()


def _linear(linear: nn.Linear) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias [out]."""
    return _double(linear.weight).T, _double(linear.bias)


def _kernel(conv: SubmanifoldConv) -> Tensor:
    """[offsets, in, out]."""
    return _double(conv.weight).permute(1, 2, 3, 4, 0).flatten(0, 2)


def _batch_norm(norm: nn.BatchNorm1d) -> tuple[Tensor, Tensor]:
    """Scale and shift of the norm with its running statistics."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = _double(norm.weight) / torch.sqrt(_double(norm.running_var) + norm.eps)
    return scale, _double(norm.bias) - _double(norm.running_mean) * scale
