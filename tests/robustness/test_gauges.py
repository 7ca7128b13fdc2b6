# SPDX-License-Identifier: Apache-2.0
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.evaluation.corruptions.suite import corrupt
from pointdistill_ros.evaluation.drift.gauges import GAUGES, read_gauges
from pointdistill_ros.scan import LidarScan
from tests.robustness.street import street, sure

SCAN, LABELS = street()
NAMES = list(GAUGES)


def gauges(scan, result=None):
    return dict(zip(NAMES, read_gauges(scan, result or sure(scan)), strict=True))


CLEAN = gauges(SCAN)


def test_order_of_points_does_not_matter():
    order = np.random.default_rng(0).permutation(len(SCAN))
    result = sure(SCAN)
    shuffled = replace(
        result,
        labels=result.labels[order],
        probability=result.probability[order],
        entropy=result.entropy[order],
    )
    other = gauges(SCAN.select(order), shuffled)
    for name in NAMES:
        assert other[name] == pytest.approx(CLEAN[name], rel=1e-5, abs=1e-5, nan_ok=True), name


def test_points_without_a_return_do_not_count():
    holes = SCAN.xyz.copy()
    more = np.concatenate([holes, np.full((500, 3), np.nan, np.float32)])
    scan = LidarScan(more, np.concatenate([SCAN.intensity, np.ones(500, np.float32)]))
    result = sure(SCAN)
    padded = replace(
        result,
        labels=np.concatenate([result.labels, np.full(500, 255, np.uint8)]),
        probability=np.concatenate([result.probability, np.zeros(500, np.float32)]),
        entropy=np.concatenate([result.entropy, np.zeros(500, np.float32)]),
    )
    assert gauges(scan, padded) == pytest.approx(CLEAN, nan_ok=True)


@pytest.mark.parametrize(
    ("corruption", "gauge", "sign"),
    [
        ("rain", "round about", 1),
        ("snow", "alone close", 1),
        ("fog", "intensity mean", -1),
        ("spray", "cells near", 1),
        ("beam-loss", "points", -1),
        ("beam-loss", "beams", 1),
        ("crosstalk", "floating far", 1),
        ("crosstalk", "floating near", 1),
        ("cut-sectors", "dark sectors", 1),
        ("cut-sectors", "darkest sector", -1),
    ],
)
def test_what_a_corruption_does_is_read(corruption, gauge, sign):
    dense, labels = street(beams=64, turns=720)
    clean = gauges(dense)
    found = gauges(corrupt(corruption, dense, labels, 5, 0).scan)
    assert sign * (found[gauge] - clean[gauge]) > 2 * GAUGES[gauge].floor


def test_an_unsure_network_is_read():
    unsure = gauges(SCAN, sure(SCAN, entropy=0.6))
    for name in ("entropy", "entropy near", "doubt"):
        assert unsure[name] > CLEAN[name] + 0.5


def test_a_thinned_cloud_says_nothing_about_the_network():
    shed = gauges(SCAN, replace(sure(SCAN), degradation="coarse"))
    for name in NAMES:
        if GAUGES[name].group == "certainty of the network":
            assert np.isnan(shed[name])
        else:
            assert shed[name] == pytest.approx(CLEAN[name], nan_ok=True)


def test_a_scan_without_intensity_has_no_brightness():
    found = gauges(replace(SCAN, intensity=None))
    assert all(np.isnan(found[n]) == (GAUGES[n].group == "intensity") for n in NAMES)


@settings(max_examples=40)
@given(
    points=st.integers(0, 60),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 30.0, 1e6, 1e20]),
    value=st.sampled_from([0.0, np.nan, np.inf, -np.inf, 3e38]),
    share=st.floats(0, 1),
)
def test_any_cloud_has_gauges(points, scale, value, share):
    rng = np.random.default_rng(points)
    xyz = (rng.normal(0, 1, (points, 3)) * scale).astype(np.float32)
    xyz[: round(share * points)] = value
    intensity = rng.random(points).astype(np.float32)
    intensity[: points // 3] = value
    found = read_gauges(LidarScan(xyz, intensity), sure(LidarScan(xyz)))
    assert found.shape == (len(GAUGES),)
    assert not np.isinf(found).any()
    assert np.isfinite(found[0])
