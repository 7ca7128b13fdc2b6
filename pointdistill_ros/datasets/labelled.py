# SPDX-License-Identifier: Apache-2.0
"""What every data set offers: scans with one label per point, grouped by drive."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan


class LabelledScans(Protocol):
    """Scans of one data set and split, in the order of drive and time."""

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""

    @property
    def sequences(self) -> Sequence[str]:
        """Name of the drive (sequence, scene, log) of each scan; one drive shows one place."""

    def __len__(self) -> int:
        """Number of scans."""

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i in its sensor's frame and its train ids uint8 [N], 255 = ignore.

        Raises InputError naming the file that is missing, damaged or holds unknown ids.
        """


class DerivedScans(ABC):
    """A data set made of another: as many scans in the same order, changed or kept at hand."""

    def __init__(self, scans: LabelledScans) -> None:
        """``scans``: what it is made of."""
        self.scans = scans

    @property
    def label_set(self) -> LabelSet:
        """Meaning of the labels."""
        return self.scans.label_set

    @property
    def sequences(self) -> Sequence[str]:
        """Name of the drive of each scan."""
        return self.scans.sequences

    def __len__(self) -> int:
        return len(self.scans)

    @abstractmethod
    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels uint8 [N]. Raises InputError."""


def innermost(scans: LabelledScans) -> LabelledScans:
    """The data set that a chain of derived ones begins with; the same where it is not derived."""
    while isinstance(scans, DerivedScans):
        scans = scans.scans
    return scans
