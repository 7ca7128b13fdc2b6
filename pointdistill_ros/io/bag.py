# SPDX-License-Identifier: Apache-2.0
"""Recorded bags of any kind, read through rosbags; no ROS installation needed.

- folders with metadata.yaml, single .mcap and .db3 files, compressed or not, and ROS 1 .bag
- streams: one message in memory, however long the bag
- writing lives in bag_writer.py
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag2 import Reader as Ros2Reader
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from pointdistill_ros.errors import CloudError, InputError, PointDistillError
from pointdistill_ros.io.bag_limits import careful_sqlite, unpack_zstd
from pointdistill_ros.io.bag_writer import POINTCLOUD2, BagWriter
from pointdistill_ros.io.pointcloud2 import DecodeOptions, decode
from pointdistill_ros.io.regular import require_file
from pointdistill_ros.io.source import BagMessage, ScanEntry
from pointdistill_ros.scan import LidarScan

__all__ = ["BAG_SUFFIXES", "POINTCLOUD2", "BagMessage", "BagReader", "BagScans", "BagWriter"]

BAG_SUFFIXES = (".mcap", ".db3", ".bag")

_HINTS = {
    "CustomMsg": "set the Livox driver's xfer_format to 0 to record PointCloud2",
    "Packet": "sensor packets, play them through the sensor's driver and record its points",
    "VelodyneScan": "sensor packets, play them through velodyne_pointcloud and record its points",
    "PandarScan": "sensor packets, play them through the Hesai driver and record its points",
    "LaserScan": "a 2D scan, not a point cloud",
}


class BagReader:
    """An open bag: its topics and messages in order of recording time. Use as context manager.

    Opening raises InputError where the path is no readable bag.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stack = ExitStack()
        if not os.path.exists(path):  # noqa: PTH110  # pathlib's raises where a name is too long
            raise InputError(f"{path}: no such file or folder")
        for part in path.iterdir() if path.is_dir() else (path,):
            if not part.is_dir():
                require_file(part)
        self._packed = False  # message by message, with zstd
        with _foreign_parser(path):
            self._ros1 = path.suffix == ".bag" and path.is_file()
            self._reader: Any = Ros1Reader(path) if self._ros1 else Ros2Reader(path)
        self._types = _types()

    def __enter__(self) -> BagReader:
        with _foreign_parser(self.path), careful_sqlite():
            self._stack.enter_context(self._reader)
            self._check_index()
        if not self._ros1 and self._reader.storage.metadata.compression_mode == "message":
            # unpacked here, within bounds
            storage = self._reader.storage
            storage.metadata = storage.metadata._replace(compression_mode=None)
            self._packed = True
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _check_index(self) -> None:
        """Databases and YAML hold any type anywhere."""
        for c in self._reader.connections:
            numbers = isinstance(c.id, int) and isinstance(c.msgcount, int)
            names = isinstance(c.topic, str) and isinstance(c.msgtype, str)
            if not numbers or not names or not (c.topic + c.msgtype).isprintable():
                raise ValueError(f"no topic: {c.topic!r:.100} of type {c.msgtype!r:.100}")
        span = self._reader.start_time, self._reader.end_time
        if not all(isinstance(time, int) for time in span):
            raise ValueError(f"no times in nanoseconds: {span!r:.100}")

    @property
    def topics(self) -> Mapping[str, str]:
        """Topic → message type, e.g. ``sensor_msgs/msg/PointCloud2``."""
        return {c.topic: c.msgtype for c in sorted(self._reader.connections, key=_number)}

    @property
    def counts(self) -> Mapping[str, int]:
        """Topic → number of messages."""
        counts = dict.fromkeys(self.topics, 0)
        for connection in self._reader.connections:
            counts[connection.topic] += connection.msgcount
        return counts

    @property
    def span_ns(self) -> tuple[int, int]:
        """Recording time of the first message and just after the last one, nanoseconds."""
        return self._reader.start_time, self._reader.end_time

    def cloud_topic(self, wanted: str | None = None) -> str:
        """Choose the PointCloud2 topic: the wanted one, or the only one.

        Raises InputError saying what the bag holds instead.
        """
        topics = self.topics
        clouds = [topic for topic, kind in topics.items() if kind == POINTCLOUD2]
        if wanted is not None:
            wanted = "/" + wanted.lstrip("/")
            if wanted in clouds:
                return wanted
            if wanted in topics:
                raise InputError(
                    f"{self.path}: topic {wanted} holds {_described(topics[wanted])}; "
                    f"expected {POINTCLOUD2}"
                )
        elif len(clouds) == 1:
            return clouds[0]
        if clouds:
            problem = "several PointCloud2 topics" if wanted is None else f"no topic {wanted}"
            raise InputError(f"{self.path}: {problem}; choose one of {', '.join(clouds)}")
        held = ", ".join(f"{topic} ({_described(kind)})" for topic, kind in topics.items())
        held = held or "no messages"
        raise InputError(f"{self.path}: no PointCloud2 topic in this bag; it holds {held}")

    def messages(
        self, *topics: str, start_ns: int | None = None, stop_ns: int | None = None
    ) -> Iterator[BagMessage]:
        """Iterate the messages of the topics (none given: all), start ≤ recording time < stop.

        Raises InputError where the bag turns out to be damaged.
        """
        chosen = [c for c in self._reader.connections if not topics or c.topic in topics]
        if not chosen:
            return
        with _foreign_parser(self.path):
            for connection, time_ns, raw in self._reader.messages(chosen, start_ns, stop_ns):
                if not isinstance(raw, bytes) or not isinstance(time_ns, int):
                    raise InputError(
                        f"{self.path}: a message on {connection.topic} is {type(raw).__name__} at "
                        f"{time_ns!r:.40}; expected bytes at a time in nanoseconds"
                    )
                yield BagMessage(connection.topic, time_ns, self._cdr(raw, connection.msgtype))

    def _cdr(self, raw: bytes, kind: str) -> bytes:
        if self._packed:
            return unpack_zstd(raw)
        return bytes(self._types.ros1_to_cdr(raw, kind)) if self._ros1 else raw

    def cloud(self, message: BagMessage) -> Any:
        """Deserialise a PointCloud2: attributes as in rclpy, ``data`` uint8 ndarray.

        Raises InputError where the bytes are no such message.
        """
        return self.deserialise(message, POINTCLOUD2)

    def deserialise(self, message: BagMessage, kind: str) -> Any:
        """A message of one of ROS 2's own types, e.g. ``nav_msgs/msg/Odometry``.

        Raises InputError where the bytes are no such message.
        """
        with _foreign_parser(self.path):
            return self._types.deserialize_cdr(message.cdr, kind)


class BagScans:
    """The clouds of one topic of a bag as a ScanSource. Raises InputError, see BagReader."""

    def __init__(
        self, path: Path, topic: str | None = None, options: DecodeOptions | None = None
    ) -> None:
        self.path, self._options = path, options
        with BagReader(path) as bag:
            self.topic = bag.cloud_topic(topic)
            self._count = bag.counts[self.topic]

    def __len__(self) -> int:
        return self._count

    @property
    def names(self) -> list[str]:
        """Running numbers of six digits."""
        return [f"{number:06d}" for number in range(self._count)]

    def __iter__(self) -> Iterator[tuple[str, LidarScan]]:
        return ((entry.name, entry.load()) for entry in self.entries())

    def entries(self) -> Iterator[ScanEntry]:
        """Iterate in order of recording time; only the current message is in memory.

        Raises InputError at the end where damage hid some of the clouds that the bag promises.
        """
        number = -1
        with BagReader(self.path) as bag:
            for number, message in enumerate(bag.messages(self.topic)):
                cloud = partial(bag.cloud, message)
                load = partial(self._load, number, cloud)
                yield ScanEntry(f"{number:06d}", message.time_ns, load, message, cloud)
        if number + 1 < self._count:
            raise InputError(
                f"{self.path}: damaged, only {number + 1} of {self._count} clouds on {self.topic} "
                "could be read"
            )

    def _load(self, number: int, cloud: Callable[[], Any]) -> LidarScan:
        try:
            return decode(cloud(), self._options)
        except CloudError as error:
            raise InputError(f"{self.path}: cloud {number} on {self.topic}: {error}") from error


@cache
def _types() -> Typestore:
    """One for all bags: a store compiles what it deserialises, 10 ms a message type."""
    return get_typestore(Stores.ROS2_KILTED)


def _number(connection: Any) -> int:
    return int(connection.id)


def _described(kind: str) -> str:
    hint = next((hint for word, hint in _HINTS.items() if word in kind.rpartition("/")[2]), None)
    return f"{kind}: {hint}" if hint else kind


@contextmanager
def _foreign_parser(path: Path) -> Iterator[None]:
    """Turn whatever rosbags raises on damaged bytes (a dozen exception types) into InputError."""
    try:
        yield
    except PointDistillError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        if "end magic" in reason:
            reason = "cut short, `mcap recover` may save what is left"
        raise InputError(
            f"{path}: not a readable bag ({reason}); "
            "expected an .mcap, .db3 or .bag file or a folder with metadata.yaml"
        ) from error
