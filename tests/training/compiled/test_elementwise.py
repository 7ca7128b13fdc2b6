# SPDX-License-Identifier: Apache-2.0
"""Compiled norms, and GELU after them, against torch in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError

try:
    load_library()
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

from training.compiled.elementwise import batch_norm_gelu, residual_norm
from training.compiled.library import TIERS, lowered_tier, tier

EVERY_TIER = pytest.mark.parametrize("number", range(len(TIERS)))
ROWS = [1, 15, 16, 17, 511, 513, 1100]


def on(number):
    if number > tier():
        pytest.skip("not on this CPU")
    return lowered_tier(number)


def random(*shape, seed=0, scale=1.0):
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def close(mine, twin, relative):
    assert (mine.double() - twin).norm() <= relative * twin.norm() + 1e-6


# --- residual branches ------------------------------------------------------------------------


def norms(channels, seed):
    made = []
    for i in range(2):
        norm = nn.LayerNorm(channels)
        with torch.no_grad():
            norm.weight.copy_(random(channels, seed=seed + i))
            norm.bias.copy_(random(channels, seed=seed + i + 2))
        made.append(norm)
    return made


def run_residual(function, x, branch, mask, inner, outer, dtype):
    x, branch = (t.detach().to(dtype).requires_grad_() for t in (x, branch))
    inner = None if inner is None else copy.deepcopy(inner).to(dtype)
    outer = copy.deepcopy(outer).to(dtype)
    total, out = function(x, branch, inner, outer, None if mask is None else mask.to(dtype))
    weights = [random(*x.shape, seed=s).to(dtype) for s in (7, 8)]
    ((total * weights[0]).sum() + (out * weights[1]).sum()).backward()
    parameters = [p for n in (inner, outer) if n is not None for p in n.parameters()]
    return [total, out, x.grad, branch.grad, *(p.grad for p in parameters)]


def plain_residual(x, branch, inner, outer, mask):
    branch = branch if inner is None else inner(branch)
    total = x + (branch if mask is None else branch * mask)
    return total, outer(total)


@EVERY_TIER
@pytest.mark.parametrize("has_mask", [False, True])
@pytest.mark.parametrize("has_inner", [False, True])
def test_residual_norm(number, has_inner, has_mask):
    for rows, channels in [(n, 32) for n in ROWS] + [(40, 16), (40, 48), (40, 512)]:
        inner, outer = norms(channels, seed=3)
        given = (
            random(rows, channels, seed=1) + 3,
            random(rows, channels, seed=2, scale=5),
            torch.bernoulli(torch.full((rows, 1), 0.7)) / 0.7 if has_mask else None,
            inner if has_inner else None,
            outer,
        )
        with on(number):
            mine = run_residual(residual_norm, *given, torch.float32)
        twin = run_residual(plain_residual, *given, torch.float64)
        for a, b in zip(mine, twin, strict=True):
            close(a, b, 1e-5)


# --- batch norm -------------------------------------------------------------------------------


def batch_norm(channels, momentum=0.01):
    norm = nn.BatchNorm1d(channels, eps=1e-3, momentum=momentum)
    with torch.no_grad():
        norm.weight.copy_(random(channels, seed=4))
        norm.bias.copy_(random(channels, seed=5))
    return norm


def run_norm(function, x, grad, norm, dtype, steps=2):
    norm = copy.deepcopy(norm).to(dtype)
    for _ in range(steps):
        norm.zero_grad()
        x = x.detach().to(dtype).requires_grad_()
        out = function(x, norm)
        out.backward(grad.to(dtype))
    results = [out, x.grad, norm.weight.grad, norm.bias.grad]
    if norm.track_running_stats:
        assert norm.num_batches_tracked == (steps if norm.training else 0)
        results += [norm.running_mean, norm.running_var]
    return results


def plain_norm(x, norm):
    return functional.gelu(norm(x))


@EVERY_TIER
@pytest.mark.parametrize("momentum", [0.01, None])
def test_batch_norm_gelu(number, momentum):
    for rows, channels in [(n, 32) for n in ROWS[1:]] + [(2, 16), (700, 144)]:
        x = random(rows, channels, seed=1, scale=2) + 30  # far from 0: no cancellation
        grad, norm = random(rows, channels, seed=2), batch_norm(channels, momentum)
        with on(number):
            mine = run_norm(batch_norm_gelu, x, grad, norm, torch.float32)
        for a, b in zip(mine, run_norm(plain_norm, x, grad, norm, torch.float64), strict=True):
            close(a, b, 2e-5 if rows > 2 else 1e-3)  # of two rows little is left but rounding


@EVERY_TIER
def test_gelu_everywhere(number):
    """The slope over the whole range, through a norm that changes next to nothing."""
    x = torch.linspace(-20, 20, 4001)[:, None].expand(-1, 16).contiguous()
    norm = nn.BatchNorm1d(16)
    with torch.no_grad():  # back to the range that the norm takes away
        norm.weight.fill_(float(x[:, 0].double().std(unbiased=False)))
    norm = norm.train()
    mine, twin = x.clone().requires_grad_(), x.double().requires_grad_()
    with on(number):
        out = batch_norm_gelu(mine, norm)
    expected = functional.gelu(copy.deepcopy(norm).double()(twin))
    assert ((out.double() - expected).abs() / x.double().abs().clamp(min=1)).max() < 2e-6
    grad = torch.randn(4001, 16, generator=torch.Generator().manual_seed(0))
    out.backward(grad)
    expected.backward(grad.double())
    assert (mine.grad.double() - twin.grad).abs().max() < 5e-6 * grad.abs().max()


def test_what_is_not_a_number_stays():
    x = random(40, 16)
    x[3, 5] = torch.nan
    out = batch_norm_gelu(x, batch_norm(16))
    assert out[:, 5].isnan().all() and out[:, :5].isfinite().all()


def test_batch_norm_in_evaluation_and_of_other_widths():
    x, grad = random(50, 32, seed=1), random(50, 32, seed=2)
    norm = batch_norm(32).eval()
    for a, b in zip(
        run_norm(batch_norm_gelu, x, grad, norm, torch.float32),
        run_norm(plain_norm, x, grad, norm, torch.float64),
        strict=True,
    ):
        close(a, b, 1e-5)
    narrow = batch_norm(9)
    assert torch.equal(
        batch_norm_gelu(x[:, :9], copy.deepcopy(narrow)), plain_norm(x[:, :9], narrow)
    )
    with pytest.raises(ValueError, match="more than 1 value"):
        batch_norm_gelu(x[:1], batch_norm(32))


# --- all --------------------------------------------------------------------------------------


@settings(max_examples=10)
@given(st.integers(2, 1500), st.integers(0, 9))
def test_threads_change_no_bit(rows, seed):
    x, grad = random(rows, 32, seed=seed), random(rows, 32, seed=seed + 1)
    mask = torch.bernoulli(torch.full((rows, 1), 0.7))
    inner, outer = norms(32, seed)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(
                [
                    *run_residual(residual_norm, x, grad, mask, inner, outer, torch.float32),
                    *run_norm(batch_norm_gelu, x, grad, batch_norm(32), torch.float32),
                ]
            )
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(other, results[0], strict=True))


def test_refuses():
    x, (inner, outer) = random(8, 32), norms(32, 0)
    with pytest.raises(ConfigError, match="float64"):
        residual_norm(x, x.double(), inner, outer)
    with pytest.raises(ValueError, match="shapes"):
        residual_norm(x, x[:7], inner, outer)
    with pytest.raises(ValueError, match="shapes"):
        residual_norm(x, x, inner, outer, torch.ones(8))
    with pytest.raises(ValueError, match="no compiled form"):
        residual_norm(x[:, :24], x[:, :24], None, nn.LayerNorm(24))
    with pytest.raises(ValueError, match="no compiled form"):
        residual_norm(x, x, None, nn.LayerNorm(32, eps=1e-6))
    with pytest.raises(ValueError, match="do not fit"):
        batch_norm_gelu(x, batch_norm(16))
