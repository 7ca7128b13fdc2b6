# SPDX-License-Identifier: Apache-2.0
"""Solids: closed, of the right size, moved as asked."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointdistill_ros.simulation.materials import material
from pointdistill_ros.simulation.mesh import box, ellipsoid, loft, merge, relief, tube


def edges(mesh):
    """How often each edge occurs."""
    corners = np.round(mesh.corners, 6)
    found = Counter()
    for a, b, c in corners:
        for start, end in ((a, b), (b, c), (c, a)):
            found[frozenset((tuple(start), tuple(end)))] += 1
    return found


def area(mesh):
    a, b, c = (mesh.corners[:, i] for i in range(3))
    return 0.5 * np.linalg.norm(np.cross(b - a, c - a), axis=1).sum()


@pytest.mark.parametrize(
    "mesh",
    [
        box((0, 0, 0), (1, 2, 3), "brick"),
        tube((0, 0, 0), (1, 1, 2), (0.5, 0.2), "bark", 7),
        tube((0, 0, 0), (0, 0, 2), 0.5, "bark", 3),
        loft([[(0, 0, 0), (1, 0, 0), (0, 1, 0)], [(0, 0, 1), (1, 0, 1), (0, 1, 1)]], "brick"),
        ellipsoid((1, 2, 3), (1, 1, 2), "cloth", 8),
    ],
)
def test_solids_are_closed(mesh):
    assert set(edges(mesh).values()) == {2}


def test_sizes():
    assert area(box((0, 0, 0), (1, 2, 3), "brick")) == pytest.approx(22)
    lamp = tube((0, 0, 0), (0, 0, 5), 0.1, "galvanised", 40)
    assert area(lamp) == pytest.approx(2 * np.pi * 0.1 * 5 + 2 * np.pi * 0.01, rel=0.01)
    ball = ellipsoid((0, 0, 0), (2, 2, 2), "cloth", 40)
    assert np.linalg.norm(ball.corners.reshape(-1, 3), axis=1).max() == pytest.approx(2, rel=0.01)
    assert len(merge([])) == 0


@given(st.floats(-3, 3), st.floats(0.1, 4))
def test_moving_keeps_shape_and_scale_scales(yaw, factor):
    brick = box((0, 0, 0), (1, 2, 3), "brick")
    moved = brick.moved(4, 5, 6, yaw, factor)
    assert area(moved) == pytest.approx(area(brick) * factor**2)
    assert np.allclose(moved.corners.reshape(-1, 3).min(0)[2], 6)
    back = moved.moved(-4, -5, -6).moved(yaw=-yaw, scale=1 / factor)
    assert np.allclose(back.corners, brick.corners, atol=1e-9)


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_relief_covers_the_grid_once_and_leaves_no_hole(columns, rows, seed):
    rng = np.random.default_rng(seed)
    u = np.cumsum(rng.uniform(0.5, 2, columns + 1))
    v = np.cumsum(rng.uniform(0.5, 2, rows + 1))
    depth = rng.choice([0.0, 0.1, 0.3], (columns, rows))
    kind = rng.integers(0, 5, (columns, rows)).astype(np.uint8)
    corners, kinds = relief(u, v, kind, depth)
    assert len(corners) == len(kinds)
    a, b, c = (corners[:, i] for i in range(3))
    normal = np.cross(b - a, c - a)
    flat = np.abs(normal[:, 2]).sum() / 2
    assert flat == pytest.approx((u[-1] - u[0]) * (v[-1] - v[0]))
    steps_u = (np.abs(np.diff(depth, axis=0)) * np.diff(v)).sum()
    steps_v = (np.abs(np.diff(depth, axis=1)) * np.diff(u)[:, None]).sum()
    upright = np.abs(normal[:, :2]).sum() / 2
    assert upright == pytest.approx(steps_u + steps_v, abs=1e-9)


def test_kerb_belongs_to_the_higher_cell():
    kind = np.array([[material("asphalt")], [material("paving")]], np.uint8)
    edge = np.where(kind == material("paving"), material("kerb"), kind).astype(np.uint8)
    lines = np.array([0.0, 3.0, 5.0])
    for depth, expected in (((0.0, 0.12), "kerb"), ((0.12, 0.0), "asphalt")):
        _, kinds = relief(lines, np.array([0.0, 1.0]), kind, np.array(depth)[:, None], edge)
        assert kinds[2] == material(expected)
