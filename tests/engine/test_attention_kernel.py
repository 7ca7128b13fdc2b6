# SPDX-License-Identifier: Apache-2.0
"""Attention kernels of every tier against the torch form in double precision."""

import ctypes
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.engine.cpu import TIERS, available_tiers
from pointdistill_ros.engine.library import EngineMissingError, load_library, pointer
from pointdistill_ros.model.attention import PatchAttention

try:
    LIBRARY = load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

OK, BAD_ARGUMENT = 0, 1
PRECISIONS = ("float32", "bfloat16")
KERNELS = [
    pytest.param((TIERS.index(tier), number), id=f"{tier}-{precision}")
    for number, precision in enumerate(PRECISIONS)
    for tier in available_tiers(precision)
]
every_kernel = pytest.mark.parametrize("kernel", KERNELS)
TOLERANCE = (2e-6, 1e-2)  # of the largest value, per precision
K = 40


def random_qkv(kernel, rows, channels, heads=1, seed=0):
    """[rows, 3 C] as the kernel stores it; scores have a deviation of 1.4, as of random weights."""
    generator = torch.Generator().manual_seed(seed)
    qkv = torch.randn(rows, 3 * channels, generator=generator)
    qkv[:, :channels] *= math.log2(math.e) / math.sqrt(channels / heads)
    return stored(kernel, qkv)


def stored(kernel, qkv):
    return qkv.bfloat16() if kernel[1] else qkv.float()


def status(kernel, qkv, heads, patch, offsets, order=None, threads=1, **changed):
    """Runs the kernel on qkv itself."""
    seconds = ctypes.c_double()
    counts = {"rows": len(qkv), "channels": qkv.shape[1] // 3, "scans": len(offsets) - 1} | changed
    bits = (qkv.view(torch.int16) if kernel[1] else qkv).numpy()
    offsets = np.asarray(offsets, np.int32)
    order = None if order is None else np.asarray(order, np.int32)
    return LIBRARY.pd_test_attention(
        *kernel,
        threads,
        counts["rows"],
        counts["channels"],
        heads,
        patch,
        counts["scans"],
        pointer(offsets),
        pointer(order),
        pointer(bits),
        ctypes.byref(seconds),
    )


def attended(kernel, qkv, heads, patch, offsets, order=None, threads=1):
    """[rows, C]; keys and values must be left as they were."""
    work, channels = qkv.clone(), qkv.shape[1] // 3
    assert status(kernel, work, heads, patch, offsets, order, threads) == OK
    assert torch.equal(work[:, channels:], qkv[:, channels:]) or qkv.isnan().any()
    return work[:, :channels]


def expected(qkv, heads, patch, offsets, order=None):
    """The torch form on the same numbers; its softmax has base e and divides by sqrt(d) itself."""
    rows, channels = len(qkv), qkv.shape[1] // 3
    d = channels // heads
    exact = qkv.double().view(rows, 3, heads, d).clone()
    exact[:, 0] *= math.log(2) * math.sqrt(d)
    order = torch.arange(rows) if order is None else torch.as_tensor(order)
    layer = PatchAttention(channels, heads, patch)
    pieces = [torch.empty(0, channels, dtype=torch.float64)]
    for first, last in pairwise(offsets):
        pieces += layer._attend_scan(exact[order[first:last]])
    out = torch.empty(rows, channels, dtype=torch.float64)
    out[order] = torch.cat(pieces)
    return out


def check(kernel, qkv, heads, patch, offsets, order=None):
    got = attended(kernel, qkv, heads, patch, offsets, order).double()
    want = expected(qkv, heads, patch, offsets, order)
    largest = qkv[:, 2 * qkv.shape[1] // 3 :].abs().max().item() if len(qkv) else 1
    torch.testing.assert_close(got, want, rtol=0, atol=TOLERANCE[kernel[1]] * largest)


def along_curve(lengths, seed):
    """Offsets of scans and a random curve inside each."""
    offsets = np.cumsum([0, *lengths])
    rng = np.random.default_rng(seed)
    order = np.concatenate(
        [first + rng.permutation(n) for first, n in zip(offsets[:-1], lengths, strict=True)]
    )
    return offsets, order


@every_kernel
@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, K - 1, K, K + 1, 3 * K + 5])
def test_every_length_of_a_scan(kernel, rows):
    check(kernel, random_qkv(kernel, rows, 32, 2), 2, K, [0, rows])


@every_kernel
@pytest.mark.parametrize("d", [16, 32, 48, 64, 80])
@pytest.mark.parametrize("heads", [1, 3])
def test_every_width_of_a_head(kernel, heads, d):
    check(kernel, random_qkv(kernel, 150, heads * d, heads), heads, 70, [0, 150])


@every_kernel
@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(0, 150), min_size=1, max_size=4),
    st.sampled_from([1, 7, 16, 64, 100, 10**9]),
    st.sampled_from([1, 2, 8]),
    st.sampled_from([16, 32]),
    st.booleans(),
    st.integers(0, 99),
)
def test_ragged_scans_along_a_curve(kernel, lengths, patch, heads, d, curved, seed):
    offsets, order = along_curve(lengths, seed)
    qkv = random_qkv(kernel, int(offsets[-1]), heads * d, heads, seed)
    check(kernel, qkv, heads, patch, offsets, order if curved else None)


@every_kernel
@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from(["rising", "falling", "shuffled", "all but one low"]),
    st.sampled_from([1e-3, 1, 300, 10_000]),
    st.sampled_from([-1, 1]),
    st.integers(0, 99),
)
def test_scores_of_any_size(kernel, arrangement, largest, sign, seed):
    """Scores that are exact in float32, so that the result is, too, however large they are."""
    rows, d = 200, 16
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, 101, rows)
    if arrangement == "all but one low":
        steps = np.where(np.arange(rows) == seed, 100, 0)
    elif arrangement != "shuffled":
        steps = np.sort(steps)[:: 1 if arrangement == "rising" else -1]
    unit = 2.0 ** round(math.log2(largest / 100))
    qkv = torch.from_numpy(rng.standard_normal((rows, 3 * d)))
    qkv[:, :d] = 0
    qkv[:, 0], qkv[:, d] = sign, torch.from_numpy(steps * unit)
    check(kernel, stored(kernel, qkv), 1, rows, [0, rows])


@every_kernel
def test_large_random_scores(kernel):
    """Scores of +-10 000 leave one key; the best of them wins where it leads clearly."""
    qkv = random_qkv(kernel, 128, 32).float()
    qkv[:, :64] *= 90
    qkv = stored(kernel, qkv)
    scores = qkv[:, :32].double() @ qkv[:, 32:64].double().T
    assert scores.abs().max() > 10_000
    two = scores.topk(2).values
    clear = two[:, 0] - two[:, 1] > 64
    assert clear.sum() > 100
    got = attended(kernel, qkv, 1, 128, [0, 128])
    best = qkv[scores.argmax(1), 64:]
    torch.testing.assert_close(got[clear], best[clear], rtol=TOLERANCE[kernel[1]], atol=1e-15)


@every_kernel
@pytest.mark.parametrize("size", [1e-25, 1, 1e25])
def test_weights_sum_to_one(kernel, size):
    """Also where they are rounded: equal values come out as they went in."""
    qkv = random_qkv(kernel, 300, 32, 2).float()
    qkv[:, 64:] = size
    qkv = stored(kernel, qkv)
    got = attended(kernel, qkv, 2, 100, [0, 300])
    torch.testing.assert_close(got, qkv[:, 64:], rtol=1e-6 if kernel[1] == 0 else 0, atol=0)


@every_kernel
@pytest.mark.parametrize("lengths", [[500], [300, 0, 77, 130]])
def test_threads_do_not_change_a_bit(kernel, lengths):
    offsets, order = along_curve(lengths, 0)
    qkv = random_qkv(kernel, int(offsets[-1]), 32) * 8
    one = attended(kernel, qkv, 1, 300, offsets, order)
    for threads in (2, 5):
        assert torch.equal(one, attended(kernel, qkv, 1, 300, offsets, order, threads))


@every_kernel
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("part", ["query", "key", "value", "row"])
@pytest.mark.parametrize("row", [64, 64 + 37])
def test_what_is_not_finite_stays_in_its_patch(kernel, bad, part, row):
    qkv = random_qkv(kernel, 3 * 64, 16)
    clean = attended(kernel, qkv, 1, 64, [0, 192])
    columns = {"query": slice(0, 16), "key": slice(16, 32), "value": slice(32, 48)}
    qkv[row, columns.get(part, slice(None))] = bad
    got = attended(kernel, qkv, 1, 64, [0, 192])
    for other in (slice(0, 64), slice(128, 192)):
        assert torch.equal(got[other], clean[other])
    if part in ("query", "value", "row"):
        assert not got[row].isfinite().any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"heads": 0},
        {"heads": 3},
        {"heads": 4},  # d = 8
        {"patch": 0},
        {"threads": 0},
        {"threads": 1000},
        {"rows": -1},
        {"rows": 31},
        {"channels": 0},
        {"channels": 33},
        {"scans": 0},
        {"offsets": [0, 20, 10, 32]},
        {"offsets": [0, 33]},
        {"offsets": [1, 32]},
        {"order": [32, *range(1, 32)]},
        {"order": [-1, *range(1, 32)]},
        {"kernel": (4, 0)},
        {"kernel": (-1, 0)},
        {"kernel": (0, 1)},
        {"kernel": (0, 7)},
    ],
    ids=str,
)
def test_impossible_counts_are_refused(wrong):
    qkv = random_qkv((0, 0), 32, 32)
    untouched = qkv.clone()
    right = {"kernel": (0, 0), "heads": 2, "patch": 16, "offsets": [0, 32]}
    assert status(qkv=qkv, **(right | wrong)) == BAD_ARGUMENT
    assert torch.equal(qkv, untouched)
