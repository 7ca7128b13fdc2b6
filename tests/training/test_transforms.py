# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data_config import AugmentConfig
from training.transforms import (
    LabelledPoints,
    augment,
    azimuth,
    change_intensity,
    concatenate,
    crop_range,
    drop_beams,
    drop_points,
    flip,
    jitter,
    mix_sectors,
    paste_objects,
    rotate,
)


def street(seed=0, n=3000):
    """Points whose label and intensity can be told from where they are: pairing is testable."""
    rng = np.random.default_rng(seed)
    xyz = rng.uniform([-40, -40, -2], [40, 40, 3], (n, 3)).astype(np.float32)
    labels = rng.integers(0, 19, n).astype(np.uint8)
    return LabelledPoints(xyz, (labels / 20).astype(np.float32), labels)


def paired(points):
    return np.allclose(points.intensity, points.labels / 20)


def distances(xyz):
    return np.linalg.norm(xyz[:50, None] - xyz[None, :50], axis=-1)


@given(st.floats(-4, 4), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1))
def test_rotation_keeps_distances_and_handedness(yaw, pitch, roll):
    points = street(n=60)
    turned = rotate(points, yaw, pitch, roll)
    np.testing.assert_allclose(distances(turned.xyz), distances(points.xyz), atol=1e-3)
    volume = np.linalg.det(points.xyz[:3].astype(float))
    assert np.linalg.det(turned.xyz[:3].astype(float)) == pytest.approx(volume, rel=1e-3)
    assert turned.xyz.dtype == np.float32


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


def test_jitter_is_small_and_unbiased():
    points = street()
    moved = jitter(points, np.random.default_rng(0), 0.01).xyz - points.xyz
    assert np.abs(moved).max() <= 0.0401
    assert moved.std() == pytest.approx(0.01, rel=0.05)
    assert abs(moved.mean()) < 1e-3


def test_intensity_stays_in_range_and_is_sometimes_dropped():
    points, config = street(), AugmentConfig(intensity_scale=0.9, intensity_shift=0.9)
    drawn = [change_intensity(points, np.random.default_rng(i), config) for i in range(60)]
    assert all(p.intensity.min() >= 0 and p.intensity.max() <= 1 for p in drawn)
    share = np.mean([not p.intensity.any() for p in drawn])
    assert 0 < share < 0.5
    assert not change_intensity(
        points, np.random.default_rng(0), AugmentConfig(intensity_drop=1)
    ).intensity.any()


def test_beam_drop_out_removes_whole_rings():
    elevation = np.radians(np.linspace(-24, 4, 60))
    turn = np.linspace(-np.pi, np.pi, 30)
    e, a = (g.ravel() for g in np.meshgrid(elevation, turn, indexing="ij"))
    xyz = 10 * np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], 1)
    ring = np.repeat(np.arange(60), 30).astype(np.uint8)
    points = LabelledPoints(xyz.astype(np.float32), ring.astype(np.float32), ring)
    kept = drop_beams(points, np.random.default_rng(1))
    assert 15 <= len(np.unique(kept.labels)) <= 35
    assert set(np.bincount(kept.labels)) == {0, 30}


def test_point_drop_out_loses_at_most_the_share():
    points = street(n=20_000)
    left = [len(drop_points(points, np.random.default_rng(i), 0.2)) / 20_000 for i in range(20)]
    assert min(left) > 0.78
    assert max(left) - min(left) > 0.05


def test_range_crop():
    kept = crop_range(street(), 20)
    assert np.hypot(*kept.xyz[:, :2].T).max() <= 20
    assert paired(kept)


def test_sectors_come_from_every_scan_and_do_not_overlap():
    scans = [street(seed) for seed in range(3)]
    mixed = mix_sectors(scans, np.random.default_rng(0))
    rows = {row.tobytes(): i for i, scan in enumerate(scans) for row in scan.xyz}
    origin = np.array([rows[row.tobytes()] for row in mixed.xyz])
    assert set(origin) == {0, 1, 2}
    assert paired(mixed)
    order = np.argsort(azimuth(mixed))
    changes = np.count_nonzero(origin[order] != np.roll(origin[order], 1))
    assert changes == 3  # three contiguous sectors around the circle
    assert 0.8 < len(mixed) / 3000 < 1.2  # a full turn, not more


def test_pasting_adds_exactly_the_rare_objects_at_their_range():
    here, there = street(0), street(1)
    mixed = paste_objects(here, there, [3, 5], np.random.default_rng(0))
    objects = there.select(np.isin(there.labels, [3, 5]))
    np.testing.assert_array_equal(mixed.xyz[: len(here)], here.xyz)
    np.testing.assert_array_equal(mixed.labels[len(here) :], objects.labels)
    new = mixed.xyz[len(here) :]
    np.testing.assert_allclose(np.hypot(*new[:, :2].T), np.hypot(*objects.xyz[:, :2].T), rtol=1e-4)
    np.testing.assert_allclose(new[:, 2], objects.xyz[:, 2])
    assert paired(mixed)


@given(st.integers(0, 10_000))
def test_augment_keeps_points_and_labels_together(seed):
    points = street(n=500)
    config = AugmentConfig(intensity_scale=0, intensity_shift=0, intensity_drop=0)
    result = augment(points, np.random.default_rng(seed), config)
    assert paired(result)
    assert len(result.xyz) == len(result.labels) == len(result.intensity) <= 500
    assert result.xyz.dtype == result.intensity.dtype == np.float32
    again = augment(points, np.random.default_rng(seed), config)
    np.testing.assert_array_equal(result.xyz, again.xyz)


def test_augment_does_not_change_its_input():
    points = street()
    before = concatenate([points])
    augment(points, np.random.default_rng(0), AugmentConfig())
    np.testing.assert_array_equal(points.xyz, before.xyz)
    np.testing.assert_array_equal(points.intensity, before.intensity)
