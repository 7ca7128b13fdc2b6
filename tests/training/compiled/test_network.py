# SPDX-License-Identifier: Apache-2.0
"""A whole compiled network against its plain form."""

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from pointdistill_ros.config import load_config
from pointdistill_ros.engine.library import EngineMissingError, load_library
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.model.ptv3 import PTv3, PTv3Config
from pointdistill_ros.model.pyramid import build_pyramid
from pointdistill_ros.resources import config_path
from tests.tiny import tiny_network
from training.compiled.library import TIERS, lowered_tier
from training.compiled.network import compile_network

try:
    BEST = int(load_library().pd_best_tier())
except EngineMissingError as missing:
    pytest.skip(f"the CPU engine is not built: {missing}", allow_module_level=True)

needs_bfloat16 = pytest.mark.skipif(
    TIERS[BEST] != "avx512-bf16", reason="no bfloat16 products here"
)


def batch(config, voxels=900, seed=0):
    """Two scans of a bumpy ground with walls: features, pyramid, gradient of the logits."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 40, (2, 4 * voxels))
    z = np.where(rng.random(4 * voxels) < 0.6, (x + y) // 20, rng.integers(0, 9, 4 * voxels))
    scan = np.sort(rng.integers(0, 2, 4 * voxels))
    cells = np.unique(np.stack([scan, x, y, z], 1), axis=0)[::2]
    cells = torch.from_numpy(cells)
    pyramid = build_pyramid(cells[:, 1:], cells[:, 0], config)
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(cells), config.in_channels, generator=generator)
    return features, pyramid, torch.randn(len(cells), config.num_classes, generator=generator)


def student():
    config = load_config(PTv3Config, config_path("models/student.yaml"))
    torch.manual_seed(0)
    return PTv3(replace(config, patch_sizes=(128,) * 5, drop_path=0.0)).train()


def step(network, features, pyramid, grad):
    network.zero_grad()
    logits = network(features, pyramid)
    logits.backward(grad)
    return logits.detach(), {name: p.grad for name, p in network.named_parameters()}


def relative_errors(found, expected):
    """Per parameter. A bias in front of a batch norm has gradient 0: only rounding is left."""
    largest = max(float(g.norm()) for g in expected.values())
    assert all(g is not None and g.shape == expected[name].shape for name, g in found.items())
    return {
        name: float((found[name] - g).norm() / g.norm().clamp(min=1e-3 * largest))
        for name, g in expected.items()
    }


def test_gradients_of_every_parameter_of_the_student():
    network = student()
    case = batch(network.config)
    other = copy.deepcopy(network)
    compile_network(other)
    logits, grads = step(network, *case)
    found, mine = step(other, *case)
    assert (found - logits).norm() <= 1e-5 * logits.norm()
    errors = relative_errors(mine, grads)
    assert len(errors) == len(list(network.parameters()))
    assert max(errors.values()) <= 1e-4, max(errors.items(), key=lambda item: item[1])
    buffers = dict(network.named_buffers())
    for name, buffer in other.named_buffers():
        torch.testing.assert_close(buffer, buffers[name], rtol=1e-4, atol=1e-5)


@needs_bfloat16
def test_bfloat16_is_as_close_as_autocast():
    network = student()
    case = batch(network.config)
    other = copy.deepcopy(network)
    compile_network(other, "bfloat16")
    logits, grads = step(network, *case)
    found, mine = step(other, *case)
    with torch.autocast("cpu", torch.bfloat16):
        rough, theirs = step(network, *case)
    assert 1e-4 < distance([found], [logits]) < 1.2 * distance([rough], [logits]) < 0.05
    distances = [distance(g.values(), grads.values()) for g in (mine, theirs)]
    assert distances[0] < 1.2 * distances[1] < 0.5


def distance(found, expected):
    """Of all numbers taken as one vector, relative."""
    pairs = list(zip(found, expected, strict=True))
    error = sum(float((a - b).square().sum()) for a, b in pairs)
    return (error / sum(float(b.square().sum()) for _, b in pairs)) ** 0.5


def test_names_copies_and_pickles():
    network = tiny_network()
    case = batch(network.config, 200)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    names = [name for name, _ in network.named_parameters()]
    compile_network(network)
    compile_network(network)  # twice is once
    assert [name for name, _ in network.named_parameters()] == names
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    plain = tiny_network(1)
    plain.load_state_dict(after)
    with torch.no_grad():
        expected = network(*case[:2])
        torch.testing.assert_close(plain.eval()(*case[:2]), expected, rtol=1e-4, atol=1e-4)
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(other(*case[:2]), expected)


def test_training_lowers_a_loss():
    network = tiny_network().train()
    features, pyramid, _ = batch(network.config, 200)
    compile_network(network)
    labels = pyramid.stages[0].coords[:, 2]
    optimizer = torch.optim.Adam(network.parameters(), 0.01)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(features, pyramid), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_refuses_what_it_cannot_do():
    network = tiny_network()
    with lowered_tier(1), pytest.raises(ConfigError, match="no bfloat16 products"):
        compile_network(network, "bfloat16")
    assert type(network.head) is torch.nn.Linear  # untouched


@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_blocks_without_attention_or_convolution_and_a_small_stem(drop_path):
    """Drop path takes the same random draws as the plain form."""
    network = tiny_network(
        encoder_depths=(2, 2),
        encoder_heads=(0, 2),
        stem_size=3,
        deep_xcpe=False,
        drop_path=drop_path,
    ).train()
    case = batch(network.config, 300)
    other = copy.deepcopy(network)
    compile_network(other)
    torch.manual_seed(0)
    logits, grads = step(network, *case)
    torch.manual_seed(0)
    found, mine = step(other, *case)
    assert (found - logits).norm() <= 1e-5 * logits.norm()
    assert max(relative_errors(mine, grads).values()) <= 5e-4
