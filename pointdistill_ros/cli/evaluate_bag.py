# SPDX-License-Identifier: Apache-2.0
"""pointdistill evaluate-bag: every frame of a bag, labelled and judged; none is dropped."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Callable
from functools import partial
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
    TargetFrame,
    Threads,
    Topic,
    ZeroIsNoReturn,
    ZOffset,
)
from pointdistill_ros.errors import InputError

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.bags.frames import FrameIndex
    from pointdistill_ros.evaluation.bags.result import BagEvaluation, Network
    from pointdistill_ros.evaluation.bags.run import BagRun
    from pointdistill_ros.evaluation.bags.truth import Truth
    from pointdistill_ros.labels import LabelSet
    from pointdistill_ros.segmenter import Segmenter

_WIDTH = 132


def evaluate_bag(
    bag: Annotated[
        Path,
        typer.Argument(help="Bag: .mcap, .db3, ROS 1 .bag, or a folder with metadata.yaml."),
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
        int, typer.Option(min=1, help="Processes. Latencies mean little with several.")
    ] = 1,
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
) -> None:
    """Every frame of a bag: student beside teacher and true labels, stability, latency.

    The labels are those that the node gives, byte for byte, for any number of workers.

    pointdistill evaluate-bag drive.mcap -o out

    pointdistill evaluate-bag drive/ -o out --teacher teacher.safetensors --labels /labels
    """
    from pointdistill_ros.cli.check_bag import reference_of
    from pointdistill_ros.evaluation.bags.frames import FrameIndex
    from pointdistill_ros.evaluation.bags.mounting import open_mounting
    from pointdistill_ros.evaluation.bags.rerun_recording import require_rerun
    from pointdistill_ros.evaluation.bags.run import BagRun
    from pointdistill_ros.io.pointcloud2 import DecodeOptions
    from pointdistill_ros.labels import LabelSet

    # everything that can be refused is refused before anything is measured
    if output.exists() and not output.is_dir():
        raise InputError(f"{output}: is a file; --out names a folder")
    if rerun:
        require_rerun()
    wanted = LabelSet.named(label_set) if label_set else None
    if classes != "model":
        LabelSet.named(classes)
    options = DecodeOptions(intensity_field, intensity_scale.value, zero_is_no_return)
    index = FrameIndex.of(bag, topic, keep_going)
    mounting = open_mounting(index, target_frame, keep_going) if target_frame else None
    share = threads or (max(1, len(os.sched_getaffinity(0)) // workers) if workers > 1 else None)
    named = {"student": weights} | ({"teacher": teacher} if teacher else {})
    loaded = {n: load_network(w, device, engine, share, precision) for n, w in named.items()}
    run = BagRun(
        index=index,
        folder=output / "frames",
        networks={name: _network(network, classes) for name, network in loaded.items()},
        loaders={
            name: _loader(network, workers, (named[name], device, network.engine, share, precision))
            for name, network in loaded.items()
        },
        reference=reference_of(loaded["student"].meta),
        options=options,
        z_offset=z_offset,
        mounting=mounting,
        classes=classes,
        truth=_truth(labels, index, wanted or loaded["student"].label_set),
        poses=poses,
        workers=workers,
        keep_going=keep_going,
        min_points=min_points,
        command=shlex.join(["pointdistill", *sys.argv[1:]]),
        version=_version(),
    )
    _report(run, output, rerun)


def _report(run: BagRun, output: Path, rerun: bool) -> None:
    from rich.console import Console

    from pointdistill_ros.evaluation.bags.gallery import drive_map, exhibits
    from pointdistill_ros.evaluation.bags.report import write_bag_report
    from pointdistill_ros.evaluation.bags.rerun_recording import write_recording
    from pointdistill_ros.evaluation.bags.tables import tables
    from pointdistill_ros.evaluation.progress import progress

    with progress() as bar:
        evaluation = run.evaluate(bar)
        pictures = exhibits(run, evaluation, bar)
        seen = drive_map(run, evaluation, bar)
        write_bag_report(evaluation, pictures, seen, output / "report.html")
        evaluation.save(output / "report.json")
        if rerun:
            write_recording(run, evaluation, output / "recording.rrd", bar)
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    for table in tables(evaluation):
        console.print(table)
    console.print(f"report: {output / 'report.html'}", highlight=False)
    _complain(evaluation)


def _complain(evaluation: BagEvaluation) -> None:
    """Exit with 1 where frames are missing."""
    for record in evaluation.failed:
        print(f"skipped: {record.error}", file=sys.stderr)
    damaged = [note for note in evaluation.notes if ": damaged" in note]
    for note in damaged:
        print(f"skipped: {note}", file=sys.stderr)
    if evaluation.failed or damaged:
        raise typer.Exit(1)


def load_network(
    weights: str, device: str, engine: str, threads: int | None, precision: str
) -> Segmenter:
    """Load a network and warm it up; tests put a fake here."""
    network = load_segmenter(weights, device, engine, precision, threads)
    network.warm_up()
    return network


def _loader(
    network: Segmenter, workers: int, arguments: tuple[str, str, str, int | None, str]
) -> Callable[[], Segmenter]:
    """How a process gets its network: one that labels here takes the one that is here."""
    return (lambda: network) if workers == 1 else partial(load_network, *arguments)


def _network(network: Segmenter, classes: str) -> Network:
    from pointdistill_ros.evaluation.bags.result import Network
    from pointdistill_ros.sent_classes import SentClasses

    detail = re.sub(r", \d+ threads", "", network.engine_detail)  # labels do not depend on them
    return Network(
        network.model_id,
        network.weights_sha256,
        network.num_parameters,
        network.meta.grid_size,
        f"{network.engine}: {detail}",
        SentClasses(network.label_set, classes).label_set,
    )


def _truth(labels: str | None, index: FrameIndex, label_set: LabelSet) -> Truth | None:
    from pointdistill_ros.evaluation.bags.truth import open_truth, own_truth

    if labels is not None:
        return open_truth(labels, index, label_set)
    truth, why_not = own_truth(index, label_set)
    if why_not:
        print(f"evaluate-bag: {why_not}", file=sys.stderr)
    return truth


def _version() -> str:
    from pointdistill_ros import __version__

    return __version__
