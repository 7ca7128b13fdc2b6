# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.persistence.bars import diagrams
from training.persistence.compiled import available, compiled_bars
from training.persistence.metric import distance_matrix, quantile_length
from training.persistence.rips import rips_bars

from . import clouds

pytestmark = pytest.mark.skipif(not available(4), reason="compiled library is not built")


def check(points, window=(0.0, np.inf)):
    distances = distance_matrix(points)
    distances = np.maximum(distances, distances.T)
    cloud = torch.from_numpy(points)
    ours = diagrams(cloud, compiled_bars(distances, window))
    theirs = diagrams(cloud, rips_bars(distances, 1, window, "gudhi"))
    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(clouds.in_order(a), clouds.in_order(b), rtol=1e-9)


@given(st.integers(2, 150), st.integers(1, 5), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_bars_equal_gudhis(n, d, seed, whole, windowed):
    points = clouds.gaussian(n, d, seed)
    points = np.round(2 * points) if whole else points
    distances = distance_matrix(points)
    window = (0.0, np.inf)
    if windowed:
        distances = np.maximum(distances, distances.T)
        window = (quantile_length(distances, 0.1), quantile_length(distances, 0.4))
    if window[0] < window[1]:
        check(points, window)


@pytest.mark.parametrize("n", [63, 64, 65, 128, 129, 256, 257])
def test_sizes_around_whole_words(n):
    check(clouds.circle(n, noise=0.1))
    check(clouds.gaussian(n, 6))


def test_degenerate_clouds():
    for points in (clouds.grid(10), clouds.simplex(9), clouds.duplicates(), np.ones((70, 2))):
        check(points)


def test_many_loops_at_once():
    """Two halves, every point of one at 1 from every point of the other: (n/2 − 1)² loops."""
    n = 40
    distances = np.full((n, n), 1.5)
    distances[: n // 2, n // 2 :] = distances[n // 2 :, : n // 2] = 1.0
    np.fill_diagonal(distances, 0.0)
    h0, h1 = compiled_bars(distances)
    assert (len(h0), len(h1)) == (n - 1, (n // 2 - 1) ** 2)
    assert set(distances[h1.deaths[:, 0], h1.deaths[:, 1]].tolist()) == {1.5}
