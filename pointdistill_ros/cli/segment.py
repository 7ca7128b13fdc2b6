# SPDX-License-Identifier: Apache-2.0
"""pointdistill segment: files, folders and bags in; one class per point out."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cli.options import (
    Device,
    Engine,
    IntensityField,
    IntensityScale,
    IntensityScaleName,
    Precision,
    Ray,
    Threads,
    Topic,
    Weights,
    ZeroIsNoReturn,
    ZOffset,
)
from pointdistill_ros.errors import ConfigError

if TYPE_CHECKING:
    from pointdistill_ros.cli.scan_labelling import Summary


class Layout(str, Enum):
    """How the labelled clouds of a bag are laid out."""

    xyzcpe_aligned = "xyzcpe_aligned"
    xyzcpe_packed = "xyzcpe_packed"
    append = "append"
    rgb = "rgb"


class Format(str, Enum):
    """What is written per scan."""

    label = "label"
    npz = "npz"


def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(
            help="Scans (.bin .pcd.bin .pcd .npy .npz), folders of them, KITTI sequence folders, "
            "bags (.mcap .db3 .bag or folder).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--out",
            help="Folder for one label file per scan, or NAME.mcap for a bag with the input clouds "
            "and the labelled ones.",
            show_default=False,
        ),
    ],
    model: Weights = "student",
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    threads: Threads = None,
    topic: Topic = None,
    intensity_field: IntensityField = "auto",
    intensity_scale: IntensityScale = IntensityScaleName.auto,
    zero_is_no_return: ZeroIsNoReturn = False,
    z_offset: ZOffset = 0.0,
    format: Annotated[
        Format,
        typer.Option(help="label: raw ids as in SemanticKITTI; npz: with probability and entropy."),
    ] = Format.label,
    layout: Annotated[
        Layout, typer.Option(help="Layout of the labelled clouds in a bag.")
    ] = Layout.xyzcpe_aligned,
    pictures: Annotated[
        Path | None,
        typer.Option(help="Also draw every scan, from above and as range view, into this folder."),
    ] = None,
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Skip what cannot be read, list it, exit with 1."),
    ] = False,
    ray: Ray = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="With --ray: processes; default: as many as the cluster has room for.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Label every point of scans, folders and bags.

    A folder of scans gives files of the same names; points keep their order and coordinates. How
    intensities are read is a question of bags only: scan files hold what their format says. Bad
    input ends with one line and exit code 2; every file is written whole or not at all.
    """
    from pointdistill_ros.cli.scan_labelling import LabellingOptions, label_inputs
    from pointdistill_ros.evaluation.progress import progress
    from pointdistill_ros.io.pointcloud2 import DecodeOptions

    options = LabellingOptions(
        topic=topic,
        decode=DecodeOptions(intensity_field, intensity_scale.value, zero_is_no_return),
        z_offset=z_offset,
        format=format.value,
        layout=layout.value,
        pictures=pictures,
        keep_going=keep_going,
    )
    if ray is not None:
        from pointdistill_ros.cli.over_ray.jobs import conclude
        from pointdistill_ros.cli.over_ray.segment import segment_over_ray

        network = {
            "weights": model,
            "device": device,
            "engine": engine,
            "precision": precision,
            "threads": threads,
        }
        summary, outcomes = segment_over_ray(ray, inputs, output, options, network, workers)
        _print(summary, output)
        conclude(outcomes)
        return
    if workers is not None:
        raise ConfigError("--workers goes with --ray")
    with progress() as bar:
        summary = label_inputs(
            inputs,
            output,
            options,
            lambda: load_segmenter(model, device, engine, precision, threads),
            bar,
        )
    _print(summary, output)
    if summary.skipped:
        raise typer.Exit(1)


def _print(summary: Summary, output: Path) -> None:
    speed = summary.milliseconds / summary.scans
    scans = "1 scan" if summary.scans == 1 else f"{summary.scans} scans"
    print(f"{scans}, {summary.points} points, {speed:.1f} ms a scan → {output}")
    for name, count in summary.classes.most_common():
        if count:
            print(f"  {name:24} {100 * count / summary.points:5.1f} %")
    for line in summary.skipped:
        print(f"skipped: {line}", file=sys.stderr)
