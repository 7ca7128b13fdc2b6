# SPDX-License-Identifier: Apache-2.0
"""What a frozen teacher says about a batch, the gradient of its task included."""

from dataclasses import replace

import pytest
import torch

from training.distillation.teacher import Teacher

from ...tiny import tiny_network
from ..toy_run import halves


def task_loss(logits, batch):
    return torch.nn.functional.cross_entropy(logits, batch.targets)


def test_the_gradient_of_the_task_is_right_and_leaves_nothing_behind():
    teacher = Teacher(tiny_network(1).double())
    batch = halves(n=60)
    batch = replace(batch, features=batch.features.double())
    with torch.no_grad():  # as a caller may
        answer = teacher.answer(batch, task_loss)
    network, (*finer, last) = teacher.network, answer.stages
    assert answer.gradient.shape == last.shape and answer.gradient.any()
    assert not any(t.requires_grad for t in (*answer.stages, answer.logits, answer.gradient))

    def loss(feature):
        with torch.no_grad():
            logits = network.head(network.decode([*finer, feature], batch.pyramid))
        return task_loss(logits, batch).item()

    size = 1e-6
    largest = answer.gradient.abs().flatten().topk(3).indices.tolist()
    for place in (0, last.numel() // 2, *largest):
        move = torch.zeros_like(last)
        move.view(-1)[place] = size
        slope = (loss(last + move) - loss(last - move)) / (2 * size)
        found = answer.gradient.flatten()[place].item()
        assert found == pytest.approx(slope, rel=1e-4, abs=1e-9)
    assert all(p.grad is None for p in network.parameters())


def test_without_a_task_the_answer_is_the_same_but_for_the_gradient():
    teacher, batch = Teacher(tiny_network(1)), halves(n=60)
    plain, guided = teacher.answer(batch), teacher.answer(batch, task_loss)
    assert plain.gradient is None
    assert plain.logits.equal(guided.logits)
    assert all(a.equal(b) for a, b in zip(plain.stages, guided.stages, strict=True))
