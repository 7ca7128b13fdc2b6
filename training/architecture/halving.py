# SPDX-License-Identifier: Apache-2.0
"""Successive halving in two dimensions: who is dominated goes first.

A point is (latency, score); it is dominated where another is no slower and scores no worse, and
one of both is strictly better. Front 0 is dominated by nobody, front 1 by front 0 alone, …
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Point(NamedTuple):
    """What a candidate is judged by."""

    latency: float
    """Less is better."""
    score: float
    """More is better."""

    def dominates(self, other: Point) -> bool:
        """At least as good in both, better in one."""
        return self != other and self.latency <= other.latency and self.score >= other.score


def fronts(points: Mapping[str, Point]) -> list[list[str]]:
    """Names by front, each front from fast to slow."""
    left = sorted(points, key=lambda name: (points[name].latency, -points[name].score, name))
    found = []
    while left:
        front = [n for n in left if not any(points[m].dominates(points[n]) for m in left)]
        found.append(front)
        left = [name for name in left if name not in front]
    return found


def survivors(points: Mapping[str, Point], count: int) -> list[str]:
    """The ``count`` names that the next rung trains: whole fronts, of the last the best scores."""
    kept: list[str] = []
    for front in fronts(points):
        by_score = sorted(front, key=lambda name: (-points[name].score, name))
        kept += by_score[: count - len(kept)]
    return kept


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's, of the same candidates' scores on two rungs; None for fewer than three."""
    if len(first) < 3 or len(set(first)) < 2 or len(set(second)) < 2:
        return None
    return float(np.corrcoef(_ranks(first), _ranks(second))[0, 1])


def _ranks(values: Sequence[float]) -> list[float]:
    """From 0; equal values share the mean of theirs."""
    return [sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]
