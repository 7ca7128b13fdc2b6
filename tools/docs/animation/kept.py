# SPDX-License-Identifier: Apache-2.0
"""Labels kept on disk, so that a picture drawn otherwise needs no network again."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pointdistill_ros import LidarScan, Segmentation, Segmenter
from pointdistill_ros.io.atomic import atomic_path


class KeptLabels:
    """Labels scans of one drive, those that are known without the network. A ``Label``."""

    def __init__(self, network: Segmenter, folder: Path, drive: str) -> None:
        """``drive``: names it; other weights and other drives have files of their own."""
        self._network = network
        self._folder = folder / f"{network.weights_sha256[:12]}-{drive}"

    def __call__(self, scan: LidarScan) -> Segmentation:
        """Label it, or read what was said of the scan of this stamp."""
        path = self._folder / f"{scan.stamp_ns}.npz"
        if path.is_file():
            with np.load(path) as kept:
                labels, probability, entropy = (kept[name] for name in _ARRAYS)
            if len(labels) == len(scan):
                return Segmentation(labels, probability, entropy, self._network.label_set)
        found = self._network(scan)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **{name: getattr(found, name) for name in _ARRAYS})
        return found


_ARRAYS = ("labels", "probability", "entropy")
