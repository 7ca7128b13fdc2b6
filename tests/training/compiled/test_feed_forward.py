# SPDX-License-Identifier: Apache-2.0
"""The compiled MLP against torch's linear, GELU, linear."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError
from training.compiled.feed_forward import feed_forward
from training.compiled.library import TIERS, lowered_tier

try:
    BEST = int(load_library().pd_best_tier())
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

HAS_BFLOAT16 = TIERS[BEST] == "avx512-bf16"


def torch_form(x, up, up_bias, down, down_bias):
    return functional.linear(functional.gelu(functional.linear(x, up, up_bias)), down, down_bias)


def tensors(rows, inputs, hidden, outputs, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=generator)

    up, down = normal(hidden, inputs) / inputs**0.5, normal(outputs, hidden) / hidden**0.5
    leaves = [normal(rows, inputs), up, normal(hidden), down, normal(outputs)]
    return leaves, normal(rows, outputs)


def results(form, leaves, grad, *more):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    out = form(*leaves, *more)
    out.backward(grad)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def check(leaves, grad, forward=1e-5, backward=1e-4, precision="float32"):
    found = results(feed_forward, leaves, grad, precision)
    expected = results(torch_form, [leaf.double() for leaf in leaves], grad.double())
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        scale = theirs.abs().max().clamp(min=1.0)
        error = float((mine - theirs).abs().max() / scale)
        assert error <= (backward if i else forward), (i, error)


@pytest.mark.parametrize("tier", range(BEST + 1), ids=TIERS[: BEST + 1])
@pytest.mark.parametrize("shape", [(4500, 64, 256, 64), (129, 48, 96, 48), (1, 3, 5, 7)])
def test_equals_torch_form(tier, shape):
    with lowered_tier(tier):
        check(*tensors(*shape))


@given(
    st.integers(1, 300), st.integers(1, 50), st.integers(1, 90), st.integers(1, 50),
    st.integers(0, BEST),
)  # fmt: skip
def test_any_shape(rows, inputs, hidden, outputs, tier):
    with lowered_tier(tier):
        check(*tensors(rows, inputs, hidden, outputs))


def test_far_from_zero():
    leaves, grad = tensors(200, 16, 32, 16)
    leaves[0] *= torch.logspace(-3, 3, 200)[:, None]
    found = results(feed_forward, leaves, grad)
    expected = results(torch_form, [leaf.double() for leaf in leaves], grad.double())
    for row in range(200):  # each on its own scale
        for mine, theirs in zip(found[:2], expected[:2], strict=True):
            error = (mine[row] - theirs[row]).abs().max()
            assert error <= 1e-5 * theirs[row].abs().max().clamp(min=1)


def test_no_rows():
    leaves, grad = tensors(0, 16, 64, 16)
    out, x_grad, *others = results(feed_forward, leaves, grad)
    assert out.shape == x_grad.shape == (0, 16)
    assert not any(other.any() for other in others)


def test_not_finite_values_stay_in_their_row():
    leaves, grad = tensors(300, 16, 32, 16)
    leaves[0][7, 0], leaves[0][9, 3] = torch.nan, torch.inf
    out, x_grad, *_ = results(feed_forward, leaves, grad)
    bad = ~out.isfinite().all(1)
    assert bad.nonzero().flatten().tolist() == [7, 9]
    assert x_grad[~bad].isfinite().all()
    assert x_grad[7].isnan().all()


@pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 products here")
def test_bfloat16_rounds_factors_only():
    leaves, grad = tensors(4500, 64, 256, 64)
    check(leaves, grad, 0.02, 0.02, "bfloat16")
    with pytest.raises(AssertionError):
        check(leaves, grad, 1e-5, 1e-4, "bfloat16")


def test_same_bits_for_any_number_of_threads():
    leaves, grad = tensors(7000, 40, 100, 24)
    before = torch.get_num_threads()
    try:
        for precision in ["float32", *(["bfloat16"] if HAS_BFLOAT16 else [])]:
            torch.set_num_threads(1)
            first = results(feed_forward, leaves, grad, precision)
            for threads in (2, 5):
                torch.set_num_threads(threads)
                assert all(map(torch.equal, first, results(feed_forward, leaves, grad, precision)))
    finally:
        torch.set_num_threads(before)


def test_refuses_what_it_cannot_do():
    leaves, _ = tensors(5, 8, 16, 8)
    with pytest.raises(ConfigError, match=r"input is torch\.float64"):
        feed_forward(leaves[0].double(), *leaves[1:])
    with pytest.raises(ValueError, match="layers 8, 16, 8"):
        feed_forward(leaves[0][:, :4], *leaves[1:])
