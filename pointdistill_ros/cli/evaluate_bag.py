# SPDX-License-Identifier: Apache-2.0
"""pointdistill evaluate-bag: every frame of a bag, labelled and judged; none is dropped."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cli.options import (
    Classes,
    Device,
    Engine,
    IntensityField,
    IntensityScale,
    IntensityScaleName,
    MinPoints,
    Precision,
    Ray,
    TargetFrame,
    Threads,
    Topic,
    ZeroIsNoReturn,
    ZOffset,
)
from pointdistill_ros.errors import InputError

if TYPE_CHECKING:
    from rich.console import Console

    from pointdistill_ros.evaluation.bags.result import BagEvaluation
    from pointdistill_ros.segmenter import Segmenter

_WIDTH = 132


def evaluate_bag(
    bags: Annotated[
        list[Path],
        typer.Argument(
            metavar="BAG",
            help="Bag: .mcap, .db3, ROS 1 .bag, or a folder with metadata.yaml. With --ray: bags, "
            "or folders of them.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder for report.html, report.json and the labels of every frame; an "
            "interrupted run goes on there.",
            show_default=False,
        ),
    ],
    weights: Annotated[
        str, typer.Option(help="Student: shipped name or .safetensors file.")
    ] = "student",
    teacher: Annotated[
        str | None,
        typer.Option(help="Weights of a second network to compare with.", show_default=False),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            help="True labels: folder of .label files, topic of labelled clouds, or field:NAME of "
            "the clouds; default: their field label, where they have one.",
            show_default=False,
        ),
    ] = None,
    label_set: Annotated[
        str | None,
        typer.Option(
            help="What the true labels mean, a name of config/labels; default: the student's.",
            show_default=False,
        ),
    ] = None,
    topic: Topic = None,
    poses: Annotated[
        str,
        typer.Option(
            help="Where the sensor was: auto, tf, a topic of odometry or poses, a file (TUM, or "
            "KITTI with calib.txt beside it), kiss-icp (an extra), none."
        ),
    ] = "auto",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Processes; default: 1, with --ray as many as the cluster has room for. "
            "Latencies mean little with several.",
            show_default=False,
        ),
    ] = None,
    min_points: MinPoints = 100,
    rerun: Annotated[
        bool,
        typer.Option("--rerun", help="Also write recording.rrd for the Rerun viewer (an extra)."),
    ] = False,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Skip clouds that cannot be read, list them, exit 1."),
    ] = False,
    intensity_field: IntensityField = "auto",
    intensity_scale: IntensityScale = IntensityScaleName.auto,
    zero_is_no_return: ZeroIsNoReturn = False,
    z_offset: ZOffset = 0.0,
    target_frame: TargetFrame = "",
    classes: Classes = "model",
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    threads: Threads = None,
    ray: Ray = None,
) -> None:
    """Every frame of a bag: student beside teacher and true labels, stability, latency.

    The labels are those that the node gives, byte for byte, for any number of workers.

    pointdistill evaluate-bag drive.mcap -o out

    pointdistill evaluate-bag drive/ -o out --teacher teacher.safetensors --labels /labels
    """
    from pointdistill_ros.cli.bag_evaluation import EvaluationOptions, evaluate_one
    from pointdistill_ros.evaluation.progress import progress
    from pointdistill_ros.io.pointcloud2 import DecodeOptions

    options = EvaluationOptions(
        weights=weights,
        teacher=teacher,
        labels=labels,
        label_set=label_set,
        topic=topic,
        poses=poses,
        workers=1 if ray is not None else workers or 1,
        min_points=min_points,
        rerun=rerun,
        keep_going=keep_going,
        decode=DecodeOptions(intensity_field, intensity_scale.value, zero_is_no_return),
        z_offset=z_offset,
        target_frame=target_frame,
        classes=classes,
        device=device,
        engine=engine,
        precision=precision,
        threads=threads,
        command=shlex.join(["pointdistill", *sys.argv[1:]]),
    )
    if ray is not None:
        from pointdistill_ros.cli.over_ray.evaluate import bags_table, evaluate_over_ray
        from pointdistill_ros.cli.over_ray.jobs import conclude

        outcomes = evaluate_over_ray(ray, bags, output, options, workers)
        _console().print(bags_table(outcomes))
        conclude(outcomes)
        return
    if len(bags) > 1:
        raise InputError(f"{len(bags)} bags; expected one, or --ray local to take several")
    with progress() as bar:
        evaluation = evaluate_one(bags[0], output, options, load_network, bar)
    _print(evaluation, output)


def _print(evaluation: BagEvaluation, output: Path) -> None:
    """Tables and where the report is. Exits with 1 where frames are missing."""
    from pointdistill_ros.cli.bag_evaluation import missing
    from pointdistill_ros.evaluation.bags.tables import tables

    console = _console()
    for table in tables(evaluation):
        console.print(table)
    console.print(f"report: {output / 'report.html'}", highlight=False)
    lines = missing(evaluation)
    for line in lines:
        print(f"skipped: {line}", file=sys.stderr)
    if lines:
        raise typer.Exit(1)


def _console() -> Console:
    """A terminal, or a file that is wide enough."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_WIDTH)


def load_network(
    weights: str, device: str, engine: str, threads: int | None, precision: str
) -> Segmenter:
    """Load a network and warm it up; tests put a fake here."""
    network = load_segmenter(weights, device, engine, precision, threads)
    network.warm_up()
    return network
