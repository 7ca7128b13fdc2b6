# SPDX-License-Identifier: Apache-2.0
"""Scans labelled by ``training.pseudo_label --soft`` as a data set whose points have class scores.

scores/NAME.npz ─► ScoredScans ─► columns of the points ─► augmentation ─► VoxelScores
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import DerivedScans, LabelledScans, innermost
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import InputError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from training.pseudo_files import PseudoFolder
from training.voxel_scores import VALUE


class ScoredScans(DerivedScans):
    """Scans labelled by ``training.pseudo_label --soft``, with the class scores it kept."""

    def __init__(self, scans: LabelledScans, width: int) -> None:
        """``scans``: PseudoScans, kept in memory or not; ``width``: classes in the columns.

        Raises InputError where scans have no scores.
        """
        super().__init__(scans)
        pseudo = innermost(scans)
        assert isinstance(pseudo, PseudoScans)
        self.names = [path.stem for path in pseudo.label_paths]
        self.folder, self.width = PseudoFolder(pseudo.root), width

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its pseudo-labels."""
        return self.scans[i]

    def columns(self, i: int, count: int) -> dict[str, NDArray[Any]]:
        """Scores of the ``count`` points of scan i. Raises InputError where they are of others."""
        found = self.folder.soft_columns(self.names[i])
        if len(found[VALUE]) != count:
            path = self.folder.scores_path(self.names[i])
            raise InputError(
                f"{path}: scores of {len(found[VALUE])} points for a cloud of {count}; label it "
                "again"
            )
        missing = max(self.width - found[VALUE].shape[1], 0)
        return {
            name: np.pad(column, ((0, 0), (0, missing)))[:, : self.width]
            for name, column in found.items()
        }


def scored(opened: Sequence[LabelledScans], label_set: LabelSet) -> list[LabelledScans]:
    """The data sets of a run; those of pseudo-labels in its classes give their scores, too.

    Folders without scores are left as they are: such scans have their labels. Raises InputError
    where no folder holds any.
    """
    widths = [_width(scans, label_set) for scans in opened]
    if not any(widths):
        raise InputError(
            "soft_targets.kept: no source holds scores of the run's classes; label scans with "
            "training.pseudo_label --soft 4 and name their folder as a source of kind pseudo"
        )
    return [
        ScoredScans(scans, max(widths)) if width else scans
        for scans, width in zip(opened, widths, strict=True)
    ]


def _width(scans: LabelledScans, label_set: LabelSet) -> int:
    """Classes per point that a data set's scores tell; 0 = it has none."""
    pseudo = innermost(scans)
    if not isinstance(pseudo, PseudoScans) or pseudo.label_set.names != label_set.names:
        return 0
    path = PseudoFolder(pseudo.root).scores_path(pseudo.label_paths[0].stem)
    if not path.is_file():
        return 0
    return int(PseudoFolder(pseudo.root).soft_columns(path.stem)[VALUE].shape[1])
