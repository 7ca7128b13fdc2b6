# SPDX-License-Identifier: Apache-2.0
"""Compiled patch attention against model/attention.py in float64."""

import copy
import pickle
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.attention import PatchAttention, permute_rows
from pointdistill_ros.model.config import PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

from training.compiled.attention import CompiledAttention, patch_attention
from training.compiled.library import TIERS, lowered_tier, tier

BFLOAT16 = pytest.param(
    "bfloat16",
    marks=pytest.mark.skipif(tier() < TIERS.index("avx512-bf16"), reason="no bfloat16 products"),
)
PRECISIONS = ["float32", BFLOAT16]
TOLERANCE = {"float32": (1e-5, 1e-4), "bfloat16": (1e-2, 1.5e-2)}
"""Relative error of the result, and of the gradients."""


def scene(counts, channels, seed=0, dtype=torch.float32):
    """Offsets, a random walk scan by scan, [n, 3C] rows, [n, C] gradient."""
    rng = torch.Generator().manual_seed(seed)
    offsets = (0, *torch.tensor(counts).cumsum(0).tolist())
    walks = [torch.randperm(c, generator=rng) + o for c, o in zip(counts, offsets, strict=False)]
    n = offsets[-1]
    qkv = 1.5 * torch.randn(n, 3 * channels, generator=rng, dtype=dtype)
    return offsets, torch.cat(walks), qkv, torch.randn(n, channels, generator=rng, dtype=dtype)


def plain(qkv, offsets, order, heads, patch_size):
    """The attention of the plain module, without its linear layers."""
    module = PatchAttention(heads, heads, patch_size)
    inverse = order.argsort()
    walked = permute_rows(qkv, order, inverse).view(len(qkv), 3, heads, -1)
    pieces = []
    for first, last in pairwise(offsets):
        pieces += module._attend_scan(walked[first:last])
    return permute_rows(torch.cat(pieces), inverse, order)


def with_gradient(attend, qkv, grad):
    qkv = qkv.clone().requires_grad_()
    out = attend(qkv)
    out.backward(grad)
    return out.detach(), qkv.grad


def assert_close(mine, twin, relative):
    """Relative to the norm of the whole: single entries may cancel to nothing."""
    assert (mine.double() - twin).norm() <= relative * twin.norm() + 1e-6


def assert_equals_plain(counts, channels, heads, patch_size, precision, seed=0):
    offsets, order, qkv, grad = scene(counts, channels, seed)
    out, grad_qkv = with_gradient(
        lambda x: patch_attention(x, offsets, order, heads, patch_size, precision), qkv, grad
    )
    twin, twin_grad = with_gradient(
        lambda x: plain(x, offsets, order, heads, patch_size), qkv.double(), grad.double()
    )
    forward, backward = TOLERANCE[precision]
    assert_close(out, twin, forward)
    for part in range(3):
        columns = slice(part * channels, (part + 1) * channels)
        # of the whole: with one key a softmax is constant, and some parts are rounding alone
        error = (grad_qkv[:, columns].double() - twin_grad[:, columns]).norm()
        assert error <= backward * twin_grad.norm()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("number", range(len(TIERS)))
@pytest.mark.parametrize(("channels", "heads"), [(16, 1), (64, 2), (96, 2), (128, 8)])
def test_every_tier_and_width(number, channels, heads, precision):
    if number > tier() or (precision == "bfloat16" and TIERS[number] != "avx512-bf16"):
        pytest.skip("not on this CPU, or no bfloat16 in this tier")
    with lowered_tier(number):
        assert_equals_plain([150, 31, 0, 64], channels, heads, 64, precision)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 47, 48, 49, 95, 96, 97, 143])
def test_around_the_patch_size(n, precision):
    assert_equals_plain([n], 32, 2, 48, precision)


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 90), min_size=1, max_size=4).filter(any),
    st.integers(1, 70),
    st.integers(0, 99),
)
def test_any_scans_any_patch_size(counts, patch_size, seed):
    assert_equals_plain(counts, 32, 2, patch_size, "float32", seed)


def test_gradient_is_that_of_the_function():
    offsets, order, qkv, grad = scene([19, 5], 16)
    _, grad_qkv = with_gradient(lambda x: patch_attention(x, offsets, order, 1, 8), qkv, grad)
    rng = torch.Generator().manual_seed(1)
    for _ in range(5):
        direction = torch.randn(qkv.shape, generator=rng)
        step = 1e-2
        values = [
            (patch_attention(qkv + sign * step * direction, offsets, order, 1, 8) * grad)
            .double()
            .sum()
            for sign in (1, -1)
        ]
        slope = (values[0] - values[1]) / (2 * step)
        torch.testing.assert_close(
            slope, (grad_qkv * direction).double().sum(), rtol=2e-3, atol=2e-3
        )


@pytest.mark.parametrize("precision", PRECISIONS)
def test_threads_change_no_bit(precision):
    offsets, order, qkv, grad = scene([300, 77, 130], 64)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            results.append(
                with_gradient(
                    lambda x: patch_attention(x, offsets, order, 4, 64, precision), qkv, grad
                )
            )
    finally:
        torch.set_num_threads(before)
    for out, grad_qkv in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(grad_qkv, results[0][1])


def test_scans_do_not_touch_each_other():
    offsets, order, qkv, grad = scene([100, 70], 32)
    qkv[order[100:]] = torch.nan  # the second scan
    out, grad_qkv = with_gradient(lambda x: patch_attention(x, offsets, order, 2, 32), qkv, grad)
    first = order[:100]
    assert out[first].isfinite().all() and grad_qkv[first].isfinite().all()
    assert out[order[100:]].isnan().all() and grad_qkv[order[100:]].isnan().any()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("factor", [0.0, 1e-20, 60.0])
def test_scores_of_any_size(factor, precision):
    """Equal scores, and scores of hundreds, where one key takes all."""
    offsets, order, qkv, grad = scene([90], 32)
    out, grad_qkv = with_gradient(
        lambda x: patch_attention(x, offsets, order, 2, 64, precision), factor * qkv, grad
    )
    assert out.isfinite().all() and grad_qkv.isfinite().all()
    if factor != 60.0:
        twin = plain(factor * qkv.double(), offsets, order, 2, 64)
        assert_close(out, twin, TOLERANCE[precision][0])


def test_module_keeps_parameters_copies_and_pickles():
    torch.manual_seed(0)
    module = PatchAttention(32, 2, 64)
    twin = copy.deepcopy(module)
    module.__class__ = CompiledAttention
    module.precision = "float32"
    assert CompiledAttention.fits(module)
    assert not CompiledAttention.fits(PatchAttention(24, 1, 64))
    module.load_state_dict(twin.state_dict())
    coords, scan = torch.arange(100).repeat(3, 1).T.contiguous(), torch.zeros(100).long()
    stage = build_pyramid(coords, scan, PTv3Config()).stages[0]
    walk = stage.orders[0]
    x = torch.randn(100, 32)
    expected = twin(x, stage, walk)
    for other in (module, copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(other(x, stage, walk), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"qkv": torch.zeros(8, 48, dtype=torch.float64)}, ConfigError, "float64"),
        ({"precision": "float16"}, ConfigError, "float16"),
        ({"order": torch.arange(7)}, ValueError, "do not fit"),
        ({"order": torch.arange(8).int()}, ValueError, "do not fit"),
        ({"order": torch.arange(1, 9)}, ValueError, "bad argument"),
        ({"offsets": (0, 9)}, ValueError, "bad argument"),
        ({"offsets": (0, 6, 4, 8)}, ValueError, "bad argument"),
        ({"heads": 2}, ValueError, "bad argument"),
        ({"patch_size": 0}, ValueError, "bad argument"),
    ],
)
def test_refuses(change, error, message):
    fits = {
        "qkv": torch.zeros(8, 48), "offsets": (0, 8), "order": torch.arange(8),
        "heads": 1, "patch_size": 4,
    }  # fmt: skip
    patch_attention(**fits)
    with pytest.raises(error, match=message):
        patch_attention(**(fits | change))
