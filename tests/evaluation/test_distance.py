# SPDX-License-Identifier: Apache-2.0
import numpy as np

from pointdistill_ros.evaluation.distance import EDGES, band_name, band_of


def test_bands_begin_at_their_edges_and_height_does_not_matter():
    xyz = np.float32([[0, 0, 99], [9.99, 0, 0], [10, 0, 0], [0, -25, 0], [30, 40, 0], [500, 0, 0]])
    assert band_of(xyz).tolist() == [0, 0, 1, 2, 4, 4]


def test_points_without_a_place_count_as_far():
    assert band_of(np.float32([[np.nan, 0, 0], [np.inf, 0, 0]])).tolist() == [len(EDGES) - 1] * 2


def test_names():
    assert [band_name(b) for b in (0, len(EDGES) - 1)] == ["0 to 10 m", "beyond 50 m"]
