# SPDX-License-Identifier: Apache-2.0
"""The PointCloud2 codec: what drivers send, what consumers expect, byte for byte."""

from array import array
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pointdistill_ros import LabelSet, LidarScan, Segmentation
from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_layout import CloudField
from pointdistill_ros.io.pointcloud2 import (
    LAYOUTS,
    DecodeOptions,
    decode,
    encode_labels,
    encode_scan,
)

CODES = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 8}
XYZ = [("x", "f4", 0), ("y", "f4", 4), ("z", "f4", 8)]
KITTI = LabelSet.named("semantic-kitti")


def message(
    points, fields, step, *, height=1, bigendian=False, padding=0, trailing=0, stamp=(7, 5)
):
    """A message holding ``points`` (name → values) in the given layout; unused bytes are 0xEE."""
    count = len(next(iter(points.values())))
    width = count // height
    data = np.full(height * (width * step + padding) + trailing, 0xEE, np.uint8)
    for name, kind, offset in fields:
        size = int(kind[1])
        raw = np.asarray(points[name]).astype((">" if bigendian else "<") + kind)
        raw = raw.view(np.uint8).reshape(count, size)
        for i in range(count):
            start = (i // width) * (width * step + padding) + (i % width) * step + offset
            data[start : start + size] = raw[i]
    sec, nanosec = stamp
    return SimpleNamespace(
        header=SimpleNamespace(stamp=SimpleNamespace(sec=sec, nanosec=nanosec), frame_id="roof"),
        height=height,
        width=width,
        fields=[CloudField(name, offset, CODES[kind]) for name, kind, offset in fields],
        is_bigendian=bigendian,
        point_step=step,
        row_step=width * step + padding,
        data=array("B", data.tobytes()),
        is_dense=True,
    )


def points(count=4, **extra):
    base = np.arange(count, dtype=np.float64)
    return {"x": base + 0.5, "y": -base, "z": base * 2, **extra}


def plain(count=2):
    return message(points(count), XYZ, 12)


def segmentation(labels, probability=None, entropy=None):
    labels = np.array(labels, np.uint8)
    half = np.full(len(labels), 0.5, np.float32)
    return Segmentation(
        labels,
        half if probability is None else np.array(probability, np.float32),
        half if entropy is None else np.array(entropy, np.float32),
        KITTI,
    )


def test_velodyne_layout():
    fields = [*XYZ, ("intensity", "f4", 12), ("ring", "u2", 16), ("time", "f4", 18)]
    values = points(intensity=[0, 51, 102, 255], ring=[0, 31, 63, 127], time=[-0.1, -0.05, 0, 0.01])
    scan = decode(message(values, fields, 22))
    np.testing.assert_array_equal(scan.xyz, np.stack([values[a] for a in "xyz"], 1))
    np.testing.assert_allclose(scan.intensity, [0, 0.2, 0.4, 1], atol=1e-6)
    assert scan.ring.tolist() == [0, 31, 63, 127]
    np.testing.assert_allclose(scan.time, [-0.1, -0.05, 0, 0.01], atol=1e-7)
    assert (scan.stamp_ns, scan.frame) == (7_000_000_005, "roof")


def test_ouster_layout_organised():
    fields = [*XYZ, ("intensity", "f4", 16), ("t", "u4", 20), ("reflectivity", "u2", 24)]
    fields += [("ring", "u2", 26), ("ambient", "u2", 28), ("range", "u4", 32)]
    zeros = np.zeros(6)
    values = points(6, reflectivity=zeros, ambient=zeros, range=zeros)
    values |= {"intensity": [0, 1, 2, 3, 4, 3000], "t": np.arange(6) * 10_000_000, "ring": range(6)}
    scan = decode(message(values, fields, 48, height=2))
    np.testing.assert_allclose(scan.time, np.arange(6) * 0.01, atol=1e-7)
    assert scan.intensity.max() <= 1
    assert len(scan) == 6


def test_hesai_absolute_time():
    fields = [*XYZ, ("intensity", "f4", 12), ("ring", "u2", 16), ("timestamp", "f8", 18)]
    start = 1_700_000_000.25
    values = points(
        intensity=[0.0, 0.1, 0.5, 1.0], ring=range(4), timestamp=start + np.arange(4) / 64
    )
    scan = decode(message(values, fields, 26, stamp=(1_700_000_000, 250_000_000)))
    np.testing.assert_allclose(scan.time, np.arange(4) / 64, atol=1e-6)
    np.testing.assert_array_equal(scan.intensity, np.float32([0, 0.1, 0.5, 1]))


def test_autoware_layout():
    fields = [*XYZ, ("intensity", "u1", 12), ("return_type", "u1", 13), ("channel", "u2", 14)]
    values = points(intensity=[0, 1, 254, 255], return_type=[1] * 4, channel=[9, 8, 7, 6])
    scan = decode(message(values, fields, 16))
    np.testing.assert_allclose(scan.intensity, np.array([0, 1, 254, 255]) / 255, rtol=1e-6)
    assert scan.ring.tolist() == [9, 8, 7, 6]


def test_livox_absolute_nanoseconds():
    values = points(timestamp=1.7e18 + np.array([0.0, 1e6, 2e6, 3e6]))
    scan = decode(message(values, [*XYZ, ("timestamp", "f8", 12)], 20, stamp=(1_700_000_000, 0)))
    np.testing.assert_allclose(scan.time, [0, 1e-3, 2e-3, 3e-3], atol=1e-6)


@pytest.mark.parametrize("bigendian", [False, True])
@pytest.mark.parametrize("kind", ["f4", "f8", "i2", "i4"])
def test_any_order_type_and_byte_order(kind, bigendian):
    size = int(kind[1])
    fields = [("z", kind, 1), ("ring", "u1", 0), ("x", kind, 1 + 2 * size), ("y", kind, 1 + size)]
    values = points(6, ring=[0, 1, 2, 3, 4, 255])
    values["x"] = values["x"] + 0.5
    scan = decode(
        message(values, fields, 3 * size + 3, height=3, bigendian=bigendian, padding=5, trailing=9)
    )
    np.testing.assert_array_equal(scan.xyz, np.stack([values[a] for a in "xyz"], 1))
    assert scan.ring.tolist() == [0, 1, 2, 3, 4, 255]


@pytest.mark.parametrize(
    "make", [bytes, bytearray, memoryview, lambda d: np.frombuffer(d, np.uint8)]
)
def test_data_of_rosbags_and_others(make):
    cloud = plain()
    expected = decode(cloud).xyz
    cloud.data = make(cloud.data)
    np.testing.assert_array_equal(decode(cloud).xyz, expected)


def test_points_without_return_stay_in():
    cloud = message({"x": [np.nan, 0, 1], "y": [1, 0, np.inf], "z": [1, 0, 1]}, XYZ, 12)
    assert decode(cloud).valid.tolist() == [False, True, False]
    assert decode(cloud, DecodeOptions(zero_is_no_return=True)).valid.tolist() == [False] * 3


def test_float64_beyond_float32_becomes_infinite():
    fields = [("x", "f8", 0), ("y", "f8", 8), ("z", "f8", 16)]
    cloud = message({"x": [1e300, 1], "y": [0, 0], "z": [0, 0]}, fields, 24)
    assert decode(cloud).valid.tolist() == [False, True]


def test_intensity_field_is_chosen():
    values = points(intensity=[1] * 4, reflectivity=[255, 0, 0, 0])
    cloud = message(values, [*XYZ, ("reflectivity", "u1", 12), ("intensity", "f4", 13)], 17)
    assert decode(cloud).intensity.tolist() == [1, 1, 1, 1]
    chosen = decode(cloud, DecodeOptions(intensity_field="reflectivity"))
    assert chosen.intensity.tolist() == [1, 0, 0, 0]
    with pytest.raises(CloudError, match=r"'gloss'.*reflectivity, intensity"):
        decode(cloud, DecodeOptions(intensity_field="gloss"))


@pytest.mark.parametrize("size", [(0, 0), (0, 2**32 - 1), (7, 0), (1, 0)])
@pytest.mark.parametrize("make", [bytes, lambda d: np.frombuffer(d, np.uint8)])
def test_empty_clouds_are_legal(size, make):
    cloud = plain()
    cloud.height, cloud.width = size
    cloud.fields, cloud.data = [], make(b"")
    scan = decode(cloud)
    assert len(scan) == 0
    assert scan.frame == "roof"
    for layout in LAYOUTS:
        parts = encode_labels(cloud, segmentation([]), layout)
        assert (parts.height, parts.width, len(parts.data)) == (*size, 0)
        assert parts.row_step == 0  # 24 × any width would not fit the message's 32 bits


def broken(**changes):
    cloud = plain()
    for name, value in changes.items():
        setattr(cloud, name, value)
    return cloud


@pytest.mark.parametrize(
    ("cloud", "reason"),
    [
        (broken(width=3), "needs 36 bytes, has 24"),
        (broken(height=2**32 - 1, width=2**32 - 1), "row_step 24 is less than"),
        (broken(height=2**32 - 1), "needs 103079215080 bytes, has 24"),
        (broken(height=2**32 - 1, row_step=0), "row_step 0 is less"),
        (broken(point_step=0), "point_step 0"),
        (broken(point_step=11), "'z' ends at byte 12"),
        (broken(fields=[CloudField("x", 0, 7), CloudField("y", 4, 7)]), "no field 'z'"),
        (broken(fields=[CloudField("x", 0, 7)] * 2), "2 times the field 'x'"),
        (broken(fields=[CloudField(a, 0, 9) for a in "xyz"]), "datatype 9; expected 1 to 8"),
        (broken(fields=[CloudField(a, 0, 7, 3) for a in "xyz"]), "count 3"),
        (broken(fields=[CloudField(a, -1, 7) for a in "xyz"]), "'x' ends at byte 3"),
        (broken(fields=[CloudField("x", 0, 7)] * 5000), "5000 fields"),
        (broken(data=None), "not a PointCloud2"),
        (broken(width=-1), "negative"),
        (SimpleNamespace(), "not a PointCloud2"),
    ],
)
def test_contradictions_are_named(cloud, reason):
    with pytest.raises(CloudError, match=reason):
        decode(cloud)


def test_count_zero_means_one():
    cloud = plain()
    cloud.fields = [replace(f, count=0) for f in cloud.fields]
    assert len(decode(cloud)) == 2


def test_wrong_row_step_of_a_single_row_is_ignored():
    np.testing.assert_array_equal(decode(broken(row_step=0)).xyz, decode(plain()).xyz)


# The two points (0.5, -0, 0) and (1.5, -1, 2), labels car and road, as bytes.
POINTS = ["0000003f0000008000000000", "0000c03f000080bf00000040"]
CASES = {
    "xyzcpe_aligned": (24, ["00000000 0000803e 0000003f", "08000000 0000803f 00000000"]),
    "xyzcpe_packed": (21, ["00 0000803e 0000003f", "08 0000803f 00000000"]),
    "append": (24, ["00000000 0000803e 0000003f", "08000000 0000803f 00000000"]),
    "rgb": (16, ["f5966400", "ff00ff00"]),  # 0x006496f5 and 0x00ff00ff, little-endian
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_output_bytes(layout):
    step, tails = CASES[layout]
    parts = encode_labels(plain(), segmentation([0, 8], [0.25, 1], [0.5, 0]), layout)
    expected = "".join(p + t for p, t in zip(POINTS, tails, strict=True)).replace(" ", "")
    assert bytes(parts.data).hex() == expected
    assert (parts.point_step, parts.row_step, parts.is_bigendian) == (step, 2 * step, False)


@pytest.mark.parametrize(
    ("layout", "offsets"),
    [("xyzcpe_aligned", (12, 16, 20)), ("xyzcpe_packed", (12, 13, 17)), ("append", (12, 16, 20))],
)
def test_output_fields_are_what_consumers_check(layout, offsets):
    parts = encode_labels(plain(), segmentation([0, 8]), layout)
    found = [(f.name, f.offset, f.datatype, f.count) for f in parts.fields]
    assert found == [
        ("x", 0, 7, 1),
        ("y", 4, 7, 1),
        ("z", 8, 7, 1),
        ("class_id", offsets[0], 2, 1),
        ("probability", offsets[1], 7, 1),
        ("entropy", offsets[2], 7, 1),
    ]


def test_rgb_is_a_float_field_and_unlabelled_is_black():
    parts = encode_labels(plain(), segmentation([255, 0]), "rgb")
    assert (parts.fields[3].name, parts.fields[3].datatype, parts.fields[3].offset) == (
        "rgb",
        7,
        12,
    )
    assert np.frombuffer(parts.data, "<u4")[3::4].tolist() == [0, 0x6496F5]


@pytest.mark.parametrize("bigendian", [False, True])
def test_append_keeps_every_input_byte(bigendian):
    fields = [("ring", "u2", 17), ("z", "f8", 9), ("y", "f4", 5), ("x", "f4", 1)]
    values = points(6, ring=range(6))
    cloud = message(values, fields, 21, height=2, bigendian=bigendian, padding=7, trailing=3)
    parts = encode_labels(cloud, segmentation(range(6)), "append")
    assert (parts.height, parts.width, parts.point_step, parts.row_step) == (2, 3, 32, 96)
    assert parts.is_bigendian is bigendian
    rows = np.frombuffer(cloud.data, np.uint8)[: 2 * 70].reshape(2, 70)[:, :63].reshape(6, 21)
    out = np.frombuffer(parts.data, np.uint8).reshape(6, 32)
    np.testing.assert_array_equal(out[:, :21], rows)
    assert out[:, 21].tolist() == list(range(6))
    assert not out[:, 22:24].any()
    floats = out[:, 24:].copy().view(">f4" if bigendian else "<f4")
    np.testing.assert_array_equal(floats, 0.5)
    np.testing.assert_array_equal(decode(parts).xyz, decode(cloud).xyz)


def test_append_refuses_a_second_class_id():
    once = encode_labels(plain(), segmentation([0, 8]), "append")
    with pytest.raises(CloudError, match="already has field 'class_id'"):
        encode_labels(once, segmentation([0, 8]), "append")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_buffer_is_reused_where_it_fits(layout):
    cloud, labels = plain(), segmentation([0, 8])
    first = encode_labels(cloud, labels, layout)
    dirty = array("B", b"\xff" * len(first.data))
    second = encode_labels(cloud, labels, layout, buffer=dirty)
    assert second.data is dirty
    assert second.data == first.data
    assert encode_labels(cloud, labels, layout, buffer=array("B", b"1")).data == first.data


def test_dense_is_measured_not_believed():
    cloud = message({"x": [np.nan, 1], "y": [0, 0], "z": [0, 0]}, XYZ, 12)
    for layout in LAYOUTS:
        assert not encode_labels(cloud, segmentation([255, 0]), layout).is_dense
        assert encode_labels(plain(), segmentation([255, 0]), layout).is_dense


def test_one_label_per_point():
    with pytest.raises(CloudError, match="2 points, segmentation 3 labels"):
        encode_labels(plain(), segmentation([1, 2, 3]))
    with pytest.raises(CloudError, match="unknown output layout 'xyz'"):
        encode_labels(plain(), segmentation([1, 2]), "xyz")


def test_scan_round_trip_is_the_velodyne_layout():
    scan = LidarScan.from_arrays(
        np.arange(9).reshape(3, 3), intensity=[0, 0.5, 1], time=[0, 0.05, 0.1], ring=[0, 1, 65535]
    )
    truth = np.array([3, 4, 255], np.uint8)
    parts = encode_scan(scan, {"label": truth})
    assert [(f.name, f.offset, f.datatype) for f in parts.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("intensity", 12, 7),
        ("ring", 16, 4),
        ("time", 18, 7),
        ("label", 22, 2),
    ]
    back = decode(parts)
    for name in ("xyz", "intensity", "time", "ring"):
        np.testing.assert_array_equal(getattr(back, name), getattr(scan, name))
    assert np.frombuffer(parts.data, np.uint8)[22::23].tolist() == [3, 4, 255]


def test_scan_without_columns_and_without_points():
    bare = LidarScan.from_arrays(np.zeros((0, 3)))
    parts = encode_scan(bare)
    assert (parts.height, parts.width, parts.point_step, len(parts.data)) == (1, 0, 12, 0)
    assert len(decode(parts)) == 0


def test_extra_columns_are_checked():
    scan = LidarScan.from_arrays(np.zeros((2, 3)))
    with pytest.raises(CloudError, match="'label' is uint8 \\[3\\]"):
        encode_scan(scan, {"label": np.zeros(3, np.uint8)})
    with pytest.raises(CloudError, match="'label' is int64"):
        encode_scan(scan, {"label": np.zeros(2, np.int64)})
