# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from training.data_config import AugmentConfig
from training.transforms import (
    LabelledPoints,
    change_intensity,
    drop_beams,
    drop_far,
    drop_points,
    estimate_rings,
)
from training.transforms.intensity import bend, gamma

from .clouds import beams, paired, rows, street

ELEVATIONS = np.linspace(-24, 4, 64)
QUIET = AugmentConfig(intensity_scale=0, intensity_shift=0, intensity_drop=0)


def test_beam_drop_out_removes_whole_rings():
    points = beams(ELEVATIONS)
    steps = set()
    for seed in range(12):
        kept = drop_beams(points, np.random.default_rng(seed))
        left = np.unique(kept.labels)
        assert set(np.bincount(kept.labels)) == {0, 300}
        steps |= set(np.diff(left))
    assert steps == {2, 3}


def test_beam_drop_out_believes_the_true_rings():
    points = street(rings=True)
    kept = drop_beams(points, np.random.default_rng(0))
    left = set(kept.ring)
    assert len(left) < 4
    assert np.count_nonzero(np.isin(points.ring, list(left))) == len(kept)
    assert paired(kept)


@pytest.mark.parametrize("start", [0.0, 1.0, np.pi])
@pytest.mark.parametrize("way", [1, -1])
def test_rings_follow_from_the_order_of_the_points(start, way):
    points = beams(ELEVATIONS[::-1], start=start)
    points = replace(points, xyz=points.xyz * np.float32([1, way, 1]))
    noisy = points.xyz + np.random.default_rng(0).normal(0, 0.02, points.xyz.shape)
    some = np.sort(np.random.default_rng(0).permutation(len(points))[: len(points) // 2])
    points = replace(points, xyz=noisy.astype(np.float32)).select(some)
    rings = estimate_rings(points)
    assert np.mean(rings == points.labels) > 0.98


def test_points_in_any_order_fall_back_to_bins_of_elevation():
    points = beams(ELEVATIONS, columns=40)
    for seed in range(12):  # by chance some go around 8 to 128 times more often than back
        mixed = points.select(np.random.default_rng(seed).permutation(len(points)))
        rings = estimate_rings(mixed)
        assert 55 <= len(np.unique(rings)) <= 64
        for beam in range(64):
            assert len(np.unique(rings[mixed.labels == beam])) == 1


def test_real_kitti_scans_have_64_rings(real_data):
    scans = PackedScans(real_data, SensorConvention.named("semantic-kitti"), "train", ["00"])
    scan, labels = scans[0]
    rings = estimate_rings(LabelledPoints(scan.xyz, scan.intensity, labels))
    assert len(np.unique(rings)) == 64
    assert (np.diff(rings) >= 0).mean() > 0.999


@pytest.mark.parametrize("n", [0, 1, 2])
def test_tiny_clouds_pass(n):
    points = street(n=n)
    for change in (drop_beams, drop_far):
        assert len(change(points, np.random.default_rng(0))) <= n


def test_point_drop_out_loses_at_most_the_share():
    points = street(n=20_000)
    left = [len(drop_points(points, np.random.default_rng(i), 0.2)) / 20_000 for i in range(20)]
    assert min(left) > 0.78
    assert max(left) - min(left) > 0.05


def test_range_drop_out_keeps_what_is_near_and_loses_more_the_farther():
    points = street(n=20_000)
    kept = drop_far(points, np.random.default_rng(0))
    distance = np.hypot(*points.xyz[:, :2].T)
    assert rows(points.select(distance < 5)) <= rows(kept)
    edges = [5, 20, 30, 40, 50]
    before, after = (
        np.histogram(np.hypot(*p.xyz[:, :2].T), edges)[0].astype(float) for p in (points, kept)
    )
    assert (np.diff(after / before) < 0).all()
    assert paired(kept)


def test_intensity_stays_in_range_and_is_sometimes_dropped():
    points = street()
    config = AugmentConfig(
        intensity_scale=0.9,
        intensity_shift=0.9,
        intensity_gamma=0.5,
        intensity_curve=0.5,
        intensity_noise=0.1,
    )
    drawn = [change_intensity(points, np.random.default_rng(i), config) for i in range(60)]
    assert all(p.intensity.min() >= 0 and p.intensity.max() <= 1 for p in drawn)
    assert all(p.intensity.dtype == np.float32 for p in drawn)
    share = np.mean([not p.intensity.any() for p in drawn])
    assert 0 < share < 0.5
    dark = change_intensity(points, np.random.default_rng(0), AugmentConfig(intensity_drop=1))
    assert not dark.intensity.any()


def test_intensity_without_strength_is_left_alone():
    points = street()
    np.testing.assert_array_equal(
        change_intensity(points, np.random.default_rng(0), QUIET).intensity, points.intensity
    )


@given(st.integers(0, 10_000), st.floats(0.05, 1))
def test_curves_keep_the_order_and_the_ends(seed, strength):
    value = np.linspace(0, 1, 101, dtype=np.float32)
    for change in (gamma, bend):
        changed = change(value, np.random.default_rng(seed), strength)
        assert (np.diff(changed) >= 0).all()
        assert changed[0] == 0
        assert changed[-1] == pytest.approx(1)
        assert changed.dtype == np.float32


def test_the_curve_moves_quantiles_by_its_strength():
    value = np.random.default_rng(0).random(1000).astype(np.float32)
    weak, strong = (
        np.mean([np.abs(bend(value, np.random.default_rng(i), s) - value) for i in range(30)])
        for s in (0.1, 1.0)
    )
    assert 9 < strong / weak < 11
    assert strong > 0.05


def test_noise_differs_from_point_to_point():
    points = street()
    points = replace(points, intensity=np.full(len(points), 0.5, np.float32))
    config = replace(QUIET, intensity_noise=0.05)
    changed = change_intensity(points, np.random.default_rng(0), config).intensity
    assert changed.std() == pytest.approx(0.05, rel=0.1)
