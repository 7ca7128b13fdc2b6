# SPDX-License-Identifier: Apache-2.0
"""The short form of `make fuzz`: the committed inputs, and mutations of them from a fixed seed."""

import random
import tracemalloc

import pytest

from tests.fuzz.mutate import mutated
from tests.fuzz.targets import TARGETS

MUTATIONS = {"cloud": 1500, "binfile": 1500, "pcd": 800, "npy": 400, "npz": 400}
MEMORY = 150 << 20
"""Bytes one input may take: an .npz may unpack to 64 MiB, and its columns become float32."""

pytestmark = pytest.mark.filterwarnings("default")  # numpy's on numbers beyond range


@pytest.fixture(params=TARGETS.values(), ids=lambda target: target.name)
def target(request):
    return request.param


def test_every_seed_is_legal_input(target):
    for name, data in target.seeds().items():
        assert target.accepts(data), name
        assert len(data) <= target.max_len


def test_committed_inputs(target):
    names = [path.name for path in target.corpus()]
    assert set(names) >= set(target.seeds())
    tracemalloc.start()
    try:
        for path in target.corpus():
            target.accepts(path.read_bytes())
            assert tracemalloc.get_traced_memory()[1] < MEMORY, path
    finally:
        tracemalloc.stop()


def test_mutations(target):
    rng = random.Random(target.name)
    corpus = [data for path in target.corpus() if target.accepts(data := path.read_bytes())]
    count = MUTATIONS.get(target.name, 80)
    accepted = sum(target.accepts(mutated(rng, corpus)) for _ in range(count))
    assert 0 < accepted < count, "mutations reach only one of the two ends"


def test_shares_are_percent():
    assert sum(target.share for target in TARGETS.values()) == 100
