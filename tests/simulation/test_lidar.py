# SPDX-License-Identifier: Apache-2.0
"""The sensor model: tables, ranges against geometry, noise, edges, intensities, lost pulses."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.resources import config_path
from pointdistill_ros.simulation.lidar import Lidar, LidarConfig, Target
from pointdistill_ros.simulation.materials import LABEL_SET
from pointdistill_ros.simulation.mesh import box, merge, quads

NAMES = sorted(path.stem for path in config_path("lidars").glob("*.yaml"))
IDEAL = LidarConfig(
    name="ideal",
    elevations=(5.0, 0.0, -5.0),
    columns=360,
    range_noise=0.0,
    range_bias=0.0,
    range_step=1e-6,
    gain_spread=0.0,
    divergence=0.0,
    dropout=0.0,
)


def sweep(config, mesh, seed=0, blocked=None):
    lidar = Lidar(config)
    origins = np.zeros((config.columns, 3))
    rng = np.random.default_rng(seed)
    return lidar, lidar.sweep([Target(mesh)], origins, lidar.directions, rng, blocked)


def wall(x, name="garden wall"):
    return quads([[(x, -90, -90), (x, 90, -90), (x, 90, 90), (x, -90, 90)]], name)


@pytest.mark.parametrize("name", NAMES)
def test_shipped_tables_are_sensors(name):
    config = LidarConfig.named(name)
    assert config.beams in (32, 64, 128)
    assert config.beams == int("".join(c for c in name.split("_")[-1] if c.isdigit())[-3:])
    assert len(set(config.elevations)) == config.beams
    assert 20 < config.elevations[0] - config.elevations[-1] < 46
    assert np.allclose(np.linalg.norm(Lidar(config).directions, axis=-1), 1, atol=1e-8)


def test_beam_counts_cover_32_64_and_128():
    assert {LidarConfig.named(n).beams for n in NAMES} == {32, 64, 128}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"elevations": (1.0, 2.0)}, "top beam down"),
        ({"elevations": (95.0,)}, "between -90 and 90"),
        ({"elevations": ()}, "between -90 and 90"),
        ({"columns": 3}, "columns"),
        ({"min_range": 200.0}, "max_range"),
        ({"range_step": 0.0}, "steps"),
        ({"azimuth_offsets": (1.0,)}, "one azimuth offset"),
    ],
)
def test_contradictions_are_refused(change, words):
    with pytest.raises(ConfigError, match=words):
        replace(IDEAL, **change)


@given(st.floats(2, 80))
def test_ranges_are_those_of_geometry(x):
    lidar, seen = sweep(IDEAL, wall(x))
    expected = x / lidar.directions[..., 0]
    hit = np.isfinite(seen.range)
    # a wall reaches 90 m aside, the sensor 120 m
    sure = (lidar.directions[..., 0] > 0) & (expected < 60)
    assert hit[sure].all() and not hit[lidar.directions[..., 0] < 0].any()
    # "garden wall" is rough by 5 mm; corners lie on a grid of 1/4096 m
    assert np.abs(seen.range - expected)[hit].max() < 0.04


def test_noise_has_the_configured_size():
    config = replace(IDEAL, range_noise=0.03, columns=3600)
    lidar, seen = sweep(config, wall(5.0, "galvanised"))
    middle = np.isfinite(seen.range) & (lidar.directions[..., 0] > 0.9)
    error = (seen.range - 5.0 / lidar.directions[..., 0])[middle]
    assert middle.sum() > 1500
    assert np.std(error) == pytest.approx(0.03, rel=0.1)
    assert abs(np.mean(error)) < 0.004


def test_ranges_and_intensities_lie_on_the_sensors_steps():
    config = replace(IDEAL, range_noise=0.02, range_step=0.002, intensity_step=0.01)
    _, seen = sweep(config, wall(7.0))
    hit = np.isfinite(seen.range)
    steps = seen.range[hit] / 0.002
    assert np.allclose(steps, np.round(steps), atol=1e-6)
    assert np.allclose(seen.intensity * 100, np.round(seen.intensity * 100), atol=1e-4)


def test_mixed_returns_lie_between_the_surfaces_and_have_no_label():
    pillars = [box((4.4, y, -5), (4.41, y + 0.2, 5), "galvanised") for y in np.arange(-5, 5, 0.5)]
    mesh = merge([wall(5.0), *pillars])
    wide = replace(IDEAL, divergence=0.01, columns=3600)
    _, sharp = sweep(replace(IDEAL, columns=3600), mesh)
    lidar, seen = sweep(wide, mesh)
    assert (sharp.labels[np.isfinite(sharp.range)] != 255).all()
    mixed = np.isfinite(seen.range) & (seen.labels == 255)
    assert mixed.sum() > 50
    depth = (seen.range * lidar.directions[..., 0])[mixed]
    assert depth.min() > 4.35 and depth.max() < 5.05
    assert ((depth > 4.45) & (depth < 4.95)).mean() > 0.6
    # a plane seen at a grazing angle has long steps too, but no edges
    _, plain = sweep(wide, wall(5.0))
    off = plain.range * lidar.directions[..., 0] - 5.0
    assert np.nanmax(np.abs(off)) < 0.04
    # two things of one class blur without losing it
    _, alike = sweep(wide, merge([wall(5.0, "galvanised"), *pillars]))
    assert (alike.labels[np.isfinite(alike.range)] != 255).all()


def test_glass_loses_pulses_and_walls_do_not():
    _, glass = sweep(IDEAL, wall(6.0, "car glass"))
    lidar, plain = sweep(IDEAL, wall(6.0, "plaster"))
    front = lidar.directions[..., 0] > 0.8
    assert np.isfinite(plain.range[front]).mean() > 0.99
    assert np.isfinite(glass.range[front]).mean() < 0.4


def test_retro_reflectors_are_brighter_than_walls_and_distance_dims():
    median = {}
    for name, x in (("sign front", 10.0), ("plaster", 10.0), ("plaster", 60.0)):
        lidar, seen = sweep(IDEAL, wall(x, name))
        front = np.isfinite(seen.range) & (lidar.directions[..., 0] > 0.9)
        median[name, x] = np.median(seen.intensity[front])
    assert median["sign front", 10.0] > 1.5 * median["plaster", 10.0]
    assert median["plaster", 60.0] < 0.6 * median["plaster", 10.0]


def test_own_vehicle_hides_what_is_behind_it():
    blocked = np.zeros((3, 360), bool)
    blocked[:, 100:260] = True
    _, seen = sweep(IDEAL, wall(6.0), blocked=blocked)
    assert not np.isfinite(seen.range[blocked]).any()
    assert (seen.labels[blocked] == 255).all()


def test_nothing_to_hit_gives_no_returns():
    _, seen = sweep(IDEAL, merge([]))
    assert not np.isfinite(seen.range).any() and (seen.labels == 255).all()


def test_nearer_target_wins():
    lidar = Lidar(IDEAL)
    targets = [Target(wall(20.0, "plaster")), Target(box((9, -3, -3), (10, 3, 3), "car paint"))]
    ahead = np.abs(lidar.azimuth) < 10
    for order in (targets, targets[::-1]):
        rng = np.random.default_rng(0)
        seen = lidar.sweep(order, np.zeros((360, 3)), lidar.directions, rng)
        names = {LABEL_SET.names[i] for i in np.unique(seen.labels[:, ahead]) if i != 255}
        assert names == {"car"}
