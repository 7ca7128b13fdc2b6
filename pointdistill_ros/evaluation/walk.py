# SPDX-License-Identifier: Apache-2.0
"""Label every scan of a split and count, scan by scan; an interrupted walk goes on where it was.

Memory does not grow with the split but by the tallies, some kilobytes a scan.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.evaluation.tally import ScanTally, tally
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation

COMMON = "common7"
"""The classes in which all data sets can be compared."""


class Labeller(Protocol):
    """What can be evaluated."""

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""

    def __call__(self, scan: LidarScan) -> Segmentation:
        """One label per point."""


def shared_label_set(network: LabelSet, data: LabelSet) -> LabelSet:
    """The data set's own classes where the network's map to them, else the common ones.

    A network whose labels go out in a stack's classes, which map to no others, is judged in these.
    Raises LabelError where the two cannot be compared.
    """
    common = LabelSet.named(COMMON)
    if _maps(network, data):
        return data
    if _maps(data, network) and not _maps(network, common):
        return network
    for label_set in (network, data):
        label_set.remap_to(common)
    return common


def _maps(label_set: LabelSet, other: LabelSet) -> bool:
    try:
        label_set.remap_to(other)
    except LabelError:
        return False
    return True


class EveryNth:
    """Some scans of a data set, evenly spread."""

    def __init__(self, scans: LabelledScans, step: int) -> None:
        """Scans 0, step, 2 · step …."""
        self._scans, self._step = scans, step
        self.label_set: LabelSet = scans.label_set
        self.sequences: Sequence[str] = list(scans.sequences)[::step]

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """See ``LabelledScans``."""
        return self._scans[i * self._step]


def walk(
    labeller: Labeller,
    scans: LabelledScans,
    label_set: LabelSet,
    *,
    journal: Journal | None = None,
    on_scan: Callable[[int], None] = lambda done: None,
) -> list[ScanTally]:
    """Tallies of all scans, in order, judged in ``label_set``; ``on_scan`` hears how many are done.

    ``journal`` keeps every tally as soon as it is known and hands out those of an earlier walk.
    Raises InputError from the data, LabelError where label sets have no remap.
    """
    truth_table = scans.label_set.remap_to(label_set)
    tallies = []
    for i in range(len(scans)):
        known = journal.known.get(i) if journal else None
        if known is None:
            scan, truth = scans[i]
            begin = time.process_time()
            result = labeller(scan)
            known = tally(
                scan,
                result,
                truth_table[truth],
                label_set,
                sequence=scans.sequences[i],
                name=scan.frame,
                seconds=time.process_time() - begin,
            )
            if journal:
                journal.add(i, known)
        tallies.append(known)
        on_scan(i + 1)
    return tallies


class Journal:
    """Tallies on disk, one JSON line a scan, under a first line that says what was measured."""

    def __init__(self, path: Path, measured: dict[str, Any]) -> None:
        """Continue ``path`` where its first line equals ``measured``, else begin it anew.

        A last line that was cut off by a crash is dropped.
        """
        self.path = path
        self.known: dict[int, ScanTally] = {}
        """Tallies of an earlier walk, by the index of the scan."""
        lines = self._read(json.dumps(measured, sort_keys=True))
        with atomic_path(path) as temporary:
            temporary.write_text("".join(f"{line}\n" for line in lines))

    def _read(self, head: str) -> list[str]:
        """The lines to keep; their tallies become known."""
        if not self.path.is_file():
            return [head]
        first, *rest = self.path.read_text().splitlines() or [""]
        if first != head:
            return [head]
        lines = [head]
        for line in rest:
            try:
                data = json.loads(line)
                self.known[int(data["index"])] = ScanTally.from_dict(data)
            except (ValueError, KeyError, TypeError, InputError):
                break
            lines.append(line)
        return lines

    def add(self, index: int, known: ScanTally) -> None:
        """Keep the tally of scan ``index``."""
        with self.path.open("a") as file:
            file.write(json.dumps({"index": index, **known.to_dict()}) + "\n")
