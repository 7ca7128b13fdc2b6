# SPDX-License-Identifier: Apache-2.0
"""How far a student agrees with its teacher on scans that adapting it does not see.

That is no accuracy: nobody labelled these scans, and the teacher may be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np

from pointdistill_ros.datasets.pseudo import PseudoScans
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.agreement import Agreement, Labelling, compare
from pointdistill_ros.evaluation.distance import band_of
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.segmenter import Segmenter
from training.pseudo_files import PseudoFolder
from training.pseudo_jobs import Job

_PLACE = attrgetter("folder")


@dataclass(frozen=True, eq=False)
class Held:
    """Scans of the input, parted."""

    training: list[Job]
    held_out: list[Job]


def part(jobs: Sequence[Job], share: float) -> Held:
    """Hold a share of the scans out: the end of every drive, and evenly many of single places.

    Raises ConfigError where ``share`` cannot be meant, InputError where nothing would be left.
    """
    if not 0 < share < 1:
        raise ConfigError(f"--hold-out must lie between 0 and 1, got {share:g}")
    held: list[Job] = []
    for _, members in groupby(sorted(jobs, key=_PLACE), key=_PLACE):
        scans = list(members)
        count = round(share * len(scans))
        if scans[0].is_drive:
            count = max(count, 1) if len(scans) > 1 else 0
            held += scans[len(scans) - count :]
        elif count:
            held += [scans[i] for i in np.linspace(0, len(scans) - 1, count).round().astype(int)]
    names = {job.name for job in held}
    training = [job for job in jobs if job.name not in names]
    if not held or not training:
        raise InputError(
            f"{len(jobs)} scans, of which {len(held)} would be held out: too few to adapt to and "
            "to compare on; give more scans or another --hold-out"
        )
    return Held(training, held)


def agreement(
    student: Segmenter, teacher: PseudoFolder, names: Sequence[str], bar: Bar
) -> Agreement:
    """Labels of a student (first) and of a teacher (second), which it left in a folder."""
    scans, classes = PseudoScans(teacher.root, 0), len(student.label_set)
    wanted = [i for i, path in enumerate(scans.label_paths) if path.stem in set(names)]
    done, total = bar(f"agreement of {student.model_id}", len(wanted)), None
    for count, i in enumerate(wanted, 1):
        scan, said = scans[i]
        mine, theirs = Labelling(student(scan).labels), Labelling(said)
        found = compare(mine, theirs, classes, band_of(scan.xyz))
        total = found if total is None else total + found
        done(count)
    if total is None:
        raise InputError(f"{teacher.root}: no held-out scan is labelled there; run again")
    return total


def facts(found: Agreement, names: Sequence[str]) -> dict[str, Any]:
    """Plain data; classes that neither side names are left out."""
    known = {
        name: round(float(iou), 4)
        for name, iou in zip(names, found.class_iou, strict=True)
        if np.isfinite(iou)
    }
    return {
        "points": found.points,
        "agreement": round(found.agreement, 4),
        "mean_iou": round(found.mean_iou, 4),
        "class_iou": known,
    }
