# SPDX-License-Identifier: Apache-2.0
"""What the figures are drawn on: white in both colour schemes of the site, and small as files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation import Drive

INK, FAINT, TEAL, ORANGE = "#1f2933", "#8794a1", "#00897b", "#e4572e"
SEED = 11
"""Of the simulated street that the figures show."""


def street() -> tuple[LidarScan, NDArray[np.uint8]]:
    """A scan of a 64-beam lidar in a simulated street, with its true classes."""
    scan, labels, _ = Drive(seed=SEED, frames=1, lidar="hdl64e")[0]
    return scan, labels


def thousands(count: int) -> str:
    """A number with a space before every three digits."""
    return f"{count:,}".replace(",", "\u2009")


def new_figure(width: float, height: float) -> Any:
    """An empty figure, inches."""
    mpl.use("Agg")
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="white")


def save_png(figure: Any, path: Path, colours: int = 128) -> None:
    """Write a picture of few colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    picture = Image.open(buffer).convert("RGB").quantize(colours, dither=Image.Dither.NONE)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG", optimize=True)


def save_svg(figure: Any, path: Path) -> None:
    """Write a drawing whose text stays text; the same drawing gives the same bytes."""
    settings = {"svg.fonttype": "none", "svg.hashsalt": path.name, "font.family": "sans-serif"}
    with atomic_path(path) as temporary, mpl.rc_context(settings):
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
