# SPDX-License-Identifier: Apache-2.0
"""The drives of a folder of pseudo-labels: where their scans were taken, and their votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import InputError
from pointdistill_ros.evaluation.progress import Bar
from pointdistill_ros.labels import LabelSet
from training.pseudo_files import DRIVES, PseudoFolder
from training.pseudo_jobs import Job
from training.pseudo_motion import DriveMotion, Taken, drive_motion, read_motion
from training.pseudo_votes import vote

_FOLDER = "motion"


@dataclass(frozen=True, eq=False)
class Drives:
    """Motion of all drives in a folder, those of an earlier input included."""

    motions: Mapping[str, DriveMotion]
    """By the name of the drive."""

    @classmethod
    def of(
        cls, jobs: Sequence[Job], wanted: str, sensor: str, folder: PseudoFolder, bar: Bar
    ) -> Drives:
        """Find the motion of the jobs' drives; ``wanted``, ``sensor``: see auto_label.LabelPlan.

        Raises InputError where it is not there, or two drives share a name.
        """
        convention = SensorConvention.named(sensor)
        sources: dict[str, Job] = {}
        for job in jobs:
            if job.is_drive and sources.setdefault(job.folder, job).source != job.source:
                raise InputError(
                    f"{sources[job.folder].source} and {job.source}: two drives of one name; label "
                    "them into folders of their own"
                )
        kept = folder.root / _FOLDER
        found = {path.stem: read_motion(path) for path in sorted(kept.glob("*.npz"))}
        motions = {drive: motion for drive, motion in found.items() if motion is not None}
        for place, job in sources.items():
            drive = place.removeprefix(f"{DRIVES}/")
            file = kept / f"{drive}.npz"
            motions[drive] = drive_motion(job.source, wanted, convention, job.prefix, file, bar)
        return cls(motions)

    def taken(self) -> dict[str, Taken]:
        """When and where the scans of all drives were taken, by name."""
        return {name: one for motion in self.motions.values() for name, one in motion.scans.items()}

    def vote(
        self,
        jobs: Sequence[Job],
        around: int,
        folder: PseudoFolder,
        settings: str,
        top: int,
        label_set: LabelSet,
        bar: Bar,
    ) -> None:
        """Let the sweeps of every drive vote, as in pseudo_votes.py; single places are as said."""
        report, taken, before = bar("votes", len(jobs)), self.taken(), 0
        for place, members in groupby(sorted(jobs, key=_PLACE), key=_PLACE):
            names = [job.name for job in members]
            if place.startswith(DRIVES):
                names.sort(key=lambda name: taken[name].time_ns)
            poses = [taken[name].pose if name in taken else None for name in names]

            def done(count: int, before: int = before) -> None:
                report(before + count)

            vote(folder, place, names, poses, around, settings, top, label_set, done)
            before += len(names)

    def told(self) -> dict[str, Any]:
        """Plain data for a manifest."""
        return {
            drive: {
                "scans": len(motion.scans),
                "known": motion.known,
                "source": motion.source,
                "notes": list(motion.notes),
            }
            for drive, motion in self.motions.items()
        }


_PLACE = attrgetter("folder")
