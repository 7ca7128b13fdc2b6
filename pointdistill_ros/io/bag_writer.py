# SPDX-License-Identifier: Apache-2.0
"""BagWriter: an mcap bag that appears whole or not at all. No ROS installation needed."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.cloud_parts import CloudParts

POINTCLOUD2 = "sensor_msgs/msg/PointCloud2"

_ENDLESS = QosTime(9223372036, 854775807)  # how ROS 2 writes "no deadline"
_LATCHED = Qos(
    history=QosHistory.KEEP_LAST,
    depth=1,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.TRANSIENT_LOCAL,
    deadline=_ENDLESS,
    lifespan=_ENDLESS,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_ENDLESS,
    avoid_ros_namespace_conventions=False,
)


class BagWriter:
    """Writes an mcap bag. Use as context manager; after an exception nothing remains.

    A path ending in .mcap becomes one self-contained file and replaces an older one; a path
    without suffix becomes a bag folder and must not exist yet.
    """

    def __init__(self, path: Path) -> None:
        if path.suffix not in (".mcap", ""):
            raise InputError(f"{path}: cannot write a bag here; expected NAME.mcap or a new folder")
        if path.is_dir() or (path.exists() and not path.suffix):
            raise InputError(f"{path}: exists already; bags are not overwritten")
        self.path = path
        self._types = get_typestore(Stores.ROS2_KILTED)
        self._connections: dict[str, Any] = {}

    def __enter__(self) -> BagWriter:
        parent = self.path.parent
        parent.mkdir(parents=True, exist_ok=True)
        self._scratch = Path(tempfile.mkdtemp(prefix=f".{self.path.name}.", dir=parent))
        # rosbags names the file after its folder; with the final name inside, metadata stays true
        self._folder = self._scratch / self.path.stem
        self._writer = Writer(self._folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                self._writer.abort()
                return
            self._writer.close()
            file = self._folder / f"{self._folder.name}.mcap"
            with file.open("rb") as written:
                os.fsync(written.fileno())
            (file if self.path.suffix else self._folder).replace(self.path)
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def write(
        self,
        topic: str,
        kind: str,
        time_ns: int,
        cdr: bytes | memoryview,
        *,
        latched: bool = False,
        definition: str | None = None,
    ) -> None:
        """Write a serialised message of type ``kind`` (``package/msg/Name``).

        ``latched`` topics reach late subscribers when the bag is played. ``definition`` is the text
        of the .msg file for types that ROS does not ship. Both count at a topic's first message.
        """
        if topic not in self._connections:
            if definition is not None and kind not in self._types.types:
                self._types.register(get_types_from_msg(definition, kind))
            self._connections[topic] = self._writer.add_connection(
                topic,
                kind,
                typestore=self._types,
                offered_qos_profiles=(_LATCHED,) if latched else (),
            )
        self._writer.write(self._connections[topic], time_ns, cdr)

    def write_cloud(
        self, topic: str, time_ns: int, cloud: CloudParts, *, stamp_ns: int, frame: str
    ) -> None:
        """Write a cloud with the given header; ``time_ns`` is the recording time."""
        types = self._types.types
        header = types["std_msgs/msg/Header"](
            stamp=types["builtin_interfaces/msg/Time"](
                sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000
            ),
            frame_id=frame,
        )
        message = types[POINTCLOUD2](
            header=header,
            height=cloud.height,
            width=cloud.width,
            fields=[
                types["sensor_msgs/msg/PointField"](
                    name=f.name, offset=f.offset, datatype=f.datatype, count=f.count
                )
                for f in cloud.fields
            ],
            is_bigendian=cloud.is_bigendian,
            point_step=cloud.point_step,
            row_step=cloud.row_step,
            data=np.frombuffer(cloud.data, np.uint8),
            is_dense=cloud.is_dense,
        )
        self.write(topic, POINTCLOUD2, time_ns, self._types.serialize_cdr(message, POINTCLOUD2))

    def write_text(self, topic: str, time_ns: int, text: str, *, latched: bool = False) -> None:
        """Write a std_msgs/String."""
        kind = "std_msgs/msg/String"
        cdr = self._types.serialize_cdr(self._types.types[kind](data=text), kind)
        self.write(topic, kind, time_ns, cdr, latched=latched)
