# SPDX-License-Identifier: Apache-2.0
"""What every corruption owes to the points that it does not touch."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import ConfigError
from pointdistill_ros.evaluation.corruptions.corrupted import INVENTED
from pointdistill_ros.evaluation.corruptions.suite import CORRUPTIONS, STRENGTHS, corrupt
from pointdistill_ros.scan import LidarScan
from tests.robustness.street import street

SCAN, LABELS = street()
names = pytest.mark.parametrize("name", CORRUPTIONS)
LOSES = {"fog", "rain", "snow", "beam-loss", "cut-sectors"}
INVENTS = {"fog", "rain", "snow", "spray", "crosstalk"}
MOVES = {"tilt", "height", "motion-blur"}
CHANGES_INTENSITY = {"fog", "rain", "snow", "intensity-scale"}


@names
@pytest.mark.parametrize("strength", [1, 5])
def test_labels_and_columns_stay_with_their_points(name, strength):
    scan, labels = street(ring=True)
    scan = replace(scan, time=np.linspace(0, 0.1, len(scan), dtype=np.float32))
    found = corrupt(name, scan, labels, strength, seed=3)
    own, source = found.source != INVENTED, found.source
    kept = found.scan.select(own)
    assert (found.labels[own] == labels[source[own]]).all()
    assert (found.labels[~own] == 255).all()
    assert (np.diff(source[own]) > 0).all()  # order kept, nothing twice
    assert np.array_equal(kept.ring, scan.ring[source[own]])
    assert np.array_equal(kept.time, scan.time[source[own]])
    if name not in MOVES:
        assert np.array_equal(kept.xyz, scan.xyz[source[own]])
    if name not in CHANGES_INTENSITY:
        assert np.array_equal(kept.intensity, scan.intensity[source[own]])
    if name not in LOSES:
        assert len(found.scan) == len(scan)
    if name not in INVENTS:
        assert own.all()
    assert found.scan.intensity.min() >= 0
    assert found.scan.intensity.max() <= 1


@names
def test_something_happens_and_the_clean_scan_stays(name):
    before = SCAN.xyz.copy(), SCAN.intensity.copy(), LABELS.copy()
    found = corrupt(name, SCAN, LABELS, 5, seed=0)
    assert len(found.scan) != len(SCAN) or not (
        np.array_equal(found.scan.xyz, SCAN.xyz)
        and np.array_equal(found.scan.intensity, SCAN.intensity)
    )
    for array, old in zip((SCAN.xyz, SCAN.intensity, LABELS), before, strict=True):
        assert np.array_equal(array, old)


@names
def test_the_seed_decides_and_nothing_else(name):
    first, again = (corrupt(name, SCAN, LABELS, 3, seed=7) for _ in range(2))
    other = corrupt(name, SCAN, LABELS, 3, seed=8)
    assert first.scan.xyz.tobytes() == again.scan.xyz.tobytes()
    assert first.scan.intensity.tobytes() == again.scan.intensity.tobytes()
    if name not in ("height", "intensity-scale"):  # two outcomes each
        assert first.scan.xyz.tobytes() != other.scan.xyz.tobytes()


@names
def test_strength_takes_more_of_the_same(name):
    touched = []
    for strength in STRENGTHS:
        found = corrupt(name, SCAN, LABELS, strength, seed=1)
        own = found.source != INVENTED
        touched.append(set(range(len(SCAN))) - set(found.source[own]))
    if name in ("beam-loss", "cut-sectors", "crosstalk", "spray"):
        for less, more in pairwise(touched):
            assert less < more
    elif name in ("fog", "rain"):
        assert [len(t) for t in touched] == sorted(len(t) for t in touched)
        assert len(touched[-1]) > len(touched[0])


@names
@settings(max_examples=12)
@given(
    points=st.integers(0, 40),
    broken=st.lists(st.integers(0, 39), max_size=8),
    value=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, 1e9]),
    intensity=st.booleans(),
    strength=st.sampled_from(STRENGTHS),
)
def test_points_without_a_return_stay_what_they_are(
    name, points, broken, value, intensity, strength
):
    rng = np.random.default_rng(points)
    xyz = rng.normal(0, 10, (points, 3)).astype(np.float32)
    bad = np.array(sorted({b for b in broken if b < points}), np.int64)
    xyz[bad] = value
    scan = LidarScan(xyz, rng.random(points).astype(np.float32) if intensity else None)
    found = corrupt(name, scan, np.full(points, 3, np.uint8), strength, seed=0)
    assert len(found.labels) == len(found.source) == len(found.scan)
    assert (found.scan.intensity is None) == (not intensity)
    if name not in ("beam-loss", "cut-sectors") and not np.isfinite(value):
        own = {int(s) for s in found.source}
        assert set(bad.tolist()) <= own
        at = np.isin(found.source, bad)
        assert not found.scan.valid[at].any()


def test_wrong_names_and_strengths_are_refused():
    with pytest.raises(ConfigError, match=r"hail.*known: rain"):
        corrupt("hail", SCAN, LABELS, 1, 0)
    with pytest.raises(ConfigError, match="1 to 5, got 6"):
        corrupt("rain", SCAN, LABELS, 6, 0)
