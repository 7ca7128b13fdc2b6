# SPDX-License-Identifier: Apache-2.0
"""From paths on the command line to jobs: folders are searched, every input gets its own output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pointdistill_ros.cluster.job import Job
from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import BAG_SUFFIXES
from pointdistill_ros.io.open import READERS

NAME = "{name}"
"""Stands for a job's name in paths."""
_SCANS = tuple(READERS)


def find_jobs(inputs: Sequence[Path], output: str, scans: bool) -> list[Job]:
    """A job for every bag, and with ``scans`` for every scan file and folder of scans, in order.

    ``output``: path with ``{name}`` in it, or a folder for one folder an input. Folders are
    searched in depth, without hidden ones and without that of the outputs. Raises InputError where
    there is nothing, where two would share an output, or where an output would be an input.
    """
    pattern = output if NAME in output else str(Path(output) / NAME)
    without = output_root(output).resolve()
    jobs: dict[Path, Job] = {}
    sources: set[Path] = set()
    for path in inputs:
        if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises where a name is too long
            raise InputError(f"{path}: no such file or folder")
        root = path.resolve()
        found = list(_inputs(root, scans, without)) if root.is_dir() else [root]
        if found != [root] and without in (root, *root.parents):
            raise InputError(
                f"{path}: is searched for inputs, and outputs would go to {without}; "
                "expected outputs elsewhere or in a folder below"
            )
        if not found:
            known = ", ".join(BAG_SUFFIXES + (_SCANS if scans else ()))
            raise InputError(f"{path}: no inputs in this folder; known: {known}")
        for source in found:
            if source in sources:  # named twice, or inside a folder that was named, too
                continue
            sources.add(source)
            name = _name(source, root)
            place = Path(pattern.replace(NAME, name)).absolute()
            job = Job(name, source, place, _size(source))
            if (twin := jobs.setdefault(place, job)) is not job:
                raise InputError(
                    f"{place}: {twin.source} and {source} would both be written there; rename "
                    "one, or name a folder above both: outputs carry the names of its folders"
                )
    for place in jobs:
        if place.resolve() in sources:
            raise InputError(f"{place}: input and output are the same")
    return list(jobs.values())


def output_root(output: str) -> Path:
    """The folder that holds all outputs: what comes before the part with ``{name}``."""
    path = Path(output).absolute()
    parts = path.parts
    named = next((i for i, part in enumerate(parts) if NAME in part), None)
    return path if named is None else Path(*parts[:named])


def files_of(source: Path) -> list[Path]:
    """The files that an input consists of, sorted; hidden ones left out."""
    if not source.is_dir():
        return [source]
    scans = source / "velodyne"
    found = [*source.iterdir(), *(scans.iterdir() if scans.is_dir() else ())]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def _inputs(folder: Path, scans: bool, without: Path) -> Iterator[Path]:
    """What ``open_scans`` would take, in the order of their names."""
    if (folder / "metadata.yaml").exists():
        yield folder
        return
    if scans and (folder / "velodyne").is_dir():
        yield folder
        return
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"{folder}: {error.strerror}") from error
    entries = [path for path in entries if not path.name.startswith(".")]
    if scans and any(path.is_file() and path.name.endswith(_SCANS) for path in entries):
        yield folder
    for path in entries:
        if path.is_dir() and path != without:
            yield from _inputs(path, scans, without)
        elif path.is_file() and path.suffix in BAG_SUFFIXES:
            yield path


def _name(source: Path, root: Path) -> str:
    """Below the folder that was named; the file or folder itself where that was the input."""
    parts = source.relative_to(root).parts or (source.name,)
    last = parts[-1]
    known = (*BAG_SUFFIXES, *_SCANS)
    suffix = "" if source.is_dir() else next((s for s in known if last.endswith(s)), "")
    return str(Path(*parts[:-1], last.removesuffix(suffix) or last))


def _size(source: Path) -> int:
    return sum(path.stat().st_size for path in files_of(source))
