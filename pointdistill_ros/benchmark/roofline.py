# SPDX-License-Identifier: Apache-2.0
"""How much work a network is on a scan: floating point operations and bytes, per part.

FLOPs (a multiply and an add are two) of the function with the linear behind each convolution folded
into it; exponentials, norms and activations are not counted. Bytes are what three kernels per block
must read and write once, neighbour tables and weights included, gathers served by the caches.
The limit of a part is the larger of FLOPs over peak and bytes over bandwidth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pointdistill_ros.model.config import PTv3Config

PARTS = ("stem", "convolution", "attention", "mlp", "pooling", "head")
"""As the CPU engine times them: ``convolution`` includes qkv, ``mlp`` the projection before it."""
_FLOAT, _INDEX, _STEM_PAIR = 4, 4, 5


@dataclass(frozen=True)
class Geometry:
    """Sizes of a scan's pyramid."""

    rows: tuple[int, ...]
    """Voxels per stage, fine to coarse."""
    pairs: tuple[int, ...]
    """Pairs of the 3³ kernel per stage, every voxel with itself included."""
    stem_pairs: int
    """Pairs of the 5³ stem."""


@dataclass
class Work:
    """Of one part."""

    flops: float = 0.0
    bytes: float = 0.0


@dataclass(frozen=True)
class Peaks:
    """What this machine can do at most, with the threads of the benchmark."""

    flops: Mapping[str, float]
    """Precision → FLOP/s."""
    bandwidth: float
    """Bytes/s, read plus written."""
    method: str
    """How it was measured."""


def count(config: PTv3Config, geometry: Geometry, element: int = 4) -> dict[str, Work]:
    """Work per part; ``element``: bytes of a stored activation or weight (the residual has 4)."""
    work = {part: Work() for part in PARTS}
    rows, widths = geometry.rows, config.encoder_channels
    _stem(work["stem"], config, geometry, element)
    for s, depth in enumerate(config.encoder_depths):
        heads = config.encoder_heads[s]
        for block in range(depth):
            has = (config.convolves(block, heads), heads > 0)
            _block(work, config, geometry, s, widths[s], has, element)
    below = widths[-1]
    for s in reversed(range(len(rows) - 1)):
        _pooling(work["pooling"], rows[s], rows[s + 1], widths[s], widths[s + 1], element)
        width = config.decoder_channels[s]
        _unpooling(work["pooling"], rows[s], rows[s + 1], (below, widths[s], width), element)
        heads = config.decoder_heads[s]
        for block in range(config.decoder_depths[s]):
            has = (config.convolves(block, heads), heads > 0)
            _block(work, config, geometry, s, width, has, element)
        below = width
    _dense(work["head"], rows[0], below, config.num_classes, element)
    work["head"].bytes += element * rows[0] * (below + config.num_classes)
    return work


def total(work: Mapping[str, Work]) -> Work:
    """Sum of all parts."""
    return Work(sum(w.flops for w in work.values()), sum(w.bytes for w in work.values()))


def limit_seconds(work: Work, flops: float, bandwidth: float) -> float:
    """The least time of a part on a machine with those peaks."""
    return max(work.flops / flops, work.bytes / bandwidth)


def _stem(work: Work, config: PTv3Config, geometry: Geometry, element: int) -> None:
    width, n = config.encoder_channels[0], geometry.rows[0]
    work.flops += 2 * geometry.stem_pairs * config.in_channels * width
    weights = config.stem_size**3 * config.in_channels * width
    work.bytes += _FLOAT * (n * config.in_channels + n * width + weights)
    work.bytes += _STEM_PAIR * geometry.stem_pairs
    if element != _FLOAT:
        work.bytes += element * n * width  # the low-precision copy


def _block(
    work: dict[str, Work],
    config: PTv3Config,
    geometry: Geometry,
    s: int,
    width: int,
    has: tuple[bool, bool],
    element: int,
) -> None:
    """``has``: whether it has a convolution, and attention."""
    convolves, attends = has
    n, hidden = geometry.rows[s], config.mlp_ratio * width
    convolution = work["convolution"]
    if convolves:
        convolution.flops += 2 * geometry.pairs[s] * width * width
    # reads x twice (as input, as residual), writes x; reads the table and the weights
    copy = element if element != _FLOAT else 0
    convolution.bytes += n * width * (2 * _FLOAT + copy)
    if convolves:
        convolution.bytes += 27 * (_INDEX * n + element * width * width)

    mlp = work["mlp"]
    _dense(mlp, n, width, hidden, element)
    _dense(mlp, n, hidden, width, element)
    mlp.bytes += n * width * (2 * _FLOAT + copy)

    if attends:
        _dense(convolution, n, width, 3 * width, element)
        convolution.bytes += 3 * element * n * width  # q, k, v out
        attention = work["attention"]
        attention.flops += 4 * n * min(config.patch_sizes[s], n) * width  # q·k and p·v
        attention.bytes += element * n * 4 * width  # q, k, v in, result out
        _dense(mlp, n, width, width, element)
        mlp.bytes += element * n * width


def _pooling(work: Work, fine: int, coarse: int, before: int, width: int, element: int) -> None:
    _dense(work, fine, before, width, element)
    work.bytes += element * fine * before + _FLOAT * coarse * width + _INDEX * coarse


def _unpooling(
    work: Work, fine: int, coarse: int, widths: tuple[int, int, int], element: int
) -> None:
    below, skip, width = widths
    _dense(work, coarse, below, width, element)
    _dense(work, fine, skip, width, element)
    work.bytes += element * (coarse * below + fine * skip) + _INDEX * fine
    work.bytes += _FLOAT * width * (2 * coarse + fine)


def _dense(work: Work, n: int, inputs: int, outputs: int, element: int) -> None:
    """A linear layer over n rows: its FLOPs, and its weights once."""
    work.flops += 2 * n * inputs * outputs
    work.bytes += element * inputs * outputs
