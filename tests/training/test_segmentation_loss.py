# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from training.losses.segmentation import lovasz_softmax, segmentation_loss

VECTORS = Path(__file__).parents[1] / "data" / "ptv3_tiny.safetensors"


@pytest.fixture(scope="module")
def reference():
    tensors = load_file(VECTORS)
    return {k.split("/")[-1]: v for k, v in tensors.items() if k.startswith("extra/lovasz/")}


def test_lovasz_equals_the_public_code_in_value_and_gradient(reference):
    logits = reference["logits"].clone().requires_grad_()
    loss = lovasz_softmax(logits, reference["labels"].long(), ignore=-1)
    loss.backward()
    torch.testing.assert_close(loss.detach(), reference["loss"].reshape(()), atol=1e-6, rtol=0)
    torch.testing.assert_close(logits.grad, reference["grad"], atol=1e-6, rtol=0)


def test_total_is_cross_entropy_plus_lovasz(reference):
    logits, labels = reference["logits"], reference["labels"].long()
    total, parts = segmentation_loss(logits, labels, ignore=-1)
    expected = reference["cross_entropy"].reshape(())
    torch.testing.assert_close(parts["cross_entropy"], expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(total, expected + reference["loss"].reshape(()))


def test_perfect_prediction_costs_nothing():
    labels = torch.tensor([0, 1, 2, 255])
    logits = 50.0 * torch.eye(4)[:, :3]
    assert lovasz_softmax(logits, labels).item() == pytest.approx(0, abs=1e-6)


def test_ignored_voxels_do_not_matter():
    torch.manual_seed(0)
    logits, labels = torch.randn(20, 5), torch.randint(0, 5, (20,))
    labels[::3] = 255
    known = labels != 255
    total, _ = segmentation_loss(logits, labels)
    alone, _ = segmentation_loss(logits[known], labels[known])
    torch.testing.assert_close(total, alone)


def test_without_a_label_the_loss_is_zero_and_still_in_the_graph():
    logits = torch.randn(4, 3, requires_grad=True)
    total, _ = segmentation_loss(logits, torch.full((4,), 255))
    total.backward()
    assert total.item() == 0
    assert torch.equal(logits.grad, torch.zeros(4, 3))


def test_half_precision_logits_are_computed_in_float32():
    torch.manual_seed(0)
    logits, labels = torch.randn(50, 4).bfloat16(), torch.randint(0, 4, (50,))
    torch.testing.assert_close(
        lovasz_softmax(logits, labels), lovasz_softmax(logits.float(), labels)
    )


def test_class_weights_raise_the_price_of_their_class():
    logits, labels = torch.zeros(2, 2), torch.tensor([0, 1])
    logits[1, 0] = 5.0  # class 1 is missed
    plain, _ = segmentation_loss(logits, labels)
    weighted, _ = segmentation_loss(logits, labels, torch.tensor([1.0, 10.0]))
    assert weighted > plain
