# SPDX-License-Identifier: Apache-2.0
r"""How good weights are on the project's own validation.

python -m training.evaluate --weights student --data DATA --protocol p1 p3 --out val.json
python -m training.evaluate --weights runs/seed0/s.safetensors runs/seed1/s.safetensors --data DATA

- the parts and the main figure are those of training/validation.py
- several weights (seeds) give a table of mean ± standard deviation
- with ``--steps``, all of it after each of these steps of load shedding instead
`pointdistill evaluate` judges any data set in the same way and writes a report.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.evaluation.figures import MIN_POINTS, Figures
from pointdistill_ros.evaluation.progress import Bar, progress
from pointdistill_ros.evaluation.walk import Labeller
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.model.degradation import NEAR_RADIUS, ladder
from pointdistill_ros.protocols.labellers import (
    PROTOCOLS,
    ProtocolName,
    WithoutIntensity,
    labeller,
)
from pointdistill_ros.segmenter import Segmenter
from training.thinned import ThinnedSegmenter
from training.validation import Part, spread, summary, validate, validation_parts

_WIDTH = 140


def evaluate(
    segmenter: Segmenter,
    parts: Sequence[Part],
    protocol: ProtocolName = "p1",
    bar: Bar = lambda title, scans: lambda done: None,
    *,
    intensity: bool = True,
    threads: int | None = None,
    cell: float | None = None,
    min_points: int = MIN_POINTS,
) -> dict[str, Figures]:
    """Figures of all parts under one protocol; options as on the command line."""

    def labeller_for(dataset: str) -> Labeller:
        chosen = labeller(protocol, segmenter, dataset, threads=threads, cell=cell)
        return chosen if intensity else WithoutIntensity(chosen)

    return validate(labeller_for, parts, bar, min_points)


def evaluate_steps(
    segmenter: Segmenter, parts: Sequence[Part], args: argparse.Namespace, bar: Bar
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and figures of every step of ``args.steps``, with the voxels and seconds per scan."""
    steps = ladder(args.near_radius)
    for step in args.steps:
        thinned = ThinnedSegmenter(
            segmenter.network, segmenter.meta, steps[step], args.grid_factor, not args.isolated
        )
        figures = validate(_always(thinned), parts, bar, args.min_points)
        yield (
            steps[step].name,
            {
                **{title: part.to_dict() for title, part in figures.items()},
                "voxels per scan": round(float(np.mean(thinned.voxels))),
                "network seconds per scan": round(float(np.mean(thinned.seconds)), 4),
            },
        )


def _always(chosen: Labeller) -> Callable[[str], Labeller]:
    return lambda dataset: chosen


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


def tables(figures: dict[str, Figures], title: str) -> Iterator[Table]:
    """One table of figures, one of IoUs per class and part."""
    least = next(iter(figures.values())).min_points
    parts = Table("", "scans", "points", "accuracy", "class acc.", "mIoU", "fw IoU", "ECE", "s")
    parts.title = f"{title}: mIoU and class accuracy over classes with ≥ {least} points; s = CPU"
    for name, part in figures.items():
        row = part.to_dict()
        cells = [row[key] for key in ("accuracy", "mean_accuracy", "miou", "fw_iou", "ece")]
        parts.add_row(
            name,
            f"{row['scans']}",
            f"{row['points']:,}",
            *("–" if cell is None else f"{cell:.4f}" for cell in cells),
            f"{row['seconds_per_scan']:.2f}",
        )
    yield parts
    classes = Table("IoU (points)", *figures)
    for name in dict.fromkeys(n for part in figures.values() for n in part.label_set.names):
        cells = [part.to_dict()["classes"].get(name) for part in figures.values()]
        if any(cells):
            text = (f"{c['iou']:.3f} ({c['points']:,})" if c else "" for c in cells)
            classes.add_row(name, *text)
    yield classes


def spread_table(results: dict[str, dict[str, Any]]) -> Table:
    """Figures of all weights together, one column per protocol."""
    table = Table("mean ± standard deviation over the weights", *(p.upper() for p in results))
    for name in next(iter(results.values())):
        table.add_row(name, *(_plus_minus(values[name]) for values in results.values()))
    return table


def _plus_minus(figure: dict[str, Any]) -> str:
    if figure["std"] is None:
        return f"{figure['mean']:.4f}"
    return f"{figure['mean']:.4f} ± {figure['std']:.4f} (n = {figure['n']})"


def _run(args: argparse.Namespace, console: Console) -> dict[str, Any]:
    segmenters = [  # before streets are rendered, which takes minutes
        Segmenter.load(
            weights,
            engine="torch" if args.steps else args.engine,
            threads=args.threads,
            precision=args.precision,
        )
        for weights in args.weights
    ]
    parts = validation_parts(args.data, args.cache, args.drives)
    results: dict[str, Any] = {"no_intensity": args.no_intensity, "weights": {}}
    summaries: dict[str, list[dict[str, float]]] = {protocol: [] for protocol in args.protocol}
    for weights, segmenter in zip(args.weights, segmenters, strict=True):
        result: dict[str, Any] = {"sha256": segmenter.weights_sha256}
        results["weights"][str(weights)] = result
        with progress() as bar:
            if args.steps:
                result["steps"] = dict(evaluate_steps(segmenter, parts, args, bar))
                console.print(step_table(result["steps"]))
                continue
            for protocol in args.protocol:
                figures = evaluate(
                    segmenter,
                    parts,
                    protocol,
                    bar,
                    intensity=not args.no_intensity,
                    threads=args.threads,
                    cell=args.sub_sample,
                    min_points=args.min_points,
                )
                result[protocol] = {
                    "summary": summary(figures),
                    "parts": {title: part.to_dict() for title, part in figures.items()},
                }
                summaries[protocol].append(result[protocol]["summary"])
                for table in tables(figures, f"{weights}, {protocol.upper()}"):
                    console.print(table)
    if not args.steps and all(one for many in summaries.values() for one in many):
        results["spread"] = {protocol: spread(many) for protocol, many in summaries.items()}
        console.print(spread_table(results["spread"]))
    return results


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", nargs="+", default=["student"], help="shipped names or checkpoint paths")
    add("--data", type=Path, help="folder of packed scans; none = simulated only")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--drives", type=int, default=8, help="unseen simulated streets")
    add("--protocol", nargs="+", choices=PROTOCOLS, default=["p1"], help="P3 takes many passes")
    add("--sub-sample", type=float, help="metres, of P2 and P3; default half a voxel")
    add("--no-intensity", action="store_true", help="as from a lidar that measures none")
    add("--min-points", type=int, default=MIN_POINTS, help="rarer classes enter no mean")
    add("--threads", type=int, help="CPU threads")
    add("--engine", default="auto", help="auto, native, torch, …; steps take torch")
    add("--precision", default="float32", help="float32, bfloat16 or float16")
    add("--steps", type=int, nargs="*", default=[], help="of load shedding, 0 = none")
    add("--near-radius", type=float, default=NEAR_RADIUS, help="metres, of step 1")
    add("--isolated", action="store_true", help="thinned voxels do not count as neighbours")
    add("--grid-factor", type=float, default=1.0, help="coarser voxels, with --steps")
    add("--out", type=Path, help="write the figures as JSON")
    return parser


def main() -> None:
    """Parse the command line, evaluate, print and write."""
    args = _parser().parse_args()
    console = Console()
    results = _run(args, console if console.is_terminal else Console(width=_WIDTH))
    if args.out:
        with atomic_path(args.out) as temporary:
            temporary.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    with one_line_errors("evaluate"):
        main()
