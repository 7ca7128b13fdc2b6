# SPDX-License-Identifier: Apache-2.0
"""The space of shapes a search draws from, as lists of choices.

One draw is one network: stages and strides, then a width and a depth per stage, then where
attention starts, then what is the same everywhere. A shape that cannot be (too many parameters,
widths that shrink) is drawn again, never bent into one that can.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.config import PTv3Config

HILBERT_FIRST = (2, 3, 0, 1)
"""Order of curves of every stage, as in the paper's student."""
_TRIES = 10_000


@dataclass(frozen=True)
class Space:
    """What may be chosen; a list of one fixes it. Stages count from the finest."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012

    strides: tuple[tuple[int, ...], ...] = ((2, 2, 2, 2), (2, 2, 4), (2, 2, 2), (4, 4), (4, 2))
    """Pooling strides; one stage more than there are strides."""
    first_widths: tuple[int, ...] = (16, 32)
    """Channels of the finest stage."""
    widths: tuple[int, ...] = (32, 48, 64, 96, 128, 160, 192)
    """Channels of the coarser stages, each at least as wide as the one before."""
    depths: tuple[int, ...] = (1, 2, 3)
    """Blocks of an encoder stage."""
    attention_stages: tuple[int, ...] = (0, 1, 2, 3)
    """How many of the coarsest stages have attention; the finer ones have convolution and MLP."""
    deep_xcpe: tuple[bool, ...] = (True, False)
    """Whether blocks with attention behind the first of their stage have a convolution, too."""
    head_widths: tuple[int, ...] = (16, 32)
    """Channels per head; 16 where that of the draw does not divide the stage's."""
    patch_sizes: tuple[int, ...] = (128, 256, 512, 1024)
    """Voxels attended together."""
    decoder_depths: tuple[int, ...] = (0, 0, 1)
    """Blocks of every decoder stage; a choice that stands twice is drawn twice as often."""
    decoder_widths: tuple[int, ...] = (16, 32, 64)
    """Least channels of a decoder stage, which is as wide as the encoder's otherwise."""
    mlp_ratios: tuple[int, ...] = (1, 2, 3, 4)
    """Width of an MLP over that of its input."""
    stem_sizes: tuple[int, ...] = (3, 3, 5)
    """Edge of the stem's kernel, voxels."""
    grid_sizes: tuple[float, ...] = (0.1, 0.15, 0.2)
    """Voxel edge, metres."""
    min_parameters: int = 200_000
    """Fewer cannot be trained to anything."""
    max_parameters: int = 2_777_539
    """No more than the paper's student."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            choices = getattr(self, entry.name)
            if isinstance(choices, tuple) and not choices:
                raise ConfigError(f"{entry.name} needs at least one choice")
        for name in ("first_widths", "widths", "decoder_widths", "head_widths"):
            odd = [w for w in getattr(self, name) if w < 16 or w % 16]
            if odd:
                raise ConfigError(f"{name}: {odd[0]} is no multiple of 16, as the engine needs it")
        if min(self.grid_sizes) <= 0:
            raise ConfigError(f"grid_sizes must be above 0, got {min(self.grid_sizes)}")
        if self.min_parameters > self.max_parameters:
            raise ConfigError("min_parameters must not exceed max_parameters")


@dataclass(frozen=True)
class Drawn:
    """A shape, and the grid it works on."""

    shape: PTv3Config
    grid_size: float
    """Metres."""


def draw(space: Space, rng: np.random.Generator) -> Drawn:
    """One network of the space. Raises ConfigError where none fits its limits."""
    for _ in range(_TRIES):
        drawn = _draw(space, rng)
        if (
            drawn is not None
            and space.min_parameters <= parameters(drawn.shape) <= space.max_parameters
        ):
            return drawn
    raise ConfigError(
        f"{_TRIES} shapes drawn, none of {space.min_parameters:,} to {space.max_parameters:,} "
        "parameters; widen the space"
    )


def parameters(shape: PTv3Config) -> int:
    """Trainable parameters of a network of this shape, counted without making one."""

    def dense(inputs: int, outputs: int) -> int:
        return inputs * outputs + outputs

    def block(number: int, width: int, heads: int) -> int:
        hidden = shape.mlp_ratio * width
        parts = [dense(width, hidden) + dense(hidden, width)]
        if heads:
            parts.append(dense(width, 3 * width) + dense(width, width))
        if shape.convolves(number, heads):
            parts.append(dense(27 * width, width) + dense(width, width))
        return sum(parts) + 2 * width * len(parts)  # each with its norm

    widths, count = shape.encoder_channels, 0
    count += shape.stem_size**3 * shape.in_channels * widths[0] + 2 * widths[0]
    for depths, channels, heads in (
        (shape.encoder_depths, widths, shape.encoder_heads),
        (shape.decoder_depths, shape.decoder_channels, shape.decoder_heads),
    ):
        for depth, width, number in zip(depths, channels, heads, strict=True):
            count += sum(block(i, width, number) for i in range(depth))
    count += sum(dense(fine, coarse) + 2 * coarse for fine, coarse in pairwise(widths))
    below = (*shape.decoder_channels[1:], widths[-1])
    for inputs, skip, width in zip(below, widths, shape.decoder_channels, strict=False):
        count += dense(inputs, width) + dense(skip, width) + 4 * width
    return count + dense((*shape.decoder_channels, widths[-1])[0], shape.num_classes)


def _draw(space: Space, rng: np.random.Generator) -> Drawn | None:
    def one_of(choices: tuple[int, ...]) -> int:
        return int(choices[rng.integers(len(choices))])

    strides = space.strides[int(rng.integers(len(space.strides)))]
    stages = len(strides) + 1
    widths = (one_of(space.first_widths), *(one_of(space.widths) for _ in strides))
    depths = tuple(one_of(space.depths) for _ in range(stages))
    attending = one_of(space.attention_stages)
    head, patch = one_of(space.head_widths), one_of(space.patch_sizes)
    least, depth = one_of(space.decoder_widths), one_of(space.decoder_depths)
    ratio, stem = one_of(space.mlp_ratios), one_of(space.stem_sizes)
    deep = space.deep_xcpe[int(rng.integers(len(space.deep_xcpe)))]
    grid = float(space.grid_sizes[int(rng.integers(len(space.grid_sizes)))])
    if list(widths) != sorted(widths) or attending > stages:
        return None
    decoder = tuple(max(width, least) for width in widths[:-1])

    def heads(channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(
            0 if s < stages - attending else width // (head if width % head == 0 else 16)
            for s, width in enumerate(channels)
        )

    shape = PTv3Config(
        encoder_depths=depths,
        encoder_channels=widths,
        encoder_heads=heads(widths),
        decoder_depths=(depth,) * len(strides),
        decoder_channels=decoder,
        decoder_heads=heads(decoder),
        strides=strides,
        patch_sizes=(patch,) * stages,
        stem_size=3 if stem == 3 else 5,
        deep_xcpe=deep,
        mlp_ratio=ratio,
        drop_path=0.15,
        permutation=(HILBERT_FIRST,) * stages,
    )
    return Drawn(shape, grid)
