# SPDX-License-Identifier: Apache-2.0
"""Draw every figure into docs/images/, and write the numbers of one into docs/concepts.md."""

from __future__ import annotations

import argparse
from pathlib import Path

from pointdistill_ros.errors import one_line_errors
from tools.docs.figures.curves import draw_curves
from tools.docs.figures.node import draw_node
from tools.docs.figures.pyramid import draw_pyramid
from tools.docs.figures.stage_table import write_stage_table

IMAGES = Path(__file__).resolve().parents[3] / "docs" / "images"
FIGURES = {
    "concepts_curves.png": draw_curves,
    "concepts_pyramid.png": draw_pyramid,
    "concepts_node.svg": draw_node,
}


def main() -> None:
    """Draw those that are named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.figures", description=__doc__)
    parser.add_argument("--only", choices=FIGURES, help="this one alone")
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    options = parser.parse_args()
    for name, draw in FIGURES.items():
        if options.only in (None, name):
            draw(options.out / name)
            print(options.out / name)
    if options.out == IMAGES:
        write_stage_table()


if __name__ == "__main__":
    with one_line_errors("figures"):
        main()
