# SPDX-License-Identifier: Apache-2.0
import doctest
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.persistence.sampling import farthest_points, sample_rows

MODULES = ["bars", "distances", "filtration", "rips", "sampling", "sliced_wasserstein",
           "spanning_tree"]  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_are_true(name):
    result = doctest.testmod(importlib.import_module(f"training.persistence.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def cells(n, extent, seed):
    rng = np.random.default_rng(seed)
    return np.unique(rng.integers(0, extent, (n, 3)), axis=0)


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 10**6))
def test_each_point_is_the_farthest_from_those_before(n, count, seed):
    coords = cells(n, 2**16, seed)
    rows = farthest_points(coords, count, start=len(coords) // 2)
    if len(coords) <= count:
        assert rows.tolist() == list(range(len(coords)))
        return
    assert rows[0] == len(coords) // 2
    squares = ((coords[:, None] - coords) ** 2).sum(-1)
    for i in range(1, count):
        nearest = squares[:, rows[:i]].min(1)
        assert nearest[rows[i]] == nearest.max()
        assert rows[i] == nearest.argmax()


def test_samples_of_a_batch_are_rows_of_their_scan():
    coords = torch.from_numpy(np.vstack([cells(50, 30, 0), cells(7, 30, 1), cells(90, 30, 2)]))
    offsets = (0, 50, 57, 57, len(coords))
    rows = sample_rows(coords, offsets, 16, np.random.default_rng(0))
    assert [len(r) for r in rows] == [16, 7, 0, 16]
    for r, first, end in zip(rows, offsets, offsets[1:], strict=False):
        assert len(r.unique()) == len(r)
        assert bool(((r >= first) & (r < end)).all())


def test_the_seed_decides_the_sample():
    coords = torch.from_numpy(cells(200, 40, 0))
    offsets = (0, len(coords))
    draws = [sample_rows(coords, offsets, 8, np.random.default_rng(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_sample_covers_more_than_chance():
    coords = np.vstack([cells(500, 20, 0), [[300, 0, 0], [0, 300, 0]]])  # two cells far out
    rows = farthest_points(coords, 10, start=0)
    assert {len(coords) - 1, len(coords) - 2} <= set(rows.tolist())
