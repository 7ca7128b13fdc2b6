# SPDX-License-Identifier: Apache-2.0
"""pointdistill submit: label a test split and write or check the archive for its benchmark."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from pointdistill_ros.cli.network import load_segmenter
from pointdistill_ros.cli.options import Device, Engine, Precision, Threads, Weights
from pointdistill_ros.errors import InputError

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.progress import Bar
    from pointdistill_ros.evaluation.submission.benchmark import Benchmark
    from pointdistill_ros.evaluation.submission.validator import Check
    from pointdistill_ros.evaluation.walk import Labeller
    from pointdistill_ros.labels import LabelSet

SHOWN = 10
"""Findings of one check that are printed."""


class Passes(str, Enum):
    """How a scan is labelled (pointdistill_ros/protocols)."""

    p1 = "p1"
    p2 = "p2"
    p3 = "p3"


def submit(
    root: Annotated[
        Path,
        typer.Argument(
            help="Root of SemanticKITTI (with sequences/) or nuScenes (with v1.0-test/).",
            show_default=False,
        ),
    ],
    archive: Annotated[
        Path,
        typer.Argument(
            help="NAME.zip to write; predictions are collected in the folder NAME beside it.",
            show_default=False,
        ),
    ],
    check: Annotated[
        bool,
        typer.Option("--check", help="Only check an archive that is there (nuScenes: or folder)."),
    ] = False,
    split: Annotated[
        str, typer.Option(help="Split of the data set; the servers take test.")
    ] = "test",
    model: Weights = "student",
    protocol: Annotated[
        Passes,
        typer.Option(help="p1: one pass, as a robot runs; p2: all points; p3: many views, best."),
    ] = Passes.p1,
    device: Device = "auto",
    engine: Engine = "auto",
    precision: Precision = "float32",
    threads: Threads = None,
    external_data: Annotated[
        bool,
        typer.Option("--external-data", help="nuScenes: state that the method uses other data."),
    ] = False,
) -> None:
    """Label a benchmark's test split, write the archive for its server and check it.

    An interrupted run goes on where it stopped. Exit code 1 where the check finds something; every
    finding is one line. Nothing is sent anywhere.
    """
    from pointdistill_ros.evaluation.progress import progress
    from pointdistill_ros.evaluation.submission.open import open_benchmark

    if not check and archive.suffix != ".zip":  # before an hour of work
        raise InputError(f"{archive}: an archive must be named *.zip")
    benchmark = open_benchmark(root, split, external_data=external_data)
    print(f"{benchmark.dataset} {split}: {len(benchmark.members)} scans")
    with progress() as bar:
        if not check:
            from pointdistill_ros.protocols.labellers import labeller

            segmenter = load_segmenter(model, device, engine, precision, threads)
            _refuse_other_classes(benchmark, segmenter.label_set, segmenter.model_id)
            origin = {
                "weights": segmenter.weights_sha256,
                "precision": precision,
                "protocol": protocol.value,
            }
            judged = cast("Any", segmenter)  # p2 and p3 look inside
            by_protocol = labeller(protocol.value, judged, benchmark.dataset, threads=threads)
            _write(benchmark, by_protocol, origin, archive, bar)
        valid = _check(benchmark, archive, bar)
    if not valid:
        raise typer.Exit(1)


def _refuse_other_classes(benchmark: Benchmark, known: LabelSet, model_id: str) -> None:
    if known.names != benchmark.label_set.names:
        raise InputError(
            f"network {model_id} knows the classes of {known.name}; "
            f"this benchmark takes those of {benchmark.label_set.name}"
        )


def _write(
    benchmark: Benchmark, labeller: Labeller, origin: dict[str, Any], archive: Path, bar: Bar
) -> None:
    from pointdistill_ros.evaluation.submission.writer import write_archive, write_predictions

    folder, scans = archive.with_suffix(""), len(benchmark.members)
    labelled = write_predictions(
        benchmark,
        lambda scan: labeller(scan).labels,
        folder,
        origin,
        bar("label", scans),
    )
    write_archive(benchmark, folder, archive, bar("archive", scans))
    kept = f", {scans - labelled} were there" if labelled < scans else ""
    print(f"{labelled} scans labelled{kept} → {folder}/, {archive}")


def _check(benchmark: Benchmark, archive: Path, bar: Bar) -> bool:
    """Print every check as soon as it is done; True where nothing was found."""
    from pointdistill_ros.evaluation.submission.validator import validate

    findings = 0
    checks = validate(benchmark, archive, bar("check", len(benchmark.members)))
    for number, done in enumerate(checks, 1):
        _print(number, done)
        findings += len(done.findings)
    print("ready to submit" if not findings else f"not valid: {findings} findings")
    return not findings


def _print(number: int, check: Check) -> None:
    mark, detail = ("✗", "") if check.findings else ("✓", check.detail)
    print(f"  {number}. {check.title:26} {mark}  {detail}".rstrip())
    for finding in check.findings[:SHOWN]:
        print(f"       {finding}")
    if (more := len(check.findings) - SHOWN) > 0:
        print(f"       … and {more} more")
