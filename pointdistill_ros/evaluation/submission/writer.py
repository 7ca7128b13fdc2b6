# SPDX-License-Identifier: Apache-2.0
"""Write the files of a submission one by one, and then the archive.

- every file appears whole or not at all; files that are there with the right length are kept, so
  an interrupted run goes on where it was
- archives of the same files are equal byte for byte
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.submission.benchmark import Benchmark
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.scan import LidarScan

ORIGIN = ".origin.json"
"""Beside the predictions, not in the archive: which network they are of."""
_DATE = (1980, 1, 1, 0, 0, 0)
"""The earliest a zip knows: the same for all, so that archives can be compared."""


def write_predictions(
    benchmark: Benchmark,
    predict: Callable[[LidarScan], NDArray[np.uint8]],
    folder: Path,
    origin: dict[str, Any],
    on_scan: Callable[[int], None] = lambda done: None,
) -> int:
    """Label every scan that ``folder`` has no predictions of; returns how many were labelled.

    ``predict``: scan in the reference convention → train ids [N] of the benchmark's label set.
    ``origin``: what the predictions depend on, e.g. the fingerprint of the weights. A folder of
    another origin is refused. Raises InputError.
    """
    _claim(folder, {"dataset": benchmark.dataset, "split": benchmark.split, **origin})
    for name, content in benchmark.extra_files().items():
        _write(folder / name, content)
    scans = InConvention(benchmark.scans, SensorConvention.named(benchmark.dataset))
    labelled = 0
    for i, member in enumerate(benchmark.members):
        path = folder / member
        if not _is_whole(path, benchmark.num_points(i) * benchmark.label_bytes):
            scan, _ = scans[i]
            labels = predict(scan)
            if len(labels) != len(scan):
                raise InputError(f"{scan.frame}: {len(labels)} labels for {len(scan)} points")
            try:
                _write(path, benchmark.encode(labels))
            except InputError as error:
                raise InputError(f"{scan.frame}: {error}") from error
            labelled += 1
        on_scan(i + 1)
    return labelled


def write_archive(
    benchmark: Benchmark,
    folder: Path,
    archive: Path,
    on_file: Callable[[int], None] = lambda done: None,
) -> None:
    """Pack the files of ``folder`` that belong to the benchmark. Raises InputError if one lacks."""
    if archive.suffix != ".zip":
        raise InputError(f"{archive}: an archive must be named *.zip")
    files = sorted([*benchmark.extra_files(), *benchmark.members])
    with (
        atomic_path(archive) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in benchmark.folders:
            packed.writestr(_entry(name, 0o40755 << 16 | 0x10), b"")
        for done, name in enumerate(files, 1):
            try:
                content = (folder / name).read_bytes()
            except OSError as error:
                raise InputError(f"{folder / name}: {error.strerror or error}") from error
            packed.writestr(_entry(name, 0o100644 << 16), content)
            on_file(done)


def _claim(folder: Path, origin: dict[str, Any]) -> None:
    """Make sure that what lies in ``folder`` has this origin."""
    path = folder / ORIGIN
    if path.exists():
        try:
            found = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: damaged ({error}); remove the folder") from error
        if found != origin:
            raise InputError(
                f"{folder}: holds predictions of something else ({found}); "
                "remove it or name another archive"
            )
        for leftover in folder.rglob(".*.tmp"):  # of a run that was killed
            leftover.unlink()
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: in the way; predictions are collected there, remove it first")
    _write(path, json.dumps(origin).encode())


def _is_whole(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _entry(name: str, attributes: int) -> zipfile.ZipInfo:
    """Header of a file or folder; everything that differs between machines is fixed."""
    entry = zipfile.ZipInfo(name, _DATE)
    entry.create_system = 3
    entry.external_attr = attributes
    entry.compress_type = zipfile.ZIP_STORED if name.endswith("/") else zipfile.ZIP_DEFLATED
    return entry
