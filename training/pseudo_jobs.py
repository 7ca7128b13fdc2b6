# SPDX-License-Identifier: Apache-2.0
"""Which scans of some inputs a network is to label, and which of them show one place."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import partial
from pathlib import Path

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.bags.frames import BagFrames, FrameIndex
from pointdistill_ros.io.bag import BagScans
from pointdistill_ros.io.open import ScanFiles, open_scans
from pointdistill_ros.io.source import ScanEntry
from pointdistill_ros.scan import LidarScan
from training.pseudo_files import DRIVES, SINGLE

_KITTI_RUN = "kitti_raw_run"
"""A folder of scans that is known to be one drive."""


@dataclass(frozen=True)
class Job:
    """One scan to label."""

    entry: ScanEntry
    name: str
    folder: str
    """Of the cloud: of places of their own, or of a drive."""
    file: Path | None
    """Where the scan is a file."""
    source: Path
    """What ``open_scans`` finds it in."""
    prefix: str
    """Of the names of its source's scans."""

    @property
    def is_drive(self) -> bool:
        """Whether it is one of several scans of one place."""
        return self.folder != SINGLE


def find_jobs(inputs: Sequence[Path], match: str, every: int, drive: bool) -> list[Job]:
    """Scans of the inputs whose names match; a bag or a folder of a drive is one place.

    Raises InputError where two share a name.
    """
    jobs: dict[str, Job] = {}
    bags = _Bags()
    for path in inputs:
        source = open_scans(path)
        files = source.files if isinstance(source, ScanFiles) else None
        numbered = files is None or (path / "velodyne").is_dir()
        place = path.stem if path.is_file() else path.resolve().name
        one = drive or numbered or path.name == _KITTI_RUN
        folder = f"{DRIVES}/{place}" if one else SINGLE
        prefix = f"{place}_" if numbered else ""
        entries = bags.entries(source) if isinstance(source, BagScans) else source.entries()
        for i, entry in enumerate(entries):
            if i % every or not fnmatch(entry.name, match):
                continue
            name = f"{prefix}{entry.name}"
            if name in jobs:
                raise InputError(f"{path}: a scan {name} is there twice; label them one by one")
            jobs[name] = Job(entry, name, folder, None if files is None else files[i], path, prefix)
    if not jobs:
        raise InputError(f"{', '.join(map(str, inputs))}: no scan is called {match}")
    return list(jobs.values())


class _Bags:
    """Clouds of bags, read from the disk when asked for; the bag that was asked last stays open.

    A bag's own entries would hold the messages of all of them.
    """

    def __init__(self) -> None:
        self._open = ExitStack()
        self._frames: BagFrames | None = None
        weakref.finalize(self, self._open.close)

    def entries(self, source: BagScans) -> Iterator[ScanEntry]:
        """All clouds of a bag, in order. Raises InputError where it is damaged."""
        index = FrameIndex.of(source.path, source.topic)
        for i, time_ns in enumerate(index.times_ns):
            yield ScanEntry(f"{i:06d}", time_ns, partial(self._read, index, i))

    def _read(self, index: FrameIndex, i: int) -> LidarScan:
        if self._frames is None or self._frames.index is not index:
            self._frames = None
            self._open.close()
            self._frames = self._open.enter_context(BagFrames(index))
        return self._frames.one(i).scan()
