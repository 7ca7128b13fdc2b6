# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data_config import AugmentConfig
from training.transforms import (
    augment,
    azimuth,
    concatenate,
    elevation,
    having,
    merge,
    mix_bands,
    mix_sectors,
    paste_objects,
    thin_out,
)

from .clouds import paired, rows, street

STRONG = AugmentConfig(
    clamp=(-35, -35, -4, 35, 35, 2), intensity_gamma=0.3, intensity_curve=0.3,
    intensity_noise=0.02, range_drop=0.5,
)  # fmt: skip


def origins(mixed, scans):
    known = {row.tobytes(): i for i, scan in enumerate(scans) for row in scan.xyz}
    return np.array([known[row.tobytes()] for row in mixed.xyz])


def test_sectors_come_from_every_scan_and_do_not_overlap():
    scans = [street(seed, rings=True) for seed in range(3)]
    mixed = mix_sectors(scans, np.random.default_rng(0))
    origin = origins(mixed, scans)
    assert set(origin) == {0, 1, 2}
    assert paired(mixed)
    order = np.argsort(azimuth(mixed))
    changes = np.count_nonzero(origin[order] != np.roll(origin[order], 1))
    assert changes == 3  # three contiguous sectors around the circle
    assert 0.8 < len(mixed) / 3000 < 1.2  # a full turn, not more


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_bands_alternate_by_inclination_and_fill_it(seed, count):
    scans = [street(s, 800) for s in range(count)]
    mixed = mix_bands(scans, np.random.default_rng(seed))
    assert paired(mixed)
    origin = origins(mixed, scans)
    order = np.argsort(elevation(mixed))
    bands = 1 + np.count_nonzero(np.diff(origin[order]))
    assert bands <= max(6, count)
    # every point is there whose scan owns the band at its inclination
    low, high = elevation(mixed)[order][[0, -1]]
    for scan, i in zip(scans, range(count), strict=True):
        assert rows(mixed.select(origin == i)) <= rows(scan)
    alone = mix_bands([scans[0]] * 2, np.random.default_rng(seed))
    assert rows(alone) == rows(scans[0])  # two of the same scan give it back, each point once
    assert len(alone) == len(scans[0])
    assert low < high


def test_sectors_of_one_scan_give_it_back():
    scan = street()
    for seed in range(20):
        mixed = mix_sectors([scan] * 3, np.random.default_rng(seed))
        assert len(mixed) == len(scan)
        assert rows(mixed) == rows(scan)


def test_merging_keeps_all_points_of_both():
    both = merge(street(0, rings=True), street(1, rings=True))
    assert len(both) == 6000
    assert rows(both) == rows(street(0)) | rows(street(1))
    assert both.ring is None  # beams of two sensors cannot be told apart


@pytest.mark.parametrize("copies", [1, 3])
def test_pasting_adds_exactly_the_rare_objects_at_their_range(copies):
    here, there = street(0), street(1)
    mixed = paste_objects(here, there, [3, 5], np.random.default_rng(0), copies)
    objects = there.select(np.isin(there.labels, [3, 5]))
    np.testing.assert_array_equal(mixed.xyz[: len(here)], here.xyz)
    pasted = mixed.select(np.arange(len(here), len(mixed)))
    assert len(pasted) == copies * len(objects)
    assert paired(mixed)
    turns = []
    for k in range(copies):
        part = pasted.select(np.arange(k * len(objects), (k + 1) * len(objects)))
        np.testing.assert_array_equal(part.labels, objects.labels)
        radius = [np.hypot(*p.xyz[:, :2].T) for p in (part, objects)]
        np.testing.assert_allclose(*radius, rtol=1e-4)
        np.testing.assert_allclose(part.xyz[:, 2], objects.xyz[:, 2])
        turn = (azimuth(part) - azimuth(objects)) % (2 * np.pi)
        assert np.ptp(np.exp(1j * turn)) < 1e-3
        turns.append(np.angle(np.exp(1j * (turn[0] - 2 * np.pi * k / copies))))
    assert np.abs(turns).max() <= np.pi / copies + 1e-3  # each in its own part of the circle
    assert copies == 1 or np.ptp(turns) > 1e-3


def test_having_tells_the_labels():
    points = street()
    np.testing.assert_array_equal(having(points, [2, 7]), np.isin(points.labels, [2, 7]))
    assert not having(points, []).any()


@given(st.integers(0, 10_000))
def test_augment_keeps_points_and_labels_together(seed):
    points = street(n=500, rings=True)
    config = AugmentConfig(intensity_scale=0, intensity_shift=0, intensity_drop=0)
    result = augment(thin_out(points, np.random.default_rng(seed), config),
                     np.random.default_rng(seed), config)  # fmt: skip
    assert paired(result)
    assert len(result.xyz) == len(result.labels) == len(result.intensity) <= 500
    assert result.xyz.dtype == result.intensity.dtype == np.float32


@given(st.integers(0, 10_000))
def test_everything_at_once_is_finite_and_a_function_of_the_seed(seed):
    points = street(n=300)
    results = []
    for _ in range(2):
        rng = np.random.default_rng(seed)
        results.append(augment(thin_out(points, rng, STRONG), rng, STRONG))
    first, again = results
    np.testing.assert_array_equal(first.xyz, again.xyz)
    np.testing.assert_array_equal(first.intensity, again.intensity)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert np.isfinite(first.xyz).all()
    assert np.isfinite(first.intensity).all()
    assert set(first.labels) <= set(points.labels)


@pytest.mark.parametrize("config", [AugmentConfig(), STRONG], ids=["default", "strong"])
def test_augment_does_not_change_its_input(config):
    points = street()
    before = concatenate([points])
    for seed in range(5):
        rng = np.random.default_rng(seed)
        augment(thin_out(points, rng, config), rng, config)
    np.testing.assert_array_equal(points.xyz, before.xyz)
    np.testing.assert_array_equal(points.intensity, before.intensity)
    np.testing.assert_array_equal(points.labels, before.labels)


def test_without_strength_nothing_changes():
    points = street()
    nothing = AugmentConfig(
        yaw_chance=0, flip_chance=0, tilt_degrees=0, scale=0, height=0, jitter=0,
        intensity_scale=0, intensity_shift=0, intensity_drop=0, beam_drop=0, point_drop=0,
        crop_chance=0,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    same = augment(thin_out(points, rng, nothing), rng, nothing)
    np.testing.assert_array_equal(same.xyz, points.xyz)
    np.testing.assert_array_equal(same.intensity, points.intensity)
