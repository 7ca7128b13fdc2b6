# SPDX-License-Identifier: Apache-2.0
"""Clouds as the drivers of real sensors lay them out, field for field, from their documentation.

Each case is written by a structured numpy type with the driver's offsets; read are coordinates,
intensity in 0..1, ring and seconds since the stamp. Not real recordings.
"""

from array import array
from typing import NamedTuple

import numpy as np
import pytest

from pointdistill_ros import LabelSet, Segmentation
from pointdistill_ros.io.cloud_filter import keep_points
from pointdistill_ros.io.cloud_layout import DATATYPE_OF, CloudField
from pointdistill_ros.io.cloud_parts import CloudParts
from pointdistill_ros.io.pointcloud2 import LAYOUTS, DecodeOptions, decode, encode_labels

START = 1_700_000_000
"""Stamp of every cloud, seconds."""
WIDTH = 8


class Driver(NamedTuple):
    fields: str
    """name:type@offset …, as the driver's documentation or source has them."""
    step: int
    height: int = 1
    intensity: str = ""
    """Field and what its raw values 0, 1, …, 255 mean: its value at full scale."""
    full: float = 255.0
    ring: str = ""
    time: str = ""
    tick: float = 1.0
    """Seconds of one unit of the time field."""
    absolute: bool = False
    options: DecodeOptions = DecodeOptions()


XYZ = "x:f4@0 y:f4@4 z:f4@8"
DRIVERS = {
    # velodyne_pointcloud, PointXYZIRT packed; float intensity 0..255, time relative to the stamp
    "velodyne": Driver(
        f"{XYZ} intensity:f4@12 ring:u2@16 time:f4@18",
        22,
        intensity="intensity",
        ring="ring",
        time="time",
    ),
    # the older velodyne XYZIR, aligned as PCL aligns it
    "velodyne aligned": Driver(
        f"{XYZ} intensity:f4@16 ring:u2@20", 32, intensity="intensity", ring="ring"
    ),
    # ouster_ros, point_type original: organised, padded to 16-byte alignment; intensity is signal
    "ouster original": Driver(
        f"{XYZ} intensity:f4@16 t:u4@20 reflectivity:u2@24 ring:u2@26 ambient:u2@28 range:u4@32",
        48,
        height=4,
        intensity="reflectivity",
        ring="ring",
        time="t",
        tick=1e-9,
        options=DecodeOptions(intensity_field="reflectivity", intensity_scale="div255"),
    ),
    # ouster_ros, point_type native, profile RNG19_RFL8_SIG16_NIR16: no field named intensity
    "ouster native": Driver(
        f"{XYZ} t:u4@16 ring:u2@20 range:u4@24 signal:u2@28 reflectivity:u1@30 flags:u1@31 "
        "near_ir:u2@32 window:u1@34",
        48,
        height=4,
        intensity="reflectivity",
        ring="ring",
        time="t",
        tick=1e-9,
        options=DecodeOptions(intensity_field="reflectivity"),
    ),
    # ouster_ros, profile LEGACY: the same names in another order, 8-bit rings of older drivers
    "ouster legacy": Driver(
        f"{XYZ} t:u4@16 range:u4@20 signal:u2@24 near_ir:u2@26 reflectivity:u2@28 ring:u1@30",
        32,
        height=4,
        intensity="reflectivity",
        ring="ring",
        time="t",
        tick=1e-9,
        options=DecodeOptions(intensity_field="reflectivity", intensity_scale="div255"),
    ),
    # hesai_ros_driver: absolute double seconds at an unaligned offset
    "hesai": Driver(
        f"{XYZ} intensity:f4@12 ring:u2@16 timestamp:f8@18",
        26,
        intensity="intensity",
        ring="ring",
        time="timestamp",
        absolute=True,
    ),
    # rslidar_sdk: XYZI (default), XYZIRT, XYZIRTF, XYZIF; organised with NaN unless dense_points
    "robosense xyzi": Driver(f"{XYZ} intensity:f4@12", 16, height=2, intensity="intensity"),
    "robosense xyzirt": Driver(
        f"{XYZ} intensity:f4@12 ring:u2@16 timestamp:f8@18",
        26,
        height=2,
        intensity="intensity",
        ring="ring",
        time="timestamp",
        absolute=True,
    ),
    "robosense xyzirtf": Driver(
        f"{XYZ} intensity:f4@12 ring:u2@16 timestamp:f8@18 feature:u1@26",
        27,
        intensity="intensity",
        ring="ring",
        time="timestamp",
        absolute=True,
    ),
    "robosense xyzif": Driver(f"{XYZ} intensity:f4@12 feature:u1@16", 17, intensity="intensity"),
    # livox_ros_driver2, xfer_format 0: reflectivity as float 0..255; absolute nanoseconds as double
    "livox": Driver(
        f"{XYZ} intensity:f4@12 tag:u1@16 line:u1@17 timestamp:f8@18",
        26,
        intensity="intensity",
        ring="line",
        time="timestamp",
        tick=1e-9,
        absolute=True,
    ),
    "livox older": Driver(
        f"{XYZ} intensity:f4@12 tag:u1@16 line:u1@17", 18, intensity="intensity", ring="line"
    ),
    # Autoware's point types
    "autoware xyzi": Driver(f"{XYZ} intensity:f4@12", 16, intensity="intensity"),
    "autoware xyzirc": Driver(
        f"{XYZ} intensity:u1@12 return_type:u1@13 channel:u2@14",
        16,
        intensity="intensity",
        ring="channel",
    ),
    "autoware xyzircaedt": Driver(
        f"{XYZ} intensity:u1@12 return_type:u1@13 channel:u2@14 azimuth:f4@16 elevation:f4@20 "
        "distance:f4@24 time_stamp:u4@28",
        32,
        intensity="intensity",
        ring="channel",
        time="time_stamp",
        tick=1e-9,
    ),
    "autoware xyziradrt": Driver(
        f"{XYZ} intensity:f4@12 ring:u2@16 azimuth:f4@20 distance:f4@24 return_type:u1@28 "
        "time_stamp:f8@32",
        40,
        intensity="intensity",
        ring="ring",
        time="time_stamp",
        absolute=True,
    ),
    "autoware xyziradrt packed": Driver(
        f"{XYZ} intensity:f4@12 ring:u2@16 azimuth:f4@18 distance:f4@22 return_type:u1@26 "
        "time_stamp:f8@27",
        35,
        intensity="intensity",
        ring="ring",
        time="time_stamp",
        absolute=True,
    ),
}


def struct(driver):
    fields = [part.replace("@", ":").split(":") for part in driver.fields.split()]
    return np.dtype(
        {
            "names": [name for name, _, _ in fields],
            "formats": [f"<{kind}" for _, kind, _ in fields],
            "offsets": [int(offset) for _, _, offset in fields],
            "itemsize": driver.step,
        }
    )


class Stamped(NamedTuple):
    """A cloud with a header, as rclpy's and rosbags' messages have one."""

    parts: CloudParts
    header: object

    def __getattr__(self, name):
        return getattr(self.parts, name)


class Header(NamedTuple):
    class Time(NamedTuple):
        sec: int = START
        nanosec: int = 0

    stamp: Time = Time()
    frame_id: str = "lidar"


def recorded(driver):
    """A cloud of the driver and the values in it."""
    kind = struct(driver)
    count = driver.height * WIDTH
    points = np.frombuffer(b"\xee" * (count * driver.step), kind).copy()
    number = np.arange(count)
    for offset, axis in enumerate("xyz"):
        points[axis] = 0.5 * number + offset
    seconds = number / 1024  # whole in every number type that drivers use
    if driver.intensity:
        points[driver.intensity] = np.linspace(0, driver.full, count).round()
    if driver.ring:
        points[driver.ring] = number % 100
    if driver.time:
        start = START / driver.tick if driver.absolute else 0
        ticks = seconds / driver.tick
        whole = points[driver.time].dtype.kind == "u"
        points[driver.time] = start + (np.rint(ticks) if whole else ticks)
    fields = tuple(
        CloudField(name, offset, DATATYPE_OF[base.newbyteorder("=")])
        for name, (base, offset) in kind.fields.items()
    )
    parts = CloudParts(
        driver.height,
        WIDTH,
        fields,
        False,
        driver.step,
        driver.step * WIDTH,
        array("B", points.tobytes()),
        True,
    )
    return Stamped(parts, Header()), points, seconds


@pytest.mark.parametrize("name", DRIVERS)
def test_every_point_is_read(name):
    driver = DRIVERS[name]
    cloud, points, seconds = recorded(driver)
    scan = decode(cloud, driver.options)
    np.testing.assert_array_equal(scan.xyz, np.stack([points[axis] for axis in "xyz"], 1))
    expected = points[driver.intensity].astype(np.float64) / driver.full
    np.testing.assert_allclose(scan.intensity, expected, atol=1e-6)
    if driver.ring:
        np.testing.assert_array_equal(scan.ring, points[driver.ring])
    if driver.time:
        # a double of nanoseconds since 1970 is exact to 256 ns
        np.testing.assert_allclose(scan.time, seconds, atol=4e-7)
    assert scan.stamp_ns == START * 1_000_000_000


@pytest.mark.parametrize("name", DRIVERS)
def test_labels_go_out_in_every_layout_and_filtered_points_keep_their_bytes(name):
    cloud, points, _ = recorded(DRIVERS[name])
    count = len(points)
    labels = (np.arange(count) % 19).astype(np.uint8)
    share = np.full(count, 0.5, np.float32)
    segmentation = Segmentation(labels, share, share, LabelSet.named("semantic-kitti"))
    for layout in LAYOUTS:
        parts = encode_labels(cloud, segmentation, layout)
        assert (parts.height, parts.width) == (cloud.height, cloud.width)
        np.testing.assert_array_equal(decode(parts).xyz, decode(cloud).xyz)
    keep = labels % 3 > 0
    kept = keep_points(cloud, keep)
    rows = np.frombuffer(cloud.data, np.uint8).reshape(count, -1)
    assert bytes(kept.data) == rows[keep].tobytes()
    assert kept.fields == cloud.fields


def test_an_organised_cloud_may_say_that_it_is_dense_and_mark_gaps_by_zeros():
    """ouster_ros writes (0, 0, 0) for missing returns and is_dense = true."""
    cloud, points, _ = recorded(DRIVERS["ouster original"])
    data = np.frombuffer(cloud.data, np.uint8).reshape(len(points), -1)
    data[3, :12] = 0
    assert decode(cloud).valid.all()
    assert (~decode(cloud, DecodeOptions(zero_is_no_return=True)).valid).nonzero()[0].tolist() == [
        3
    ]


def test_ousters_signal_of_thousands_comes_to_unit_scale():
    driver = DRIVERS["ouster original"]._replace(intensity="intensity", full=3300.0)
    cloud, points, _ = recorded(driver)
    scan = decode(cloud)
    assert 0.9 < scan.intensity.max() <= 1.0
    assert np.all(np.diff(scan.intensity) >= 0), "the order of the intensities stays"
    assert points["intensity"].max() == 3300
