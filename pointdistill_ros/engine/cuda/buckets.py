# SPDX-License-Identifier: Apache-2.0
"""Bucketed capacities: how many rows the buffers of a stage have. Few shapes serve all scans.

A CUDA graph replays with the shapes it was captured with. Rows beyond a stage's size are padding:
never read by a valid row, skipped tile by tile. The last row of every stage is always padding; what
must be written nowhere goes there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Capacities = tuple[int, ...]
"""Rows per stage, fine to coarse."""

MINIMUM = 1024
"""Smallest capacity; above it come 2ᵏ and 1.5 · 2ᵏ (… 16, 24, 32, 48, 64, 96, 128, 192 k …)."""

WASTE = 1.5
"""A held plan serves a smaller scan where it has at most this many times the rows needed."""

Plan = TypeVar("Plan")


def capacity(rows: int, minimum: int = MINIMUM) -> int:
    """The smallest bucket with more than ``rows`` rows. minimum: a power of two ≥ 2."""
    step = minimum
    while step <= rows:
        if step + step // 2 > rows:
            return step + step // 2
        step *= 2
    return step


class PlanCache(Generic[Plan]):
    """At most ``limit`` plans by capacities; the one unused longest leaves first."""

    def __init__(self, make: Callable[[Capacities], Plan], limit: int, minimum: int) -> None:
        self._make = make
        self._limit = limit
        self._minimum = minimum
        self._plans: OrderedDict[Capacities, Plan] = OrderedDict()

    def __len__(self) -> int:
        return len(self._plans)

    def fit(self, sizes: Sequence[int]) -> Plan:
        """A plan with more rows than ``sizes`` in every stage; made where none is held."""
        wanted = tuple(capacity(size, self._minimum) for size in sizes)
        key = self._nearest(wanted)
        if key not in self._plans:
            while len(self._plans) >= self._limit:
                self._plans.popitem(last=False)  # first, so that its memory serves the new one
            self._plans[key] = self._make(key)
        self._plans.move_to_end(key)
        return self._plans[key]

    def clear(self) -> None:
        """Forget all plans and so free their memory."""
        self._plans.clear()

    def _nearest(self, wanted: Capacities) -> Capacities:
        """The held capacities with the fewest rows that serve, or ``wanted`` itself."""
        serving = [
            held
            for held in self._plans
            if all(have >= need for have, need in zip(held, wanted, strict=True))
            and sum(held) <= WASTE * sum(wanted)
        ]
        return min(serving, key=sum, default=wanted)
