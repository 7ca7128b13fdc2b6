# SPDX-License-Identifier: Apache-2.0
"""Waymo in small files of the official columns, with geometry that is known beforehand."""

import pickle
import sys

import numpy as np
import pytest

from pointdistill_ros.datasets.cache import pack
from pointdistill_ros.datasets.open import open_in_convention
from pointdistill_ros.datasets.waymo import Waymo
from pointdistill_ros.datasets.waymo_range_image import column_azimuths, row_inclinations
from pointdistill_ros.errors import InputError, ScanError

pa = pytest.importorskip("pyarrow", exc_type=ImportError)
pq = pytest.importorskip("pyarrow.parquet", exc_type=ImportError)

H, W = 6, 20
BEAMS = np.radians([-30.0, -22.0, -15.0, -9.0, -4.0, 2.0])  # lowest first, as stored
FRAMES = [1_000_000, 1_100_000, 1_200_000, 1_300_000]
LABELLED = [1_100_000, 1_300_000]
A, B = "10_000_30_000", "20_000_40_000"
RETURNS = ("range_image_return1", "range_image_return2")


def transform(roll=0.0, pitch=0.0, yaw=0.0, at=(0.0, 0.0, 0.0)):
    (cr, cp, cy), (sr, sp, sy) = (f([roll, pitch, yaw]) for f in (np.cos, np.sin))
    about_x = np.array([[1, 0, 0], [0, cr, -sr], [0, sr, cr]])
    about_y = np.array([[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]])
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
    whole = np.eye(4)
    whole[:3, :3], whole[:3, 3] = about_z @ about_y @ about_x, at
    return whole


EXTRINSIC = transform(0.01, -0.02, 2.5, at=(1.4, 0.1, 2.2))
POSE = (0.02, -0.01, 0.7, 8000.0, -3000.0, 5.0)  # roll pitch yaw x y z
FRAME_POSE = transform(*POSE[:3], at=POSE[3:])


def moved(column):
    """Pose of the car while a column is measured: it drives and turns."""
    roll, pitch, yaw, x, y, z = POSE
    s = column / W - 0.5
    return (roll + 0.01 * s, pitch, yaw + 0.1 * s, x + 2 * s, y - s, z + 0.1 * s)


def street():
    """Ranges [H, W] at which the beams meet the plane z = 5 of the world, and where they do."""
    ranges, hits = np.full((H, W), -1.0), np.full((H, W, 3), np.nan)
    yaw = np.arctan2(EXTRINSIC[1, 0], EXTRINSIC[0, 0])
    for row in range(H):
        for column in range(W):
            pose = moved(column)
            lidar = transform(*pose[:3], at=pose[3:]) @ EXTRINSIC
            up, around = BEAMS[H - 1 - row], np.pi * (1 - (2 * column + 1) / W) - yaw
            ray = lidar[:3, :3] @ [
                np.cos(up) * np.cos(around),
                np.cos(up) * np.sin(around),
                np.sin(up),
            ]
            if ray[2] < -0.02:
                ranges[row, column] = (5 - lidar[2, 3]) / ray[2]
                hits[row, column] = lidar[:3, 3] + ranges[row, column] * ray
    return ranges, hits


RANGES, HITS = street()


def image(ranges, intensity=0.5):
    empty = np.zeros_like(ranges)
    return np.stack([ranges, np.where(ranges > 0, intensity, -1), empty, empty], axis=-1)


def label_image(seed):
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, 900, (H, W)), rng.integers(0, 23, (H, W))], axis=-1)


def write(path, columns):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def images_of(component, number, images, kind):
    """The two columns of a list of images, None for one that is missing."""
    name = f"[{component}].{RETURNS[number]}"
    values = [None if i is None else np.ravel(i).tolist() for i in images]
    shapes = [None if i is None else list(np.shape(i)) for i in images]
    return {
        f"{name}.values": pa.array(values, pa.list_(kind)),
        f"{name}.shape": pa.array(shapes, pa.list_(pa.int32(), 3)),
    }


def keys(segment, rows):
    columns = {"key.segment_context_name": [segment] * len(rows)}
    columns["key.frame_timestamp_micros"] = pa.array([r[0] for r in rows], pa.int64())
    if len(rows[0]) > 1:
        columns["key.laser_name"] = pa.array([r[1] for r in rows], pa.int8())
    return columns


def write_segment(folder, segment, second=True, values=True, latest_first=False):
    times = FRAMES[::-1] if latest_first else FRAMES
    top = [(t, 1) for t in times]
    every = [(t, laser) for t in times for laser in (3, 1)]
    near = image(np.full((2, 4), 1.0))  # of another lidar
    lidar, labels = keys(segment, every), keys(segment, [r for r in top if r[0] in LABELLED])
    both = [image(RANGES), image(np.where(RANGES > 12, RANGES + 1, -1), 100.0)]
    for number, one in enumerate(both if second else [both[0], None]):
        shown = [near if laser == 3 else one for _, laser in every]
        lidar |= images_of("LiDARComponent", number, shown, pa.float32())
        truth = [label_image(t + number) if one is not None else None for t in sorted(LABELLED)]
        truth = truth[::-1] if latest_first else truth
        labels |= images_of("LiDARSegmentationLabelComponent", number, truth, pa.int32())
    poses = np.broadcast_to([moved(c) for c in range(W)], (H, W, 6))
    pose = keys(segment, top) | images_of("LiDARPoseComponent", 0, [poses] * 4, pa.float32())
    vehicle = keys(segment, [(t,) for t in times])
    vehicle["[VehiclePoseComponent].world_from_vehicle.transform"] = pa.array(
        [FRAME_POSE.ravel().tolist()] * 4, pa.list_(pa.float64(), 16)
    )
    calibration = {
        "key.segment_context_name": [segment] * 2,
        "key.laser_name": pa.array([3, 1], pa.int8()),
        "[LiDARCalibrationComponent].extrinsic.transform": pa.array(
            [np.eye(4).ravel().tolist(), EXTRINSIC.ravel().tolist()], pa.list_(pa.float64(), 16)
        ),
        "[LiDARCalibrationComponent].beam_inclination.min": [-1.0, BEAMS[0]],
        "[LiDARCalibrationComponent].beam_inclination.max": [1.0, BEAMS[-1]],
        "[LiDARCalibrationComponent].beam_inclination.values": pa.array(
            [None, BEAMS.tolist() if values else None], pa.list_(pa.float64())
        ),
    }
    for component, columns in {
        "lidar": lidar,
        "lidar_segmentation": labels,
        "lidar_pose": pose,
        "vehicle_pose": vehicle,
        "lidar_calibration": calibration,
    }.items():
        write(folder / component / f"{segment}.parquet", columns)


@pytest.fixture
def root(tmp_path):
    write_segment(tmp_path / "training", A)
    write_segment(tmp_path / "training", B, second=False)
    write_segment(tmp_path / "validation", B, latest_first=True)
    return tmp_path


def test_directions_of_pixels():
    azimuth = column_azimuths(4, np.eye(4))
    np.testing.assert_allclose(np.degrees(azimuth), [135, 45, -45, -135])  # clockwise from behind
    turned = column_azimuths(4, transform(yaw=1.0))
    np.testing.assert_allclose(turned + 1.0, azimuth)  # the mount's yaw leaves the car's view
    even = row_inclinations(None, -0.3, 0.1, 4)
    np.testing.assert_allclose(even, [0.05, -0.05, -0.15, -0.25])
    np.testing.assert_array_equal(row_inclinations(np.arange(3), 9, 9, 3), [2, 1, 0])


def test_only_labelled_frames_in_order(root):
    scans = Waymo(root, "train")
    assert scans.frames == [(s, t) for s in (A, B) for t in LABELLED]
    assert scans.sequences == [A, A, B, B] and len(scans) == 4
    assert Waymo(root, "train", [B]).sequences == [B, B]
    assert Waymo(root, "val").frames == [(B, t) for t in LABELLED]


def test_points_lie_where_the_beams_met_the_street(root):
    scan, _ = Waymo(root, "train")[0]
    first = int((RANGES > 0).sum())
    assert 0 < first < H * W  # the highest beams meet nothing
    world = scan.xyz.astype(np.float64) @ FRAME_POSE[:3, :3].T + FRAME_POSE[:3, 3]
    # poses of pixels are float32: 0.5 mm at 8 km from the origin
    np.testing.assert_allclose(world[:first], HITS[RANGES > 0], atol=2e-3)
    np.testing.assert_allclose(world[:first, 2], 5, atol=2e-3)
    np.testing.assert_array_equal(scan.ring[:first], np.nonzero(RANGES > 0)[0])
    assert scan.stamp_ns == LABELLED[0] * 1000 and scan.frame == f"{A}/{LABELLED[0]}"


def test_both_returns_with_intensity_and_labels(root):
    scan, labels = Waymo(root, "train")[1]
    masks = [RANGES > 0, RANGES > 12]
    first = int(masks[0].sum())
    assert len(scan) == len(labels) == first + masks[1].sum() > first
    np.testing.assert_allclose(scan.intensity[:first], np.tanh(0.5), rtol=1e-6)
    assert (scan.intensity[first:] == 1).all()  # tanh(100)
    truth = [label_image(LABELLED[1] + n)[m, 1] for n, m in enumerate(masks)]
    stored = np.concatenate(truth)
    np.testing.assert_array_equal(labels, np.where(stored == 0, 255, stored - 1))
    assert (scan.xyz.dtype, scan.intensity.dtype, labels.dtype) == ("f4", "f4", "u1")


def test_a_missing_second_return_has_no_points(root):
    scan, labels = Waymo(root, "train", [B])[0]
    assert len(scan) == len(labels) == (RANGES > 0).sum()


def test_predictions_go_back_to_their_pixels(root):
    scans = Waymo(root, "train")
    for i in (0, 2):
        _, labels = scans[i]
        images = scans.to_range_images(i, labels)
        assert images.shape == (2, H, W, 2) and images.dtype == np.int32
        assert not images[..., 0].any() and not images[..., 1][~scans.returned(i)].any()
        expected = np.where(RANGES > 0, label_image(LABELLED[0])[..., 1], 0)
        np.testing.assert_array_equal(images[0, ..., 1], expected)
    with pytest.raises(ScanError, match=f"3 labels for the {len(labels)} points"):
        scans.to_range_images(2, labels[:3])


def test_instances_and_poses(root):
    scans = Waymo(root, "train")
    instances = scans.instances(0)
    masks = [RANGES > 0, RANGES > 12]
    expected = [label_image(LABELLED[0] + n)[m, 0] for n, m in enumerate(masks)]
    np.testing.assert_array_equal(instances, np.concatenate(expected))
    np.testing.assert_array_equal(scans.pose(0), FRAME_POSE)


def test_any_order_of_rows_and_of_requests(root):
    forward = Waymo(root, "train", [A])
    once = [forward[i] for i in (0, 1)]
    again = [forward[i] for i in (1, 0, 1)]
    for (scan, labels), i in zip(again, (1, 0, 1), strict=True):
        np.testing.assert_array_equal(scan.xyz, once[i][0].xyz)
        np.testing.assert_array_equal(labels, once[i][1])
    backward = Waymo(root, "val")  # the file begins with the last frame
    for i in (0, 1):
        np.testing.assert_array_equal(backward[i][0].xyz, once[i][0].xyz)
        np.testing.assert_array_equal(backward[i][1], once[i][1])


def test_evenly_spread_beams(root):
    write_segment(root / "training", A, values=False)
    scan, _ = Waymo(root, "train", [A])[0]
    low, high = BEAMS[0], BEAMS[-1]
    lidar = np.linalg.inv(EXTRINSIC) @ np.c_[_still(scan), np.ones(len(scan))].T
    up = np.arcsin(lidar[2] / np.linalg.norm(lidar[:3], axis=0))
    expected = low + (high - low) * (H - 0.5 - scan.ring) / H
    np.testing.assert_allclose(up, expected, atol=1e-3)


def _still(scan):
    """Points as the car would have seen them had it stood still: undoes its motion."""
    columns = np.concatenate([np.nonzero(m)[1] for m in (RANGES > 0, RANGES > 12)])
    world = scan.xyz.astype(np.float64) @ FRAME_POSE[:3, :3].T + FRAME_POSE[:3, 3]
    poses = [np.linalg.inv(transform(*moved(c)[:3], at=moved(c)[3:])) for c in columns]
    return np.stack([p[:3, :3] @ w + p[:3, 3] for p, w in zip(poses, world, strict=True)])


def test_frames_of_the_test_split_come_from_the_official_list(root):
    write_segment(root / "testing", A)
    with pytest.raises(InputError, match=r"3d_semseg_test_set_frames\.txt: expected the official"):
        Waymo(root, "test")
    (root / "3d_semseg_test_set_frames.txt").write_text(f"{A},{FRAMES[2]}\n{A},{FRAMES[0]}\n")
    scans = Waymo(root, "test")
    assert scans.frames == [(A, FRAMES[0]), (A, FRAMES[2])]
    scan, labels = scans[1]
    assert len(scan) == len(labels) and (labels == 255).all()


def test_worker_processes_and_packing(root, tmp_path):
    scans = Waymo(root, "train")
    scan, labels = scans[0]
    copy = pickle.loads(pickle.dumps(scans))
    np.testing.assert_array_equal(copy[0][0].xyz, scan.xyz)
    packed = pack(scans, tmp_path / "out", "waymo", "train", ["pose", "instances"])
    assert np.abs(packed[0][0].xyz - scan.xyz).max() <= 1 / 512
    np.testing.assert_allclose(packed[0][0].intensity, scan.intensity, atol=1e-5)
    np.testing.assert_array_equal(packed[0][1], labels)
    shown, _ = open_in_convention("waymo", tmp_path / "out", "train")[0]
    np.testing.assert_allclose(shown.xyz[:, 2], packed[0][0].xyz[:, 2] - 1.75, atol=1e-5)


def test_roots_without_waymo_are_named(root, tmp_path):
    with pytest.raises(InputError, match="no split 'training'; there are train, val, test"):
        Waymo(root, "training")
    with pytest.raises(InputError, match=r"nowhere/training: no such folder; Waymo 2 has"):
        Waymo(tmp_path / "nowhere", "train")
    (tmp_path / "empty" / "training").mkdir(parents=True)
    with pytest.raises(InputError, match=r"empty/training: no labelled frames; Waymo 2 has"):
        Waymo(tmp_path / "empty", "train")
    with pytest.raises(InputError, match="no labelled frames of 99"):
        Waymo(root, "train", [A, "99"])


def rewrite(path, column, value):
    table = pq.read_table(path)
    values = table[column].to_pylist()
    values = [value(v) if v is not None else None for v in values]
    at = table.schema.get_field_index(column)
    pq.write_table(table.set_column(at, column, pa.array(values, table[column].type)), path)


MIN_BEAM = "[LiDARCalibrationComponent].beam_inclination.min"
LABEL = "[LiDARSegmentationLabelComponent].range_image_return1"


@pytest.mark.parametrize(
    ("component", "damage", "named"),
    [
        ("lidar", lambda p: p.unlink(), "missing"),
        ("lidar_pose", lambda p: p.write_bytes(p.read_bytes()[:-9]), "not a whole Parquet file"),
        ("vehicle_pose", lambda p: p.write_bytes(b""), "not a whole Parquet file"),
        (
            "lidar_pose",
            lambda p: pq.write_table(pq.read_table(p).slice(2), p),
            "no row with key.frame_timestamp_micros 1100000, key.laser_name 1",
        ),
        (
            "lidar_calibration",
            lambda p: pq.write_table(pq.read_table(p).drop_columns([MIN_BEAM]), p),
            r"no column \[LiDARCalibrationComponent\]\.beam_inclination\.min",
        ),
        (
            "lidar_segmentation",
            lambda p: rewrite(p, f"{LABEL}.values", lambda v: [23] * len(v)),
            "1100000: raw id 23 is not in label set waymo",
        ),
        (
            "lidar_segmentation",
            lambda p: rewrite(p, f"{LABEL}.values", lambda v: v[:-1]),
            r"239 values of shape \[6, 20, 2\]; expected H × W × 2",
        ),
        (
            "lidar_segmentation",
            lambda p: rewrite(p, f"{LABEL}.shape", lambda v: [20, 6, 2]),
            "the two returns differ in shape",
        ),
        (
            "lidar",
            lambda p: rewrite(p, f"[LiDARComponent].{RETURNS[0]}.values", lambda v: None),
            "return1.values is empty",
        ),
        (
            "lidar_calibration",
            lambda p: rewrite(p, MIN_BEAM.replace("min", "values"), lambda v: v[1:]),
            "image of 6 rows, 5 beams",
        ),
    ],
)
def test_damage_is_named_with_its_file(root, component, damage, named):
    path = root / "training" / component / f"{A}.parquet"
    damage(path)
    with pytest.raises(InputError, match=named) as error:
        Waymo(root, "train")[0]
    assert f"{A}.parquet" in str(error.value)


def test_without_pyarrow_it_is_asked_for(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match="reading Waymo needs pyarrow: pip install pyarrow"):
        Waymo(root, "train")
