# SPDX-License-Identifier: Apache-2.0
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.corruptions.suite import corrupt
from pointdistill_ros.evaluation.drift.alarm import (
    AlarmConfig,
    DriftAlarm,
    DriftLevel,
    DriftWatch,
)
from pointdistill_ros.evaluation.drift.calibrate import calibrate
from pointdistill_ros.evaluation.drift.gauges import read_gauges
from pointdistill_ros.evaluation.drift.reference import Drift, reference_path
from tests.robustness.street import street, sure

OK, WARN, ALARM = DriftLevel


def levels(scores, config=None):
    alarm = DriftAlarm(config)
    return [alarm.update(Drift(score, ("ranges",))).level for score in scores]


def test_a_lasting_change_alarms_within_the_window_and_stays():
    found = levels([0.2] * 50 + [3.0] * 50)
    assert set(found[:50]) == {OK}
    first = found.index(ALARM) - 50
    assert first <= AlarmConfig().window // 2
    assert set(found[50 + first :]) == {ALARM}


def test_single_strange_frames_are_no_alarm():
    scores = [0.2] * 200
    scores[::7] = [9.0] * len(scores[::7])
    assert set(levels(scores)) == {OK}


def test_single_good_frames_end_no_alarm():
    scores = [2.0] * 200
    scores[30::7] = [0.0] * len(scores[30::7])
    assert set(levels(scores)[30:]) == {ALARM}


def test_a_score_around_the_limit_does_not_flicker():
    rng = np.random.default_rng(0)
    found = levels(1 + 0.15 * rng.standard_normal(2000))
    changes = sum(a != b for a, b in pairwise(found))
    bare = levels(
        1 + 0.15 * np.random.default_rng(0).standard_normal(2000),
        AlarmConfig(window=1, least=1, release=1.0, hold=0),
    )
    assert changes <= 2
    assert sum(a != b for a, b in pairwise(bare)) > 100 * max(changes, 1)


def test_it_falls_after_the_hold_and_not_before():
    config = AlarmConfig(window=1, least=1, hold=20)
    found = levels([2.0] * 5 + [0.1] * 40, config)
    assert found[5 : 5 + 20] == [ALARM] * 20
    assert found[5 + 20 :] == [OK] * 20


def test_it_falls_to_a_warning_where_one_is_due():
    config = AlarmConfig(window=1, least=1, hold=5)
    assert levels([2.0] * 5 + [1.1] * 10, config)[-1] is WARN


def test_nothing_is_said_of_the_first_frames():
    assert levels([9.0] * 4) == [OK] * 4
    assert levels([9.0] * 5)[-1] is ALARM


@given(st.lists(st.sampled_from([0.0, 0.7, 0.9, 1.2, 3.0, float("nan")]), max_size=80))
def test_levels_follow_the_median_and_frames_without_score_change_nothing(scores):
    alarm = DriftAlarm(AlarmConfig(hold=3))
    seen = []
    level = OK
    for score in scores:
        verdict = alarm.update(Drift(score, ("ranges",)))
        seen += [] if np.isnan(score) else [score]
        if len(seen) >= 5:
            middle = float(np.median(seen[-10:]))
            assert verdict.median == pytest.approx(middle)
            assert verdict.level >= (middle >= 1) + (middle >= 1.5)
            if verdict.level > level:
                assert middle >= 1
        level = verdict.level
        assert bool(verdict.reasons) == (level is not OK)
    calm = levels([s for s in scores if not np.isnan(s)], AlarmConfig(hold=10**6))
    assert calm == sorted(calm)  # with an endless hold a level never falls


def test_the_message_names_what_is_off():
    alarm = DriftAlarm()
    for _ in range(5):
        verdict = alarm.update(Drift(2.0, ("intensity", "beams")))
    assert verdict.message.endswith("not to be trusted: intensity, beams")
    assert int(verdict.level) == 2


@pytest.mark.parametrize(
    "options",
    [{"warn": 0.0}, {"warn": 2.0}, {"least": 11}, {"least": 0}, {"release": 0.0}, {"hold": -1}],
)
def test_settings_that_contradict_themselves_are_refused(options):
    with pytest.raises(ConfigError, match="drift needs"):
        AlarmConfig(**options)


@pytest.fixture(scope="module")
def reference():
    """Calibrated on thirty streets."""
    frames = [street(seed)[0] for seed in range(30)]
    gauges = np.array([read_gauges(scan, sure(scan, i)) for i, scan in enumerate(frames)])
    places = [f"street {i}" for i in range(30)]
    return calibrate(gauges, places, model_id="m", weights_sha256="abc", false_alarms=0.01)


def test_a_clean_drive_through_other_streets_is_quiet(reference):
    watch = DriftWatch(reference)
    for seed in range(100, 115):
        scan, _ = street(seed)
        assert watch(scan, sure(scan, seed)).level is OK


@pytest.mark.parametrize("name", ["fog", "snow", "beam-loss", "tilt", "height", "cut-sectors"])
def test_a_drive_into_trouble_is_noticed(reference, name):
    watch = DriftWatch(reference)
    for i in range(6):
        scan, labels = street(100 + i)
        assert watch(scan, sure(scan, i)).level is OK
    for i in range(6):
        scan, labels = street(200 + i)
        scan = corrupt(name, scan, labels, 5, i).scan
        verdict = watch(scan, sure(scan, i))
    assert verdict.level is not OK
    assert verdict.reasons


def test_the_reference_beside_weights_is_found_and_must_be_theirs(reference, tmp_path):
    weights = tmp_path / "net.safetensors"
    assert DriftWatch.beside(weights, "abc") is None
    reference.save(reference_path(weights))
    assert DriftWatch.beside(weights, "abc").reference == reference
    with pytest.raises(InputError, match="made with other weights"):
        DriftWatch.beside(weights, "def")
