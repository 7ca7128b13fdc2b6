# SPDX-License-Identifier: Apache-2.0
"""Where training scans come from: packed real data and simulated streets, drawn by weight.

Within a source every sequence is equally likely, however many scans it has: scans of one sequence
show one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.errors import ConfigError, InputError
from training.data_config import SourceConfig
from training.transforms import LabelledPoints


def open_source(config: SourceConfig, data: Path | None, cache: Path) -> LabelledScans:
    """The data set of a source; ``data`` holds packed scans, ``cache`` rendered streets."""
    match config.kind:
        case "packed":
            if data is None:
                raise InputError(f"source {config.name} needs packed scans: name their folder")
            convention = SensorConvention.named(config.name)
            return PackedScans(data, convention, "train", config.sequences)
        case "simulated":
            from pointdistill_ros.datasets.simulated import SimulatedStreets

            return SimulatedStreets(
                cache, range(config.drives), config.frames, config.stride, config.lidars, workers=2
            )
        case _:
            raise ConfigError(f"sources of kind {config.kind} are not read yet")


class SourceMix:
    """All sources of a run, counted once: which scan shows which class."""

    def __init__(self, sources: Sequence[tuple[LabelledScans, float]], classes: int = 19) -> None:
        """Data sets with their weights. Reads every scan."""
        self.sources = [source for source, _ in sources]
        weights = np.array([weight for _, weight in sources])
        self.weights = weights / weights.sum()
        self.counts = [
            np.stack([np.bincount(s[i][1], minlength=256)[:classes] for i in range(len(s))])
            for s in self.sources
        ]
        """Per source: [scans, classes] labelled points."""

    def draw(self, rng: Generator) -> LabelledPoints:
        """A scan: source by weight, then sequence, then scan uniformly."""
        return self._draw(rng, [np.arange(len(s)) for s in self.sources])

    def with_class(self, rng: Generator, classes: Sequence[int], least: int = 20) -> LabelledPoints:
        """A scan with ``least`` points of one of ``classes``, the class drawn first."""
        shown = [counts[:, list(classes)] >= least for counts in self.counts]
        possible = np.flatnonzero(np.any([s.any(axis=0) for s in shown], axis=0))
        if not len(possible):
            return self.draw(rng)
        wanted = rng.choice(possible)
        return self._draw(rng, [np.flatnonzero(s[:, wanted]) for s in shown])

    def class_counts(self) -> NDArray[np.int64]:
        """[classes] expected share of labelled points in a drawn scan, as counts per million."""
        means = [counts.mean(axis=0) for counts in self.counts]
        total = np.average(means, axis=0, weights=self.weights)
        return (total / total.sum() * 1e6).astype(np.int64)

    def _draw(self, rng: Generator, choices: list[NDArray[np.int64]]) -> LabelledPoints:
        weights = np.where([len(c) > 0 for c in choices], self.weights, 0)
        source = int(rng.choice(len(choices), p=weights / weights.sum()))
        names = np.array(self.sources[source].sequences)[choices[source]]
        sequence = choices[source][names == rng.choice(np.unique(names))]
        return self._points(source, int(rng.choice(sequence)))

    def _points(self, source: int, i: int) -> LabelledPoints:
        scan, labels = self.sources[source][i]
        intensity = scan.intensity
        if intensity is None:
            intensity = np.zeros(len(scan), np.float32)
        points = LabelledPoints(scan.xyz, intensity, labels)
        return points if scan.valid.all() else points.select(scan.valid)
