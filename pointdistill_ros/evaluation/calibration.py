# SPDX-License-Identifier: Apache-2.0
"""Reliability: of the points labelled with probability 0.8, eight in ten should be right.

Expected calibration error (Guo et al., On Calibration of Modern Neural Networks, ICML 2017): points
in equally wide bins of the probability of the predicted class, the mean of |accuracy − probability|
over the bins, weighted by their points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.labels import UNLABELLED

BINS = 15


class Reliability:
    """Points, hits and summed probability per bin; bins are (0, 1/15], (1/15, 2/15], …."""

    def __init__(self, sums: NDArray[np.float64] | None = None) -> None:
        """sums: float64 [3, BINS] points, hits, summed probability to begin with."""
        self.sums = np.zeros((3, BINS)) if sums is None else sums.astype(np.float64)

    def update(
        self,
        labels: NDArray[np.uint8],
        probability: NDArray[np.float32],
        truth: NDArray[np.uint8],
    ) -> None:
        """Add points: labels and truth train ids [N], probability of the label [N], 0..1.

        Points whose truth is 255 are ignored. An unlabelled point is a miss with probability 0.
        """
        known = truth != UNLABELLED
        p = probability[known].astype(np.float64)
        hit = (labels == truth)[known]
        index = np.clip(np.ceil(p * BINS).astype(np.int64) - 1, 0, BINS - 1)
        for row, weights in enumerate((None, hit, p)):
            self.sums[row] += np.bincount(index, weights, BINS)

    def __add__(self, other: Reliability) -> Reliability:
        """Both splits together."""
        return Reliability(self.sums + other.sums)

    @property
    def points(self) -> NDArray[np.int64]:
        """[BINS] labelled points."""
        return np.asarray(self.sums[0], np.int64)

    def accuracy(self) -> NDArray[np.float64]:
        """[BINS] share of hits; NaN in an empty bin."""
        return self._mean(1)

    def confidence(self) -> NDArray[np.float64]:
        """[BINS] mean probability; NaN in an empty bin."""
        return self._mean(2)

    def error(self) -> float:
        """Expected calibration error, 0..1; NaN without points."""
        total = self.sums[0].sum()
        gap = np.abs(self.sums[1] - self.sums[2]).sum()
        return float(gap / total) if total else float("nan")

    def _mean(self, row: int) -> NDArray[np.float64]:
        mean = np.full(BINS, np.nan)
        np.divide(self.sums[row], self.sums[0], out=mean, where=self.sums[0] > 0)
        return mean
