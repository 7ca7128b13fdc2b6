# SPDX-License-Identifier: Apache-2.0
"""ScanSource: scans in a fixed order, wherever they come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pointdistill_ros.scan import LidarScan

PERIOD_NS = 100_000_000
"""Scan files carry no time; 10 Hz is what lidars do."""


@dataclass(frozen=True, eq=False)
class BagMessage:
    """One recorded message."""

    topic: str
    time_ns: int
    """When it was recorded, nanoseconds."""
    cdr: bytes
    """Serialised as ROS 2 sends it; ``publisher.publish`` takes it as it is."""


@dataclass(frozen=True, eq=False)
class ScanEntry:
    """One scan of a source, not read yet."""

    name: str
    """File name without suffix, or the running number of a bag's cloud."""
    time_ns: int
    """Recording time in a bag; in a KITTI sequence from its times.txt, else 10 Hz from 0."""
    load: Callable[[], LidarScan]
    """Read it. Raises InputError or CloudError; the other entries stay readable."""
    recorded: BagMessage | None = None
    """The message as recorded, where the source is a bag."""
    cloud: Callable[[], Any] | None = None
    """Deserialise that message into a PointCloud2. Raises InputError."""


class ScanSource(Protocol):
    """Scans in a fixed order. ``iter`` reads; ``entries`` leaves reading to the caller."""

    @property
    def path(self) -> Path:
        """What was opened."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Names of the scans, in order."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[tuple[str, LidarScan]]:
        """Read one scan after the other, with its name."""
        ...

    def entries(self) -> Iterator[ScanEntry]:
        """Iterate without reading, so that a broken scan can be skipped."""
        ...
