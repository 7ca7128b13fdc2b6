# SPDX-License-Identifier: Apache-2.0
"""Parts of a loss that only some batches or processes compute, and what is said of them."""

import math
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from training.records import Records

NAMES = ("loss", "always", "sometimes")
ALONE = SimpleNamespace(world_size=1)
nan = math.nan


class Joined:
    """Processes that are threads: what they send is summed when all have sent."""

    def __init__(self, size):
        self.world_size, self._barrier, self._sent = size, Barrier(size, timeout=60), []

    def all_reduce(self, tensor, reduce_op):
        assert reduce_op == "sum"
        self._sent.append(tensor)
        self._barrier.wait()
        return torch.stack(self._sent).sum(0)


def recorded(values, norm=1.0, names=NAMES):
    """Records of values [steps, batches, names]."""
    records = Records()
    for step, batches in enumerate(values):
        parts = [dict(zip(names, map(torch.tensor, batch), strict=True)) for batch in batches]
        records.add(10 * step, {"rate": step}, parts, torch.tensor(norm))
    return records


def fetched(values, shared=(), **options):
    """What every process reads of values [processes, steps, batches, names]."""
    joined = Joined(len(values)) if len(values) > 1 else ALONE
    with ThreadPoolExecutor(len(values)) as pool:
        every = [recorded(own, **options) for own in values]
        return list(pool.map(lambda records: records.fetch(joined, list(shared)), every))


shapes = array_shapes(min_dims=3, max_dims=3, max_side=3).map(lambda shape: (*shape, 3))
numbers = st.floats(-100, 100, width=32)


@settings(deadline=None)
@given(shapes.flatmap(lambda s: arrays(np.float32, s, elements=numbers | st.just(nan))))
def test_a_part_is_averaged_over_the_batches_that_computed_it(values):
    values[..., :2] = np.nan_to_num(values[..., :2])
    answers = fetched(values.tolist())
    for own, (rows, _) in zip(values, answers, strict=True):
        assert [row.mean for row in rows] == [row.mean for row in answers[0][0]]
        for step, row in enumerate(rows):
            every = values[:, step].astype(np.float64)
            known = ~np.isnan(every)
            for k, name in enumerate(NAMES):
                if known[..., k].any():
                    mean = every[..., k][known[..., k]].mean()
                    assert row.mean[name] == pytest.approx(mean, abs=1e-9), name
                else:
                    assert name not in row.mean
            assert list(row.losses) == own[step, :, 0].tolist()
            assert row.finite() and (row.first_number, row.host) == (10 * step, {"rate": step})


def test_processes_average_as_one_process_with_all_their_batches_does():
    a = [[1.0, 2.0, 5.0], [2.0, 3.0, nan]]
    b = [[3.0, 4.0, 8.0], [6.0, 7.0, 9.0]]
    one, two = fetched([[a + b]]), fetched([[a], [b]])
    assert one[0][0][0].mean == two[0][0][0].mean == two[1][0][0].mean
    assert two[0][0][0].mean["sometimes"] == pytest.approx(22 / 3)


def test_a_part_that_no_batch_computed_is_left_out_and_only_of_that_step():
    steps = [[[1.0, 2.0, nan]], [[1.0, 2.0, 7.0]], [[1.0, 2.0, nan]]]
    for values in ([steps], [steps, steps]):
        for rows, _ in fetched(values):
            assert [set(row.mean) for row in rows] == [
                {"loss", "always", "norm"},
                {"loss", "always", "sometimes", "norm"},
                {"loss", "always", "norm"},
            ]
            assert all(row.finite() for row in rows)


@pytest.mark.parametrize("bad", [nan, math.inf])
def test_a_loss_that_is_no_number_is_seen_by_every_process(bad):
    fine, wrong = [[[1.0, 2.0, 3.0]] * 2], [[[1.0, 2.0, 3.0], [bad, 2.0, nan]]]
    answers = fetched([fine, wrong])
    for rows, _ in answers:
        assert not rows[0].finite_loss() and rows[0].mean["sometimes"] == 3
    (own, _), (other, _) = answers
    assert np.isfinite(own[0].losses).all() and not np.isfinite(other[0].losses).all()


@pytest.mark.parametrize("bad", [nan, math.inf])
def test_a_gradient_that_is_no_number_is_reported(bad):
    for rows, _ in fetched([[[[1.0, 2.0, nan]]]] * 2, norm=bad):
        assert rows[0].finite_loss() and not rows[0].finite()
        assert rows[0].mean["norm"] == pytest.approx(bad, nan_ok=True)


def test_what_processes_share_is_summed_and_a_look_ends_the_records():
    steps = [[[1.0, 2.0, nan]]] * 2
    assert [total for _, total in fetched([steps] * 3, [1.0, 0.5])] == [[3.0, 1.5]] * 3
    records = recorded(steps)
    assert len(records) == 2
    assert records.fetch(ALONE, [1.0])[1] == [1.0]
    assert len(records) == 0


@pytest.mark.parametrize("names", [("loss", "always"), ("loss", "always", "other")])
def test_batches_and_steps_that_name_other_parts_are_refused(names):
    one = torch.tensor(1.0)
    records = recorded([[[1.0, 2.0, 3.0]]])
    with pytest.raises(ValueError, match="sometimes before"):
        records.add(1, {}, [dict.fromkeys(names, one)], one)
    with pytest.raises(ValueError, match="sometimes before"):
        Records().add(0, {}, [dict.fromkeys(NAMES, one), dict.fromkeys(names, one)], one)
