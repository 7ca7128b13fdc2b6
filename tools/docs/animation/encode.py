# SPDX-License-Identifier: Apache-2.0
"""Frames → an animated WebP that is small enough for a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.io.atomic import atomic_path

QUALITIES = (80, 70, 60, 50, 43, 37, 32, 28, 24, 20, 17, 14)
"""Of lossy WebP, the first that fits is taken."""


def write_webp(frames: Sequence[Image.Image], path: Path, period: float, limit: int) -> int:
    """Write it, at most ``limit`` bytes; returns the quality. Raises ConfigError.

    ``period``: seconds a frame. Whether one fits is guessed from every eighth frame first.
    """
    for quality in QUALITIES:
        sample = len(_encoded(frames[::8], period, quality))
        if sample * len(frames) / len(frames[::8]) > 1.1 * limit and len(frames) > 8:
            continue
        data = _encoded(frames, period, quality)
        if len(data) <= limit:
            with atomic_path(path) as temporary:
                temporary.write_bytes(data)
            return quality
    raise ConfigError(
        f"{path}: {len(frames)} frames do not fit into {limit} bytes; take fewer, or a higher limit"
    )


def _encoded(frames: Sequence[Image.Image], period: float, quality: int) -> bytes:
    file = io.BytesIO()
    frames[0].save(
        file,
        "WEBP",
        save_all=True,
        append_images=list(frames[1:]),
        duration=round(1000 * period),
        loop=0,
        quality=quality,
        method=4,
    )
    return file.getvalue()
