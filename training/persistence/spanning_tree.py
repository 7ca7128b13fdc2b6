# SPDX-License-Identifier: Apache-2.0
"""H0 of a Vietoris–Rips filtration: components merge along the minimum spanning tree.

Its n − 1 edges are the deaths; every component is born at 0 and the one that stays is left out.
Prim's algorithm, O(n²): one vector operation over all points per edge of the tree.
"""

from __future__ import annotations

import numpy as np

from training.persistence.bars import EVERYTHING, Bars, Window
from training.persistence.metric import Edges, Floats, edges_of


def spanning_tree(distances: Floats) -> Edges:
    """Edges [n − 1, 2] of a minimum spanning tree of distances [n, n], in the order of growth.

    >>> spanning_tree(np.array([[0.0, 3.0, 1.0], [3.0, 0.0, 5.0], [1.0, 5.0, 0.0]])).tolist()
    [[0, 2], [0, 1]]
    """
    n = len(distances)
    tree = np.empty((max(n - 1, 0), 2), np.int64)
    inside = np.zeros(n)  # ∞ once in the tree
    nearest = np.full(n, np.inf)  # distance to the tree
    parent = np.zeros(n, np.int64)
    reach, closer = np.empty(n), np.empty(n, bool)
    newest = 0
    for edge in tree:
        inside[newest] = nearest[newest] = np.inf
        np.maximum(distances[newest], inside, out=reach)
        np.less(reach, nearest, out=closer)
        np.putmask(parent, closer, newest)
        np.minimum(nearest, reach, out=nearest)
        newest = int(nearest.argmin())
        edge[:] = parent[newest], newest
    return tree


def tree_bars(distances: Floats, window: Window = EVERYTHING) -> Bars:
    """The bars of H0 of distances [n, n]. Raises ValueError on distances that are not finite."""
    if not np.isfinite(distances).all():
        raise ValueError("homology needs finite distances")
    start, end = window
    tree = spanning_tree(distances)
    deaths = distances[tree[:, 0], tree[:, 1]]
    late = deaths > end
    if late.any():
        tree[late] = edges_of(np.array([end]), distances)
    tree = tree[np.minimum(deaths, end) > start]
    births = None if start == 0 else edges_of(np.full(len(tree), start), distances)
    return Bars(births, tree)
