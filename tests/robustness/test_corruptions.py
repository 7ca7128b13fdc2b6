# SPDX-License-Identifier: Apache-2.0
"""What each corruption is, in the units of its grade."""

import numpy as np
import pytest

from pointdistill_ros.evaluation.corruptions import medium, motion, mounting, sensor, weather
from pointdistill_ros.evaluation.corruptions.corrupted import INVENTED, distances
from pointdistill_ros.evaluation.corruptions.spray import spray
from tests.robustness.street import street

SCAN, LABELS = street()
FAR = distances(SCAN)


def rng(seed=0):
    return np.random.default_rng(seed)


def phantoms(found):
    return found.source == INVENTED


def test_fog_dims_what_it_lets_through_by_beer_and_lambert():
    found = weather.fog(SCAN, LABELS, 100.0, rng())
    own = found.source[~phantoms(found)]
    expected = SCAN.intensity[own] * np.exp(-2 * np.log(20) / 100 * FAR[own])
    assert np.allclose(found.scan.intensity[~phantoms(found)], expected, atol=1e-6)
    assert len(own) > 1000


def test_fog_takes_the_far_points_and_answers_from_close_by():
    found = weather.fog(SCAN, LABELS, 50.0, rng())
    gone = np.setdiff1d(np.arange(len(SCAN)), found.source)
    assert np.median(FAR[gone]) > 2 * np.median(FAR[found.source[~phantoms(found)]])
    echo = distances(found.scan)[phantoms(found)]
    assert len(echo) > 100
    assert (echo >= weather.OVERLAP - 1e-3).all()
    assert np.median(echo) < 5


def test_an_echo_is_never_behind_the_surface_of_its_beam():
    for corruption, grade in ((weather.snow, 5.0), (weather.rain, 100.0), (spray, 0.8)):
        found = corruption(SCAN, LABELS, grade, rng())
        direction = found.scan.xyz / distances(found.scan)[:, None]
        clear = SCAN.xyz / FAR[:, None]
        which = np.flatnonzero(phantoms(found))[:200]
        assert len(which) > 20
        for i in which:
            beam = int((clear @ direction[i]).argmax())
            assert clear[beam] @ direction[i] > 1 - 1e-6
            assert distances(found.scan)[i] < FAR[beam] + 1e-3


def test_clear_air_takes_nothing():
    nowhere = np.full(len(SCAN), np.inf)
    found = medium.through_medium(SCAN, LABELS, 0.0, nowhere, nowhere, rng())
    assert np.array_equal(found.scan.xyz, SCAN.xyz)
    assert np.array_equal(found.scan.intensity, SCAN.intensity)


@pytest.mark.parametrize(("rate", "per_km"), [(1.0, 0.365), (10.0, 1.55), (50.0, 4.29)])
def test_extinction_of_rain_is_that_of_marshall_and_palmer(rate, per_km):
    drops = weather.Particles(8000.0, 4.1 * rate**-0.21, 1.0, 0.1)
    assert 1e3 * drops.extinction == pytest.approx(per_km, rel=0.02)


def test_particles_that_are_seen_return_enough():
    flakes = weather.Particles(2000.0, 1.8, 2.0, 0.8)
    distance, reflectivity = flakes.first_seen(rng(), 20000)
    met = np.isfinite(distance)
    assert 0 < met.mean() < 1
    got = medium.power(reflectivity[met], distance[met], flakes.extinction)
    assert (got >= 0.999 * medium.THRESHOLD).all()
    assert (distance[met] >= medium.NEAREST).all()


def test_beams_die_whole():
    scan, labels = street(ring=True)
    found = sensor.beam_loss(scan, labels, 0.25, rng())
    left = np.unique(found.scan.ring, return_counts=True)
    assert len(left[0]) == 24
    assert (left[1] == 360).all()


def test_without_rings_bands_of_elevation_die():
    found = sensor.beam_loss(SCAN, LABELS, 0.5, rng())
    assert np.unique(sensor.beams(SCAN)).size == 32  # as many as there are beams, at most BANDS
    elevation = np.round(np.degrees(np.arcsin(SCAN.xyz[:, 2] / FAR)), 2)
    gone = np.isin(np.arange(len(SCAN)), found.source, invert=True)
    shares = [gone[elevation == e].mean() for e in np.unique(elevation)]
    assert np.mean([share in (0.0, 1.0) for share in shares]) > 0.9


def test_crosstalk_strikes_the_wanted_share_from_some_directions():
    found = sensor.crosstalk(SCAN, LABELS, 0.05, rng())
    struck = phantoms(found)
    assert struck.mean() == pytest.approx(0.05, abs=0.01)
    assert (distances(found.scan)[struck] <= sensor.REACH + 1e-3).all()
    turn = np.arctan2(SCAN.xyz[:, 1], SCAN.xyz[:, 0])
    counts = np.histogram(turn[struck], 12, (-np.pi, np.pi))[0]
    assert counts.max() > 2 * counts.min()


def test_a_sector_of_the_wanted_width_is_gone():
    found = sensor.cut_sectors(SCAN, LABELS, 90.0, rng())
    gone = np.setdiff1d(np.arange(len(SCAN)), found.source)
    turn = np.arctan2(SCAN.xyz[:, 1], SCAN.xyz[:, 0])
    lost = np.zeros(360, np.bool_)
    lost[((np.degrees(turn[gone]) + 180) % 360).astype(int)] = True
    assert lost.sum() == pytest.approx(90, abs=2)
    assert np.count_nonzero(lost != np.roll(lost, 1)) == 2  # in one piece


def test_gain_is_wrong_both_ways_and_clipped():
    factors = set()
    for seed in range(12):
        found = sensor.intensity_scale(SCAN, LABELS, 2.0, rng(seed)).scan.intensity
        clear = SCAN.intensity
        at = (clear > 0.05) & (clear < 0.45)
        factors.add(round(float(np.median(found[at] / clear[at])), 3))
    assert factors == {0.5, 2.0}


def test_tilt_turns_about_the_sensor_by_its_degrees():
    found = mounting.tilt(SCAN, LABELS, 7.0, rng()).scan
    assert np.allclose(distances(found), FAR, atol=1e-4)
    matrix = np.linalg.lstsq(SCAN.xyz.astype(float), found.xyz.astype(float), rcond=None)[0]
    angle = np.degrees(np.arccos((np.trace(matrix) - 1) / 2))
    assert angle == pytest.approx(7.0, abs=1e-3)
    assert matrix[2, 2] == pytest.approx(np.cos(np.radians(7.0)), abs=1e-5)  # axis is level


def test_height_moves_z_alone():
    shifts = {
        round(float((mounting.height(SCAN, LABELS, 0.5, rng(s)).scan.xyz - SCAN.xyz)[0, 2]), 3)
        for s in range(12)
    }
    found = mounting.height(SCAN, LABELS, 0.5, rng()).scan
    assert shifts == {0.5, -0.5}
    assert np.array_equal(found.xyz[:, :2], SCAN.xyz[:, :2])


def test_a_sensor_at_rest_blurs_nothing():
    found = motion.motion_blur(SCAN, LABELS, 0.0, rng()).scan
    assert np.allclose(found.xyz, SCAN.xyz, atol=1e-5)


def test_blur_is_the_way_driven_within_a_turn(monkeypatch):
    for name in ("YAW_PER_SPEED", "SHAKE_DEGREES", "SHAKE_METRES"):
        monkeypatch.setattr(motion, name, 0.0)
    found = motion.motion_blur(SCAN, LABELS, 20.0, rng()).scan
    moved = (SCAN.xyz - found.xyz)[:, 0]
    assert np.ptp(moved) == pytest.approx(20.0 * motion.PERIOD, rel=0.02)
    assert np.allclose(moved, 20.0 * motion.sweep_time(SCAN), atol=1e-4)
    assert np.allclose(found.xyz[:, 1:], SCAN.xyz[:, 1:], atol=1e-5)


def test_recorded_times_are_taken():
    from dataclasses import replace

    time = np.linspace(0.4, 0.5, len(SCAN), dtype=np.float32)
    assert np.allclose(motion.sweep_time(replace(SCAN, time=time)), time - 0.45, atol=1e-6)
