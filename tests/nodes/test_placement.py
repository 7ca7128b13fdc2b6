# SPDX-License-Identifier: Apache-2.0
"""Where the network sees a scan; tf2 is a stand-in."""

import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="rclpy is not installed")

from pointdistill_ros.errors import CloudError, ConfigError
from pointdistill_ros.nodes.placement import TfPlacement, pose_matrix
from pointdistill_ros.placement import FAR
from pointdistill_ros.scan import LidarScan

LEVEL = (0.0, 0.0, 0.0, 1.0)
PITCHED = (0.0, math.sin(math.radians(10)), 0.0, math.cos(math.radians(10)))
"""20 degrees about y: the sensor looks down."""


@pytest.fixture
def tf2(monkeypatch):
    """Install a tf2_ros that knows these transforms."""
    stand_in = runpy.run_path(str(Path(__file__).with_name("tf_stand_in.py")))["tf2_ros"]

    def install(known):
        module = stand_in(known)
        monkeypatch.setitem(sys.modules, "tf2_ros", module)
        return module

    return install


def scan(frame="lidar"):
    xyz = np.array([[10, 0, -1.7], [0, 5, 0], [np.nan, 1, 1], [np.inf, 0, 0]], np.float32)
    return LidarScan(xyz, np.array([0.1, 0.2, 0.3, 0.4], np.float32), stamp_ns=7, frame=frame)


def test_without_anything_to_do_the_scan_is_the_same_object():
    given_scan = scan()
    assert TfPlacement(None)(given_scan) == (given_scan, "")


def test_z_offset_moves_z_only():
    given_scan = scan()
    seen, doubt = TfPlacement(None)(given_scan, -0.5)
    np.testing.assert_array_equal(seen.xyz[:2], np.float32([[10, 0, -2.2], [0, 5, -0.5]]))
    assert seen.valid.tolist() == given_scan.valid.tolist() == [True, True, False, False]
    np.testing.assert_array_equal(seen.intensity, given_scan.intensity)
    assert (seen.frame, seen.stamp_ns, doubt) == ("lidar", 7, "")
    assert given_scan.xyz[0, 2] == np.float32(-1.7), "the cloud that goes out is left alone"


@given(
    st.lists(st.floats(-500, 500, width=32), min_size=1, max_size=9),
    st.floats(-100, 100, allow_nan=False),
)
def test_another_height_is_the_same_as_a_frame_at_that_height(heights, z_offset):
    column = np.array(heights, np.float32)
    given_scan = LidarScan(np.column_stack([column, 2 * column, column]))
    pose = np.eye(4)
    pose[2, 3] = z_offset
    expected = given_scan.transformed(pose, "lidar").xyz
    np.testing.assert_array_equal(TfPlacement(None)(given_scan, z_offset)[0].xyz, expected)


def test_a_tilted_sensor_is_levelled(tf2):
    module = tf2({("base_link", "lidar"): (PITCHED, (1.0, 0.0, 2.0))})
    seen, doubt = TfPlacement(None, "base_link")(scan(), -2.0)
    angle = math.radians(20)
    forward = [10 * math.cos(angle) - 1.7 * math.sin(angle) + 1]
    down = [-10 * math.sin(angle) - 1.7 * math.cos(angle)]
    np.testing.assert_allclose(seen.xyz[0], [*forward, 0, *down], rtol=1e-6)
    assert (seen.frame, doubt) == ("base_link", "")
    ((target, source, stamp, timeout),) = module.Buffer.last.asked
    assert (target, source, stamp) == ("base_link", "lidar", 7)
    assert timeout > 0, "a transform may come a little after its cloud"


def test_a_cloud_that_is_in_the_target_frame_needs_no_transform(tf2):
    tf2({})
    given_scan = scan("base_link")
    assert TfPlacement(None, "base_link")(given_scan) == (given_scan, "")


def test_without_a_transform_the_cloud_is_refused_with_the_reason(tf2):
    tf2({})
    with pytest.raises(CloudError, match='no transform lidar → base_link: "base_link" does not'):
        TfPlacement(None, "base_link")(scan())


def test_a_frame_of_the_world_is_doubted(tf2):
    tf2({("map", "lidar"): (LEVEL, (FAR + 1, 0.0, 0.0))})
    _, doubt = TfPlacement(None, "map")(scan())
    assert doubt == (
        f"target frame map lies {FAR + 1:.0f} m from lidar: take one that is fixed to the vehicle"
    )


def test_without_tf2_a_target_frame_is_refused_at_once(monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2_ros", None)
    with pytest.raises(ConfigError, match="'base_link' needs tf2_ros"):
        TfPlacement(None, "base_link")
    TfPlacement(None).close()


def test_closing_ends_the_listening(tf2):
    module = tf2({})
    placement = TfPlacement(None, "base_link")
    assert module.TransformListener.last.listening
    placement.close()
    placement.close()
    assert not module.TransformListener.last.listening


numbers = st.floats(-1, 1, allow_nan=False)


@given(st.tuples(numbers, numbers, numbers, numbers).filter(lambda q: sum(map(abs, q)) > 0.1))
def test_a_pose_is_a_rotation_whatever_the_quaternions_length(quaternion):
    pose = pose_matrix(quaternion, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    assert np.linalg.det(pose[:3, :3]) == pytest.approx(1.0)
    np.testing.assert_array_equal(pose[:, 3], [1, 2, 3, 1])
    doubled = pose_matrix(tuple(2 * q for q in quaternion), (1.0, 2.0, 3.0))
    np.testing.assert_allclose(doubled, pose, atol=1e-12)


def test_a_quarter_turn_about_z_turns_x_to_y():
    half = math.sqrt(0.5)
    pose = pose_matrix((0.0, 0.0, half, half), (0.0, 0.0, 0.0))
    np.testing.assert_allclose(pose[:3, :3] @ [1, 0, 0], [0, 1, 0], atol=1e-12)


@pytest.mark.parametrize("quaternion", [(0.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, math.nan)])
def test_what_is_no_rotation_is_refused(quaternion):
    with pytest.raises(CloudError, match="not a transform"):
        pose_matrix(quaternion, (0.0, 0.0, 0.0))
