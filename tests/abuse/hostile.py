# SPDX-License-Identifier: Apache-2.0
"""Clouds that no driver should send, each with what must become of it.

A kind is a function of a random generator; it returns a PointCloud2 and whether it can be read.
What a readable one says is read here a second time, byte by byte, to compare with.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from sensor_msgs.msg import PointCloud2, PointField

from pointdistill_ros.io.columns import INTENSITY_NAMES, RING_NAMES, TIME_NAMES

FORMATS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}
LARGE = 2_000_000
"""Points of the largest cloud."""
UINT32 = 2**32 - 1
MOST_STEP, MOST_FIELDS, MOST_NAMES = 1 << 30, 1024, 1 << 14


class Hostile(NamedTuple):
    """A cloud to send."""

    kind: str
    message: PointCloud2
    readable: bool

    @property
    def points(self) -> int:
        return self.message.height * self.message.width

    def xyz(self) -> np.ndarray:
        """[N, 3] float32: what the bytes say."""
        return np.stack([_column(self.message, axis) for axis in "xyz"], axis=1)


def _column(message: PointCloud2, name: str) -> np.ndarray:
    """[N] float32 of a field, gathered byte by byte."""
    if not message.height * message.width:
        return np.empty(0, np.float32)
    (field,) = (f for f in message.fields if f.name == name)
    kind = np.dtype((">" if message.is_bigendian else "<") + FORMATS[field.datatype])
    points = np.arange(message.width, dtype=np.int64) * message.point_step
    rows = np.arange(message.height, dtype=np.int64)[:, None] * message.row_step
    starts = ((rows if message.height > 1 else 0) + points).reshape(-1, 1) + field.offset
    data = np.frombuffer(message.data, np.uint8)[starts + np.arange(kind.itemsize)]
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(data).view(kind).reshape(-1).astype(np.float32)


def readable(message: PointCloud2) -> bool:
    """The rules of the message definition, and the limits this package sets."""
    height, width, step = message.height, message.width, message.point_step
    names = [field.name for field in message.fields]
    if step > MOST_STEP or len(names) > MOST_FIELDS or sum(map(len, names)) > MOST_NAMES:
        return False
    if not height * width:
        return True
    row_step = message.row_step if height > 1 else width * step
    if row_step < width * step or (height - 1) * row_step + width * step > len(message.data):
        return False
    read = list("xyz")
    for aliases in (INTENSITY_NAMES, RING_NAMES, TIME_NAMES):
        read += [alias for alias in aliases if alias in names][:1]
    return all(_placed(message, name) for name in read)


def _placed(message: PointCloud2, name: str) -> bool:
    found = [field for field in message.fields if field.name == name]
    if len(found) != 1 or found[0].datatype not in FORMATS or found[0].count > 1:
        return False
    return found[0].offset + np.dtype(FORMATS[found[0].datatype]).itemsize <= message.point_step


# Readable, whatever they hold


def cloud_of(columns: dict[str, np.ndarray], rows: int = 1, **changes) -> PointCloud2:
    """Columns [N] of number types, packed in this order; ``changes`` are set afterwards."""
    fields, step = [], 0
    for name, column in columns.items():
        datatype = next(n for n, code in FORMATS.items() if np.dtype(code) == column.dtype)
        fields.append(PointField(name=name, offset=step, datatype=datatype, count=1))
        step += column.dtype.itemsize
    count = len(next(iter(columns.values())))
    points = np.empty(count, [(name, column.dtype) for name, column in columns.items()])
    for name, column in columns.items():
        points[name] = column
    message = PointCloud2(height=rows, width=count // rows, point_step=step, is_dense=True)
    message.fields, message.row_step = fields, step * (count // rows)
    message.data = array("B", points.tobytes())
    message.header.frame_id = "lidar"
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def street(random: np.random.Generator, points: int | None = None) -> np.ndarray:
    """[N, 3] something like ground and clutter, metres."""
    count = int(random.integers(1, 400)) if points is None else points
    return random.normal(0, (15, 15, 0.5), (count, 3)).astype(np.float32)


def plain(xyz: np.ndarray, rows: int = 1, **changes) -> PointCloud2:
    """x y z and an intensity of 0.5."""
    columns = dict(zip("xyz", xyz.T, strict=True))
    return cloud_of(columns | {"intensity": np.full(len(xyz), 0.5, "f4")}, rows, **changes)


def empty(random):
    height, width = random.permutation([0, int(random.integers(0, UINT32, endpoint=True))])
    return plain(street(random), data=array("B"), height=int(height), width=int(width))


def single(random):
    return plain(street(random, 1))


def nowhere(random):
    value = random.choice([np.nan, np.inf, -np.inf])
    return plain(np.full_like(street(random), value))


def holes(random):
    xyz = street(random)
    xyz[random.random(xyz.shape) < 0.3] = random.choice([np.nan, np.inf, -np.inf])
    return plain(xyz)


def enormous(random):
    with np.errstate(over="ignore"):  # some become infinite
        return plain(street(random) * np.float32(10.0 ** random.integers(3, 38)))


def double_enormous(random):
    xyz = street(random).astype(np.float64) * 1e300
    return cloud_of(dict(zip("xyz", xyz.T, strict=True)))


def beyond_reach_in_part(random):
    xyz = street(random)
    xyz[:: int(random.integers(1, 5))] *= 1e5
    return plain(xyz)


def denormal(random):
    return plain(street(random) * np.float32(1e-41))


def all_the_same(random):
    return plain(np.repeat(street(random, 1), 300, axis=0))


def duplicates(random):
    return plain(np.repeat(street(random), int(random.integers(2, 9)), axis=0))


def on_one_line(random):
    xyz = np.zeros((500, 3), np.float32)
    xyz[:, int(random.integers(3))] = np.linspace(-6000, 6000, 500)
    return plain(xyz)


def strange_intensity(random):
    xyz = street(random)
    message = plain(xyz)
    values = np.frombuffer(message.data, "f4").reshape(-1, 4)
    values[:, 3] = random.choice([np.nan, np.inf, -1e30, 3e38, 1e-45, -0.0], len(xyz))
    return message


def strange_times(random):
    xyz = street(random)
    times = random.choice([np.nan, -np.inf, 1e308, 1.7e18, 1.7e9, -5.0, 0.0], len(xyz))
    return cloud_of(dict(zip("xyz", xyz.T, strict=True)) | {"timestamp": times})


def organised_and_padded(random):
    height, pad = int(random.integers(2, 9)), int(random.integers(0, 99))
    xyz = street(random, height * int(random.integers(1, 50)))
    message = plain(xyz, height)
    rows = np.frombuffer(message.data, np.uint8).reshape(height, -1)
    padded = np.pad(rows, ((0, 0), (0, pad)), constant_values=255)
    message.data, message.row_step = array("B", padded.tobytes()), padded.shape[1]
    return message


def big_endian(random):
    xyz = street(random).astype(random.choice(["f4", "f8", "i2"]))
    message = cloud_of(dict(zip("xyz", xyz.T, strict=True)), is_bigendian=True)
    message.data = array("B", np.frombuffer(message.data, xyz.dtype).byteswap().tobytes())
    return message


def whole_numbers(random):
    kind = random.choice(["i1", "u1", "i2", "u2", "i4", "u4"])
    xyz = random.integers(0, np.iinfo(kind).max, (200, 3), dtype=kind)
    return cloud_of(dict(zip("xyz", xyz.T, strict=True)))


def shuffled_and_unaligned(random):
    xyz, columns = street(random), {}
    for number, axis in enumerate(random.permutation(3)):
        columns[f"gap{number}"] = np.full(len(xyz), 170, "u1")
        columns["xyz"[axis]] = xyz[:, axis]
    return cloud_of(columns)


def overlapping(random):
    """y begins within x; random bytes are as good as any."""
    message = plain(street(random))
    message.fields[1].offset = int(random.integers(1, 4))
    message.data = array("B", random.bytes(len(message.data)))
    return message


def overlong_data(random):
    message = plain(street(random))
    message.data = array("B", message.data.tobytes() + random.bytes(5000))
    return message


def row_step_without_rows(random):
    return plain(street(random), row_step=int(random.integers(0, UINT32, endpoint=True)))


def count_of_zero(random):
    message = plain(street(random))
    for field in message.fields:
        field.count = 0
    return message


def strangers_that_nobody_reads(random):
    """Fields of unknown types, beyond the point, twice, without a name: not x, y, z's business."""
    message = plain(street(random))
    message.fields = list(message.fields) + [
        PointField(name=name, offset=UINT32, datatype=255, count=UINT32)
        for name in ("", "x ", "X", "é", "class_id", "class_id", "rgb")
    ]
    return message


def strange_header(random):
    message = plain(street(random))
    message.header.frame_id = random.choice(["", "/", "a" * 5000, "é\n\t%s{}", "../../etc"])
    return message


def large(random):
    """Two million points on 400 m², so that few voxels hold them."""
    return plain(random.uniform(-10, 10, (LARGE, 3)).astype("f4") * np.float32([1, 1, 0.01]))


# Not readable


def no_coordinate(random):
    message, axis = plain(street(random)), random.choice(list("xyz"))
    message.fields = [field for field in message.fields if field.name != axis]
    return message


def no_fields(random):
    return plain(street(random), fields=[])


def coordinate_twice(random):
    message = plain(street(random))
    message.fields = [*message.fields, message.fields[int(random.integers(3))]]
    return message


def data_missing(random):
    message = plain(street(random))
    message.data = message.data[: int(random.integers(0, len(message.data)))]
    return message


def no_data(random):
    return plain(street(random), data=array("B"))


def far_more_points_than_data(random):
    sides = random.permutation([random.choice([2, 1000, 2**16]), random.choice([2**31, UINT32])])
    message = plain(street(random), height=int(sides[0]), width=int(sides[1]))
    message.row_step = int(random.choice([message.row_step, UINT32]))
    return message


def point_step_of_zero(random):
    return plain(street(random), point_step=0, row_step=0)


def point_step_too_small(random):
    return plain(street(random), point_step=int(random.integers(1, 12)))


def point_step_enormous(random):
    return plain(street(random), point_step=int(random.choice([2**30, 2**31, UINT32])))


def row_step_too_small(random):
    message = plain(street(random, 40), 4)
    message.row_step = int(random.integers(0, message.row_step))
    return message


def unknown_datatype(random):
    message = plain(street(random))
    message.fields[int(random.integers(4))].datatype = int(random.choice([0, 9, 255]))
    return message


def count_of_many(random):
    message = plain(street(random))
    message.fields[int(random.integers(4))].count = int(random.choice([2, 3, UINT32]))
    return message


def field_beyond_the_point(random):
    message = plain(street(random))
    field = message.fields[int(random.integers(4))]
    field.offset = int(random.choice([13, 16, 17, 2**31, UINT32]))
    return message


def too_many_fields(random):
    message = plain(street(random))
    count = int(random.integers(MOST_FIELDS, 3 * MOST_FIELDS))
    message.fields = list(message.fields) + [PointField(name=f"f{i}") for i in range(count)]
    return message


def endless_names(random):
    """No two alike: whoever remembers layouts must not remember these."""
    message = plain(street(random))
    name = "é" * int(random.integers(100_000, 200_000))
    message.fields = [*message.fields, PointField(name=name, datatype=7, count=1)]
    return message


# Either


def one_number_wrong(random):
    """Sizes, fields and bytes off by one, doubled, or from the ends of their ranges."""
    message = plain(street(random, 60), int(random.choice([1, 3])))
    for _ in range(int(random.integers(1, 3))):
        name = random.choice(["height", "width", "point_step", "row_step"])
        old = getattr(message, name)
        some = [old + 1, max(0, old - 1), 2 * old, 0, 1, 7, 13, 255, 2**16, 2**31, UINT32]
        if random.random() < 0.5:
            setattr(message, name, min(int(random.choice(some)), UINT32))
        else:
            field = message.fields[int(random.integers(4))]
            field.offset = min(int(random.choice([*some, field.offset + 1])), UINT32)
            field.datatype = int(random.choice([field.datatype, *range(11), 255]))
            field.name = str(random.choice([field.name, field.name, "x", "ring", "t", ""]))
    return message


Kind = Callable[[np.random.Generator], PointCloud2]

READABLE: tuple[Kind, ...] = (
    empty, single, nowhere, holes, enormous, double_enormous, beyond_reach_in_part, denormal,
    all_the_same, duplicates, on_one_line, strange_intensity, strange_times, organised_and_padded,
    big_endian, whole_numbers, shuffled_and_unaligned, overlapping, overlong_data,
    row_step_without_rows, count_of_zero, strangers_that_nobody_reads, strange_header,
)  # fmt: skip
UNREADABLE: tuple[Kind, ...] = (
    no_coordinate, no_fields, coordinate_twice, data_missing, no_data, far_more_points_than_data,
    point_step_of_zero, point_step_too_small, point_step_enormous, row_step_too_small,
    unknown_datatype, count_of_many, field_beyond_the_point, too_many_fields, endless_names,
)  # fmt: skip
EITHER: tuple[Kind, ...] = (one_number_wrong,)


def hostile(number: int, seed: int = 0) -> Hostile:
    """The ``number``-th cloud of a seed; the kinds take turns, ``large`` comes rarely."""
    random = np.random.default_rng([seed, number])
    kinds = READABLE + UNREADABLE + EITHER
    kind = large if number % 5000 == 47 else kinds[number % len(kinds)]
    message = kind(random)
    known = {**dict.fromkeys((*READABLE, large), True), **dict.fromkeys(UNREADABLE, False)}
    return Hostile(kind.__name__, message, known.get(kind, readable(message)))
