# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from pointdistill_ros.labels import LabelSet
from training.losses.segmentation import (
    _lovasz_of_all,
    lovasz_softmax,
    segmentation_loss,
    union_cross_entropy,
)
from training.targets import TargetSets

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
    weighted, _ = segmentation_loss(logits, labels, weights=torch.tensor([1.0, 10.0]))
    assert weighted > plain


CLASSES = 4
SET = LabelSet("four", tuple("abcd"), ((0, 0, 0),) * 4, ((1,), (2,), (3,), (4,)))
members = st.lists(st.booleans(), min_size=CLASSES, max_size=CLASSES).filter(any)


def sets(*unions):
    rows = torch.cat([torch.eye(CLASSES).bool(), torch.tensor(unions).reshape(-1, CLASSES).bool()])
    return TargetSets(SET, tuple(map(str, range(len(rows)))), rows)


def draw(n, targets, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 4 * torch.randn(n, CLASSES, generator=generator, dtype=torch.float64)
    return logits, torch.randint(0, targets, (n,), generator=generator)


@given(st.lists(members, max_size=5), st.integers(0, 99))
def test_unions_equal_the_definition(unions, seed):
    targets = sets(*unions)
    logits, ids = draw(12, len(targets), seed)
    weights = torch.rand(len(targets), generator=torch.Generator().manual_seed(seed))
    costs, shares = [], []
    for row, target in zip(logits, ids.tolist(), strict=True):
        allowed = targets.members[target]
        costs.append(-row.softmax(0)[allowed].sum().log())
        shares.append(weights[target].double())
    costs, shares = torch.stack(costs), torch.stack(shares)
    plain = union_cross_entropy(logits, ids, targets.members)
    torch.testing.assert_close(plain, costs.mean(), atol=1e-9, rtol=1e-9)
    weighted = union_cross_entropy(logits, ids, targets.members, weights)
    expected = (costs * shares).sum() / shares.sum()
    torch.testing.assert_close(weighted, expected, atol=1e-6, rtol=1e-6)


@given(st.integers(0, CLASSES - 1), st.integers(0, 99))
def test_a_union_with_one_member_is_the_class(c, seed):
    single = [i == c for i in range(CLASSES)]
    logits, _ = draw(6, CLASSES, seed)
    union = union_cross_entropy(logits, torch.full((6,), CLASSES), sets(single).members)
    torch.testing.assert_close(union, functional.cross_entropy(logits, torch.full((6,), c)))


def test_a_union_of_all_classes_says_nothing():
    logits, _ = draw(6, CLASSES)
    logits.requires_grad_()
    loss = union_cross_entropy(logits, torch.full((6,), CLASSES), sets([True] * CLASSES).members)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(logits.grad, torch.zeros_like(logits), atol=1e-12, rtol=0)


def test_exact_targets_are_plain_cross_entropy():
    logits, ids = draw(50, CLASSES)
    weights = torch.tensor([1.0, 0.0, 0.5, 3.0], dtype=torch.float64)
    torch.testing.assert_close(
        union_cross_entropy(logits, ids, sets().members, weights),
        functional.cross_entropy(logits, ids, weights),
    )


def test_gradient_of_unions_is_right_and_stable():
    targets = sets([True, True, False, False], [False, True, True, True])
    logits, ids = draw(20, len(targets))
    torch.autograd.gradcheck(
        lambda x: union_cross_entropy(x, ids, targets.members), logits.requires_grad_()
    )
    far = torch.tensor([[300.0, -300.0, -900.0, -900.0]], requires_grad=True)
    loss = union_cross_entropy(far, torch.tensor([CLASSES + 1]), targets.members)
    loss.backward()
    assert loss.item() == pytest.approx(600)
    torch.testing.assert_close(far.grad, torch.tensor([[1.0, -1.0, 0.0, 0.0]]))


def test_unions_reach_the_cross_entropy_and_not_the_lovasz_term():
    targets = sets([True, True, False, False])
    logits, ids = draw(30, len(targets))
    exact = ids < CLASSES
    assert 0 < exact.sum() < 30
    total, parts = segmentation_loss(logits, ids, targets)
    torch.testing.assert_close(parts["lovasz"], lovasz_softmax(logits[exact], ids[exact]))
    expected = union_cross_entropy(logits.float(), ids, targets.members)
    torch.testing.assert_close(parts["cross_entropy"], expected)
    torch.testing.assert_close(total, parts["cross_entropy"] + parts["lovasz"])


def test_a_batch_of_unions_alone_trains_without_lovasz():
    logits = draw(5, CLASSES)[0].requires_grad_()
    ids = torch.tensor([CLASSES, CLASSES, 255, CLASSES, 255])
    total, parts = segmentation_loss(logits, ids, sets([True, False, True, False]))
    total.backward()
    assert parts["lovasz"] == 0
    assert bool((logits.grad[ids == CLASSES] != 0).any(1).all())
    assert bool((logits.grad[ids == 255] == 0).all())


def test_labels_whose_classes_weigh_nothing_cost_nothing():
    logits, _ = draw(3, CLASSES)
    weights = torch.tensor([0.0, 1.0, 1.0, 1.0])
    assert union_cross_entropy(logits, torch.zeros(3).long(), sets().members, weights) == 0


@given(st.integers(1, 30), st.integers(0, 99))
def test_both_forms_of_lovasz_are_one_function(n, seed):
    logits, labels = draw(n, CLASSES + 1, seed)  # the last id stands for "not labelled"
    values, slopes = [], []
    for form in (lovasz_softmax, lambda x, y: _lovasz_of_all(x.softmax(1), y, y != CLASSES)):
        x = logits.float().requires_grad_()
        loss = form(x, labels, CLASSES) if form is lovasz_softmax else form(x, labels)
        loss.backward()
        values.append(loss.detach())
        slopes.append(x.grad)
    torch.testing.assert_close(values[0], values[1], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(slopes[0], slopes[1], atol=1e-6, rtol=1e-4)


class NoAnswerToTheHost(TorchDispatchMode):
    """Refuses what makes a host wait for a GPU: values and shapes that depend on values."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        refused = ("_local_scalar_dense", "nonzero", "unique", "_unique2", "masked_select", "item")
        if func.overloadpacket.__name__ in refused:
            raise AssertionError(f"{func} waits for the device")
        return func(*args, **(kwargs or {}))


def test_the_loss_of_a_gpu_never_waits():
    logits, ids = draw(50, CLASSES + 1)
    logits = logits.float().requires_grad_()
    targets = sets([True, True, False, False])
    with NoAnswerToTheHost():
        union_cross_entropy(logits, ids, targets.members, torch.ones(CLASSES + 1)).backward()
        _lovasz_of_all(logits.softmax(1), ids, ids < CLASSES).backward()
    with pytest.raises(AssertionError), NoAnswerToTheHost():
        lovasz_softmax(logits, ids.where(ids < CLASSES, 255))  # the form for a CPU


def test_nothing_labelled_is_no_gradient_whatever_the_scale():
    logits, _ = draw(5, CLASSES)
    logits = logits.float().requires_grad_()
    loss = union_cross_entropy(logits, torch.full((5,), 255), sets().members)
    (65536 * loss).backward()
    assert logits.grad.equal(torch.zeros_like(logits))
