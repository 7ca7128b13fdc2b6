# SPDX-License-Identifier: Apache-2.0
"""PandaSet in small trees of the official layout, written by pandas."""

import json
import os
import pickle

import numpy as np
import pytest

from pointdistill_ros.datasets.cache import pack
from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.open import open_in_convention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.pandaset import PandaSet
from pointdistill_ros.errors import InputError
from pointdistill_ros.labels import LabelSet

pd = pytest.importorskip("pandas")

N = 60
LABELS = LabelSet.named("pandaset")
YAW = 0.8
POSE = {
    "position": {"x": 120.0, "y": -45.0, "z": 3.0},
    "heading": {"w": float(np.cos(YAW / 2)), "x": 0.0, "y": 0.0, "z": float(np.sin(YAW / 2))},
}
START = 1_557_539_924.5


def points(seed):
    """Points in a car's frame, x forward, y left; rows as pandas numbers them."""
    return np.random.default_rng(seed).uniform(-40, 40, (N, 3))


def in_world(forward):
    """The same where PandaSet would store them: its own frame has x right, y forward."""
    x, y = -forward[:, 1], forward[:, 0]
    return np.stack(
        [
            120 + np.cos(YAW) * x - np.sin(YAW) * y,
            -45 + np.sin(YAW) * x + np.cos(YAW) * y,
            3 + forward[:, 2],
        ],
        axis=1,
    )


def write_sequence(root, name, frames=2):
    lidar, semseg = root / name / "lidar", root / name / "annotations" / "semseg"
    lidar.mkdir(parents=True)
    semseg.mkdir(parents=True)
    for frame in range(frames):
        rng = np.random.default_rng(100 + frame)
        table = pd.DataFrame(in_world(points(frame)), columns=["x", "y", "z"])
        table["i"] = rng.integers(0, 256, N).astype(float)
        table["t"] = START + 0.1 * frame + rng.uniform(0, 0.1, N)
        table["d"] = rng.integers(0, 2, N)
        table.to_pickle(lidar / f"{frame:02d}.pkl.gz")
        classes = pd.DataFrame({"class": rng.integers(0, 43, N)})
        classes.to_pickle(semseg / f"{frame:02d}.pkl.gz")
    (lidar / "poses.json").write_text(json.dumps([POSE] * frames))
    (lidar / "timestamps.json").write_text(json.dumps([START + 0.1 * f for f in range(frames)]))
    names = {str(i + 1): name for i, name in enumerate(LABELS.names)}
    (semseg / "classes.json").write_text(json.dumps(names))


@pytest.fixture
def root(tmp_path):
    for name in ("001", "002", "034"):
        write_sequence(tmp_path, name)
    return tmp_path


def frame_of(root, what, frame="00", sequence="001"):
    folder = {"lidar": "lidar", "semseg": "annotations/semseg"}[what]
    return root / sequence / folder / f"{frame}.pkl.gz"


def test_our_split_has_every_labelled_sequence_once():
    splits = SensorConvention.named("pandaset").splits
    assert list(splits) == ["train", "val"]
    everything = [*splits["train"], *splits["val"]]
    assert len(everything) == len(set(everything)) == 76
    assert "002" in splits["train"] and "003" in splits["val"]  # as in packed scans


def test_sequences_of_a_split(root):
    assert PandaSet(root, "train", ["002", "001"]).sequences == ["001", "001", "002", "002"]
    assert PandaSet(root, "val", ["034"]).sequences == ["034", "034"]
    with pytest.raises(InputError, match="sequence 034 is not in split train"):
        PandaSet(root, "train", ["034"])
    with pytest.raises(InputError, match="no split 'test'; there are train, val"):
        PandaSet(root, "test")
    with pytest.raises(InputError, match=r"in sequence .*158"):
        PandaSet(root, "train")
    with pytest.raises(InputError, match="PandaSet has 001/lidar/00"):
        PandaSet(root / "001", "train")


def test_points_come_back_into_the_car(root):
    for i in (0, 1):
        scan, labels = PandaSet(root, "train", ["001"], lidar=None)[i]
        np.testing.assert_allclose(scan.xyz, points(i), atol=1e-5)
        table = pd.read_pickle(frame_of(root, "lidar", f"{i:02d}"))
        np.testing.assert_allclose(scan.intensity, table["i"] / 255, rtol=1e-6)
        np.testing.assert_allclose(scan.time, table["t"] - (START + 0.1 * i), atol=1e-6)
        raw = pd.read_pickle(frame_of(root, "semseg", f"{i:02d}"))["class"].to_numpy()
        np.testing.assert_array_equal(labels, np.where(raw == 0, 255, raw - 1))
        assert abs(scan.stamp_ns - (START + 0.1 * i) * 1e9) < 1000


def test_one_lidar_by_default(root):
    both, labels = PandaSet(root, "train", ["001"], lidar=None)[0]
    around = pd.read_pickle(frame_of(root, "lidar"))["d"].to_numpy() == 0
    for lidar, chosen in ((0, around), (1, ~around)):
        scan, kept = PandaSet(root, "train", ["001"], lidar)[0]
        np.testing.assert_array_equal(scan.xyz, both.xyz[chosen])
        np.testing.assert_array_equal(scan.time, both.time[chosen])
        np.testing.assert_array_equal(kept, labels[chosen])
    assert len(PandaSet(root, "train", ["001"])[0][0]) == around.sum()


def test_the_pose_leads_to_the_world(root):
    scans = PandaSet(root, "train", ["001"], lidar=None)
    scan, pose = scans[0][0], scans.pose(0)
    np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
    world = scan.transformed(pose, "world").xyz
    np.testing.assert_allclose(world, in_world(points(0)), atol=1e-4)


def test_labels_follow_their_rows(root):
    scans = PandaSet(root, "train", ["001"])
    _, expected = scans[0]
    path = frame_of(root, "semseg")
    pd.read_pickle(path).sample(frac=1, random_state=0).to_pickle(path)
    np.testing.assert_array_equal(scans[0][1], expected)
    pd.read_pickle(path).sort_index().iloc[1:].to_pickle(path)
    with pytest.raises(
        InputError, match=r"semseg/00\.pkl\.gz: 59 labels of other rows than its 60"
    ):
        scans[0]


def test_worker_processes_packing_and_the_convention(root, tmp_path):
    scans = PandaSet(root, "train", ["001"])
    scan, labels = pickle.loads(pickle.dumps(scans))[0]
    pack(scans, tmp_path / "out", "pandaset", "train", ["pose"])
    for source in (root, tmp_path / "out"):
        shown, same = open_in_convention("pandaset", source, "train", ["001"])[0]
        np.testing.assert_allclose(shown.xyz - scan.xyz, [[0, 0, -1.33]] * len(scan), atol=3e-3)
        np.testing.assert_array_equal(same, labels)
        assert np.abs(shown.intensity - scan.intensity).max() > 0.2  # quantiles were matched


def change(path, **columns):
    table = pd.read_pickle(path)
    for name, value in columns.items():
        table[name] = value
    table.to_pickle(path)


class Harmful:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda r: frame_of(r, "semseg").unlink(), r"semseg/00\.pkl\.gz: missing"),
        (lambda r: frame_of(r, "lidar").write_bytes(b"x"), r"lidar/00\.pkl\.gz: cannot be read"),
        (
            lambda r: pd.to_pickle(Harmful(), frame_of(r, "lidar")),
            r"lidar/00\.pkl\.gz: asks for posix\.system",
        ),
        (
            lambda r: change(frame_of(r, "semseg"), **{"class": 43}),
            r"semseg/00\.pkl\.gz: raw id 43 is not in label set pandaset",
        ),
        (
            lambda r: pd.DataFrame({"label": range(N)}).to_pickle(frame_of(r, "semseg")),
            r"semseg/00\.pkl\.gz: no column class; there are label",
        ),
        (lambda r: change(frame_of(r, "lidar"), i=256.0), r"lidar/00\.pkl\.gz: intensity outside"),
        (lambda r: (r / "001/lidar/poses.json").write_text("[]"), r"poses\.json: 0 entries, none"),
        (lambda r: (r / "001/lidar/poses.json").write_text("{}"), r"poses\.json: expected a list"),
        (
            lambda r: (r / "001/lidar/poses.json").write_text('[{"position": 1}]'),
            r"poses\.json: expected position and heading",
        ),
        (
            lambda r: (r / "001/lidar/poses.json").write_text(
                json.dumps([POSE | {"heading": dict.fromkeys("wxyz", 1)}])
            ),
            r"poses\.json: heading of length 2; expected a unit quaternion",
        ),
        (lambda r: (r / "001/lidar/timestamps.json").unlink(), r"timestamps\.json: cannot be read"),
        (
            lambda r: (r / "001/lidar/timestamps.json").write_text("[null]"),
            r"timestamps\.json: expected seconds",
        ),
        (
            lambda r: (r / "001/annotations/semseg/classes.json").write_text('{"1": "Road"}'),
            r"classes\.json: other classes",
        ),
    ],
)
def test_damage_is_named_with_its_file(root, monkeypatch, damage, named):
    monkeypatch.chdir(root)
    damage(root)
    with pytest.raises(InputError, match=named):
        PandaSet(root, "train", ["001"])[0]
    assert not (root / "harmed").exists()


def test_packed_scans_know_the_same_split(real_data):
    splits = SensorConvention.named("pandaset").splits
    for split in ("train", "val"):
        packed = PackedScans(real_data, SensorConvention.named("pandaset"), split)
        assert set(packed.sequences) <= set(splits[split])
