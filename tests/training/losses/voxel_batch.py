# SPDX-License-Identifier: Apache-2.0
"""Small batches of scans with features of two networks, and ways to change them."""

from dataclasses import replace
from itertools import pairwise

import torch

from pointdistill_ros.model.neighbours import NeighbourTable
from pointdistill_ros.model.pyramid import Stage, build_pyramid

from ...tiny import tiny_config

IGNORE = 255


def draw(seed, *shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def make_pyramid(scans=2, voxels=60, extent=6, seed=0, config=None):
    """Scans of about ``voxels`` cells of a box, so that each has a few neighbours."""
    generator = torch.Generator().manual_seed(seed)
    coords, scan = [], []
    for b in range(scans):
        cells = torch.randint(extent, (voxels, 3), generator=generator).unique(dim=0)
        coords.append(cells)
        scan.append(torch.full((len(cells),), b))
    return build_pyramid(torch.cat(coords), torch.cat(scan), config or tiny_config())


def make_stage(scans=2, voxels=60, extent=6, seed=0) -> Stage:
    return make_pyramid(scans, voxels, extent, seed).stages[0]


def shuffle_rows(table: NeighbourTable, order) -> NeighbourTable:
    """The table after row i became row order.argsort()[i], i.e. new features = old[order]."""
    place = order.argsort()
    return replace(table, output_rows=place[table.output_rows], input_rows=place[table.input_rows])


def shuffle_in_scans(offsets, seed=0):
    """A permutation of rows that keeps scans together."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([a + torch.randperm(b - a, generator=generator) for a, b in pairwise(offsets)])


def minimise(loss, start, steps=60, rate=0.1):
    """Values of a loss before and after optimising ``start`` alone."""
    x = start.detach().clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=rate)
    first = float(loss(x).detach())
    for _ in range(steps):
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
    return first, float(loss(x).detach())


def zero_in_graph(loss, x):
    """Whether the loss is 0, part of x's graph, and gives x the gradient 0."""
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.item() == 0 and bool((gradient == 0).all())
