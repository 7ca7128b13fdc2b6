# SPDX-License-Identifier: Apache-2.0
import doctest
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pointdistill_ros.datasets import cameras
from pointdistill_ros.datasets.camera_images import (
    KittiCameraImages,
    PackedCameraImages,
    frame_of,
)
from pointdistill_ros.datasets.cameras import Camera, depth_agreement, nearest_depth
from pointdistill_ros.datasets.convention import InConvention, SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.datasets.semantic_kitti import SemanticKitti
from pointdistill_ros.errors import ConfigError, InputError

from ..official_trees import write_semantic_kitti

WIDTH, HEIGHT = 64, 40
K = np.array([[50.0, 0, 30.5], [0, 55.0, 17.25], [0, 0, 1]])
AXES = np.array([[0.0, -1, 0], [0, 0, -1], [1, 0, 0]])  # x forward → z forward
ANGLE, METRES = st.floats(-3, 3), st.floats(-20, 20)


def turn(yaw, pitch=0.0):
    c, s, cp, sp = np.cos(yaw), np.sin(yaw), np.cos(pitch), np.sin(pitch)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ [[cp, 0, sp], [0, 1, 0], [-sp, 0, cp]]


def rigid(rotation, shift):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, shift
    return matrix


def make_camera(place=(0.3, 0.1, -0.2), yaw=0.0):
    rotation = AXES @ turn(yaw).T
    return Camera.from_intrinsics(K, rigid(rotation, -rotation @ place), WIDTH, HEIGHT)


def cloud(seed=0, n=300, spread=30.0):
    return np.random.default_rng(seed).uniform(-spread, spread, (n, 3)).astype(np.float32)


@given(METRES, METRES, METRES, ANGLE, st.floats(0.5, 80))
def test_a_point_straight_ahead_lies_at_the_principal_point(x, y, z, yaw, depth):
    camera = make_camera((x, y, z), yaw)
    np.testing.assert_allclose(camera.centre, (x, y, z), atol=1e-9)
    point = np.array([x, y, z]) + depth * np.array([np.cos(yaw), np.sin(yaw), 0])
    pixel, found = camera.project(point[None])
    np.testing.assert_allclose(pixel[0], (30.5, 17.25), atol=1e-6)
    np.testing.assert_allclose(found, depth, rtol=1e-9)


def test_left_is_left_and_up_is_up():
    pixel, _ = make_camera((0, 0, 0)).project(np.array([[10.0, 1, 0], [10, 0, 1]]))
    np.testing.assert_allclose(pixel, [(30.5 - 5, 17.25), (30.5, 17.25 - 5.5)])


def test_the_last_column_of_the_projection_counts():
    """KITTI's P2: the left colour camera stands aside of the frame that Tr leads to."""
    p2 = np.column_stack([K, (45.0, -0.1, 0.004)])
    camera = Camera(p2, rigid(AXES, (0, 0, 0)), WIDTH, HEIGHT)
    pixel, depth = camera.project(np.array([[12.0, 2.0, -1.0]]))
    w = 12.0 + 0.004
    expected = ((50 * -2 + 30.5 * 12 + 45) / w, (55 * 1 + 17.25 * 12 - 0.1) / w)
    np.testing.assert_allclose(pixel[0], expected)
    assert depth[0] == pytest.approx(w)


@given(METRES, METRES, METRES, ANGLE, st.floats(0.5, 60))
def test_rays_and_projection_are_inverse(x, y, z, yaw, depth):
    camera = make_camera((x, y, z), yaw)
    points = camera.centre + depth * camera.rays()
    pixel, found = camera.project(points.reshape(-1, 3))
    v, u = np.meshgrid(np.arange(HEIGHT), np.arange(WIDTH), indexing="ij")
    np.testing.assert_allclose(pixel, np.stack([u, v], -1).reshape(-1, 2), atol=1e-6)
    np.testing.assert_allclose(found, depth, rtol=1e-8)


@given(ANGLE, st.floats(-1, 1), METRES, METRES)
def test_moving_world_and_camera_alike_changes_nothing(yaw, pitch, x, y):
    camera, points = make_camera(), cloud().astype(np.float64)
    move = rigid(turn(yaw, pitch), (x, y, 0.5))
    moved = points @ move[:3, :3].T + move[:3, 3]
    before, after = camera.project(points), camera.in_frame(move).project(moved)
    np.testing.assert_allclose(after[1], before[1], atol=1e-9)
    ahead = before[1] > 0.1
    np.testing.assert_allclose(after[0][ahead], before[0][ahead], rtol=1e-6, atol=1e-6)


@given(st.integers(0, 99))
def test_order_of_points_is_kept(seed):
    camera, points = make_camera(), cloud(seed, 400)
    order = np.random.default_rng(seed).permutation(len(points))
    sight, shuffled = camera.see(points), camera.see(points[order])
    assert (np.diff(sight.point) > 0).all()
    back = np.argsort(order[shuffled.point])
    np.testing.assert_array_equal(order[shuffled.point][back], sight.point)
    for name in ("row", "column", "depth", "agreement"):
        np.testing.assert_array_equal(getattr(shuffled, name)[back], getattr(sight, name))


def test_what_is_seen_lies_in_the_image_and_far_enough():
    camera, points = make_camera(), cloud(1, 4000)
    points[:3] = [np.nan, 0, 0], [np.inf, 0, 0], [-np.inf, np.inf, 0]
    points[3:5] = camera.centre + np.array([(0.99, 0, 0), (1.01, 0, 0)])
    sight = camera.see(points, radius=None)
    pixel, depth = camera.project(points)
    u, v = pixel.T
    expected = (depth > 1) & (u >= -0.5) & (u < WIDTH - 0.5) & (v >= -0.5) & (v < HEIGHT - 0.5)
    np.testing.assert_array_equal(sight.point, np.flatnonzero(expected))
    assert 4 in sight.point and 3 not in sight.point
    assert np.abs(sight.column - u[expected]).max() <= 0.5
    assert np.abs(sight.row - v[expected]).max() <= 0.5


def test_an_empty_cloud_is_seen_as_nothing():
    assert len(make_camera().see(np.zeros((0, 3), np.float32)).point) == 0


def wall(x, y, z):
    grid = np.stack(np.meshgrid([x], y, z, indexing="ij"), -1).reshape(-1, 3)
    return grid.astype(np.float32)


def test_what_stands_behind_a_nearer_surface_is_hidden():
    camera = make_camera((0, 0, 0))
    far = wall(20, np.linspace(-8, 8, 60), np.linspace(-3, 3, 30))
    near = wall(5, np.linspace(-1, 1, 40), np.linspace(-0.7, 0.7, 30))
    sight = camera.see(np.concatenate([far, near]))
    seen = np.isin(np.arange(len(far) + len(near)), sight.point)
    assert seen[len(far) :].all()
    behind = (np.abs(far[:, 1]) <= 4) & (np.abs(far[:, 2]) <= 2.8)  # the shadow of the near wall
    beside = (np.abs(far[:, 1]) > 5.2) | (np.abs(far[:, 2]) > 3.6)  # more than 2 pixels outside
    assert not seen[: len(far)][behind].any()
    assert seen[: len(far)][beside].all()
    assert len(camera.see(np.concatenate([far, near]), radius=None).point) > seen.sum()


def test_a_road_seen_at_a_grazing_angle_hides_nothing_of_itself():
    camera = make_camera((0, 0, 0)).scaled(7.0, 7 * WIDTH, 7 * HEIGHT)
    distance = 1.7 / np.tan(np.radians(np.arange(2.5, 24, 0.4)))
    road = np.concatenate([wall(x, np.linspace(-3, 3, 40), [-1.7]) for x in distance])
    assert len(camera.see(road).point) == len(camera.see(road, radius=None).point) > 1000


@given(st.integers(0, 50), st.integers(0, 3))
def test_nearest_depth_is_that_of_the_neighbourhood(seed, radius):
    rng = np.random.default_rng(seed)
    row, column = rng.integers(0, 12, 40), rng.integers(0, 15, 40)
    depth = rng.uniform(1, 50, 40)
    found = nearest_depth(row, column, depth, (12, 15), radius)
    for i in range(40):
        close = (np.abs(row - row[i]) <= radius) & (np.abs(column - column[i]) <= radius)
        assert found[i] == depth[close].min()


@given(st.floats(1, 80), st.floats(1, 80))
def test_agreement_is_symmetric_and_falls_with_the_difference(a, b):
    one, other = (depth_agreement(np.array([x]), np.array([y]))[0] for x, y in ((a, b), (b, a)))
    assert one == other and 0 <= one <= 1
    assert depth_agreement(np.array([a]), np.array([a]))[0] == 1
    assert depth_agreement(np.array([a]), np.array([a * 1.4]))[0] == 0


def test_scaled_images_keep_their_corners():
    camera = make_camera()
    half = camera.scaled(0.5, WIDTH // 2, HEIGHT // 2)
    points = cloud(3).astype(np.float64)
    (big, depth), (small, same) = camera.project(points), half.project(points)
    ahead = depth > 0.5
    np.testing.assert_allclose(small[ahead] + 0.5, (big[ahead] + 0.5) / 2, rtol=1e-9)
    np.testing.assert_array_equal(depth, same)


def test_what_is_no_camera_is_refused():
    good = rigid(AXES, (0, 0, 0))
    projection = np.column_stack([K, np.zeros(3)])
    for p, t, width, said in (
        (projection[:2], good, 9, "projection"),
        (projection * 0, good, 9, "projection"),
        (np.vstack([projection[:2], (0, 0, 2, 0)]), good, 9, "last row"),
        (projection, good[:3], 9, "lidar_to_camera"),
        (projection, np.diag([2.0, 2, 2, 1]), 9, "lidar_to_camera"),
        (projection, np.diag([1.0, 1, -1, 1]), 9, "lidar_to_camera"),  # a mirror
        (projection, good, 0, "pixels"),
    ):
        with pytest.raises(ConfigError, match=said):
            Camera(p, t, width, 9)
    with pytest.raises(ConfigError, match="3×3"):
        Camera.from_intrinsics(projection, good, 9, 9)


def test_examples():
    result = doctest.testmod(cameras)
    assert result.attempted and not result.failed


def write_image(path, width=20, height=10, value=(200, 100, 50)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), value).save(path)


def write_calibration(path, lines):
    path.write_text("".join(f"{name}: {numbers}\n" for name, numbers in lines.items()))


P2 = "40 0 20 3 0 40 10 0 0 0 1 0"
P3 = "40 0 20 -9 0 40 10 0 0 0 1 0"
TR = "0 -1 0 0.01 0 0 -1 -0.05 1 0 0 -0.3"


@pytest.fixture
def packed(tmp_path):
    for name in ("00_000003", "00_000000", "07_000002"):
        write_image(tmp_path / f"{name}.jpg")
    write_image(tmp_path / "cover.jpg")
    for sequence in ("00", "07"):
        write_calibration(tmp_path / f"{sequence}_calib.txt", {"P2": P2, "Tr": TR})
    return tmp_path


def test_packed_images_are_half_the_size_that_was_calibrated(packed):
    images = PackedCameraImages(packed)
    assert list(images) == [("00", 0), ("00", 3), ("07", 2)]
    assert ("00", 3) in images and ("00", 1) not in images
    assert list(PackedCameraImages(packed, sequences=["07"])) == [("07", 2)]
    image = images["00", 3]
    assert image.pixels.shape == (10, 20, 3) and image.pixels.dtype == np.uint8
    np.testing.assert_allclose(image.pixels.mean((0, 1)), (200, 100, 50), atol=4)
    camera = image.camera
    assert (camera.width, camera.height) == (20, 10)
    full = Camera(
        np.array(P2.split(), float).reshape(3, 4),
        np.vstack([np.array(TR.split(), float).reshape(3, 4), (0, 0, 0, 1)]),
        40,
        20,
    )
    points = np.array([[10.0, 1, 0.5], [4, -1, -0.5]])
    expected = (full.project(points)[0] + 0.5) / 2 - 0.5
    np.testing.assert_allclose(camera.project(points)[0], expected)
    whole = PackedCameraImages(packed, factor=1.0)["00", 3].camera
    np.testing.assert_allclose(whole.project(points)[0], full.project(points)[0])


def test_damage_is_named(packed):
    with pytest.raises(InputError, match="no camera images"):
        PackedCameraImages(packed / "nothing")
    with pytest.raises(KeyError):
        PackedCameraImages(packed)["00", 77]
    (packed / "00_000000.jpg").write_bytes(b"\xff\xd8\xff no image")
    with pytest.raises(InputError, match=r"00_000000\.jpg"):
        PackedCameraImages(packed)["00", 0]
    for lines, said in (
        ({"P2": P2}, "'Tr:'"),
        ({"P2": P2 + " 1", "Tr": TR}, "'P2:'"),
        ({"P2": P2.replace("40", "x"), "Tr": TR}, "'P2:'"),
        ({"P2": P2, "Tr": TR.replace("-1", "-2")}, "lidar_to_camera"),
    ):
        write_calibration(packed / "00_calib.txt", lines)
        with pytest.raises(InputError, match=said) as error:
            PackedCameraImages(packed)["00", 3]
        assert "00_calib.txt" in str(error.value)
    (packed / "07_calib.txt").unlink()
    with pytest.raises(InputError, match="07_calib"):
        PackedCameraImages(packed)["07", 2]


def test_official_layout(tmp_path):
    write_semantic_kitti(tmp_path, sequences=("00", "08"))
    for folder, value in (("image_2", (255, 0, 0)), ("image_3", (0, 255, 0))):
        for frame in (0, 1):
            write_image(tmp_path / f"sequences/08/{folder}/{frame:06d}.png", 41, 21, value)
    grey = {"P0": P2, "P1": P2}
    calibration = tmp_path / "sequences/08/calib.txt"
    write_calibration(calibration, grey | {"P2": P2, "P3": P3, "Tr": TR})
    left, right = KittiCameraImages(tmp_path), KittiCameraImages(tmp_path, "image_3")
    assert list(left) == list(right) == [("08", 0), ("08", 1)]
    assert left["08", 1].pixels[5, 5].tolist() == [255, 0, 0]
    assert left["08", 0].camera.projection[0, 3] == 3
    assert right["08", 0].camera.projection[0, 3] == -9
    assert left["08", 0].camera.width == 41
    scans = SemanticKitti(tmp_path, sequences=["00", "08"])
    wrapped = InConvention(scans, SensorConvention.named("semantic-kitti"))
    assert [frame_of(wrapped, i) for i in range(4)] == [("00", 0), ("00", 1), ("08", 0), ("08", 1)]
    with pytest.raises(InputError, match="image_2"):
        KittiCameraImages(tmp_path, sequences=["00"])
    with pytest.raises(ConfigError, match="image_9"):
        KittiCameraImages(tmp_path, "image_9")


def test_frames_of_packed_scans_and_of_others(tmp_path):
    entry = {"path": "a.npz", "split": "train", "sequence": "04", "frame": 7}
    files = [entry | {"dataset": name} for name in ("SemanticKITTI", "PandaSet")]
    (tmp_path / "manifest.json").write_text(json.dumps({"files": files}))
    kitti, other = (
        PackedScans(tmp_path, SensorConvention.named(name), "train")
        for name in ("semantic-kitti", "pandaset")
    )
    assert frame_of(kitti, 0) == ("04", 7)
    assert frame_of(other, 0) is None


def test_real_points_lie_on_their_surfaces(real_data):
    """Where depth jumps between neighbours the image has an edge: there, and not 6 pixels aside."""
    folder = real_data / "semantickitti_images"
    if not folder.is_dir():
        pytest.skip("no camera images among the recordings")
    images = PackedCameraImages(folder, sequences=["07", "10"])
    scans = PackedScans(real_data, SensorConvention.named("semantic-kitti"), "val", ["07", "10"])
    found = {-6: [], 0: [], 6: []}
    for key in (("07", 0), ("07", 2), ("10", 0)):
        scan, _ = scans[[frame_of(scans, k) for k in range(len(scans))].index(key)]
        image = images[key]
        sight = image.camera.see(scan.xyz)
        assert len(sight.point) > 15_000
        contrast = np.abs(np.gradient(np.log1p(image.pixels.mean(2)), axis=1))
        order = np.lexsort((sight.column, sight.row))
        row, column, depth = (a[order] for a in (sight.row, sight.column, sight.depth))
        near = (np.diff(row) == 0) & (np.diff(column) <= 4) & (np.abs(np.diff(depth)) > 1.5)
        edge = np.flatnonzero(near)
        middle = (column[edge] + column[edge + 1]) // 2
        for shift, values in found.items():
            there = (middle + shift).clip(1, image.camera.width - 2)
            around = [contrast[row[edge], there + k] for k in (-1, 0, 1)]
            values.append(np.median(np.max(around, axis=0)))
    aside = max(np.mean(found[-6]), np.mean(found[6]))
    assert np.mean(found[0]) > 1.15 * aside
