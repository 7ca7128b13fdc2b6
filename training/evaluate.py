# SPDX-License-Identifier: Apache-2.0
r"""How good are these weights? One pass per scan, every raw point counted (protocol P1).

python -m training.evaluate --weights runs/first/student.safetensors --data DATA \
    --out runs/first/val.json

- real validation scans: per sequence accuracy, mIoU over classes with at least 100 points, IoUs
- a foreign sensor in the seven classes that all data sets share
- simulated streets whose seeds training never uses
- with ``--steps``, all of it after each of these steps of load shedding instead
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.evaluation.confusion import ConfusionMatrix
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.model.degradation import NEAR_RADIUS, ladder
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation
from pointdistill_ros.segmenter import Segmenter
from training.thinned import ThinnedSegmenter

MIN_POINTS = 100
"""Classes with fewer true points do not enter a mean IoU."""
FIRST_UNSEEN_SEED = 100_000
"""Streets from here on are for evaluation only."""
VALIDATION = {"semantic-kitti": ("07", "10"), "pandaset": ("003",)}
"""Real sequences, by sensor convention."""

Scans = Iterable[tuple[LidarScan, NDArray[np.uint8]]]


class Labeller(Protocol):
    """What can be evaluated."""

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""

    def __call__(self, scan: LidarScan) -> Segmentation:
        """One label per point."""


def evaluate(segmenter: Labeller, scans: Scans, label_set: LabelSet) -> ConfusionMatrix:
    """Segment all scans and count against labels of ``label_set``, remapping if it is another."""
    table = segmenter.label_set.remap_to(label_set)
    matrix = ConfusionMatrix(len(label_set))
    for scan, truth in scans:
        matrix.update(table[segmenter(scan).labels], truth)
    return matrix


def report(matrix: ConfusionMatrix, label_set: LabelSet) -> dict[str, Any]:
    """Plain data of one matrix: accuracy, mIoU, and IoU with point count of every true class."""
    points, iou = matrix.points(), matrix.iou()
    return {
        "points": int(points.sum()),
        "accuracy": round(matrix.accuracy(), 4),
        "miou": round(matrix.miou(MIN_POINTS), 4),
        "classes": {
            name: {"points": int(points[i]), "iou": round(float(iou[i]), 4)}
            for i, name in enumerate(label_set.names)
            if points[i]
        },
    }


def evaluate_all(
    segmenter: Labeller, data: Path | None, cache: Path, drives: int
) -> dict[str, Any]:
    """Reports of every part there is data for, under the name of the part."""
    results: dict[str, Any] = {}
    for convention, sequences in VALIDATION.items() if data else ():
        name = "semantic-kitti" if convention == "semantic-kitti" else "common7"
        label_set = LabelSet.named(name)
        for sequence in sequences:
            scans = PackedScans(
                data, SensorConvention.named(convention), "val", [sequence], label_set
            )
            title = f"{convention} {sequence}"
            progress = track(scans, title, console=Console(stderr=True))
            results[title] = report(evaluate(segmenter, progress, label_set), label_set)
    if drives:
        label_set = LabelSet.named("semantic-kitti")
        seeds = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + drives)
        streets = SimulatedStreets(cache, seeds, frames=2, stride=25)
        progress = track(streets, "simulated", console=Console(stderr=True))
        results["simulated"] = report(evaluate(segmenter, progress, label_set), label_set)
    kitti = [part["miou"] for name, part in results.items() if name.startswith("semantic-kitti")]
    if kitti:
        results["semantic-kitti mean of mIoUs"] = round(float(np.mean(kitti)), 4)
    return results


def evaluate_steps(
    segmenter: Segmenter, args: argparse.Namespace
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Name and reports of every step of ``args.steps``, with the voxels and seconds per scan."""
    steps = ladder(args.near_radius)
    for step in args.steps:
        thinned = ThinnedSegmenter(
            segmenter.network, segmenter.meta, steps[step], args.grid_factor, not args.isolated
        )
        parts = evaluate_all(thinned, args.data, args.cache, args.drives)
        parts["voxels per scan"] = round(float(np.mean(thinned.voxels)))
        parts["network seconds per scan"] = round(float(np.mean(thinned.seconds)), 4)
        yield steps[step].name, parts


def step_table(steps: dict[str, dict[str, Any]]) -> Table:
    """One row per step of load shedding."""
    parts = [name for name, part in next(iter(steps.values())).items() if isinstance(part, dict)]
    means = [name for name in next(iter(steps.values())) if name not in parts]
    table = Table("mIoU after", *parts, *means)
    for name, results in steps.items():
        table.add_row(
            name,
            *(f"{results[part]['miou']:.3f}" for part in parts),
            *(f"{results[mean]:,.3f}".removesuffix(".000") for mean in means),
        )
    return table


def tables(results: dict[str, Any]) -> Iterable[Table]:
    """One table of figures, one of IoUs per class and part."""
    parts = {name: part for name, part in results.items() if isinstance(part, dict)}
    summary = Table("", "points", "accuracy", f"mIoU (≥ {MIN_POINTS} points)")
    for name, part in parts.items():
        summary.add_row(
            name, f"{part['points']:,}", f"{part['accuracy']:.3f}", f"{part['miou']:.3f}"
        )
    for name, value in results.items():
        if name not in parts:
            summary.add_row(name, "", "", f"{value:.3f}")
    yield summary
    classes = Table("IoU", *parts)
    for name in dict.fromkeys(name for part in parts.values() for name in part["classes"]):
        cells = [part["classes"].get(name) for part in parts.values()]
        classes.add_row(name, *(f"{c['iou']:.3f} ({c['points']:,})" if c else "" for c in cells))
    yield classes


def main() -> None:
    """Parse the command line, evaluate, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", default="student", help="shipped name or checkpoint path")
    parser.add_argument("--data", type=Path, help="folder of packed scans; none = simulated only")
    parser.add_argument("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    parser.add_argument("--drives", type=int, default=8, help="unseen simulated streets")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--engine", default="auto", help="auto, native, torch, …; steps take torch")
    parser.add_argument("--precision", default="float32", help="float32, bfloat16 or float16")
    parser.add_argument(
        "--steps", type=int, nargs="*", default=[], help="of load shedding, 0 = none"
    )
    parser.add_argument("--near-radius", type=float, default=NEAR_RADIUS, help="metres, of step 1")
    parser.add_argument(
        "--isolated", action="store_true", help="thinned voxels do not count as neighbours"
    )
    parser.add_argument(
        "--grid-factor", type=float, default=1.0, help="coarser voxels, with --steps"
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args()
    segmenter = Segmenter.load(
        args.weights,
        engine="torch" if args.steps else args.engine,
        threads=args.threads,
        precision=args.precision,
    )
    results: dict[str, Any] = {"weights_sha256": segmenter.weights_sha256}
    if args.steps:
        results["steps"] = dict(evaluate_steps(segmenter, args))
        Console().print(step_table(results["steps"]))
    else:
        results["parts"] = evaluate_all(segmenter, args.data, args.cache, args.drives)
        for table in tables(results["parts"]):
            Console().print(table)
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    with one_line_errors("evaluate"):
        main()
