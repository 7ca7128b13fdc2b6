# SPDX-License-Identifier: Apache-2.0
import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.poses import has_poses, pose_of
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.datasets.simulated import SimulatedStreets
from pointdistill_ros.datasets.sweeps import Sweeps
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.simulation.drive import Drive
from training.opening import CachedScans

from ..official_trees import write_semantic_kitti

KITTI = LabelSet.named("semantic-kitti")
CAR, PERSON, ROAD = map(KITTI.index, ("car", "person", "road"))


def pose(yaw, x, y, z=0.0):
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]
    turn[:3, 3] = x, y, z
    return turn


class World:
    """The same things seen from several places, one of them moving; all points are known."""

    label_set = KITTI
    things = np.random.default_rng(0).uniform((-30, -30, 0), (30, 30, 3), (400, 3))
    labels = np.where(np.arange(400) < 40, CAR, ROAD).astype(np.uint8)

    def __init__(self, poses, sequences=None, moving=None, order=None):
        self.poses = poses
        self.sequences = sequences or ["a"] * len(poses)
        if moving is not None:
            self.moving = lambda i: moving
        if order is not None:
            self.stamp_ns = lambda i: order[i] * 100_000_000

    def __len__(self):
        return len(self.poses)

    def pose(self, i):
        return self.poses[i]

    def __getitem__(self, i):
        world_to_sensor = np.linalg.inv(pose(0, 0, 0) if self.poses[i] is None else self.poses[i])
        xyz = self.things @ world_to_sensor[:3, :3].T + world_to_sensor[:3, 3]
        return LidarScan.from_arrays(xyz, np.full(400, i / 10)), self.labels.copy()


POSES = [pose(0.1 * i, 1.5 * i, 0.2 * i, 0.05 * i) for i in range(5)]


@given(st.lists(st.tuples(*[st.floats(-3, 3)] * 4), min_size=3, max_size=3), st.integers(0, 2))
def test_what_stands_still_lands_on_itself(places, i):
    scans = World([pose(*place) for place in places])
    swept = Sweeps(scans, before=2, after=2, drop="nothing").read(i)
    own, labels = scans[i]
    np.testing.assert_array_equal(swept.scan.xyz[:400], own.xyz)
    np.testing.assert_array_equal(swept.labels[:400], labels)
    assert set(swept.sweep) == {j - i for j in range(3)} and set(swept.sweep[:400]) == {0}
    for j in range(3):
        if j == i:
            continue
        seen = scans[j][0].xyz
        far = np.hypot(seen[:, 0], seen[:, 1]) >= 2.5  # nearer is the recording car
        np.testing.assert_allclose(swept.scan.xyz[swept.sweep == j - i], own.xyz[far], atol=2e-4)
        np.testing.assert_allclose(swept.scan.intensity[swept.sweep == j - i], j / 10)
        assert swept.places[j - i] == pytest.approx(
            (np.linalg.inv(scans.poses[i]) @ scans.poses[j])[:3, 3]
        )


def test_only_near_scans_of_the_same_sequence_in_the_order_of_time():
    scans = World(POSES, list("aaaba"), order=[3, 0, 2, 1, 9])
    swept = Sweeps(scans, before=2, after=1)
    assert swept.neighbours(0) == [(-1, 2), (-2, 1), (1, 4)]
    assert swept.neighbours(1) == [(1, 2)]
    assert swept.neighbours(3) == []
    assert Sweeps(scans, before=2, after=1, reach=3.2).neighbours(0) == [(-1, 2), (-2, 1)]
    assert len(swept) == 5 and swept.sequences == scans.sequences and swept.label_set is KITTI
    np.testing.assert_allclose(np.unique(swept.read(0).scan.time), [-0.3, -0.1, 0, 0.6])
    assert set(swept.read(-1).sweep) == {0, -1, -2}


def test_what_moved_is_left_out_of_other_sweeps_only():
    known = np.arange(400) < 10
    for moving, drop, left in [
        (known, "moving", 390),
        (None, "moving", 360),  # who does not know leaves all cars out
        (known, "movable", 360),
        (known, "nothing", 400),
    ]:
        swept = Sweeps(World(POSES[:2], moving=moving), before=1, drop=drop).read(1)
        near = np.hypot(*World(POSES[:2])[0][0].xyz[:, :2].T) < 2.5
        lost = near[400 - left :].sum()
        assert (swept.sweep == -1).sum() == left - lost
        assert (swept.labels[swept.sweep == 0] == CAR).sum() == 40


def test_points_without_return_stay_in_the_own_sweep_only():
    class Holes(World):
        def __getitem__(self, i):
            scan, labels = super().__getitem__(i)
            scan.xyz[50] = np.nan
            return scan, labels

    swept = Sweeps(Holes(POSES[:2]), before=1, drop="nothing").read(1)
    assert np.isnan(swept.scan.xyz[50]).all() and len(swept.scan.xyz[swept.sweep == 0]) == 400
    assert np.isfinite(swept.scan.xyz[swept.sweep == -1]).all()


def test_figures_can_count_the_own_sweep():
    scans = Sweeps(World(POSES), before=2, own_labels=True)
    scan, labels = scans[3]
    assert len(scan) == len(labels) > 1000
    assert (labels != 255).sum() == 400


def test_conventions_and_caches_are_seen_through():
    convention = SensorConvention("toy", 255, yaw_degrees=-90, height_shift=-1.3)
    plain, turned = World(POSES), InConvention(World(POSES), convention)
    assert has_poses(CachedScans(turned, 1 << 20))
    swept = Sweeps(CachedScans(turned, 1 << 20), before=2, drop="nothing").read(4)
    own = turned[4][0].xyz
    for step in (-1, -2):
        seen = plain[4 + step][0].xyz
        far = np.hypot(seen[:, 0], seen[:, 1]) >= 2.5
        np.testing.assert_allclose(swept.scan.xyz[swept.sweep == step], own[far], atol=2e-4)
    again = pickle.loads(pickle.dumps(Sweeps(plain_data(), before=1)))
    np.testing.assert_array_equal(again.read(1).labels, Sweeps(plain_data(), before=1)[1][1])


class PlainData(World):
    def __init__(self):
        super().__init__(POSES)


def plain_data():
    return PlainData()


def test_data_without_usable_poses_is_refused(tmp_path):
    none = World([None, None])
    assert not has_poses(none)
    with pytest.raises(InputError, match=r"World: no poses.*SemanticKITTI"):
        Sweeps(none)
    with pytest.raises(InputError, match="scan 1 of a has no pose"):
        Sweeps(World([POSES[0], None]), before=1).read(1)
    with pytest.raises(InputError, match="pose of scan 1 of a is no rotation"):
        Sweeps(World([POSES[0], np.diag([1.0, 1, 2, 1])])).read(1)
    with pytest.raises(ConfigError, match="not 0 and 0"):
        Sweeps(World(POSES), before=0)
    kitti = SemanticKitti(write_semantic_kitti(tmp_path), "train", ["00"])
    assert not has_poses(kitti)


XYZ = np.int16([[2560, 0, 0], [0, 2560, 0]])


@pytest.fixture
def packed(tmp_path):
    entries = []
    for i, (frame, space) in enumerate([(6, "semantickitti_raw"), (4, "semantickitti_learning")]):
        label = np.uint16([252, 40])
        np.savez(
            tmp_path / f"{i}.npz", xyz=XYZ, q=256, inten=np.uint8([0, 9]), label=label,
            label19=np.uint8([0, 8]), pose=POSES[i],
        )  # fmt: skip
        entry = {"path": f"{i}.npz", "dataset": "toy", "sequence": "a", "split": "train"}
        entries.append(entry | {"frame": frame, "rate_hz": 2, "label_space": space})
    (tmp_path / "manifest.json").write_text(json.dumps({"files": entries}))
    return tmp_path


def test_packed_poses_belong_to_the_points_that_are_given(packed):
    turned = SensorConvention("toy", 100, yaw_degrees=-90, height_shift=-1.3)
    for convention in (SensorConvention("toy", 100), turned):
        scans = PackedScans(packed, convention, "train")
        for i in range(2):
            world = scans[i][0].transformed(scans.pose(i), "world").xyz
            expected = XYZ / 256 @ POSES[i][:3, :3].T + POSES[i][:3, 3]
            np.testing.assert_allclose(world, expected, atol=1e-5)


def test_packed_scans_know_time_and_what_moved(packed):
    scans = PackedScans(packed, SensorConvention("toy", 100), "train")
    assert [scans.stamp_ns(i) for i in range(2)] == [3_000_000_000, 2_000_000_000]
    assert scans.moving(0).tolist() == [True, False] and scans.moving(1) is None
    assert Sweeps(scans).neighbours(0) == [(-1, 1)]  # the file's order is not that of time
    np.savez(packed / "0.npz", xyz=XYZ, q=256, inten=np.uint8([0, 9]), label19=np.uint8([0, 8]))
    assert scans.pose(0) is None and scans.moving(0) is None
    np.savez(packed / "0.npz", pose=np.eye(3))
    with pytest.raises(InputError, match=r"0\.npz: pose must be 4×4"):
        scans.pose(0)
    (packed / "0.npz").write_bytes(b"cut off")
    with pytest.raises(InputError, match=r"0\.npz: not a packed"):
        scans.pose(0)


def test_official_semantic_kitti_knows_time_and_what_moved(tmp_path):
    root = write_semantic_kitti(tmp_path, ("00", "11"), frames=2)
    scans = SemanticKitti(root, sequences=["00", "11"])
    raw = np.fromfile(root / "sequences/00/labels/000001.label", "<u4") & 0xFFFF
    np.testing.assert_array_equal(scans.moving(1), raw == 252)
    assert scans.moving(2) is None and scans.stamp_ns(1) == 100_000_000
    (root / "sequences/00/times.txt").write_text("0\n1.5e-01\n")
    assert SemanticKitti(root, sequences=["00"]).stamp_ns(1) == 150_000_000
    (root / "sequences/00/times.txt").write_text("0\n")
    with pytest.raises(InputError, match=r"times\.txt: 1 times, none for scan 000001"):
        SemanticKitti(root, sequences=["00"]).stamp_ns(1)
    (root / "sequences/00/times.txt").write_text("now\n")
    with pytest.raises(InputError, match=r"times\.txt: expected one time"):
        SemanticKitti(root, sequences=["00"]).stamp_ns(1)


def overlap(first, second, cell=0.3):
    """Share of the cells of ``first`` above the road that ``second`` has, too."""
    cells = [
        {tuple(c) for c in np.floor(xyz[(xyz[:, 2] > -1) & (np.abs(xyz) < 40).all(1)] / cell)}
        for xyz in (first, second)
    ]
    return len(cells[0] & cells[1]) / len(cells[0])


@pytest.mark.parametrize(
    ("name", "sequence", "least"), [("semantic-kitti", "04", 3), ("pandaset", "002", 1.5)]
)
def test_real_sweeps_lie_on_each_other(real_data, name, sequence, least):
    scans = PackedScans(real_data, SensorConvention.named(name), "train", [sequence])
    last = max(range(len(scans)), key=scans.stamp_ns)
    swept = Sweeps(scans, before=1, reach=50).read(last)
    own, other = (swept.scan.xyz[swept.sweep == step] for step in (0, -1))
    shift = swept.places[-1]
    assert shift[0] < -0.3 and abs(shift[1]) < 0.3  # it drove on, forward
    assert overlap(other, own) > least * overlap(other - shift.astype(np.float32), own)


def test_real_data_without_poses_is_refused(real_data):
    with pytest.raises(InputError, match="no poses"):
        Sweeps(PseudoScans(real_data, 0))
    with pytest.raises(InputError, match="no poses"):
        Sweeps(PackedScans(real_data, SensorConvention.named("ika-vlp32"), "train"))


def test_simulated_streets_know_their_poses():
    scans = SimulatedStreets(None, [3], frames=3, stride=1, lidars=["hdl32e"])
    assert has_poses(scans)
    first, *others = (pose_of(scans, i) for i in range(3))
    steps = [(np.linalg.inv(first) @ other)[:3, 3] for other in others]
    np.testing.assert_allclose(np.linalg.norm(steps, axis=1), [0.433, 0.866], atol=0.02)  # 4.4 m/s
    assert steps[1][0] > 0.99 * np.linalg.norm(steps[1])  # forward


@pytest.mark.slow
def test_simulated_sweeps_lie_on_each_other(tmp_path):
    scans = SimulatedStreets(tmp_path, [3], frames=2, stride=4, lidars=["hdl32e"])
    swept = Sweeps(scans, before=1).read(1)
    own, other = (swept.scan.xyz[swept.sweep == step] for step in (0, -1))
    still = scans[0][0].xyz
    assert overlap(other, own) > 1.5 * overlap(still, own)
    assert np.unique(swept.scan.time).tolist() == [np.float32(-0.4), 0]
    np.testing.assert_array_equal(pose_of(scans, 1), Drive(3, 5, "hdl32e")[4].pose)
