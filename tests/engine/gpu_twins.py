# SPDX-License-Identifier: Apache-2.0
"""Clouds and networks for the tests of the GPU engine's plain form and of its Triton kernels."""

import torch

from pointdistill_ros.model.curves import MAX_DEPTH, interleave
from pointdistill_ros.model.pyramid import build_pyramid
from tests.tiny import tiny_network

SHAPE = {
    "encoder_depths": (3, 2, 2),
    "encoder_channels": (16, 32, 48),
    "encoder_heads": (1, 2, 3),
    "decoder_depths": (2, 1),
    "decoder_channels": (16, 32),
    "decoder_heads": (1, 2),
    "strides": (2, 4),
    "patch_sizes": (64, 32, 16),
}
"""All four curves, both strides, channels that are no power of two, patches of three sizes."""


def trained_network(seed=0, **changes):
    """Random weights with norms as uneven as after training; negative scales included."""
    network = tiny_network(seed, **(SHAPE | changes))
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.LayerNorm):
            module.weight.data.normal_(generator=generator)
            module.bias.data.normal_(generator=generator)
    return network


def random_cloud(voxels, seed=0, extent=None):
    """Features [n, 4] and cells [n, 3] of exactly ``voxels`` voxels, in any order."""
    generator = torch.Generator().manual_seed(seed)
    extent = extent or max(2, round((4 * voxels) ** (1 / 3)) + 1)
    cells = torch.randint(0, extent, (8 * voxels + 8, 3), generator=generator).unique(dim=0)
    chosen = torch.randperm(len(cells), generator=generator)[:voxels]
    assert len(chosen) == voxels
    return torch.randn(voxels, 4, generator=generator), cells[chosen]


@torch.inference_mode()
def reference_logits(network, features, cells):
    """The form of model/, rows as given."""
    order = interleave(*cells.unbind(1)).argsort()
    scan = torch.zeros(len(cells), dtype=torch.int64)
    pyramid = build_pyramid(cells[order], scan, network.config, depth=MAX_DEPTH)
    logits = torch.empty(len(cells), network.config.num_classes)
    logits[order] = network(features[order], pyramid)
    return logits


def assert_same_answers(logits, expected):
    """Labels equal, |Δ| ≤ 1e-4 of the spread of the logits."""
    assert (logits - expected).abs().max() <= 1e-4 * expected.std()
    assert torch.equal(logits.argmax(1), expected.argmax(1))
