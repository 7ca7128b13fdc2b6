# SPDX-License-Identifier: Apache-2.0
"""What holds of all dense kernels: any number of threads, nothing to do, refusals."""

import numpy as np
import torch

from tests.engine.dense_kernels import (
    BAD_ARGUMENT,
    BEST,
    call,
    empty,
    every_kernel,
    head,
    mlp_weights,
    pool,
    proj_mlp,
    random,
    unpool,
)


@every_kernel
def test_threads_do_not_change_a_bit(kernel):
    _, weights = mlp_weights(48, 2)
    attended, x = random(1000, 48), random(1000, 48, seed=1)
    children = [1, 8, 70, 3] * 12 + [16]
    parent = torch.arange(1000) // 2
    linear = random(64, 48, seed=2), random(64, seed=3)
    scale, shift = random(64, seed=4), random(64, seed=5)

    def results(threads):
        answer = head(kernel, x, *linear, threads)
        return [
            *proj_mlp(kernel, attended, x, weights, threads),
            *pool(kernel, x, children, *linear, scale, shift, threads),
            *unpool(kernel, x[:500], attended, parent, linear, linear, threads),
            answer.label, answer.probability, answer.entropy, answer.logits,
        ]  # fmt: skip

    for one, two in zip(results(1), results(2), strict=True):
        np.testing.assert_array_equal(one, two)


@every_kernel
def test_nothing_to_do(kernel):
    _, weights = mlp_weights(16, 2)
    none, linear = torch.zeros(0, 16), (torch.eye(16), torch.zeros(16))
    proj_mlp(kernel, none, none, weights)
    pool(kernel, none, [], *linear, *linear)
    unpool(kernel, none, none, torch.zeros(0), linear, linear)
    unpool(kernel, torch.zeros(3, 16), none, torch.zeros(0), linear, linear)
    head(kernel, none, torch.zeros(3, 16), torch.zeros(3))


def test_hooks_refuse_what_cannot_be():
    x, w, b, out = torch.zeros(4, 16), torch.eye(16), torch.zeros(16), empty(4, 16)
    label = np.zeros(4, np.uint8)

    def refused(name, *arguments, kernel=BEST, threads=1):
        return call(name, kernel, threads, *arguments) == BAD_ARGUMENT

    head_rest = (x, w, b, label, None, None, None)
    assert refused("head", 4, 17, 16, 16, *head_rest)
    assert refused("head", 4, 16, 0, 16, *head_rest)
    assert refused("head", 4, 16, 16, 32, *head_rest)
    assert refused("head", -1, 16, 16, 16, *head_rest)
    assert refused("head", 1 << 30, 16, 16, 16, *head_rest)
    assert refused("head", 4, 16, 16, 16, *head_rest, threads=0)
    assert refused("head", 4, 16, 16, 16, *head_rest, kernel=(9, 0))
    assert refused("head", 4, 16, 16, 16, *head_rest, kernel=(0, 7))
    assert refused("head", 4, 16, 16, 16, *head_rest, kernel=(0, 1)), "bfloat16 needs its tier"
    assert refused("proj_mlp", 4, 16, 24, 16, x, out, w, b, w, b, w, b, None, None)
    assert refused("proj_mlp", 4, 32, 32, 16, x, out, w, b, w, b, w, b, None, None)
    for begin in ([0, 3, 2, 4], [0, 1, 2, 5], [1, 2, 3, 4], [0, -1, 2, 4]):
        families = np.array(begin, np.int32)
        assert refused("pool", 4, 3, 16, 16, x, families, w, b, b, b, out, None)
    for parent in ([0, 1, 2, 4], [-1, 0, 0, 0]):
        rows = np.array(parent, np.int32)
        assert refused("unpool", 4, 4, 16, 16, 16, x, x, rows, w, b, w, b, out, None, None)
