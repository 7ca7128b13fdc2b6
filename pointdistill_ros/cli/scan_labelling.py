# SPDX-License-Identifier: Apache-2.0
"""Inputs opened, labelled and written, in whatever process this is."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pointdistill_ros.errors import CloudError, InputError, ScanError
from pointdistill_ros.io.pointcloud2 import DecodeOptions

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.progress import Bar
    from pointdistill_ros.io.sink import LabelSink
    from pointdistill_ros.io.source import ScanEntry, ScanSource
    from pointdistill_ros.scan import LidarScan
    from pointdistill_ros.segmentation import Segmentation
    from pointdistill_ros.segmenter import Segmenter


@dataclass(frozen=True)
class LabellingOptions:
    """What ``segment`` was asked for, beside inputs, outputs and the network. Picklable.

    Fields are the options of the same names.
    """

    topic: str | None = None
    decode: DecodeOptions = field(default_factory=DecodeOptions)
    z_offset: float = 0.0
    format: str = "label"
    layout: str = "xyzcpe_aligned"
    pictures: Path | None = None
    keep_going: bool = False


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


def label_inputs(
    inputs: Sequence[Path],
    output: Path,
    options: LabellingOptions,
    load: Callable[[], Segmenter],
    bar: Bar,
) -> Summary:
    """Label every scan of every input. Raises InputError and others of ours.

    ``load`` is called when the inputs and the output have been found fit.
    """
    from pointdistill_ros.io.sink import class_info_json, open_sink

    summary = Summary()
    sources = _open(inputs, options.topic, options.decode, summary, options.keep_going)
    suffix = f".{options.format}"
    open_sink(output, sources, suffix=suffix)  # refuse before the network is loaded
    segmenter = load()
    info = class_info_json(segmenter.label_set, segmenter.model_id, segmenter.weights_sha256)
    layout = cast("Any", options.layout)  # names are checked where they are known
    with open_sink(output, sources, suffix=suffix, layout=layout, class_info=info) as sink:
        _run(
            sources,
            lambda scan: segmenter(scan.lifted(options.z_offset)),
            sink,
            options.pictures,
            summary,
            options.keep_going,
            bar,
        )
    return summary


def _open(
    inputs: Sequence[Path],
    topic: str | None,
    options: DecodeOptions,
    summary: Summary,
    keep_going: bool,
) -> list[ScanSource]:
    """Open every input before anything is loaded or written. Raises InputError if none is left."""
    sources: list[ScanSource] = []
    for path in inputs:
        with _skipping(summary, keep_going):
            sources.append(open_source(path, topic, options))
    if not sources:
        raise InputError("; ".join(summary.skipped))
    return sources


def open_source(path: Path, topic: str | None, options: DecodeOptions) -> ScanSource:
    """A file, folder or bag that holds scans. Raises InputError."""
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
    bar: Bar,
) -> None:
    """Label every scan of every source. Raises InputError if none could be read."""
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
