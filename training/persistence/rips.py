# SPDX-License-Identifier: Apache-2.0
"""Exact Vietoris–Rips persistence: H0, H1 and, where asked for, H2, with the edges of every bar.

A simplex enters at the length of its longest edge, so every birth and every death is the length of
one edge: H0 dies along the minimum spanning tree, a loop is born with the edge that closes it and
dies with the longest edge of the triangle that fills it, and so on.

- the pairing comes from gudhi's Ripser (MIT; Bauer, J. Appl. Comput. Topol. 2021), coefficients in
  Z/2, called as its ``sklearn.RipsPersistence`` does, which would need three more packages
- Ripser returns entries of the matrix unchanged, hence the edges are found by looking values up
- bars of length 0 and the component that never dies are left out
- where the library of the engine is built, H0 and H1 come from compiled.py instead
Not here: H0 alone (spanning_tree.py, no library), gradients (bars.py).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from gudhi._edge_collapse_ext import _collapse_edges
from gudhi._ripser_ext import _full, _sparse

from training.persistence.bars import EVERYTHING, Bars, Window
from training.persistence.compiled import available, compiled_bars
from training.persistence.metric import Floats, edges_of, lower_triangle

_FIELD = 2


def rips_bars(
    distances: Floats,
    max_dimension: int = 1,
    window: Window = EVERYTHING,
    backend: Literal["auto", "compiled", "gudhi"] = "auto",
) -> tuple[Bars, ...]:
    """Bars of H0 … H_max_dimension of distances float64 [n, n]; the larger of d_ij, d_ji counts.

    backend: the same bars from each, ties apart; auto = compiled where it is built, for H0 and H1.
    Raises ValueError on distances that are not finite.

    >>> square = np.array([[0, 1, 1, 1.4], [1, 0, 1.4, 1], [1, 1.4, 0, 1], [1.4, 1, 1, 0]])
    >>> [len(bars) for bars in rips_bars(square)]
    [3, 1]
    """
    if not np.isfinite(distances).all():
        raise ValueError("homology needs finite distances")
    distances = np.maximum(distances, distances.T)
    if backend == "compiled" or (
        backend == "auto" and max_dimension == 1 and available(len(distances))
    ):
        return compiled_bars(distances, window)
    start, end = window
    bars = []
    for k, diagram in enumerate(_pairs(distances, max_dimension, end)):
        births, deaths = np.maximum(diagram[:, 0], start), np.minimum(diagram[:, 1], end)
        kept = births < deaths
        at_zero = k == 0 and start == 0
        edges = None if at_zero else edges_of(births[kept], distances)
        bars.append(Bars(edges, edges_of(deaths[kept], distances)))
    return tuple(bars)


def _pairs(distances: Floats, max_dimension: int, end: float) -> list[Floats]:
    """(birth, death) [b, 2] per dimension; ∞ for what is alive at ``end``, less one component."""
    n = len(distances)
    none = [np.empty((0, 2))]
    if n < 2:
        return none * (max_dimension + 1)
    # From the enclosing radius on everything is a cone: nothing is born, nothing lives on.
    longest = min(end, float(distances.max(1).min()))
    highest = min(max_dimension, max(n - 3, 0))
    options = {
        "max_dimension": highest,
        "max_edge_length": longest,
        "homology_coeff_field": _FIELD,
    }
    if highest < 2:
        found = _full(distances, **options)
    else:  # collapsing edges first pays from H2 on; neither the diagrams nor their values change
        i, j = np.divmod(lower_triangle(n).astype(np.int32), np.int32(n))
        short = distances[i, j] <= longest
        (i, j), lengths = _collapse_edges(i[short], j[short], distances[i, j][short], 1)
        found = _sparse(i, j, lengths, n, **options)
    pairs = [np.asarray(d, np.float64).reshape(-1, 2) for d in found[: highest + 1]]
    pairs[0] = np.delete(pairs[0], pairs[0][:, 1].argmax(), axis=0)
    return pairs + none * (max_dimension + 1 - len(pairs))
