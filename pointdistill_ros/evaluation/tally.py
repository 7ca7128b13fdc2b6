# SPDX-License-Identifier: Apache-2.0
"""Tally of one scan: everything the figures of a split are made of, added up over raw points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.calibration import BINS, Reliability
from pointdistill_ros.evaluation.confusion import Counts, count, overall_accuracy
from pointdistill_ros.evaluation.distance import EDGES, band_of
from pointdistill_ros.labels import UNLABELLED, LabelSet
from pointdistill_ros.scan import LidarScan
from pointdistill_ros.segmentation import Segmentation


@dataclass(frozen=True, eq=False)
class ScanTally:
    """Counts of one scan; tallies of a split are summed."""

    sequence: str
    """Drive."""
    scan: str
    """Name of the scan, unique in its drive."""
    bands: Counts
    """[bands, C, C + 1] confusion per distance band."""
    reliability: NDArray[np.float64]
    """[3, BINS] points, hits, summed probability per bin."""
    seconds: float = 0.0
    """CPU time of labelling."""
    voxels: int = 0
    """Voxels the network saw, over all its passes."""

    @property
    def counts(self) -> Counts:
        """[C, C + 1] confusion of the whole scan."""
        return np.asarray(self.bands.sum(axis=0), np.int64)

    @property
    def accuracy(self) -> float:
        """Share of right points; NaN without labelled ones."""
        return float(overall_accuracy(self.counts))

    def to_dict(self) -> dict[str, Any]:
        """Plain data; of the counts only what is not zero."""
        where = np.flatnonzero(self.bands)
        return {
            "sequence": self.sequence,
            "scan": self.scan,
            "shape": list(self.bands.shape),
            "cells": where.tolist(),
            "counts": self.bands.reshape(-1)[where].tolist(),
            "reliability": self.reliability.tolist(),
            "seconds": self.seconds,
            "voxels": self.voxels,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ScanTally:
        """Inverse of ``to_dict``. Raises InputError."""
        try:
            bands = np.zeros(data["shape"], np.int64)
            bands.reshape(-1)[data["cells"]] = data["counts"]
            reliability = np.array(data["reliability"], np.float64).reshape(3, BINS)
            return cls(
                str(data["sequence"]),
                str(data["scan"]),
                bands,
                reliability,
                float(data["seconds"]),
                int(data["voxels"]),
            )
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise InputError(f"not the tally of a scan ({error!r})") from error


def tally(
    scan: LidarScan,
    result: Segmentation,
    truth: NDArray[np.uint8],
    label_set: LabelSet,
    *,
    sequence: str = "",
    name: str = "",
    seconds: float = 0.0,
) -> ScanTally:
    """Count one labelled scan against truth [N] in ``label_set``; 255 in the truth is ignored.

    Predictions of another label set are remapped; a class without a counterpart is a miss. Raises
    LabelError where there is no remap or the lengths differ.
    """
    labels = result.label_set.remap_to(label_set)[result.labels]
    known = truth != UNLABELLED
    band = band_of(scan.xyz)
    bands = np.stack(
        [
            count(labels, np.where(band == b, truth, np.uint8(UNLABELLED)), len(label_set))
            for b in range(len(EDGES))
        ]
    )
    reliability = Reliability()
    reliability.update(labels[known], result.probability[known], truth[known])
    return ScanTally(sequence, name, bands, reliability.sums, seconds, result.voxels)
