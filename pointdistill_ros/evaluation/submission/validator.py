# SPDX-License-Identifier: Apache-2.0
"""The official checks of an archive, offline, and those that the servers leave to luck.

Sources: validate_submission.py of semantic-kitti-api and of the nuScenes devkit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.submission.benchmark import Benchmark
from pointdistill_ros.evaluation.submission.contents import Contents


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    title: str
    detail: str
    """What was found, when all is well."""
    findings: tuple[str, ...] = ()
    """One line for everything that is wrong."""


def validate(
    benchmark: Benchmark, path: Path, on_scan: Callable[[int], None] = lambda done: None
) -> Iterator[Check]:
    """Check an archive (or folder, where the benchmark's tools read folders), check by check.

    Raises InputError where ``path`` is neither.
    """
    with closing(Contents(path)) as contents:
        yield _name(benchmark, path)
        yield _folders(benchmark, contents)
        yield from _extra_files(benchmark, contents)
        expected = {member: benchmark.num_points(i) for i, member in enumerate(benchmark.members)}
        missing = [name for name in expected if name not in contents.sizes]
        yield Check(
            "a file for every scan",
            f"{len(expected)} files",
            (*_misplaced(missing, contents), *(f"{name}: missing" for name in missing)),
        )
        wrong_length = _wrong_lengths(benchmark, expected, contents)
        yield Check(
            "a label for every point",
            f"{sum(expected.values())} labels",
            tuple(wrong_length.values()),
        )
        unreadable = {*missing, *wrong_length}
        readable = [name not in unreadable for name in expected]
        yield Check(
            "ids of the benchmark",
            f"{len(benchmark.label_set)} classes",
            tuple(_wrong_values(benchmark, contents, readable, on_scan)),
        )
        yield _others(benchmark, contents)


def _name(benchmark: Benchmark, path: Path) -> Check:
    is_folder = path.is_dir() and benchmark.accepts_folder
    wrong = () if is_folder or path.suffix == ".zip" else (f"{path.name}: must end in .zip",)
    return Check("name", path.name, wrong)


def _folders(benchmark: Benchmark, contents: Contents) -> Check:
    as_entry = benchmark.folders_are_entries
    missing = [f for f in benchmark.folders if not contents.has_folder(f, as_entry=as_entry)]
    kind = "entry" if as_entry else "folder"
    return Check(
        "folders",
        f"{len(benchmark.folders)} folders",
        tuple(f"{folder}: no such {kind} in the archive" for folder in missing),
    )


def _extra_files(benchmark: Benchmark, contents: Contents) -> Iterator[Check]:
    for name in benchmark.extra_files():
        if name not in contents.sizes:
            yield Check(name, "", (f"{name}: missing",))
            continue
        try:
            wrong = benchmark.wrong_extra_file(name, contents.read(name))
        except InputError as error:
            wrong = [str(error)]
        yield Check(name, "as expected", tuple(wrong))


def _misplaced(missing: list[str], contents: Contents) -> list[str]:
    """The usual reason why everything is missing: one folder too many."""
    for found in contents.sizes:
        if missing and found.endswith(f"/{missing[0]}"):
            return [f"{found.removesuffix(missing[0])}: archive what is in this folder, not itself"]
    return []


def _wrong_lengths(
    benchmark: Benchmark, expected: dict[str, int], contents: Contents
) -> dict[str, str]:
    wrong = {}
    for name, points in expected.items():
        size = contents.sizes.get(name, points * benchmark.label_bytes)
        labels, rest = divmod(size, benchmark.label_bytes)
        if rest:
            wrong[name] = f"{name}: {size} bytes; a label has {benchmark.label_bytes}"
        elif labels != points:
            wrong[name] = f"{name}: {labels} labels, its scan has {points} points"
    return wrong


def _wrong_values(
    benchmark: Benchmark, contents: Contents, readable: list[bool], on_scan: Callable[[int], None]
) -> Iterator[str]:
    for i, name in enumerate(benchmark.members):
        if readable[i]:
            try:
                wrong = benchmark.wrong_values(contents.read(name))
            except InputError as error:
                yield str(error)
            else:
                if wrong is not None:
                    yield f"{name}: {wrong}"
        on_scan(i + 1)


def _others(benchmark: Benchmark, contents: Contents) -> Check:
    wanted = {*benchmark.members, *benchmark.extra_files(), *benchmark.optional}
    unknown = sorted(set(contents.sizes) - wanted)
    return Check(
        "nothing else",
        "no other files",
        (
            *(f"{name}: belongs to no scan of the split" for name in unknown),
            *(f"{name}: is in the archive more than once" for name in contents.repeated),
        ),
    )
