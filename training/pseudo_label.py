# SPDX-License-Identifier: Apache-2.0
r"""Label unlabelled scans by a network, for training on them (self-training, distillation).

python -m training.pseudo_label DATA/unlabelled --match '*kitti*' --weights teacher.safetensors \
    --out runs/pseudo-teacher --min-confidence 80 --keep-share 0.3
python -m training.pseudo_label drive.mcap --every 10 --weights student --out runs/pseudo-drive

- input: folders of scans, single scans or bags, whatever `pointdistill segment` reads
- four views, turned and scaled, one pass each (--views; --every-point: the passes of P3)
- interrupt at will: the same command skips what these weights have labelled; the thresholds are
  applied to all scans at the end, and other ones need no new labelling
- a recipe reads it as {kind: pseudo, folder: OUT, min_confidence: 0}
Whoever trains with them says so; never measure on them.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pointdistill_ros import __version__
from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.errors import ConfigError, InputError, one_line_errors
from pointdistill_ros.evaluation.progress import Bar, progress
from pointdistill_ros.io.atomic import atomic_path
from training.labelling import add_options, entries, interruptible, networks
from training.pseudo_files import (
    PseudoFolder,
    cloud_digest,
    digest,
    is_packed,
    packable,
    packed_cloud,
    unpacked_cloud,
)
from training.pseudo_jobs import Job, find_jobs
from training.self_training import (
    VIEWS,
    SoftLabeller,
    Thresholds,
    confidence_histogram,
    filtered,
)

REFERENCE = "semantic-kitti"
"""Label set and sensor convention of what datasets/pseudo.py reads."""


def label(
    jobs: Sequence[Job],
    labeller: SoftLabeller,
    folder: PseudoFolder,
    settings: str,
    convention: SensorConvention,
    top: int,
    bar: Bar,
) -> int:
    """Write clouds and scores of all jobs; those that are there are kept. How many were."""
    kept, done = 0, bar("pseudo-labels", len(jobs))
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


def _readme(manifest: dict[str, Any]) -> Iterator[str]:
    made, classes = manifest["settings"], manifest["classes"]
    named = zip(made["models"], made["weights"], strict=True)
    networks = ", ".join(f"{model} (sha256 {digest[:12]})" for model, digest in named)
    yield "# Labels of a network\n"
    yield f"`{manifest['command']}`\n"
    yield (
        f"{len(manifest['scans'])} scans, labelled by {networks} over {made['views']} views; "
        f"package {manifest['version']}. "
        "Not measured against any truth. Train with `min_confidence: 0` (doubtful labels are 255 "
        "already), say so where the weights are described, and never measure on them. Licence: as "
        "the scans and as the data the labelling network was trained on.\n"
    )
    yield "| class | lowest kept confidence | points | kept |"
    yield "|---|---:|---:|---:|"
    for name, row in classes.items():
        share = f"{row['kept'] / row['points']:.0%}" if row["points"] else "–"
        yield f"| {name} | {row['min_confidence']} | {row['points']:,} | {share} |"


def run(args: argparse.Namespace) -> None:
    """Label, filter, describe."""
    thresholds = Thresholds(args.min_confidence, args.keep_share, args.floor)
    jobs = find_jobs(args.input, args.match, args.every, args.one_drive)
    segmenters = networks(args)
    label_set = segmenters[0].label_set
    if label_set.name != REFERENCE:
        raise ConfigError(
            f"{args.weights[0]}: labels in {label_set.name}; pseudo-labels are classes of "
            f"{REFERENCE}"
        )
    if not 0 <= args.soft <= len(label_set):
        raise ConfigError(f"--soft must lie in 0 .. {len(label_set)}, got {args.soft}")
    made = {
        "weights": [segmenter.weights_sha256 for segmenter in segmenters],
        "models": [segmenter.model_id for segmenter in segmenters],
        "precision": args.precision,
        "views": args.views,
        "every_point": args.every_point,
        "convention": args.convention,
        "soft": args.soft,
    }
    settings, folder = digest(made), PseudoFolder(args.out)
    beside = _refuse_strangers(folder, jobs, settings)
    labeller = SoftLabeller(segmenters, VIEWS[args.views], args.every_point, args.threads)
    convention = SensorConvention.named(args.convention)
    with progress() as bar:
        kept = label(jobs, labeller, folder, settings, convention, args.soft, bar)
    names = sorted([*beside, *(job.name for job in jobs)])
    bounds, points, left = apply_thresholds(folder, names, thresholds, len(label_set))
    manifest = {
        "command": "python -m training.pseudo_label " + shlex.join(sys.argv[1:]),
        "version": __version__,
        "settings": made,
        "labelled_by": entries(args, "labels"),
        "engine": f"{segmenters[0].engine}: {segmenters[0].engine_detail}",
        "thresholds": asdict(thresholds),
        "classes": {
            name: {"min_confidence": int(b), "points": int(p), "kept": int(k)}
            for name, b, p, k in zip(label_set.names, bounds, points, left, strict=True)
        },
        "scans": names,
    }
    for file, text in (
        ("manifest.json", json.dumps(manifest, indent=1)),
        ("README.md", "\n".join(_readme(manifest))),
    ):
        with atomic_path(args.out / file) as temporary:
            temporary.write_text(f"{text}\n")
    print(f"{args.out}: {len(jobs)} scans, {kept} of them labelled before by the same weights")
    if beside:
        print(f"and {len(beside)} of an earlier input")
    print(f"{left.sum() / max(points.sum(), 1):.0%} of the labels kept; see {args.out}/README.md")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("input", type=Path, nargs="+", help="folder of scans, scan or bag")
    add("--out", type=Path, required=True, help="new folder, or one to go on with")
    add("--match", default="*", help="only scans whose name matches, e.g. '*kitti*'")
    add("--every", type=int, default=1, help="only every n-th scan")
    add("--one-drive", action="store_true", help="the scans of an input show one place")
    add("--convention", default=REFERENCE, help="sensor of the input: config/datasets/")
    add("--every-point", action="store_true", help="all passes of P3, eight times slower")
    add("--min-confidence", type=int, default=0, help="0..100; less is written as 255")
    add("--keep-share", type=float, default=0.0, help="0..1, kept of every class at least")
    add("--floor", type=int, default=40, help="0..100; bound of what --keep-share adds")
    add_options(parser, "student", 0)
    return parser


def main() -> None:
    """Parse the command line and label."""
    args = _parser().parse_args()
    if args.every < 1:
        raise ConfigError(f"--every must be at least 1, got {args.every}")
    interruptible(run, args)


if __name__ == "__main__":
    with one_line_errors("pseudo_label"):
        main()
