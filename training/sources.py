# SPDX-License-Identifier: Apache-2.0
"""SourceMix: training scans of all sources, drawn by weight and by place, as labelled points.

Labels come as target ids of the run (targets.py). A mix holds no file open and can be sent to other
processes; what it draws depends on the generator it is given and on nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.errors import ConfigError
from pointdistill_ros.labels import LabelSet
from training.config import TrainConfig
from training.opening import CachedScans, open_source
from training.targets import TargetSets
from training.transforms import LabelledPoints

__all__ = ["CachedScans", "SourceMix", "open_source"]

M = TypeVar("M", bound="SourceMix")
COUNTED = 400
"""Scans per source whose labels are counted; of larger data sets a sample of all sequences."""


@dataclass(frozen=True, eq=False)
class _Source:
    """One data set of a mix."""

    scans: LabelledScans
    head: str
    table: NDArray[np.uint8]
    """uint8 [256], its labels → target ids."""
    by_scan: bool
    place: NDArray[np.int64]
    """[scans] number of the sequence."""
    counted: NDArray[np.int64]
    """[K] scans whose labels were counted …"""
    counts: NDArray[np.int64]
    """… [K, T] points per target id."""

    def pick(self, rng: Generator, allowed: NDArray[np.int64]) -> int:
        """One of some scans: any, or of any of their sequences."""
        if not self.by_scan:
            places = np.unique(self.place[allowed])
            allowed = allowed[self.place[allowed] == places[rng.integers(len(places))]]
        return int(allowed[rng.integers(len(allowed))])

    def mean_counts(self) -> NDArray[np.float64]:
        """[T] expected points per target id of a drawn scan."""
        if self.by_scan:
            return np.asarray(self.counts.mean(axis=0))
        places = np.unique(self.place[self.counted])
        each = [self.counts[self.place[self.counted] == p].mean(axis=0) for p in places]
        return np.asarray(np.mean(each, axis=0))


class SourceMix:
    """All sources of a run, drawn by weight, then by sequence (or scan), as labelled points.

    One head with the classes of ``label_set`` for all, or a head per label set of the sources.
    """

    def __init__(
        self,
        sources: Sequence[tuple[LabelledScans, float]],
        label_set: LabelSet | None = None,
        per_dataset: bool = False,
        balance: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        """Data sets with their weights; ``label_set`` is semantic-kitti unless given.

        Reads and counts up to COUNTED scans of each, evenly drawn from its sequences by ``seed``.
        Raises LabelError or ConfigError where labels have no meaning in ``label_set``.
        """
        self.sources = [source for source, _ in sources]
        weights = np.array([weight for _, weight in sources], np.float64)
        self.weights = weights / weights.sum()
        own = [source.label_set for source in self.sources]
        common = LabelSet.named("semantic-kitti") if label_set is None else label_set
        self.sets: dict[str, TargetSets] = (
            {s.name: TargetSets.of(s, [s]) for s in own}
            if per_dataset
            else {"common": TargetSets.of(common, own)}
        )
        """Per head, what its targets mean."""
        balance = balance or ["sequence"] * len(sources)
        rng = np.random.default_rng([seed, 4])
        self._sources = []
        for scans, labels, by in zip(self.sources, own, balance, strict=True):
            head = labels.name if per_dataset else "common"
            sets = self.sets[head]
            place = np.unique(np.array(scans.sequences), return_inverse=True)[1].reshape(-1)
            counted = _spread(place, COUNTED, rng)
            table = sets.table(labels)
            counts = _count(scans, counted, table, len(sets))
            self._sources.append(_Source(scans, head, table, by == "scan", place, counted, counts))

    @classmethod
    def of(cls, config: TrainConfig, opened: Sequence[LabelledScans]) -> SourceMix:
        """The sources of a recipe, opened in its order by ``open_source``."""
        return cls(
            list(zip(opened, (s.weight for s in config.sources), strict=True)),
            LabelSet.named(config.label_set),
            config.head == "per-dataset",
            [s.balance for s in config.sources],
            config.seed,
        )

    def derived(self, kind: type[M], sources: Sequence[LabelledScans]) -> M:
        """A mix that draws the same scans by the same chances, from data sets made of these.

        Their scans and labels must be these, whatever else they tell of them.
        """
        other = kind.__new__(kind)
        other.__dict__ |= self.__dict__
        other.sources = list(sources)
        pairs = zip(self._sources, sources, strict=True)
        other._sources = [replace(source, scans=scans) for source, scans in pairs]
        return other

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the heads: ``common`` alone, or the label sets of the sources."""
        return tuple(self.sets)

    def draw_head(self, rng: Generator) -> str:
        """A head, by the weight of its sources."""
        return self._sources[int(rng.choice(len(self._sources), p=self.weights))].head

    def draw(self, rng: Generator, head: str | None = None) -> LabelledPoints:
        """A scan of a head (default: the first): source by weight, sequence, scan."""
        return self.draw_apart(rng, 1, head)[0]

    def draw_apart(
        self, rng: Generator, count: int, head: str | None = None
    ) -> list[LabelledPoints]:
        """Scans as by ``draw``, of different sequences where a few attempts find them."""
        weights = self._weights(head)
        taken: set[tuple[int, int]] = set()
        drawn = []
        for _ in range(count):
            for _attempt in range(5):
                k = int(rng.choice(len(weights), p=weights))
                source = self._sources[k]
                i = source.pick(rng, np.arange(len(source.place)))
                if (k, int(source.place[i])) not in taken:
                    break
            taken.add((k, int(source.place[i])))
            drawn.append(self._points(k, i))
        return drawn

    def with_class(
        self, rng: Generator, targets: Sequence[int], head: str | None = None, least: int = 20
    ) -> LabelledPoints | None:
        """A counted scan with ``least`` points of one of ``targets``, which is drawn first.

        None where no scan shows any.
        """
        weights = self._weights(head)
        shown = [
            s.counts[:, list(targets)] >= least if w else np.zeros((0, len(targets)), np.bool_)
            for s, w in zip(self._sources, weights, strict=True)
        ]
        possible = np.flatnonzero(np.any([s.any(axis=0) for s in shown], axis=0))
        if not len(possible):
            return None
        wanted = possible[rng.integers(len(possible))]
        scans = [
            s.counted[np.flatnonzero(m[:, wanted])]
            for s, m in zip(self._sources, shown, strict=True)
        ]
        weights = weights * [len(found) > 0 for found in scans]
        k = int(rng.choice(len(weights), p=weights / weights.sum()))
        return self._points(k, self._sources[k].pick(rng, scans[k]))

    def class_counts(self, head: str | None = None) -> NDArray[np.int64]:
        """[C] expected share of the classes in a drawn scan's labelled points, per million.

        Points that may be of several classes count as these do among the exactly labelled points,
        and where none of them is ever exact, evenly.
        """
        weights = self._weights(head)
        sets = self.sets[head or self.heads[0]]
        means = [s.mean_counts() for s, w in zip(self._sources, weights, strict=True) if w]
        total = np.average(means, axis=0, weights=weights[weights > 0])
        exact = total[: len(sets.label_set)]
        counts = exact.copy()
        for target in range(len(exact), len(sets)):
            members = sets.members[target].numpy()
            known = exact * members
            known = known if known.any() else members.astype(np.float64)
            counts += total[target] * known / known.sum()
        share: NDArray[np.int64] = (counts / max(counts.sum(), 1) * 1e6).astype(np.int64)
        return share

    def _weights(self, head: str | None) -> NDArray[np.float64]:
        """[sources] share of each in the draws of a head."""
        wanted = self.heads[0] if head is None else head
        if wanted not in self.sets:
            raise ConfigError(f"no source has head {wanted!r}; there are {', '.join(self.heads)}")
        weights: NDArray[np.float64] = self.weights * [s.head == wanted for s in self._sources]
        weights /= weights.sum()
        return weights

    def _points(self, k: int, i: int) -> LabelledPoints:
        source = self._sources[k]
        scan, labels = source.scans[i]
        intensity = scan.intensity
        if intensity is None:
            intensity = np.zeros(len(scan), np.float32)
        points = LabelledPoints(
            scan.xyz, intensity, source.table[labels], scan.ring, self._known(k, i, len(scan))
        )
        return points if scan.valid.all() else points.select(scan.valid)

    def _known(self, k: int, i: int, count: int) -> dict[str, NDArray[Any]]:
        """Columns of the ``count`` points of scan i of source k, in their order."""
        return {}


def _spread(place: NDArray[np.int64], most: int, rng: Generator) -> NDArray[np.int64]:
    """Up to ``most`` scans, in order: all, or equally many of every sequence, drawn at random."""
    if len(place) <= most:
        return np.arange(len(place))
    rank = np.empty(len(place), np.int64)  # of a scan within its sequence, at random
    order = np.lexsort((rng.random(len(place)), place))
    starts = np.flatnonzero(np.diff(place[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(place)))
    rank[order] = np.arange(len(place)) - np.repeat(starts, sizes)
    return np.sort(np.lexsort((rng.random(len(place)), rank))[:most])


def _count(
    scans: LabelledScans, index: NDArray[np.int64], table: NDArray[np.uint8], targets: int
) -> NDArray[np.int64]:
    """[K, T] points per target id in some scans."""
    rows = [np.bincount(table[scans[int(i)][1]], minlength=256)[:targets] for i in index]
    return np.stack(rows)
