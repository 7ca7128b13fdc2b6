# SPDX-License-Identifier: Apache-2.0
"""Trained network → plan: its shape and its weights, folded, in the order the CPU engine reads.

Exact algebra only, in float64:
- the linear after a block's convolution goes into the convolution's weights
- batch norms go into the stem and the unpooling linears; a pooling's stays an affine behind the
  maximum, as its scale may be negative
- scale and shift of the norms before attention and MLP go into the linears behind them
- the query part carries log2(e) / √d, as the engine's softmax counts in powers of two
Not here: packing for a CPU (native/), which depends on tier and precision.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.attention import PatchAttention
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.curves import CURVES
from pointdistill_ros.model.ptv3 import (
    Block,
    DecoderStage,
    EncoderStage,
    Pooling,
    PTv3,
    Stem,
    Unpooling,
)

MAX_STAGES = 8
XCPE_MODES = ("stale_off", "stale_on", "legacy")

_PerStage = ctypes.c_int32 * MAX_STAGES
_Array = NDArray[np.float64]


class Shape(ctypes.Structure):
    """Twin of ``NetworkShape`` in native/network.h."""

    _fields_ = (
        ("stages", ctypes.c_int32),
        ("in_channels", ctypes.c_int32),
        ("num_classes", ctypes.c_int32),
        ("mlp_ratio", ctypes.c_int32),
        ("xcpe", ctypes.c_int32),
        ("stem_size", ctypes.c_int32),
        ("deep_xcpe", ctypes.c_int32),
        ("encoder_depths", _PerStage),
        ("encoder_channels", _PerStage),
        ("encoder_heads", _PerStage),
        ("decoder_depths", _PerStage),
        ("decoder_channels", _PerStage),
        ("decoder_heads", _PerStage),
        ("shifts", _PerStage),
        ("patch_sizes", _PerStage),
        ("slots", _PerStage),
        ("curves", (ctypes.c_int32 * 4) * MAX_STAGES),
    )


@dataclass(frozen=True, eq=False)
class Plan:
    """A network as the CPU engine takes it."""

    shape: Shape
    weights: NDArray[np.float32]
    """All weights in one row; the order is that of ``_weights``."""


def compile_plan(network: PTv3) -> Plan:
    """Fold a trained network. Raises ConfigError where the engine cannot run its shape."""
    check_shape(network.config)
    parts = [np.ravel(part) for part in _weights(network)]
    return Plan(_shape(network.config), np.concatenate(parts).astype(np.float32))


def check_shape(config: PTv3Config) -> None:
    """Raises ConfigError naming what the CPU engine cannot express; the torch form runs it all."""
    widths = zip(
        (*config.encoder_channels, *config.decoder_channels),
        (*config.encoder_heads, *config.decoder_heads),
        strict=True,
    )
    bad = [f"{c} channels in {h} heads" for c, h in widths if c % 16 or (h and c // h % 16)]
    if bad:
        raise ConfigError(
            f"the CPU engine needs channels and channels per head in multiples of 16, got "
            f"{', '.join(bad)}; use engine='torch'"
        )
    limits = (
        (len(config.encoder_depths), MAX_STAGES, "stages"),
        (config.num_classes, 255, "classes"),
        (config.mlp_ratio, 64, "as mlp_ratio"),
        (config.in_channels, 1024, "input channels"),
        (max(config.encoder_channels + config.decoder_channels), 4096, "channels"),
    )
    for value, limit, name in limits:
        if value > limit:
            raise ConfigError(
                f"the CPU engine takes at most {limit} {name}, got {value}; use engine='torch'"
            )


def _shape(config: PTv3Config) -> Shape:
    shape = Shape(
        stages=len(config.encoder_depths),
        in_channels=config.in_channels,
        num_classes=config.num_classes,
        mlp_ratio=config.mlp_ratio,
        xcpe=XCPE_MODES.index(config.xcpe),
        stem_size=config.stem_size,
        deep_xcpe=config.deep_xcpe,
    )
    columns = {
        "encoder_depths": config.encoder_depths,
        "encoder_channels": config.encoder_channels,
        "encoder_heads": config.encoder_heads,
        "decoder_depths": config.decoder_depths,
        "decoder_channels": config.decoder_channels,
        "decoder_heads": config.decoder_heads,
        "shifts": [stride.bit_length() - 1 for stride in config.strides],
        "patch_sizes": [min(size, 2**30) for size in config.patch_sizes],
        "slots": config.walks,
    }
    for name, values in columns.items():
        getattr(shape, name)[: len(values)] = list(values)
    for s, count in enumerate(config.walks):
        for i in range(count):
            shape.curves[s][i] = CURVES.index(config.curves[config.permutation[s][i]])
    return shape


def _weights(network: PTv3) -> Iterator[_Array]:
    """Every array in the order ``Network::Network`` (native/network.cpp) reads them."""
    yield from _stem(network.stem)
    for stage in cast(Iterable[EncoderStage], network.encoder):
        if stage.pooling is not None:
            yield from _pooling(stage.pooling)
        yield from _blocks(stage)
    for level in reversed(cast(Sequence[DecoderStage], network.decoder)):
        yield from _unpooling(level.unpooling)
        yield from _blocks(level)
    weight, bias = _linear(network.head)
    missing = -len(weight) % 16
    yield np.pad(weight, ((0, missing), (0, 0)))
    yield np.pad(bias, (0, missing))


def _stem(stem: Stem) -> Iterator[_Array]:
    scale, shift = _affine(stem.norm)
    yield _kernel(stem.conv.weight) * scale
    yield shift


def _blocks(stage: EncoderStage | DecoderStage) -> Iterator[_Array]:
    for block in cast(Iterable[Block], stage.blocks):
        yield from _block(block)


def _block(block: Block) -> Iterator[_Array]:
    if block.conv is not None and block.conv_linear is not None and block.conv_norm is not None:
        linear, linear_bias = _linear(block.conv_linear)
        assert block.conv.bias is not None
        yield _kernel(block.conv.weight) @ linear.T
        yield linear @ _array(block.conv.bias) + linear_bias
        yield _array(block.conv_norm.weight)
        yield _array(block.conv_norm.bias)
    if block.attention is not None and block.attention_norm is not None:
        yield from _attention(block.attention_norm, block.attention)
    yield from _linear_behind(block.mlp_norm, block.fc1)
    yield from _linear(block.fc2)


def _attention(norm: nn.LayerNorm, attention: PatchAttention) -> Iterator[_Array]:
    qkv, qkv_bias = _linear_behind(norm, attention.qkv)
    width = len(qkv) // 3
    scale = np.ones(len(qkv))
    scale[:width] = math.log2(math.e) / math.sqrt(width // attention.heads)
    yield qkv * scale[:, None]
    yield qkv_bias * scale
    yield from _linear(attention.proj)


def _pooling(pooling: Pooling) -> Iterator[_Array]:
    yield from _linear(pooling.proj)
    yield from _affine(pooling.norm)


def _unpooling(unpooling: Unpooling) -> Iterator[_Array]:
    for layer, norm in (
        (unpooling.proj, unpooling.norm),
        (unpooling.skip_proj, unpooling.skip_norm),
    ):
        weight, bias = _linear(layer)
        scale, shift = _affine(norm)
        yield weight * scale[:, None]
        yield bias * scale + shift


def _array(tensor: Tensor) -> _Array:
    return np.asarray(tensor.detach().cpu().double().numpy())


def _kernel(weight: Tensor) -> _Array:
    """[out, k, k, k, in] → [k³, in, out]."""
    return _array(weight.permute(1, 2, 3, 4, 0).flatten(0, 2))


def _linear(layer: nn.Linear) -> tuple[_Array, _Array]:
    return _array(layer.weight), _array(layer.bias)


def _linear_behind(norm: nn.LayerNorm, layer: nn.Linear) -> tuple[_Array, _Array]:
    weight, bias = _linear(layer)
    return weight * _array(norm.weight), bias + weight @ _array(norm.bias)


def _affine(norm: nn.BatchNorm1d) -> tuple[_Array, _Array]:
    """Scale and shift of a batch norm at evaluation."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = _array(norm.weight) / np.sqrt(_array(norm.running_var) + norm.eps)
    return scale, _array(norm.bias) - scale * _array(norm.running_mean)
