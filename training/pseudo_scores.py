# SPDX-License-Identifier: Apache-2.0
"""Data sets whose points have class scores that networks gave beforehand.

scores/NAME.npz ─► ScoredScans ─► columns of the points ─► augmentation ─► VoxelScores

- of ``training.score_scans``: any scans, a file is named by the digest of its cloud
- of ``training.pseudo_label --soft``: its own scans, a file is named as the scan
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros.datasets.labelled import DerivedScans, LabelledScans, innermost
from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import InputError, LabelError
from pointdistill_ros.labels import LabelSet
from pointdistill_ros.scan import LidarScan
from training.lineage import MANIFEST
from training.pseudo_files import PseudoFolder, cloud_digest
from training.voxel_scores import VALUE


class ScoredScans(DerivedScans):
    """Any data set, with the class scores that a folder holds of its scans."""

    def __init__(self, scans: LabelledScans, folder: PseudoFolder, width: int) -> None:
        """``scans``: kept in memory or not; ``width``: classes in the columns.

        The files are those of its scans' names where ``folder`` is the data set's own.
        """
        super().__init__(scans)
        self.folder, self.width = folder, width
        own = innermost(scans)
        named = isinstance(own, PseudoScans) and own.root == folder.root
        self._names: dict[int, str] = (
            {i: path.stem for i, path in enumerate(own.label_paths)}
            if named and isinstance(own, PseudoScans)
            else {}
        )

    def __getitem__(self, i: int) -> tuple[LidarScan, NDArray[np.uint8]]:
        """Scan i and its labels."""
        return self.scans[i]

    def columns(self, i: int, count: int) -> dict[str, NDArray[Any]]:
        """Scores of the ``count`` points of scan i. Raises InputError where it has none."""
        name = self.name(i)
        if not self.folder.scores_path(name).is_file():
            raise InputError(
                f"{self.folder.root}: holds scores of some scans of this source, but not of scan "
                f"{i}, {self.sequences[i]}; run training.score_scans again"
            )
        found = self.folder.soft_columns(name)
        if len(found[VALUE]) != count:
            path = self.folder.scores_path(name)
            raise InputError(
                f"{path}: scores of {len(found[VALUE])} points for a cloud of {count}; label it "
                "again"
            )
        missing = max(self.width - found[VALUE].shape[1], 0)
        return {
            name: np.pad(column, ((0, 0), (0, missing)))[:, : self.width]
            for name, column in found.items()
        }

    def name(self, i: int) -> str:
        """Of the scores of scan i."""
        if i not in self._names:
            self._names[i] = cloud_digest(self.scans[i][0])
        return self._names[i]


def scored(
    opened: Sequence[LabelledScans], label_set: LabelSet, folder: Path | None = None
) -> list[LabelledScans]:
    """The data sets of a run, with their scores where there are some.

    ``folder``: of training.score_scans; pseudo-labelled scans have those of their own folder, too,
    where they are in the run's classes. Data sets without scores are left as they are: such scans
    have their labels. Raises InputError where no scan has any.
    """
    made = None if folder is None else _made(folder, label_set)
    found = [_folder_of(scans, label_set, made) for scans in opened]
    if not any(width for _, width in found):
        raise InputError(
            "soft_targets.kept: no source has scores of the run's classes; make some by "
            "training.score_scans and name their folder as soft_targets.folder"
        )
    widest = max(width for _, width in found)
    return [
        scans if where is None else ScoredScans(scans, where, widest)
        for scans, (where, _) in zip(opened, found, strict=True)
    ]


def _made(folder: Path, label_set: LabelSet) -> PseudoFolder:
    """A folder of training.score_scans. Raises InputError where it is none, or of other classes."""
    path = folder / MANIFEST
    try:
        known = LabelSet.named(json.loads(path.read_text())["label_set"])
    except (OSError, ValueError, KeyError, TypeError, LabelError) as error:
        raise InputError(
            f"{path}: not a manifest of training.score_scans ({error}); soft_targets.folder names "
            "a folder that it made"
        ) from error
    if known.names != label_set.names:
        raise InputError(f"{path}: scores of {known.name}; the run trains other classes")
    return PseudoFolder(folder)


def _folder_of(
    scans: LabelledScans, label_set: LabelSet, made: PseudoFolder | None
) -> tuple[PseudoFolder | None, int]:
    """Where the scores of a data set lie and how many classes per point they tell; 0 = nowhere."""
    own = innermost(scans)
    if made is not None:
        width = _width(made, cloud_digest(scans[0][0]))
        if width:
            return made, width
    if isinstance(own, PseudoScans) and own.label_set.names == label_set.names:
        folder = PseudoFolder(own.root)
        width = _width(folder, own.label_paths[0].stem)
        if width:
            return folder, width
    return None, 0


def _width(folder: PseudoFolder, name: str) -> int:
    if not folder.scores_path(name).is_file():
        return 0
    return int(folder.soft_columns(name)[VALUE].shape[1])
