# SPDX-License-Identifier: Apache-2.0
"""The compiled linear layer against torch's, every tier, forward and backward."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from pointdistill_ros.engine.library import EngineMissingError, load_library
from training.compiled.library import TIERS, lowered_tier
from training.compiled.linear import linear

try:
    BEST = int(load_library().pd_best_tier())
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

HAS_BFLOAT16 = TIERS[BEST] == "avx512-bf16"


def tensors(rows, inputs, outputs, bias=True, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(rows, inputs), (outputs, inputs), *([(outputs,)] if bias else [])]
    return [torch.randn(shape, generator=generator) for shape in shapes], torch.randn(
        rows, outputs, generator=generator
    )


def results(form, leaves, grad, *more):
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    out = form(*leaves, *([None] if len(leaves) == 2 else []), *more)
    out.backward(grad)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


def check(leaves, grad, precision="float32"):
    found = results(linear, leaves, grad, precision)
    double = [leaf.double() for leaf in leaves]
    expected = results(functional.linear, double, grad.double())
    for i, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        scale = theirs.abs().max().clamp(min=1.0)
        error = float((mine - theirs).abs().max() / scale)
        assert error <= (1e-4 if i else 1e-5), (i, error)


@pytest.mark.parametrize("tier", range(BEST + 1), ids=TIERS[: BEST + 1])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs"),
    [(5000, 64, 256), (5000, 64, 19), (2049, 160, 48), (13, 512, 128), (1, 3, 5)],
)
def test_equals_torch_form(tier, rows, inputs, outputs):
    with lowered_tier(tier):
        check(*tensors(rows, inputs, outputs))


@given(
    st.integers(1, 300), st.integers(1, 90), st.integers(1, 90), st.booleans(), st.integers(0, BEST)
)
def test_any_shape(rows, inputs, outputs, bias, tier):
    with lowered_tier(tier):
        check(*tensors(rows, inputs, outputs, bias))


@pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 products here")
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(5000, 64, 256), (777, 33, 19)])
def test_bfloat16_is_float32_on_rounded_factors(rows, inputs, outputs):
    leaves, grad = tensors(rows, inputs, outputs)
    found = results(linear, leaves, grad, "bfloat16")
    rounded = [*(leaf.bfloat16().double() for leaf in leaves[:2]), leaves[2].double()]
    expected = results(functional.linear, rounded, grad.bfloat16().double())
    expected[3] = grad.double().sum(0)  # no product: not rounded
    for mine, theirs in zip(found, expected, strict=True):
        assert (mine - theirs).abs().max() <= 1e-4 * theirs.abs().max()
    assert not torch.equal(found[0], results(linear, leaves, grad)[0])


def test_same_bits_for_any_number_of_threads():
    leaves, grad = tensors(7000, 48, 100)
    before = torch.get_num_threads()
    try:
        for precision in ["float32", *(["bfloat16"] if HAS_BFLOAT16 else [])]:
            torch.set_num_threads(1)
            first = results(linear, leaves, grad, precision)
            for threads in (2, 5):
                torch.set_num_threads(threads)
                assert all(map(torch.equal, first, results(linear, leaves, grad, precision)))
    finally:
        torch.set_num_threads(before)


def test_leading_dimensions():
    leaves, _ = tensors(24, 6, 10)
    x = leaves[0].view(2, 3, 4, 6)
    flat = linear(*leaves)
    assert torch.equal(linear(x, *leaves[1:]), flat.view(2, 3, 4, 10))
    assert torch.equal(linear(x[:, :, ::2], *leaves[1:]), flat.view(2, 3, 4, 10)[:, :, ::2])
    assert linear(leaves[0][:0], *leaves[1:]).shape == (0, 10)


def test_second_derivatives_are_refused():
    leaves, _ = tensors(8, 4, 4)
    leaves = [leaf.requires_grad_() for leaf in leaves]
    (grad,) = torch.autograd.grad(linear(*leaves).square().sum(), leaves[0], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()
