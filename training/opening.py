# SPDX-License-Identifier: Apache-2.0
"""Opening what training scans come from: recordings of any kind, pseudo-labels, simulated streets.

- scans arrive in the reference convention, labels in the data set's own classes
- decoded scans stay in memory up to a limit; nothing holds a file open, so sources can be sent to
  other processes
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.datasets.labelled import DerivedScans, LabelledScans
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from training.data_config import SourceConfig


def open_source(config: SourceConfig, data: Path | None, cache: Path) -> LabelledScans:
    """The data set of a source; ``data`` holds recordings, ``cache`` rendered streets.

    Raises InputError or ConfigError naming what is missing.
    """
    scans = _open(config, data, cache)
    return CachedScans(scans, config.cache_megabytes << 20) if config.cache_megabytes else scans


def _open(config: SourceConfig, data: Path | None, cache: Path) -> LabelledScans:
    if config.kind == "simulated":
        from pointdistill_ros.datasets.simulated import SimulatedStreets

        return SimulatedStreets(
            cache, range(config.drives), config.frames, config.stride, config.lidars, workers=2
        )
    if data is None:
        raise InputError(
            f"source {config.name or config.kind} needs recordings: name their folder with --data"
        )
    root = data / config.folder
    match config.kind:
        case "packed":
            from pointdistill_ros.datasets.packed import PackedScans

            convention = SensorConvention.named(config.name)
            label_set = _packed_label_set(root, convention, config)
            return PackedScans(root, convention, config.split, config.sequences, label_set)
        case "pseudo":
            from pointdistill_ros.datasets.pseudo import PseudoScans

            return PseudoScans(root, round(100 * config.min_confidence))
        case "cache" if not config.name:
            from pointdistill_ros.datasets.cache import PackedCache

            return PackedCache(root, config.sequences)
        case _:
            from pointdistill_ros.datasets.open import open_dataset

            scans = open_dataset(config.name, root, config.split, config.sequences)
            return InConvention(scans, SensorConvention.named(config.name))


def _packed_label_set(
    root: Path, convention: SensorConvention, config: SourceConfig
) -> LabelSet | None:
    """The one that is asked for, else the one that the manifest names; None = the 19 classes."""
    if config.label_set is not None:
        return LabelSet.named(config.label_set)
    try:
        files = json.loads((root / "manifest.json").read_text())["files"]
        spaces = {str(f.get("label_space")) for f in files if f["dataset"] == convention.dataset}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # PackedScans says what is wrong with it
    try:
        return LabelSet.named(spaces.pop()) if len(spaces) == 1 else None
    except LabelError:
        return None  # raw ids, which the files hold folded into the 19 classes


_LARGE_SCAN = 2 << 20
"""Bytes of a decoded scan of 120 000 points."""


class CachedScans(DerivedScans):
    """Any data set with the scans that were asked for last kept in memory, up to a limit."""

    def __init__(self, scans: LabelledScans, limit: int) -> None:
        """``limit``: bytes of decoded arrays; a scan of 120 000 points takes 2 MB."""
        super().__init__(scans)
        self.limit, self.bytes = limit, 0
        self._kept: OrderedDict[int, tuple[LidarScan, NDArray[np.uint8]]] = OrderedDict()
        self._lock = Lock()  # batches are prepared in a thread beside the one that trains

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N]; not to be changed. Raises InputError."""
        with self._lock:
            kept = self._kept.get(i)
        read = self.scans[i] if kept is None else kept
        with self._lock:
            if i not in self._kept:
                self.bytes += _size(read)
                self._kept[i] = read
            self._kept.move_to_end(i)  # now the youngest
            while self.bytes > self.limit:
                self.bytes -= _size(self._kept.popitem(last=False)[1])
        return read

    def __getstate__(self) -> dict[str, Any]:
        """Other processes start with nothing in memory."""
        return {"scans": self.scans, "limit": self.limit}

    def __setstate__(self, state: dict[str, Any]) -> None:
        CachedScans.__init__(self, **state)


def cache_bytes(sources: Sequence[tuple[SourceConfig, int]]) -> int:
    """Most memory that the kept scans of sources will take; the second value counts their scans."""
    return sum(min(s.cache_megabytes << 20, count * _LARGE_SCAN) for s, count in sources)


def _size(kept: tuple[LidarScan, NDArray[np.uint8]]) -> int:
    scan, labels = kept
    arrays = (scan.xyz, scan.intensity, scan.time, scan.ring, labels)
    return sum(array.nbytes for array in arrays if array is not None)
