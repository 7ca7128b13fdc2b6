# SPDX-License-Identifier: Apache-2.0
"""mcap bags: whole files, records between a true head and a true tail, one cloud's bytes."""

import struct

import numpy as np
from rosbags.typesys import Stores, get_typestore

from pointdistill_ros.errors import InputError
from pointdistill_ros.io.bag import POINTCLOUD2, BagReader, BagScans, BagWriter
from pointdistill_ros.io.pointcloud2 import encode_scan
from pointdistill_ros.scan import LidarScan
from tests.fuzz.target import Target, holding

_MAGIC = b"\x89MCAP0\r\n"
_FILE, _RECORDS, _CLOUD = b"f", b"r", b"c"


def check(data: bytes) -> None:
    kind, content = data[:1], data[1:]
    if kind == _RECORDS:
        content = between(content)
    elif kind == _CLOUD:
        content = between(_described() + _message(content))
    read_everything(holding("a.mcap", content))


def read_everything(path) -> None:
    """As `pointdistill segment` reads a bag; a bad cloud does not hide the next one."""
    with BagReader(path) as bag:
        assert bag.counts.keys() == bag.topics.keys()
        assert len(bag.span_ns) == 2
        for message in bag.messages():
            assert isinstance(message.cdr, bytes)
    read = 0
    for entry in BagScans(path).entries():
        read += 1
        try:
            scan = entry.load()
        except InputError as error:
            assert str(path) in str(error)
        else:
            assert scan.xyz.nbytes <= 12 * len(entry.recorded.cdr)
    assert read >= 0


def record(op: int, content: bytes) -> bytes:
    return struct.pack("<BQ", op, len(content)) + content


def text(content: str) -> bytes:
    return struct.pack("<I", len(content)) + content.encode()


def between(records: bytes) -> bytes:
    """A file without index around these records."""
    head = _MAGIC + record(1, text("ros2") + text("fuzz"))
    end = record(15, b"\0\0\0\0") + record(2, bytes(20)) + _MAGIC
    return head + records + end


def _described() -> bytes:
    schema = struct.pack("<H", 1) + text(POINTCLOUD2) + text("ros2msg") + text("")
    channel = struct.pack("<HH", 1, 1) + text("/points") + text("cdr") + text("")
    return record(3, schema) + record(4, channel)


def _message(cdr: bytes) -> bytes:
    return record(5, struct.pack("<HIQQ", 1, 0, 7, 7) + cdr)


def small_scan() -> LidarScan:
    return LidarScan.from_arrays(np.arange(6.0).reshape(2, 3), [0.5, 1], ring=[0, 1])


def cloud_cdr() -> bytes:
    """One serialised cloud of two points."""
    types = get_typestore(Stores.ROS2_KILTED)
    parts = encode_scan(small_scan())
    field = types.types["sensor_msgs/msg/PointField"]
    time = types.types["builtin_interfaces/msg/Time"](1, 2)
    cloud = types.types[POINTCLOUD2](
        header=types.types["std_msgs/msg/Header"](time, "lidar"),
        height=parts.height,
        width=parts.width,
        fields=[field(f.name, f.offset, f.datatype, f.count) for f in parts.fields],
        is_bigendian=False,
        point_step=parts.point_step,
        row_step=parts.row_step,
        data=np.frombuffer(parts.data, np.uint8),
        is_dense=True,
    )
    return bytes(types.serialize_cdr(cloud, POINTCLOUD2))


def whole_file() -> bytes:
    """A bag with one cloud."""
    return between(_described() + _message(cloud_cdr()))


def chunk(records: bytes, compression: str = "", packed: bytes | None = None) -> bytes:
    packed = records if packed is None else packed
    sizes = struct.pack("<QQQI", 0, 9, len(records), 0)
    return record(6, sizes + text(compression) + struct.pack("<Q", len(packed)) + packed)


def seeds() -> dict[str, bytes]:
    from lz4.frame import compress

    from pointdistill_ros.io.bag_limits import zstd

    records = _described() + _message(cloud_cdr())
    path = holding("seed.mcap", b"")
    path.unlink()
    with BagWriter(path) as bag:
        parts = encode_scan(small_scan())
        bag.write_cloud("/points", 1, parts, stamp_ns=1, frame="lidar")
        bag.write_text("/text", 2, "hello", latched=True)
    return {
        "indexed": _FILE + path.read_bytes(),
        "records": _RECORDS + records,
        "chunk": _RECORDS + chunk(records),
        "chunk-zstd": _RECORDS + chunk(records, "zstd", zstd.compress(records)),
        "chunk-lz4": _RECORDS + chunk(records, "lz4", compress(records)),
        "cloud": _CLOUD + cloud_cdr(),
    }


TARGET = Target("mcap", check, seeds, share=4, max_len=8192)
