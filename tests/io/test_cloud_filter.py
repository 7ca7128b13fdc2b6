# SPDX-License-Identifier: Apache-2.0
"""Points left out of a cloud: the others keep every byte and their order."""

from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import CloudError
from pointdistill_ros.io.cloud_filter import keep_points, reduce_points
from pointdistill_ros.io.cloud_layout import CloudField
from pointdistill_ros.io.cloud_parts import CloudParts
from pointdistill_ros.io.pointcloud2 import decode


def organised(height, width, step, padding, bigendian=False, seed=0):
    """A cloud of random bytes, x y z at odd offsets, and each point's bytes as rows [N, step]."""
    raw = np.random.default_rng(seed).integers(0, 256, height * (width * step + padding), np.uint8)
    fields = (
        CloudField("z", 1, 7),
        CloudField("x", 9, 7),
        CloudField("y", 5, 7),
        CloudField("blob", 0, 2, 1),
        CloudField("unknown", 13, 99, 4),  # a datatype that this package cannot read
    )
    row = width * step + padding
    cloud = CloudParts(
        height, width, fields, bigendian, step, row, array("B", raw.tobytes()), is_dense=True
    )
    return cloud, raw.reshape(height, row)[:, : width * step].reshape(-1, step)


@given(
    height=st.integers(0, 4),
    width=st.integers(0, 5),
    step=st.integers(14, 40),
    padding=st.integers(0, 7),
    bigendian=st.booleans(),
    data=st.data(),
)
def test_kept_points_are_the_inputs_bytes_in_the_inputs_order(
    height, width, step, padding, bigendian, data
):
    cloud, rows = organised(height, width, step, padding, bigendian)
    keep = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    keep = keep.astype(bool).reshape(-1)
    kept = keep_points(cloud, keep)
    assert bytes(kept.data) == rows[keep].tobytes()
    assert (kept.height, kept.width) == (1, keep.sum())
    assert (kept.point_step, kept.row_step) == (step, step * keep.sum())
    assert (kept.fields, kept.is_bigendian) == (cloud.fields, bigendian)
    np.testing.assert_array_equal(
        decode(kept).xyz, decode(cloud).xyz[keep], err_msg="the same points for any reader"
    )
    assert kept.is_dense == bool(np.isfinite(decode(cloud).xyz[keep]).all())


def test_the_input_is_not_changed_and_not_shared():
    cloud, _ = organised(2, 3, 20, 4)
    before = bytes(cloud.data)
    kept = keep_points(cloud, np.ones(6, bool))
    kept.data[0] ^= 0xFF
    assert bytes(cloud.data) == before


@pytest.mark.parametrize("shape", [(5,), (7,), (2, 3), (0,)])
def test_a_mask_of_another_length_is_refused(shape):
    cloud, _ = organised(2, 3, 20, 0)
    with pytest.raises(CloudError, match="6 points, the mask"):
        keep_points(cloud, np.ones(shape, bool))


def test_a_broken_cloud_is_refused():
    cloud, _ = organised(2, 3, 20, 0)
    with pytest.raises(CloudError, match="needs 120 bytes, has 119"):
        keep_points(replace(cloud, data=cloud.data[:-1]), np.ones(6, bool))


STRUCT = np.dtype(
    [
        *((name, "<f4") for name in "xyz"),
        ("intensity", "u1"),
        ("return_type", "u1"),
        ("channel", "<u2"),
        *((name, "<f4") for name in ("azimuth", "elevation", "distance")),
        ("time_stamp", "<u4"),
    ]
)
TYPES = {"<f4": 7, "|u1": 2, "<u2": 4, "<u4": 6, "<f8": 8}


def cloud_of(points):
    """A little-endian cloud of a packed structured array."""
    fields = tuple(
        CloudField(name, offset, TYPES[kind.str])
        for name, (kind, offset) in points.dtype.fields.items()
    )
    step = points.dtype.itemsize
    data = array("B", points.tobytes())
    return CloudParts(1, len(points), fields, False, step, step * len(points), data, True)


def xyzircaedt(count=6):
    points = np.zeros(count, STRUCT)
    for number, name in enumerate(STRUCT.names):
        points[name] = np.arange(count) + 10 * number
    return points


EXPECTED = {
    "xyzi": (16, [("x", 0, 7), ("y", 4, 7), ("z", 8, 7), ("intensity", 12, 7)]),
    "xyzirc": (
        16,
        [
            *[("x", 0, 7), ("y", 4, 7), ("z", 8, 7)],
            *[("intensity", 12, 2), ("return_type", 13, 2), ("channel", 14, 4)],
        ],
    ),
    "xyzircaedt": (
        32,
        [
            *[("x", 0, 7), ("y", 4, 7), ("z", 8, 7)],
            *[("intensity", 12, 2), ("return_type", 13, 2), ("channel", 14, 4)],
            *[("azimuth", 16, 7), ("elevation", 20, 7), ("distance", 24, 7), ("time_stamp", 28, 6)],
        ],
    ),
}


@pytest.mark.parametrize("layout", EXPECTED)
def test_reductions_are_autowares_point_types(layout):
    points, keep = xyzircaedt(), np.array([1, 0, 1, 1, 0, 1], bool)
    parts = reduce_points(cloud_of(points), keep, layout)
    step, fields = EXPECTED[layout]
    assert [(f.name, f.offset, f.datatype) for f in parts.fields] == fields
    assert (parts.point_step, parts.width, len(parts.data)) == (step, 4, 4 * step)
    got, expected = decode(parts), decode(cloud_of(points[keep]))
    np.testing.assert_array_equal(got.xyz, expected.xyz)
    np.testing.assert_allclose(got.intensity, expected.intensity, rtol=1e-6)


def test_xyziradrt_has_the_offsets_of_its_struct():
    kind = np.dtype(
        [
            *((name, "<f4") for name in "xyz"),
            *[("intensity", "<f4"), ("ring", "<u2"), ("azimuth", "<f4"), ("distance", "<f4")],
            *[("return_type", "u1"), ("time_stamp", "<f8")],
        ]
    )
    parts = reduce_points(cloud_of(np.zeros(2, kind)), np.ones(2, bool), "xyziradrt")
    offsets = [f.offset for f in parts.fields]
    assert (offsets, parts.point_step) == ([0, 4, 8, 12, 16, 20, 24, 28, 32], 40)


def test_what_a_layout_needs_and_the_input_lacks_is_named():
    cloud = cloud_of(np.zeros(2, STRUCT)[list("xyz")].astype([(n, "<f4") for n in "xyz"]))
    with pytest.raises(CloudError, match="no field 'intensity'"):
        reduce_points(cloud, np.ones(2, bool), "xyzi")
    ring = np.zeros(
        2,
        [
            *((n, "<f4") for n in "xyz"),
            ("intensity", "u1"),
            *((n, "<u2") for n in ("return_type", "channel")),
        ],
    )
    with pytest.raises(CloudError, match="'return_type' is uint16; layout xyzirc needs uint8"):
        reduce_points(cloud_of(ring), np.ones(2, bool), "xyzirc")


@pytest.mark.parametrize("value", [0.5, -1.0, 256.0, np.nan, np.inf])
def test_intensities_that_bytes_cannot_hold_are_refused(value):
    kind = [
        *((n, "<f4") for n in "xyz"),
        *[("intensity", "<f4"), ("return_type", "u1"), ("channel", "<u2")],
    ]
    points = np.zeros(3, kind)
    points["intensity"] = [0, 255, value]
    keep = np.array([True, True, False])
    assert reduce_points(cloud_of(points), keep, "xyzirc").data[28] == 255
    with pytest.raises(CloudError, match="whole numbers 0 to 255"):
        reduce_points(cloud_of(points), np.ones(3, bool), "xyzirc")


@pytest.mark.parametrize("layout", ["input", *EXPECTED])
def test_nothing_left_is_a_legal_cloud(layout):
    parts = reduce_points(cloud_of(xyzircaedt()), np.zeros(6, bool), layout)
    assert (parts.height, parts.width, parts.row_step, len(parts.data)) == (1, 0, 0, 0)
    assert parts.is_dense
    assert len(decode(parts)) == 0
