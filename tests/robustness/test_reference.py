# SPDX-License-Identifier: Apache-2.0
import json
from dataclasses import asdict

import numpy as np
import pytest

from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.drift.calibrate import calibrate
from pointdistill_ros.evaluation.drift.gauges import GAUGES
from pointdistill_ros.evaluation.drift.reference import DriftReference, reference_path

G = len(GAUGES)
FLOORS = np.array([gauge.floor for gauge in GAUGES.values()])


def clean(places, frames=3, seed=0):
    """Gauges of frames of some places: places differ more than the frames of one."""
    rng = np.random.default_rng(seed)
    centre = rng.normal(0, 1, (places, G)) * FLOORS * 4
    noise = rng.normal(0, 1, (places, frames, G)) * FLOORS * 0.5
    return (centre[:, None] + noise).reshape(-1, G), [
        f"p{i // frames}" for i in range(places * frames)
    ]


def reference(gauges, places, **options):
    return calibrate(gauges, places, model_id="m", weights_sha256="abc", **options)


def test_clean_places_that_were_not_calibrated_on_stay_below_the_limit():
    found = reference(*clean(60))
    unseen, _ = clean(400, 1, seed=1)
    scores = [found(g).score for g in unseen]
    assert np.mean(np.array(scores) >= 1) < 0.03
    assert np.median(scores) > 0.3  # and the limit is not out of reach


@pytest.mark.parametrize("name", ["points", "intensity 3", "ground height", "entropy"])
def test_one_gauge_far_off_is_enough_and_named(name):
    found = reference(*clean(40))
    gauges = np.array(found.centre)
    assert found(gauges).score < 0.2
    i = found.gauges.index(name)
    gauges[i] += 30 * found.spread[i]
    drift = found(gauges)
    assert drift.score > 1
    assert drift.reasons[0] == GAUGES[name].group


def test_scores_grow_with_the_distance():
    found = reference(*clean(30))
    step = np.array(found.spread) * np.random.default_rng(0).normal(0, 1, G)
    scores = [found(np.array(found.centre) + k * step).score for k in range(6)]
    assert scores == sorted(scores)
    assert scores[1] > 0


def test_a_gauge_that_a_frame_does_not_show_counts_as_usual():
    found = reference(*clean(30))
    gauges = np.array(found.centre)
    gauges[3] = np.nan
    assert found(gauges) == found(np.array(found.centre))
    assert found(np.full(G, np.nan)).score == 0


def test_a_gauge_that_no_frame_shows_never_alarms():
    gauges, places = clean(30)
    gauges[:, 5] = np.nan
    found = reference(gauges, places)
    strange = np.array(found.centre)
    strange[5] = 1e3
    assert found(strange).score < 0.1


def test_frames_of_one_place_count_once():
    gauges, places = clean(20, 2)
    more = np.concatenate([gauges, np.repeat(gauges[:2], 200, axis=0)])
    again = reference(more, [*places, *["p0"] * 400])
    first = reference(gauges, places)
    assert np.allclose(first.centre, again.centre)
    assert np.allclose(first.spread, again.spread)
    assert again.frames == first.frames + 400


def test_a_broken_scan_among_the_clean_is_set_aside():
    gauges, places = clean(40)
    gauges[places.index("p7") : places.index("p8")] += 200 * FLOORS
    found = reference(gauges, places)
    assert found.set_aside == ("p7",)
    assert found(gauges[places.index("p7")]).score > 2
    whole = reference(*clean(40))
    assert np.allclose(found.limits, whole.limits, rtol=0.5)


def test_rarer_false_alarms_mean_a_higher_limit():
    gauges, places = clean(40)
    limits = [reference(gauges, places, false_alarms=p).limits for p in (0.1, 0.01, 0.001)]
    assert (np.diff(limits, axis=0) >= 0).all()
    assert (np.array(limits[2]) > limits[0]).all()


def test_few_places_and_shares_that_are_none_are_refused():
    gauges, places = clean(7)
    with pytest.raises(ConfigError, match="7 places are too few"):
        reference(gauges, places)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        reference(*clean(20), false_alarms=0.0)


def test_a_file_gives_the_same_reference(tmp_path):
    found = reference(*clean(20), data="twenty places")
    found.save(tmp_path / "a.drift.json")
    assert DriftReference.load(tmp_path / "a.drift.json") == found
    assert reference_path(tmp_path / "a.safetensors") == tmp_path / "a.drift.json"


@pytest.mark.parametrize(
    "change",
    [
        {"limits": [0.0] * 9},
        {"limits": [float("nan")] * 9},
        {"spread": [0.0] * G},
        {"centre": [1.0]},
        {"covariance": [[1.0]]},
        {"covariance": [[0.0] * G] * G},
        {"limits": [1.0]},
        {"gauges": ["points"]},
        {"format": 2},
        {"surplus": 1},
        {"centre": None},
    ],
)
def test_a_file_that_is_none_is_refused_by_name(tmp_path, change):
    path = tmp_path / "a.drift.json"
    path.write_text(json.dumps(asdict(reference(*clean(20))) | change))
    with pytest.raises(InputError, match=r"a\.drift\.json: not a drift reference"):
        DriftReference.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000])
def test_text_that_is_no_reference_is_refused(tmp_path, text):
    path = tmp_path / "a.drift.json"
    path.write_text(text)
    with pytest.raises(InputError, match="not a drift reference"):
        DriftReference.load(path)
