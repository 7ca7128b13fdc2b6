# SPDX-License-Identifier: Apache-2.0
"""Where a bag's sensors sit on the vehicle: chains, siblings, what moves, what is not there."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import CloudError, InputError
from pointdistill_ros.evaluation.bags.frames import FrameIndex
from pointdistill_ros.evaluation.bags.mounting import Mounting, open_mounting
from pointdistill_ros.evaluation.motion.trajectory import pose_of
from pointdistill_ros.io.bag import BagReader, BagWriter
from pointdistill_ros.io.cloud_parts import encode_scan
from pointdistill_ros.placement import Placement
from pointdistill_ros.scan import LidarScan
from tests.evaluation.bags.mounts import chained, turn, write_mount

LEVEL = (0.0, 0.0, 0.0, 1.0)
ROOF = (turn(2, -14, 91), (0.8, 0.01, 1.6))
TOP = (turn(-3, 1, 0.4), (0.05, -0.3, 0.21))
AXLE = (turn(0, 0.7, 0), (-1.2, 0.0, 0.31))
EDGES = {"roof": ("base", *ROOF), "lidar": ("roof", *TOP), "axle": ("base", *AXLE)}


def mounting(path, target, edges=EDGES, **more):
    """``more``: a list of edges for each topic of moving ones, 0.1 s apart."""
    with BagWriter(path) as bag:
        write_mount(bag, edges)
        for number, moving in enumerate(more.get("tf", ())):
            write_mount(bag, moving, "/tf", 1 + number * 100_000_000)
    with BagReader(path) as bag:
        return Mounting.of(bag, target)


@pytest.mark.parametrize(
    ("target", "source", "expected"),
    [
        ("base", "lidar", chained([ROOF, TOP])),
        ("roof", "lidar", chained([TOP])),
        ("lidar", "base", chained([], [ROOF, TOP])),
        ("axle", "/lidar", chained([ROOF, TOP], [AXLE])),
        ("lidar", "axle", chained([AXLE], [ROOF, TOP])),
        ("lidar", "lidar", chained([])),
    ],
)
def test_chains_and_siblings_are_what_tf2_says(tmp_path, target, source, expected):
    found = mounting(tmp_path / "a.mcap", target)
    q, t = expected
    np.testing.assert_allclose(found(target, source, 7), pose_of(t, q), rtol=0, atol=1e-14)
    placement = pickle.loads(pickle.dumps(found.placement))  # as it goes to worker processes
    scan = LidarScan(np.arange(12, dtype=np.float32).reshape(4, 3), frame=source)
    np.testing.assert_array_equal(placement(scan)[0].xyz, found.placement(scan)[0].xyz)
    assert placement(scan)[0].frame == target


def test_what_tf_repeats_does_not_move_and_what_it_changes_does(tmp_path):
    still = [{"base": ("truck", *ROOF)}, {"base": ("truck", -ROOF[0], ROOF[1])}]
    found = mounting(tmp_path / "a.mcap", "truck", tf=still)
    q, t = chained([ROOF, ROOF, TOP])
    np.testing.assert_allclose(found("truck", "lidar", 0), pose_of(t, q), rtol=0, atol=1e-14)
    for other in ((turn(2, -14, 91.0001), ROOF[1]), (ROOF[0], (0.8, 0.01, 1.60001))):
        moving = [{"base": ("truck", *ROOF)}, {"base": ("truck", *other)}]
        found = mounting(tmp_path / "a.mcap", "truck", tf=moving)
        with pytest.raises(CloudError, match="lidar → truck: /tf moves them against each other"):
            found("truck", "lidar", 0)
        found = mounting(tmp_path / "a.mcap", "axle", tf=moving)  # moves with the vehicle
        assert set(found.poses) == {"axle", "base", "lidar", "roof"}


def test_frames_that_are_not_connected_are_named_with_those_that_are(tmp_path):
    apart = EDGES | {"camera": ("rig", LEVEL, (0, 0, 0))}
    found = mounting(tmp_path / "a.mcap", "base", apart)
    with pytest.raises(CloudError, match="camera → base: fixed to base in this bag: axle, lidar,"):
        found("base", "camera", 0)
    found = mounting(tmp_path / "a.mcap", "base_link")
    with pytest.raises(
        CloudError, match=r"lidar → base_link: frames in .* axle, base, lidar, roof"
    ):
        found("base_link", "lidar", 0)
    found = mounting(tmp_path / "a.mcap", "base", {"a": ("b", LEVEL, (0, 0, 0))})
    with pytest.raises(CloudError, match="/tf_static: a, b"):
        found("base", "lidar", 0)


def test_the_first_cloud_decides_beforehand_unless_it_shall_go_on(tmp_path):
    clouds = LidarScan(np.ones((3, 3), np.float32))
    with BagWriter(tmp_path / "a.mcap") as bag:
        write_mount(bag, EDGES)
        bag.write_cloud("/points", 5, encode_scan(clouds), stamp_ns=5, frame="rear")
    index = FrameIndex.of(tmp_path / "a.mcap")
    with pytest.raises(InputError, match=r"a.mcap: cloud 0 on /points: no transform rear → base"):
        open_mounting(index, "base")
    assert set(open_mounting(index, "base", keep_going=True).poses) >= {"lidar"}
    open_mounting(index, "rear")  # the clouds' own


noise = st.floats(-4e-15, 4e-15)


@given(st.lists(noise, min_size=12, max_size=12))
def test_the_last_digits_of_a_pose_decide_nothing(parts):
    """Another order of multiplication, as in tf2, gives other last digits, and the same scan.

    A nudge at 1 lies between two numbers of float32: any digit would decide.
    """
    nudge = 2.0**-24
    exact = np.eye(4)
    exact[:3, 3] = nudge
    other = exact.copy()
    other[:3] += np.reshape(parts, (3, 4))
    scan = LidarScan(np.ones((9, 3), np.float32))
    seen = [Placement("b", lambda *_, pose=pose: pose)(scan)[0].xyz for pose in (exact, other)]
    np.testing.assert_array_equal(*seen)


def test_a_placed_scan_lies_where_the_pose_says():
    q, t = chained([ROOF, TOP])
    pose = pose_of(t, q)
    scan = LidarScan(np.random.default_rng(0).normal(0, 40, (500, 3)).astype(np.float32))
    seen, doubt = Placement("base", lambda *_: pose)(scan, 0.42)
    expected = scan.xyz.astype(np.float64) @ pose[:3, :3].T + t + [0, 0, 0.42]
    np.testing.assert_allclose(seen.xyz, expected, atol=2e-5)
    assert (seen.frame, doubt) == ("base", "")
