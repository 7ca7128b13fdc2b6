# SPDX-License-Identifier: Apache-2.0
"""Draw docs/images/drive.webp: twenty seconds of a simulated drive, labelled by a shipped network.

Street, labels and pictures are made anew, some minutes on two cores; no screen is needed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pointdistill_ros import Segmenter
from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.evaluation.legend import class_entries
from pointdistill_ros.evaluation.progress import progress
from pointdistill_ros.simulation.drive import PERIOD
from tools.docs.animation.drive import NAME, labelled_drive
from tools.docs.animation.encode import write_webp
from tools.docs.animation.kept import KeptLabels
from tools.docs.animation.picture import Painter, write

ROOT = Path(__file__).resolve().parents[3]
PICTURE = ROOT / "docs" / "images" / "drive.webp"
KEPT = ROOT / "build" / "animation"
"""Labels of the scans; delete it when you are done with it."""


def main() -> None:
    """Render, label, paint, encode."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs.animation", description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURE, help="a .webp file")
    parser.add_argument("--weights", default="student", help="shipped name or file")
    parser.add_argument("--frames", type=int, default=200, help="ten a second")
    parser.add_argument("--limit", type=float, default=4.0, help="megabytes of the file")
    parser.add_argument("--threads", type=int, help="CPU threads of the network")
    options = parser.parse_args()
    network = Segmenter.load(options.weights, threads=options.threads)
    painter = Painter(network.label_set, options.frames)
    frames, words = [], []
    with progress() as bar:
        done = bar("drive", options.frames)
        label = KeptLabels(network, KEPT, f"{NAME}-{options.frames}")
        for shown in labelled_drive(label, network.label_set, options.frames):
            frames.append(painter(len(frames), shown))
            points = f"{round(shown.points, -3):,}".replace(",", " ")
            words.append({"points": points, "wrong": f"{painter.wrong:.0%}"})
            done(len(frames))
    title = f"{network.model_id}: {network.num_parameters / 1e6:.2f} million parameters"
    legend = class_entries(network.label_set, painter.frequent())
    for number, frame in enumerate(frames):
        write(frame, number / options.frames, words[number], title, legend)
    quality = write_webp(frames, options.out, PERIOD, round(options.limit * 1e6))
    size = options.out.stat().st_size / 1e6
    print(f"{options.out}: {len(frames)} frames, {size:.1f} MB, quality {quality}")
    print(f"{painter.wrong:.1%} of {painter.judged:,} points wrong")


if __name__ == "__main__":
    with one_line_errors("animation"):
        main()
