# SPDX-License-Identifier: Apache-2.0
"""Clouds whose homology is known, and diagrams by gudhi's public classes."""

import gudhi
import numpy as np
import torch


def gaussian(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def circle(n=40, noise=0.02, seed=0):
    turn = np.arange(n) * 2 * np.pi / n
    points = np.column_stack([np.cos(turn), np.sin(turn)])
    return points + noise * gaussian(n, 2, seed)


def sphere(n=60):
    """A Fibonacci lattice."""
    height = 1 - (2 * np.arange(n) + 1) / n
    turn = np.arange(n) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.column_stack([radius * np.cos(turn), radius * np.sin(turn), height])


def clusters(k, each=8, seed=0):
    centres = 20 * np.eye(k)
    return np.repeat(centres, each, 0) + 0.1 * gaussian(k * each, k, seed)


def grid(side=6):
    """Many equal distances."""
    return np.stack(np.meshgrid(*[np.arange(float(side))] * 2), -1).reshape(-1, 2)


def duplicates():
    return np.repeat(gaussian(9, 3), 3, 0)


def simplex(n=7):
    """All distances equal."""
    return np.eye(n)


def gudhi_diagrams(points, max_dimension, end=np.inf):
    """(birth, death) [b, 2] per dimension by the simplex tree, bars of length 0 left out."""
    points = np.asarray(points, np.float64)
    distances = np.linalg.norm(points[:, None] - points, axis=-1)
    rips = gudhi.RipsComplex(distance_matrix=distances, max_edge_length=end)
    tree = rips.create_simplex_tree(max_dimension=max_dimension + 1)
    tree.compute_persistence(homology_coeff_field=2, persistence_dim_max=False)
    found = [tree.persistence_intervals_in_dimension(k) for k in range(max_dimension + 1)]
    found = [np.asarray(d).reshape(-1, 2) for d in found]
    found[0] = found[0][np.argsort(found[0][:, 1])][:-1]
    return found


def in_order(diagram):
    if isinstance(diagram, torch.Tensor):
        diagram = diagram.detach().numpy()
    return diagram[np.lexsort(diagram.T)]


def lengths(diagram):
    """Persistence, longest first."""
    return np.sort(np.asarray(diagram.detach())[:, 1] - np.asarray(diagram.detach())[:, 0])[::-1]
