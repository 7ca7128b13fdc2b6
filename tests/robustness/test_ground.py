# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pointdistill_ros.evaluation.corruptions.mounting import rotation
from pointdistill_ros.evaluation.drift.ground import fit_ground
from tests.robustness.street import street

SCAN, _ = street(beams=64, turns=720)


def test_height_and_level_of_a_flat_road():
    ground = fit_ground(SCAN.xyz)
    assert ground.height == pytest.approx(-1.75, abs=0.02)
    assert abs(ground.pitch) < 0.2
    assert abs(ground.roll) < 0.2
    assert ground.roughness < 0.05


@pytest.mark.parametrize("degrees", [-8.0, -3.0, 3.0, 8.0])
def test_a_tilt_is_read_in_degrees(degrees):
    axis = np.array([0.0, 1.0, 0.0])  # about y: the front goes up or down
    turned = SCAN.xyz.astype(np.float64) @ rotation(axis, np.radians(degrees)).T
    ground = fit_ground(turned.astype(np.float32))
    assert ground.pitch == pytest.approx(-degrees, abs=0.3)
    assert abs(ground.roll) < 0.4


def test_waves_are_seen_that_a_plane_hides():
    turn = np.arctan2(SCAN.xyz[:, 1], SCAN.xyz[:, 0])
    waved = SCAN.xyz.copy()
    waved[:, 2] += (0.15 * np.sin(8 * turn)).astype(np.float32)
    flat, rough = fit_ground(SCAN.xyz), fit_ground(waved)
    assert rough.waves[0] > 3 * flat.waves[0]
    assert rough.waves[1] > 3 * flat.waves[1]
    assert rough.height == pytest.approx(flat.height, abs=0.05)


def test_the_order_of_points_does_not_matter():
    order = np.random.default_rng(0).permutation(len(SCAN))
    one, other = fit_ground(SCAN.xyz), fit_ground(SCAN.xyz[order])
    assert one.height == pytest.approx(other.height, abs=1e-9)
    assert one.waves == pytest.approx(other.waves, abs=1e-9)


@pytest.mark.parametrize(
    "xyz",
    [
        np.zeros((0, 3)),
        np.full((5000, 3), 5.0),
        np.linspace([3, 3, -1.7], [9, 9, -1.7], 5000),
        np.random.default_rng(0).uniform(50, 60, (5000, 3)),
    ],
    ids=["empty", "one place", "one line", "far"],
)
def test_where_there_is_no_plane_there_is_none(xyz):
    assert fit_ground(xyz.astype(np.float32)) is None
