# SPDX-License-Identifier: Apache-2.0
"""pointdistill submit: label a test split and write or check the archive for its benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointdistill_ros.cli.segment import SegmenterLike, load_segmenter
from pointdistill_ros.errors import InputError

if TYPE_CHECKING:
    from pointdistill_ros.evaluation.progress import Bar
    from pointdistill_ros.evaluation.submission.benchmark import Benchmark
    from pointdistill_ros.evaluation.submission.validator import Check

SHOWN = 10
"""Findings of one check that are printed."""


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
    model: Annotated[
        str, typer.Option(help="Shipped network (student) or a .safetensors file.")
    ] = "student",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 …")] = "auto",
    engine: Annotated[
        str,
        typer.Option(help="auto (the fastest here), native, cuda, torch, onnxruntime, openvino."),
    ] = "auto",
    precision: Annotated[
        str, typer.Option(help="float32; bfloat16 or float16 are faster where the engine has them.")
    ] = "float32",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads; default: all cores.", show_default=False)
    ] = None,
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
            segmenter = load_segmenter(model, device, engine, precision, threads)
            _write(benchmark, segmenter, precision, archive, bar)
        valid = _check(benchmark, archive, bar)
    if not valid:
        raise typer.Exit(1)


def _write(
    benchmark: Benchmark, segmenter: SegmenterLike, precision: str, archive: Path, bar: Bar
) -> None:
    from pointdistill_ros.evaluation.submission.writer import write_archive, write_predictions

    classes, own = segmenter.label_set.names, benchmark.label_set.names
    if classes != own:
        raise InputError(
            f"network {segmenter.model_id} knows the classes of {segmenter.label_set.name}; "
            f"this benchmark takes those of {benchmark.label_set.name}"
        )
    folder, scans = archive.with_suffix(""), len(benchmark.members)
    labelled = write_predictions(
        benchmark,
        lambda scan: segmenter(scan).labels,
        folder,
        {"weights": segmenter.weights_sha256, "precision": precision},
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
