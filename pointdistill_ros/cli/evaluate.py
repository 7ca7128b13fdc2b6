# SPDX-License-Identifier: Apache-2.0
"""pointdistill evaluate: how good a network is on a labelled data set, and where it fails."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cli.options import (
    Device,
    Engine,
    MinPoints,
    Precision,
    Threads,
    Weights,
)
from pointdistill_ros.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.table import Table

    from pointdistill_ros.datasets.labelled import LabelledScans
    from pointdistill_ros.evaluation.result import Evaluation
    from pointdistill_ros.protocols.labellers import ProtocolName

SIMULATED = "simulated"
FIRST_UNSEEN_SEED = 100_000
"""Simulated streets from here on are for evaluation only."""
_WIDTH = 132


def evaluate(
    data: Annotated[
        str,
        typer.Argument(
            help="Root folder of a data set, as its makers publish it or packed; or the word "
            "simulated.",
            show_default=False,
        ),
    ],
    dataset: Annotated[
        str | None,
        typer.Option(help="semantic-kitti, nuscenes, waymo, pandaset …", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(help="train, val …, as the data set defines it.")] = "val",
    sequences: Annotated[
        str | None,
        typer.Option(help="Only these drives, comma-separated.", show_default=False),
    ] = None,
    every: Annotated[int, typer.Option(min=1, help="Every n-th scan only.")] = 1,
    weights: Weights = "student",
    protocol: Annotated[
        str,
        typer.Option(
            help="p1 (one pass, what a robot runs), p2 (all fragments), p3 (all views), "
            "comma-separated; the first is judged by --floor."
        ),
    ] = "p1",
    sub_sample: Annotated[
        float | None,
        typer.Option(help="Metres, of P2 and P3; default: half a voxel.", show_default=False),
    ] = None,
    label_set: Annotated[
        str | None,
        typer.Option(
            help="Judge in these classes, e.g. common7; default: the data set's own where the "
            "network has them, else common7.",
            show_default=False,
        ),
    ] = None,
    min_points: MinPoints = 100,
    no_intensity: Annotated[
        bool, typer.Option("--no-intensity", help="As from a lidar that measures none.")
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Folder for report.html and report.json; an interrupted run goes on there.",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures.", show_default=False)
    ] = None,
    floor: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, help="Exit with 1 where the mIoU is lower.", show_default=False
        ),
    ] = None,
    drives: Annotated[int, typer.Option(min=1, help="Streets, of simulated.")] = 8,
    cache: Annotated[Path, typer.Option(help="Rendered streets, of simulated.")] = Path(
        "runs/streets"
    ),
    device: Device = "auto",
    engine: Engine = "auto",
    threads: Threads = None,
    precision: Precision = "float32",
) -> None:
    """Figures on raw points: mIoU, per class, per drive, by distance, calibration.

    pointdistill evaluate KITTI --dataset semantic-kitti --protocol p1,p3 --report out

    pointdistill evaluate simulated --drives 4 --floor 0.3
    """
    from rich.console import Console

    from pointdistill_ros.evaluation.progress import progress
    from pointdistill_ros.evaluation.walk import shared_label_set
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.protocols.judge import Options

    # everything that can be refused is refused before anything is measured
    options = Options(
        protocols=_protocols(protocol),
        dataset=dataset or SIMULATED,
        intensity=not no_intensity,
        cell=sub_sample,
        min_points=min_points,
        threads=threads,
    )
    wanted = LabelSet.named(label_set) if label_set else None
    if report and report.exists() and not report.is_dir():
        raise InputError(f"{report}: is a file; --report names a folder")
    segmenter = load_segmenter(weights, device, engine, precision, threads)
    scans = _thinned(_open(data, dataset, split, sequences, drives, cache), every)
    classes = wanted or shared_label_set(segmenter.label_set, scans.label_set)
    source = {
        "dataset": dataset or SIMULATED,
        "split": split if dataset else f"{drives} unseen streets",
        "path": data,
        "sequences": sequences,
        "every": every,
        "intensity": not no_intensity,
    }
    with progress() as bar:
        from pointdistill_ros.protocols.judge import evaluation_of, exhibits, judge

        figures = judge(segmenter, scans, classes, options, bar, report, source)
        evaluation = evaluation_of(segmenter, figures, source, options, _command())
        if report:
            from pointdistill_ros.evaluation.report import write_report

            first = options.labeller(options.protocols[0], segmenter)
            pictures = exhibits(first, scans, evaluation.first, bar)
            write_report(evaluation, pictures, report / "report.html")
            evaluation.save(report / "report.json")
    if json_file:
        evaluation.save(json_file)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for table in _tables(evaluation):
        console.print(table)
    if report:
        console.print(f"report: {report / 'report.html'}", highlight=False)
    if floor is not None and not evaluation.first.miou >= floor:  # NaN is below, too
        name = options.protocols[0].upper()
        text = f"evaluate: mIoU {evaluation.first.miou:.4f} ({name}) is below {floor:g}"
        print(text, file=sys.stderr)
        raise typer.Exit(1)


def _protocols(text: str) -> tuple[ProtocolName, ...]:
    from pointdistill_ros.protocols.labellers import PROTOCOLS

    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    if unknown := sorted(set(names) - set(PROTOCOLS)):
        raise ConfigError(f"unknown protocol {', '.join(unknown)}; known: {', '.join(PROTOCOLS)}")
    return tuple(name for wanted in names for name in PROTOCOLS if name == wanted)


def _open(
    data: str, dataset: str | None, split: str, sequences: str | None, drives: int, cache: Path
) -> LabelledScans:
    if data == SIMULATED:
        from pointdistill_ros.datasets.simulated import SimulatedStreets

        seeds = range(FIRST_UNSEEN_SEED, FIRST_UNSEEN_SEED + drives)
        return SimulatedStreets(cache, seeds, frames=2, stride=25)
    from pointdistill_ros.datasets.open import dataset_names, open_in_convention

    if dataset is None:
        raise ConfigError(
            f"{data}: say with --dataset which data set this is; "
            f"known: {', '.join(dataset_names())}"
        )
    names = None if sequences is None else [s.strip() for s in sequences.split(",") if s.strip()]
    return open_in_convention(dataset, data, split, names)


def _thinned(scans: LabelledScans, every: int) -> LabelledScans:
    from pointdistill_ros.evaluation.walk import EveryNth

    return scans if every == 1 else EveryNth(scans, every)


def _command() -> str:
    return shlex.join(["pointdistill", *sys.argv[1:]])


def _tables(evaluation: Evaluation) -> Iterator[Table]:
    from pointdistill_ros.evaluation.tables import class_table, drive_table, figure_table

    yield figure_table(evaluation)
    yield class_table(evaluation)
    if len(evaluation.first.sequences) > 1:
        yield drive_table(evaluation)
