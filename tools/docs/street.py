# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/simulated_street.png: a scan of a simulated street with its true classes."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from PIL import Image

from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.evaluation.pictures import birds_eye, range_view
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.simulation import Drive
from pointdistill_ros.simulation.materials import LABEL_SET

PICTURE = Path(__file__).resolve().parents[2] / "docs" / "images" / "simulated_street.png"
SEED, STYLE = 45, "suburban"


def draw_street(path: Path, lidar: str = "hdl64e") -> None:
    """From above, and as the sensor sees it below, one width; in the colours of the legend."""
    scan, labels, _ = Drive(SEED, 1, lidar, STYLE)[0]
    title = f"{STYLE.capitalize()} street, seed {SEED}"
    parts = []
    with tempfile.TemporaryDirectory() as folder:
        for draw in (birds_eye, range_view):
            part = Path(folder) / "part.png"
            draw(scan.xyz, labels, LABEL_SET, part, title=title)
            with Image.open(part) as image:
                parts.append(image.convert("RGB"))
    width = min(part.width for part in parts)
    parts = [
        part.resize((width, round(part.height * width / part.width)), Image.Resampling.LANCZOS)
        for part in parts
    ]
    whole = Image.new("RGB", (width, sum(part.height for part in parts)))
    top = 0
    for part in parts:
        whole.paste(part, (0, top))
        top += part.height
    with atomic_path(path) as temporary:
        whole.save(temporary, format="PNG", optimize=True)


def main() -> None:
    """Draw it."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.street", description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE, help="a .png file")
    options = parser.parse_args()
    draw_street(options.out)
    print(options.out)


if __name__ == "__main__":
    with one_line_errors("street"):
        main()
