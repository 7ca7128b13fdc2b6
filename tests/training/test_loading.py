# SPDX-License-Identifier: Apache-2.0
"""Batches come in order, whoever prepares them; errors come at their turn; nothing stays behind."""

import multiprocessing
import time
from dataclasses import dataclass, fields, is_dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.errors import InputError
from training.loading import by_thread, prepared
from training.packing import pack

from .toy_run import halves


def slow_when_even(k):
    time.sleep(0.05 * (k % 2 == 0))
    return torch.full((3,), k)


def fails_at_5(k):
    if k == 5:
        raise InputError("scan 5 is damaged")
    return k


@pytest.mark.parametrize("workers", [0, 2])
def test_order_is_that_of_the_numbers(workers):
    with prepared(slow_when_even, range(3, 1000, 3), workers, 2, False) as items:
        assert [int(next(items)[0]) for _ in range(4)] == [3, 6, 9, 12]


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_comes_at_its_turn_as_it_was(workers):
    with (
        pytest.raises(InputError, match=r"^scan 5 is damaged$"),
        prepared(fails_at_5, range(3, 100), workers, 2, False) as items,
    ):
        assert [next(items), next(items)] == [3, 4]
        next(items)
    assert not multiprocessing.active_children()


def test_the_thread_ends_with_the_iterator():
    made = []
    endless = by_thread(made.append, range(100, 10**9), ahead=2)
    next(endless)
    endless.close()
    count = len(made)
    time.sleep(0.2)
    assert len(made) == count


def test_batches_are_ready_ahead():
    made = []
    with prepared(made.append, range(100), 0, 3, False) as items:
        next(items)
        deadline = time.monotonic() + 10
        while len(made) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(made) >= 4


def equal(a, b):
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.equal(b)
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if is_dataclass(a):
        return type(a) is type(b) and all(
            equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(a)
        )
    return a == b


@dataclass(frozen=True)
class Box:
    tensors: tuple[torch.Tensor, ...]
    name: str


def test_a_batch_survives_packing_as_one_block():
    batch = halves(1)
    packed = pack(batch)
    assert equal(packed.unpack(), batch)
    assert len(packed.header) < 20_000 < len(packed.block)
    again = packed.unpack()
    again.features.zero_()  # shares the block's memory, writable
    assert not packed.unpack().features.any()


KINDS = [np.int64, np.float32, np.bool_, np.uint8, np.float64]


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(KINDS), st.lists(st.integers(0, 5), max_size=3))))
def test_any_tensors_survive_packing(shapes):
    rng = np.random.default_rng(0)
    tensors = tuple(torch.from_numpy(np.array(rng.integers(0, 2, s)).astype(k)) for k, s in shapes)
    box = Box(tensors + tuple(t.T for t in tensors if t.ndim == 2), "x")
    assert equal(pack(box).unpack(), box)
