# SPDX-License-Identifier: Apache-2.0
"""Linear and head: kernels of every tier against their torch twins."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.engine.dense_kernels import KERNELS, OK, call, empty, every_kernel, head, random, stored


def head_of_logits(kernel, logits):
    """Give these logits to the head: the bias does it for one row at a time."""
    rows = [
        head(kernel, torch.zeros(1, 16), torch.zeros(logits.shape[1], 16), row) for row in logits
    ]
    return [
        np.concatenate([getattr(r, f) for r in rows]) for f in ("label", "probability", "entropy")
    ]


@every_kernel
@pytest.mark.parametrize("rows", [1, 5, 47, 48, 49, 1000])
def test_linear_equals_the_product_of_what_is_stored(kernel, rows):
    for width, columns in ((16, 16), (48, 112), (64, 256), (512, 32)):
        x, weight, bias = (
            random(rows, width),
            random(columns, width, seed=1),
            random(columns, seed=2),
        )
        expected = stored(kernel, x) @ stored(kernel, weight).T + bias
        actual = head(kernel, x, weight, bias).logits
        assert np.abs(actual - expected.numpy()).max() <= 1e-5 * expected.abs().max()
        if rows == 1000:
            break


@every_kernel
@pytest.mark.parametrize("classes", [1, 2, 3, 16, 19, 22, 256])
def test_head_answers_as_softmax_does(kernel, classes):
    x, weight, bias = random(100, 32), random(classes, 32, seed=1), random(classes, seed=2)
    out = head(kernel, x, weight, bias)
    logits = torch.from_numpy(out.logits).double()
    log_softmax = torch.log_softmax(logits, 1)
    best, label = log_softmax.max(1)
    entropy = -(log_softmax.exp() * log_softmax).sum(1) / np.log(max(2, classes))
    np.testing.assert_array_equal(out.label, label)
    np.testing.assert_allclose(out.probability, best.exp(), rtol=2e-6)
    np.testing.assert_allclose(out.entropy, entropy, atol=2e-6)


@every_kernel
def test_equal_logits_give_the_first_label(kernel):
    logits = torch.tensor(
        [[1.0] * 19, [0.0] * 7 + [2.0] * 12, [-5.0] * 18 + [3.0], [3.0] + [-5.0] * 18]
    )
    label, probability, entropy = head_of_logits(kernel, logits)
    assert label.tolist() == [0, 7, 18, 0]
    assert probability[0] == pytest.approx(1 / 19, rel=1e-6)
    assert entropy[0] == pytest.approx(1, abs=1e-6)
    assert entropy[0] <= 1


@every_kernel
def test_far_logits_are_certain(kernel):
    for large in (200.0, 1e30):
        label, probability, entropy = head_of_logits(kernel, torch.tensor([[-large, large, 0.0]]))
        assert (label[0], probability[0]) == (1, 1)
        assert entropy[0] == pytest.approx(0, abs=1e-6)


@every_kernel
def test_logits_that_are_not_numbers_give_a_valid_uncertain_label(kernel):
    nan, inf = float("nan"), float("inf")
    odd = torch.tensor([0x7FC00001], dtype=torch.int32).view(torch.float32).item()  # with a payload
    logits = torch.tensor(
        [[nan] * 5, [nan, 1, 2, 3, 4], [1, 2, odd, 0, 0], [1, inf, 0, inf, 2], [-inf] * 5]
    )
    label, probability, entropy = head_of_logits(kernel, logits)
    assert (label < 5).all()
    assert label[3] == 1
    assert (probability == 0).all()
    assert (entropy == 1).all()
    label, probability, entropy = head_of_logits(kernel, torch.tensor([[-inf, 0.0, -inf, 0.0]]))
    assert (label, probability, entropy) == (1, 0.5, pytest.approx(0.5, abs=1e-6))


@every_kernel
def test_outputs_that_are_not_asked_do_not_change_the_others(kernel):
    x, weight, bias = random(50, 16), random(16, 16, seed=1), random(16, seed=2)
    full = head(kernel, x, weight, bias)
    label, entropy = np.zeros(50, np.uint8), empty(50)
    assert call("head", kernel, 1, 50, 16, 16, 16, x, weight, bias, label, None, None, None) == OK
    assert call("head", kernel, 1, 50, 16, 16, 16, x, weight, bias, None, None, entropy, None) == OK
    np.testing.assert_array_equal(label, full.label)
    np.testing.assert_array_equal(entropy, full.entropy)


@given(
    rows=st.integers(0, 130),
    width=st.integers(1, 5),
    classes=st.integers(1, 40),
    kernel=st.sampled_from([k.values[0] for k in KERNELS]),
)
def test_head_of_any_shape(rows, width, classes, kernel):
    x, weight = random(rows, 16 * width), random(classes, 16 * width, seed=1)
    out = head(kernel, x, weight, random(classes, seed=2))
    expected = stored(kernel, x) @ stored(kernel, weight).T + random(classes, seed=2)
    np.testing.assert_allclose(out.logits, expected, atol=1e-4)
    np.testing.assert_array_equal(out.label, out.logits.argmax(1))
