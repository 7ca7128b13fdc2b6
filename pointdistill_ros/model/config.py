# SPDX-License-Identifier: Apache-2.0
"""PTv3Config: the shape of a Point Transformer V3 (files of config/models/)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pointdistill_ros.model.curves import CURVES, Curve

XcpeMode = Literal["stale_off", "stale_on", "legacy"]
"""What the convolution of a block reads; see model/ptv3.py."""

Permutation = tuple[tuple[int, ...], ...]
"""Per stage, which curve each block slot walks."""


@dataclass(frozen=True)
class PTv3Config:
    """Shape of the network; the defaults are the 2.78 M student for 19 classes."""

    __pydantic_config__: ClassVar = {"extra": "forbid"}

    num_classes: int = 19
    """Classes of the head."""
    in_channels: int = 4
    """Features per voxel: x, y, z in metres and intensity."""
    encoder_depths: tuple[int, ...] = (1, 1, 1, 2, 1)
    """Blocks per encoder stage, fine to coarse."""
    encoder_channels: tuple[int, ...] = (16, 16, 32, 64, 128)
    """Channels per encoder stage."""
    encoder_heads: tuple[int, ...] = (1, 1, 2, 4, 8)
    """Attention heads per encoder stage; 0 = its blocks have no attention (convolution and MLP)."""
    decoder_depths: tuple[int, ...] = (1, 1, 1, 1)
    """Blocks per decoder stage, fine to coarse; 0 = unpooling alone."""
    decoder_channels: tuple[int, ...] = (64, 64, 128, 128)
    """Channels per decoder stage."""
    decoder_heads: tuple[int, ...] = (2, 2, 4, 8)
    """Attention heads per decoder stage; 0 as in the encoder."""
    strides: tuple[int, ...] = (2, 2, 2, 2)
    """Pooling stride between stages, powers of two."""
    patch_sizes: tuple[int, ...] = (1024, 1024, 1024, 1024, 1024)
    """Voxels attended together, per stage; shared by encoder and decoder."""
    stem_size: Literal[3, 5] = 5
    """Edge of the stem's convolution kernel, voxels."""
    deep_xcpe: bool = True
    """False: where a stage has attention, only the first of its blocks convolves."""
    mlp_ratio: int = 4
    """Hidden width of the MLP over its input width."""
    drop_path: float = 0.0
    """Largest drop rate of a residual branch in training."""
    curves: tuple[Curve, ...] = CURVES
    """The space-filling curves blocks take turns with."""
    permutation: Permutation = ()
    """Per stage, the curve (index) of each block slot at evaluation; empty = as listed."""
    xcpe: XcpeMode = "stale_off"
    """What the convolutions were trained to read; networks trained here use ``stale_off``."""

    def __post_init__(self) -> None:
        stages = len(self.encoder_depths)
        if not self.permutation:
            identity = tuple(range(len(self.curves)))
            object.__setattr__(self, "permutation", (identity,) * stages)
        per_stage = ("encoder_channels", "encoder_heads", "patch_sizes", "permutation")
        between = ("strides", "decoder_depths", "decoder_channels", "decoder_heads")
        for names, length in ((per_stage, stages), (between, stages - 1)):
            for name in names:
                if len(getattr(self, name)) != length:
                    raise ValueError(f"{name} needs {length} entries, got {getattr(self, name)}")
        if any(stride < 2 or stride & (stride - 1) for stride in self.strides):
            raise ValueError(f"strides must be powers of two ≥ 2, got {self.strides}")
        if any(sorted(p) != list(range(len(self.curves))) for p in self.permutation):
            raise ValueError(f"permutation must reorder all {len(self.curves)} curves per stage")
        if min(*self.encoder_depths, self.num_classes, self.in_channels, *self.patch_sizes) < 1:
            raise ValueError("encoder depths, classes, channels and patch sizes must be ≥ 1")
        if min(self.decoder_depths, default=0) < 0:
            raise ValueError(f"decoder depths must be ≥ 0, got {self.decoder_depths}")
        if self.stem_size not in (3, 5):
            raise ValueError(f"stem_size must be 3 or 5, got {self.stem_size}")
        widths = zip(
            self.encoder_channels + self.decoder_channels,
            self.encoder_heads + self.decoder_heads,
            strict=True,
        )
        if any(heads < 0 or (heads and width % heads) for width, heads in widths):
            raise ValueError("channels must be a multiple of heads in every stage (0 = none)")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")

    def convolves(self, block: int, heads: int) -> bool:
        """Whether a block of a stage, counted from 0, has a convolution."""
        return self.deep_xcpe or block == 0 or heads == 0

    @property
    def walks(self) -> tuple[int, ...]:
        """Curves that the blocks of each stage take turns with; 0 where none has attention."""
        encoder = zip(self.encoder_depths, self.encoder_heads, strict=True)
        decoder = zip((*self.decoder_depths, 0), (*self.decoder_heads, 0), strict=True)
        blocks = [[depth if heads else 0 for depth, heads in pairs] for pairs in (encoder, decoder)]
        return tuple(min(max(pair), len(self.curves)) for pair in zip(*blocks, strict=True))
