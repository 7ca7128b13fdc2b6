# SPDX-License-Identifier: Apache-2.0
"""Jensen–Shannon divergence of two class distributions of a point, in bits: 0 equal, 1 disjoint.

Lin, Divergence Measures Based on the Shannon Entropy, IEEE Trans. Inf. Theory 1991. Symmetric and
finite where a class has probability 0, unlike the Kullback–Leibler divergence.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Divergence = NDArray[np.float64]


def of_distributions(first: NDArray[np.floating], second: NDArray[np.floating]) -> Divergence:
    """[N] divergence of distributions [N, C], each row of which sums to 1."""
    middle = _entropy((first + second) / 2).sum(axis=1)
    own = _entropy(first).sum(axis=1) + _entropy(second).sum(axis=1)
    return np.asarray(np.clip(middle - own / 2, 0.0, 1.0), np.float64)


def of_tops(
    labels: tuple[NDArray[np.uint8], NDArray[np.uint8]],
    probability: tuple[NDArray[np.floating], NDArray[np.floating]],
    num_classes: int,
) -> Divergence:
    """[N] divergence where only the most probable class [N] and its probability [N] are known.

    The rest of each probability is spread evenly over the other classes, the distribution of the
    greatest entropy. Where the labels are equal that is a lower bound of the true divergence
    (merging classes never increases it); where they differ it is an estimate. A published entropy
    is not used: it does not tell which classes hold the rest.
    """
    p, q = (values.astype(np.float64) for values in probability)
    others = max(num_classes - 1, 1)
    x, y = (1 - p) / others, (1 - q) / others  # of each other class
    middle = _entropy((p + q) / 2) + others * _entropy((x + y) / 2)
    apart = labels[0] != labels[1]
    a, b, u, v = p[apart], q[apart], x[apart], y[apart]
    middle[apart] = _entropy((a + v) / 2) + _entropy((u + b) / 2)
    middle[apart] += max(num_classes - 2, 0) * _entropy((u + v) / 2)
    own = _entropy(p) + _entropy(q) + others * (_entropy(x) + _entropy(y))
    return np.asarray(np.clip(middle - own / 2, 0.0, 1.0))


def _entropy(p: NDArray[np.floating]) -> NDArray[Any]:
    """−p log2 p of each element; 0 where p is 0."""
    return -p * np.log2(np.where(p > 0, p, 1.0))
