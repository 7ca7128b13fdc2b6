# SPDX-License-Identifier: Apache-2.0
"""The clouds of one topic of a bag as numbered frames that several processes can share.

One pass over the bag notes when every cloud was recorded; from then on any run of frames is read
without those before it. Frames are numbered in order of recording time, none is left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pointdistill_ros.errors import CloudError, InputError, ScanError
from pointdistill_ros.io.bag import BagReader
from pointdistill_ros.io.pointcloud2 import DecodeOptions, decode
from pointdistill_ros.io.source import BagMessage
from pointdistill_ros.scan import LidarScan


@dataclass(frozen=True)
class FrameIndex:
    """Which clouds there are. Small, and can be sent to other processes."""

    path: Path
    topic: str
    times_ns: tuple[int, ...]
    """Recording times, rising."""
    sizes: tuple[int, ...]
    """Bytes of the serialised messages."""
    damage: str = ""
    """Why the bag holds more clouds than these; empty where it does not."""

    def __len__(self) -> int:
        return len(self.times_ns)

    @property
    def fingerprint(self) -> str:
        """Identifies the recording, not the file: a copy in another storage form has the same."""
        text = repr((self.topic, self.times_ns, self.sizes))
        return hashlib.sha256(text.encode()).hexdigest()

    def blocks(self, size: int) -> list[range]:
        """All frames in runs of about ``size``, each of which can be found by its first time."""
        blocks, begin = [], 0
        for end in range(1, len(self) + 1):
            whole = end == len(self) or self.times_ns[end] > self.times_ns[end - 1]
            if whole and (end - begin >= size or end == len(self)):
                blocks.append(range(begin, end))
                begin = end
        return blocks

    @classmethod
    def of(cls, path: Path, topic: str | None = None, keep_going: bool = False) -> FrameIndex:
        """Read through the bag once.

        Raises InputError where it is no bag, has no such topic or no cloud, or is damaged;
        ``keep_going`` takes the clouds before the damage.
        """
        times, sizes, damage = [], [], ""
        with BagReader(path) as bag:
            topic = bag.cloud_topic(topic)
            promised = bag.counts[topic]
            try:
                for message in bag.messages(topic):
                    times.append(message.time_ns)
                    sizes.append(len(message.cdr))
            except InputError as error:
                damage = str(error)
        if len(times) < promised or damage:
            damage = (
                f"{path}: damaged, only {len(times)} of {promised} clouds on {topic} could be read"
            )
            if not keep_going:
                raise InputError(f"{damage}; --keep-going evaluates these")
        if not times:
            raise InputError(f"{path}: no clouds on {topic}" + (f" ({damage})" if damage else ""))
        return cls(path, topic, tuple(times), tuple(sizes), damage)


@dataclass(frozen=True, eq=False)
class BagFrame:
    """One cloud of a bag, deserialised when asked for."""

    index: int
    message: BagMessage
    bag: BagReader
    options: DecodeOptions

    @cached_property
    def cloud(self) -> Any:
        """The PointCloud2. Raises InputError."""
        return self.bag.cloud(self.message)

    def scan(self) -> LidarScan:
        """Decode it as the node does. Raises InputError naming bag, topic and frame."""
        with self.named():
            return decode(self.cloud, self.options)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Make CloudError and ScanError an InputError that names bag, topic and frame."""
        try:
            yield
        except (CloudError, ScanError) as error:
            raise InputError(
                f"{self.bag.path}: cloud {self.index} on {self.message.topic}: {error}"
            ) from error


class BagFrames:
    """Reads runs of frames; the bag stays open. Use as context manager."""

    def __init__(self, index: FrameIndex, options: DecodeOptions | None = None) -> None:
        """Raises InputError where the bag is no longer readable."""
        self.index, self._options = index, options or DecodeOptions()
        self.bag = BagReader(index.path)

    def __enter__(self) -> BagFrames:
        self.bag.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.bag.__exit__(*error)

    def read(self, frames: range) -> Iterator[BagFrame]:
        """The frames of a range with step 1, in order. Raises InputError where the bag changed."""
        if not frames:
            return
        times = self.index.times_ns
        first = times.index(times[frames.start])  # of those recorded at the same time
        number = first
        for message in self.bag.messages(self.index.topic, start_ns=times[first]):
            if number in frames:
                yield BagFrame(number, message, self.bag, self._options)
            number += 1
            if number >= frames.stop:
                return
        if number < frames.stop:
            raise InputError(f"{self.index.path}: has fewer clouds than a moment ago")

    def all(self) -> Iterator[BagFrame]:
        """Every frame, in order."""
        return self.read(range(len(self.index)))

    def one(self, index: int) -> BagFrame:
        """A single frame."""
        return next(self.read(range(index, index + 1)))
