# SPDX-License-Identifier: Apache-2.0
"""From scans that nobody labelled to a folder of training data: label, vote, choose, describe.

- every scan is labelled alone (self_training.py); where sweeps shall vote these scores are kept
  apart and those after the vote count (pseudo_votes.py)
- doubtful labels are left out at the end, by thresholds over all scans: other ones need no network
- whatever is there already and was made by the same weights and settings is kept
Commands: pseudo_label.py, adapt.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros import __version__
from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import ConfigError, InputError
from pointdistill_ros.evaluation.motion.ego_motion import AUTO
from pointdistill_ros.evaluation.progress import Bar
from training.pseudo_drives import Drives
from training.pseudo_files import (
    ALONE,
    PseudoFolder,
    cloud_digest,
    digest,
    is_packed,
    packable,
    packed_cloud,
    unpacked_cloud,
)
from training.pseudo_jobs import Job
from training.pseudo_kitti import write_layout
from training.pseudo_manifest import write_manifest
from training.pseudo_votes import CELL, KEPT
from training.self_training import SoftLabeller, Thresholds, confidence_histogram, filtered

REFERENCE = "semantic-kitti"
"""Label set and sensor convention of what datasets/pseudo.py reads."""


@dataclass(frozen=True)
class LabelPlan:
    """How scans are labelled, beside the networks and their views."""

    convention: str = REFERENCE
    """Sensor of the scans, a file of config/datasets/."""
    soft: int = 0
    """Classes per point whose probabilities are kept, 0 = none."""
    sweeps: int = 0
    """Sweeps before and after that vote, 0 = none."""
    poses: str = AUTO
    """Where the sensor's motion comes from, see pseudo_motion.py."""
    layout: bool = False
    """Whether the scans are written in the layout of SemanticKITTI, too."""
    thresholds: Thresholds = field(default_factory=Thresholds)
    """Which labels are kept."""

    def __post_init__(self) -> None:
        if self.sweeps < 0:
            raise ConfigError(f"--sweeps must be 0 or more, got {self.sweeps}")

    def settings(self, labeller: SoftLabeller, precision: str) -> dict[str, Any]:
        """All that decides what is said about a scan. Raises ConfigError."""
        label_set = labeller.segmenters[0].label_set
        if label_set.name != REFERENCE:
            raise ConfigError(
                f"{labeller.segmenters[0].model_id}: labels in {label_set.name}; pseudo-labels are "
                f"classes of {REFERENCE}"
            )
        if not 0 <= self.soft <= len(label_set):
            raise ConfigError(f"--soft must lie in 0 .. {len(label_set)}, got {self.soft}")
        return {
            "weights": [segmenter.weights_sha256 for segmenter in labeller.segmenters],
            "models": [segmenter.model_id for segmenter in labeller.segmenters],
            "precision": precision,
            "views": len(labeller.views),
            "every_point": labeller.every_point,
            "convention": self.convention,
            "soft": self.soft,
            **({"sweeps": self.sweeps, "cell": CELL} if self.sweeps else {}),
        }


@dataclass(frozen=True)
class Labelled:
    """What came out."""

    scans: int
    kept: int
    """Of these, labelled before by the same weights."""
    beside: int
    """Scans of an earlier input in the same folder."""
    share: float
    """Of the labels that are kept."""
    layout: Path | None
    """Root in the layout of SemanticKITTI."""


def auto_label(
    jobs: Sequence[Job],
    labeller: SoftLabeller,
    plan: LabelPlan,
    made: Mapping[str, Any],
    folder: PseudoFolder,
    facts: Mapping[str, Any],
    bar: Bar,
) -> Labelled:
    """Label all jobs into a folder; ``made``: ``plan.settings``, ``facts``: more for its manifest.

    Raises InputError, ConfigError; what is done by then is kept.
    """
    label_set, settings = labeller.segmenters[0].label_set, digest(made)
    beside = _refuse_strangers(folder, jobs, settings)
    drives = Drives({})
    if plan.sweeps or plan.layout:
        drives = Drives.of(jobs, plan.poses, plan.convention, folder, bar)
    if plan.sweeps:
        alone = PseudoFolder(folder.root, ALONE)
        top = max(plan.soft, KEPT)
        own = digest({**made, "sweeps": 0, "soft": top})
        kept = label(jobs, labeller, alone, own, plan.convention, top, bar)
        drives.vote(jobs, plan.sweeps, folder, settings, plan.soft, label_set, bar)
    else:
        kept = label(jobs, labeller, folder, settings, plan.convention, plan.soft, bar)
    names = sorted([*beside, *(job.name for job in jobs)])
    bounds, points, left = apply_thresholds(folder, names, plan.thresholds, len(label_set))
    manifest = {
        "version": __version__,
        "settings": made,
        **facts,
        "engine": f"{labeller.segmenters[0].engine}: {labeller.segmenters[0].engine_detail}",
        "thresholds": asdict(plan.thresholds),
        "classes": {
            name: {"min_confidence": int(b), "points": int(p), "kept": int(k)}
            for name, b, p, k in zip(label_set.names, bounds, points, left, strict=True)
        },
        "motion": drives.told(),
        "scans": names,
    }
    write_manifest(folder.root, manifest)
    layout = write_layout(folder, drives.taken()) if plan.layout else None
    return Labelled(len(jobs), kept, len(beside), left.sum() / max(points.sum(), 1), layout)


def label(
    jobs: Sequence[Job],
    labeller: SoftLabeller,
    folder: PseudoFolder,
    settings: str,
    sensor: str,
    top: int,
    bar: Bar,
) -> int:
    """Write clouds and scores of all jobs; those that are there are kept. How many were."""
    kept, done = 0, bar("pseudo-labels", len(jobs))
    convention = SensorConvention.named(sensor)
    reference = SensorConvention.named(REFERENCE)
    for count, job in enumerate(jobs, 1):
        scan = job.entry.load()
        none = np.zeros(len(scan), np.uint8)
        scan = packable(convention.apply(scan, none)[0])
        if scan.intensity is None:  # as the network was trained to see it, or it refuses
            scan = replace(scan, intensity=labeller.segmenters[0].intensity(scan))
        if not len(scan):
            raise InputError(f"{job.name}: no point within 255 m; leave it out with --match")
        linked = (
            job.file is not None
            and convention is reference
            and len(scan) == len(none)
            and is_packed(job.file, scan)
        )
        cloud = job.file if linked and job.file is not None else packed_cloud(scan)
        if isinstance(cloud, dict):
            scan = unpacked_cloud(cloud)
        origin = (settings, cloud_digest(scan))
        folder.write_cloud(job.name, job.folder, cloud)
        if folder.origin(job.name) == origin:
            kept += 1
        else:
            folder.write_scores(job.name, labeller(scan), *origin, top)
        done(count)
    return kept


def apply_thresholds(
    folder: PseudoFolder, names: Sequence[str], thresholds: Thresholds, classes: int
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Write pseudo/ from scores/. Lowest kept confidence, points said and kept, each [C]."""
    histogram = np.zeros((classes, 101), np.int64)
    for name in names:
        scores = folder.read_scores(name)
        histogram += confidence_histogram(scores.labels, scores.confidence, classes)
    bounds = thresholds.per_class(histogram)
    for name in names:
        scores = folder.read_scores(name)
        labels = filtered(scores.labels, scores.confidence, bounds)
        folder.write_labels(name, labels, scores.confidence)
    kept = histogram * (np.arange(101) >= bounds[:, None])
    return bounds, histogram.sum(axis=1), kept.sum(axis=1)


def _refuse_strangers(folder: PseudoFolder, jobs: Sequence[Job], settings: str) -> list[str]:
    """Names of earlier scans beside the jobs. Raises InputError where others labelled them."""
    beside = sorted(set(folder.scored()) - {job.name for job in jobs})
    for name in beside:
        origin = folder.origin(name)
        if origin is None or origin[0] != settings:
            raise InputError(
                f"{folder.scores_path(name)}: labelled by other weights or views and not among "
                "the input; name another --out, or remove it with its label in pseudo/"
            )
    return beside
