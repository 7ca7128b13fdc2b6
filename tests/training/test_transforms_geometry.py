# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.transforms import (
    LabelledPoints,
    clamp,
    crop_range,
    crop_sphere,
    flip,
    jitter,
    move_sensor,
    resize,
    rotate,
)

from .clouds import paired, rows, street


def distances(xyz):
    return np.linalg.norm(xyz[:50, None] - xyz[None, :50], axis=-1)


@given(st.floats(-4, 4), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_rotation_keeps_distances_and_handedness(yaw, pitch, roll):
    points = street(n=60, rings=True)
    turned = rotate(points, yaw, pitch, roll)
    np.testing.assert_allclose(distances(turned.xyz), distances(points.xyz), atol=1e-3)
    volume = np.linalg.det(points.xyz[:3].astype(float))
    assert np.linalg.det(turned.xyz[:3].astype(float)) == pytest.approx(volume, rel=1e-3)
    assert turned.xyz.dtype == np.float32
    assert paired(turned)
    assert turned.ring is not None


def test_yaw_turns_x_towards_y():
    points = LabelledPoints(np.float32([[1, 0, 5]]), np.zeros(1, np.float32), np.zeros(1, np.uint8))
    np.testing.assert_allclose(rotate(points, np.pi / 2).xyz, [[0, 1, 5]], atol=1e-6)


def test_flip_mirrors_both_axes_over_many_draws_and_never_z():
    points, rng = street(), np.random.default_rng(0)
    seen = set()
    for _ in range(40):
        ratio = flip(points, rng).xyz[0] / points.xyz[0]
        seen.add(tuple(np.round(ratio).astype(int)))
    assert seen == {(a, b, 1) for a in (-1, 1) for b in (-1, 1)}
    np.testing.assert_array_equal(flip(points, rng, chance=0).xyz, points.xyz)


def test_jitter_is_small_and_unbiased():
    points = street()
    moved = jitter(points, np.random.default_rng(0), 0.01).xyz - points.xyz
    assert np.abs(moved).max() <= 0.0401
    assert moved.std() == pytest.approx(0.01, rel=0.05)
    assert abs(moved.mean()) < 1e-3


def test_size_changes_all_axes_alike_within_the_share():
    points = street()
    ratios = []
    for seed in range(30):
        ratio = resize(points, np.random.default_rng(seed), 0.1).xyz / points.xyz
        assert np.ptp(ratio) < 1e-4
        ratios.append(ratio[0, 0])
    assert 0.9 <= min(ratios) < 0.94 < 1.06 < max(ratios) <= 1.1


@given(st.integers(0, 1000))
def test_a_moved_sensor_sees_the_same_shapes_from_another_height(seed):
    points = street(n=60)
    moved = move_sensor(points, np.random.default_rng(seed), 0.5, np.radians(2))
    np.testing.assert_allclose(distances(moved.xyz), distances(points.xyz), atol=1e-3)
    level = move_sensor(points, np.random.default_rng(seed), 0.5, 0.0)
    shift = level.xyz - points.xyz
    np.testing.assert_allclose(shift[:, :2], 0)
    assert np.ptp(shift[:, 2]) < 1e-5
    assert np.abs(shift[0, 2]) <= 0.5


def test_clamping_moves_points_onto_the_box_and_loses_none():
    points = street()
    inside = clamp(points, (-20, -20, -1), (20, 20, 1))
    assert len(inside) == len(points)
    assert np.abs(inside.xyz).max(0).tolist() == [20, 20, 1]
    untouched = (np.abs(points.xyz) <= [20, 20, 1]).all(1)
    np.testing.assert_array_equal(inside.xyz[untouched], points.xyz[untouched])


def test_range_crop():
    kept = crop_range(street(rings=True), 20)
    assert np.hypot(*kept.xyz[:, :2].T).max() <= 20
    assert paired(kept)


@given(st.integers(0, 1000))
def test_a_sphere_holds_the_nearest_points_of_a_random_one(seed):
    points = street(n=400)
    kept = crop_sphere(points, np.random.default_rng(seed), 100)
    assert len(kept) == 100
    assert paired(kept)
    centre = np.random.default_rng(seed).integers(400)
    distance = np.linalg.norm(points.xyz - points.xyz[centre], axis=1)
    assert rows(kept) == rows(points.select(np.argsort(distance)[:100]))
    assert crop_sphere(points, np.random.default_rng(seed), 400) is points
