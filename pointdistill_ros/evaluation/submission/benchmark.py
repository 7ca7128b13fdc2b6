# SPDX-License-Identifier: Apache-2.0
"""What a benchmark expects in an archive: which files, how long, which values."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.labels import LabelSet


class Benchmark(ABC):
    """The files of one split of one benchmark; paths are relative to the archive's root."""

    dataset: str
    """Name of config/datasets/."""
    split: str
    scans: LabelledScans
    members: list[str]
    """Path of the predictions of each scan."""
    folders: tuple[str, ...]
    """Folders in the archive, each with a trailing slash."""
    folders_are_entries: bool
    """Whether the official check asks for an entry of its own for each folder."""
    accepts_folder: bool
    """Whether the official tools read an unpacked folder."""
    optional: frozenset[str] = frozenset()
    """Files that may be there besides."""
    label_bytes: int
    """Bytes per label."""

    @property
    def label_set(self) -> LabelSet:
        """Classes of the benchmark."""
        return self.scans.label_set

    @abstractmethod
    def num_points(self, i: int) -> int:
        """Number of points of scan i, without reading it. Raises InputError."""

    @abstractmethod
    def encode(self, labels: NDArray[np.uint8]) -> bytes:
        """Train ids [N] → content of the file. Raises InputError where they cannot be written."""

    @abstractmethod
    def wrong_values(self, content: bytes) -> str | None:
        """What is wrong with the values of a file, or None."""

    def extra_files(self) -> dict[str, bytes]:
        """Files besides the predictions."""
        return {}

    def wrong_extra_file(self, path: str, content: bytes) -> list[str]:
        """What is wrong with one of the extra files."""
        return []
