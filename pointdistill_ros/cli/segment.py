# SPDX-License-Identifier: Apache-2.0
"""pointdistill segment: files, folders and bags in; one class per point out."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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
    Threads,
    Topic,
    Weights,
    ZeroIsNoReturn,
    ZOffset,
)
from pointdistill_ros.errors import CloudError, InputError, ScanError

if TYPE_CHECKING:
    from pointdistill_ros.io.pointcloud2 import DecodeOptions
    from pointdistill_ros.io.sink import LabelSink
    from pointdistill_ros.io.source import ScanEntry, ScanSource
    from pointdistill_ros.scan import LidarScan
    from pointdistill_ros.segmentation import Segmentation


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


@dataclass
class Summary:
    """What one run did."""

    scans: int = 0
    points: int = 0
    milliseconds: float = 0.0
    """Time in the segmenter alone."""
    classes: Counter[str] = field(default_factory=Counter)
    """Points per class name."""
    skipped: list[str] = field(default_factory=list)
    """One line for every scan or input that could not be read."""


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
) -> None:
    """Label every point of scans, folders and bags.

    A folder of scans gives files of the same names; points keep their order and coordinates. How
    intensities are read is a question of bags only: scan files hold what their format says. Bad
    input ends with one line and exit code 2; every file is written whole or not at all.
    """
    from pointdistill_ros.io.pointcloud2 import DecodeOptions
    from pointdistill_ros.io.sink import class_info_json, open_sink

    summary = Summary()
    options = DecodeOptions(intensity_field, intensity_scale.value, zero_is_no_return)
    sources = _open(inputs, topic, options, summary, keep_going)
    open_sink(output, sources, suffix=f".{format.value}")  # refuse before the network is loaded
    segmenter = load_segmenter(model, device, engine, precision, threads)
    sink = open_sink(
        output,
        sources,
        suffix=f".{format.value}",
        layout=layout.value,
        class_info=class_info_json(
            segmenter.label_set, segmenter.model_id, segmenter.weights_sha256
        ),
    )
    with sink:
        _run(
            sources,
            lambda scan: segmenter(scan.lifted(z_offset)),
            sink,
            pictures,
            summary,
            keep_going,
        )
    _print(summary, output)
    if summary.skipped:
        raise typer.Exit(1)


def _open(
    inputs: list[Path],
    topic: str | None,
    options: DecodeOptions,
    summary: Summary,
    keep_going: bool,
) -> list[ScanSource]:
    """Open every input before anything is loaded or written. Raises InputError if none is left."""
    sources: list[ScanSource] = []
    for path in inputs:
        with _skipping(summary, keep_going):
            sources.append(_open_one(path, topic, options))
    if not sources:
        raise InputError("; ".join(summary.skipped))
    return sources


def _open_one(path: Path, topic: str | None, options: DecodeOptions) -> ScanSource:
    from pointdistill_ros.io.open import ScanFiles, open_scans

    source = open_scans(path, topic, options)
    if not len(source):
        raise InputError(f"{path}: holds no scans")
    if isinstance(source, ScanFiles) and options != type(options)():
        raise InputError(
            f"{path}: scan files hold what their format says; --intensity-field, "
            "--intensity-scale and --zero-is-no-return are for the clouds of bags"
        )
    return source


def _run(
    sources: list[ScanSource],
    label: Callable[[LidarScan], Segmentation],
    sink: LabelSink,
    pictures: Path | None,
    summary: Summary,
    keep_going: bool,
) -> None:
    """Label every scan of every source. Raises InputError if none could be read."""
    from pointdistill_ros.evaluation.progress import progress

    with progress() as bar:
        on_scan, done = bar("segment", sum(map(len, sources))), 0
        for source in sources:
            with _skipping(summary, keep_going):  # around the loop: a bag can break off
                for entry in source.entries():
                    with _skipping(summary, keep_going):
                        _segment_named(source.path, entry, label, sink, pictures, summary)
                    done += 1
                    on_scan(done)
    if not summary.scans:
        raise InputError("; ".join(summary.skipped))


@contextmanager
def _skipping(summary: Summary, keep_going: bool) -> Iterator[None]:
    """Note bad input in the summary instead of raising, if asked to keep going."""
    try:
        yield
    except InputError as error:
        if not keep_going:
            raise
        summary.skipped.append(str(error))


def _segment_named(
    path: Path,
    entry: ScanEntry,
    label: Callable[[LidarScan], Segmentation],
    sink: LabelSink,
    pictures: Path | None,
    summary: Summary,
) -> None:
    """Label one scan; errors that do not know where the scan came from are told."""
    try:
        scan, segmentation = _segment_one(entry, label, sink, summary)
        if pictures is not None:
            _draw(scan, segmentation, pictures, f"{path.stem}_{entry.name}")
    except (CloudError, ScanError) as error:
        raise InputError(f"{path}: scan {entry.name}: {error}") from error


def _segment_one(
    entry: ScanEntry,
    label: Callable[[LidarScan], Segmentation],
    sink: LabelSink,
    summary: Summary,
) -> tuple[LidarScan, Segmentation]:
    scan = entry.load()
    start = time.perf_counter()
    segmentation = label(scan)
    summary.milliseconds += 1e3 * (time.perf_counter() - start)
    sink.write(entry, scan, segmentation)
    summary.scans += 1
    summary.points += len(scan)
    summary.classes.update(segmentation.counts())
    return scan, segmentation


def _draw(scan: LidarScan, segmentation: Segmentation, folder: Path, name: str) -> None:
    from pointdistill_ros.evaluation.pictures import birds_eye, range_view

    arguments = (scan.xyz, segmentation.labels, segmentation.label_set)
    birds_eye(*arguments, folder / f"{name}_above.png", title=name)
    range_view(*arguments, folder / f"{name}_range.png", title=name)


def _print(summary: Summary, output: Path) -> None:
    speed = summary.milliseconds / summary.scans
    scans = "1 scan" if summary.scans == 1 else f"{summary.scans} scans"
    print(f"{scans}, {summary.points} points, {speed:.1f} ms a scan → {output}")
    for name, count in summary.classes.most_common():
        if count:
            print(f"  {name:24} {100 * count / summary.points:5.1f} %")
    for line in summary.skipped:
        print(f"skipped: {line}", file=sys.stderr)
