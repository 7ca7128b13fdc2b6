# SPDX-License-Identifier: Apache-2.0
r"""How much corruptions cost a network, and which of them its drift score notices.

python -m training.corruption_table --weights student --root DATA --dataset semantic-kitti \
    --out runs/robustness
python -m training.corruption_table --weights student --drives DATA/kitti_raw_run --out runs/drives

- every scan of the split clean and under every corruption at every strength: mIoU of one matrix,
  and the share of frames with a drift score of 1 or more
- ``--drives``: clean drives of which none was calibrated on; how often the alarm goes off there
- needs the drift reference of the weights (training.calibrate_drift); without one mIoU alone
- interrupt at will: the same command goes on in OUT; another reference needs no new passes
Writes OUT/corruptions.md and OUT/corruptions.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pointdistill_ros import __version__
from pointdistill_ros.checkpoint import file_sha256, find_weights
from pointdistill_ros.errors import ConfigError, InputError, one_line_errors
from pointdistill_ros.evaluation.corruptions.suite import CORRUPTIONS, STRENGTHS
from pointdistill_ros.evaluation.corruptions.table import markdown, rows, summary, to_dict
from pointdistill_ros.evaluation.corruptions.trial import TrialJournal, causes, run_trials
from pointdistill_ros.evaluation.drift.alarm import DriftLevel, DriftWatch
from pointdistill_ros.evaluation.drift.reference import DriftReference, reference_path
from pointdistill_ros.evaluation.figures import MIN_POINTS
from pointdistill_ros.evaluation.progress import Bar, progress
from pointdistill_ros.evaluation.walk import EveryNth, shared_label_set
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.io.open import open_scans
from pointdistill_ros.segmenter import Segmenter


def corruptions(
    segmenter: Segmenter, args: argparse.Namespace, reference: DriftReference | None, bar: Bar
) -> tuple[list[str], dict[str, Any]]:
    """Markdown lines and JSON of the table."""
    from pointdistill_ros.datasets.open import open_in_convention

    scans = EveryNth(open_in_convention(args.dataset, args.root, args.split), args.every)
    label_set = shared_label_set(segmenter.label_set, scans.label_set)
    wanted = causes(args.corruptions, sorted(set(args.strengths)))
    journal = TrialJournal(
        args.out / "trials.jsonl",
        {
            "weights": segmenter.weights_sha256,
            "data": [args.dataset, args.split, args.every, str(args.root.resolve())],
            "grades": {name: found.grades for name, found in CORRUPTIONS.items()},
            "seed": args.seed,
            "classes": label_set.name,
        },
    )
    done = bar("corruptions", len(scans) * len(wanted))
    trials = list(run_trials(segmenter, scans, label_set, wanted, args.seed, journal, done))
    table = rows(trials, args.min_points, reference)
    lines = list(markdown(table))
    for name, figures in summary(table).items():
        lines += ["", f"{name}: {figures['flagged']:.1%} of {figures['frames']} frames flagged."]
    return lines, to_dict(table)


def drives(
    segmenter: Segmenter, paths: Sequence[Path], reference: DriftReference, bar: Bar
) -> dict[str, Any]:
    """What the alarm says on clean drives, by path."""
    found: dict[str, Any] = {}
    for path in paths:
        source, watch = open_scans(path), DriftWatch(reference)
        scores, raised, level = [], 0, DriftLevel.OK
        done = bar(path.name, len(source))
        for i, (_, scan) in enumerate(source):
            verdict = watch(scan, segmenter(scan))
            scores.append(verdict.score)
            raised += verdict.level > level
            level = verdict.level
            done(i + 1)
        found[str(path)] = {
            "frames": len(scores),
            "frames over the limit": sum(score >= 1 for score in scores),
            "alarms": raised,
            "highest score": round(max(scores, default=float("nan")), 3),
        }
    return found


def run(args: argparse.Namespace) -> None:
    """Measure, print, write."""
    if not (args.dataset or args.drives):
        raise ConfigError("nothing to measure: name --dataset and --root, or --drives")
    if args.dataset and args.root is None:
        raise ConfigError("--dataset needs --root, the folder that it lies in")
    reference = _reference(args, file_sha256(find_weights(args.weights)))
    if args.drives and reference is None:
        raise InputError(f"{args.weights}: no drift reference; run training.calibrate_drift first")
    segmenter = Segmenter.load(args.weights, engine=args.engine, threads=args.threads)
    logging.getLogger("pointdistill_ros.segmenter").setLevel(logging.ERROR)  # what it says is meant
    lines = [f"`python -m training.corruption_table {shlex.join(sys.argv[1:])}`", ""]
    result: dict[str, Any] = {
        "command": lines[0].strip("`"),
        "version": __version__,
        "weights": {"name": args.weights, "sha256": segmenter.weights_sha256},
        "reference": None if reference is None else _about(reference),
    }
    with progress() as bar:
        if args.dataset:
            table, result["corruptions"] = corruptions(segmenter, args, reference, bar)
            lines += table
        if args.drives and reference is not None:
            result["drives"] = drives(segmenter, args.drives, reference, bar)
            for path, figures in result["drives"].items():
                lines += ["", f"{path}: " + ", ".join(f"{k} {v}" for k, v in figures.items()) + "."]
    for suffix, text in ((".md", "\n".join(lines)), (".json", json.dumps(result, indent=1))):
        with atomic_path(args.out / f"corruptions{suffix}") as temporary:
            temporary.write_text(f"{text}\n")
    print("\n".join(lines))


def _reference(args: argparse.Namespace, weights_sha256: str) -> DriftReference | None:
    path = args.reference or reference_path(find_weights(args.weights))
    if args.reference is None and not path.is_file():
        return None
    reference = DriftReference.load(path)
    if reference.weights_sha256 != weights_sha256:
        raise InputError(f"{path}: made with other weights; run training.calibrate_drift again")
    return reference


def _about(reference: DriftReference) -> dict[str, Any]:
    shown = ("places", "frames", "limits", "false_alarms", "set_aside", "data")
    return {name: value for name, value in asdict(reference).items() if name in shown}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--weights", default="student", help="shipped name or checkpoint path")
    add("--dataset", help="labelled data set: semantic-kitti …")
    add("--root", type=Path, help="its root folder")
    add("--split", default="val", help="its split")
    add("--every", type=int, default=1, help="only every n-th scan")
    add("--corruptions", nargs="+", choices=[*CORRUPTIONS], default=[*CORRUPTIONS])
    add("--strengths", nargs="+", type=int, choices=STRENGTHS, default=[*STRENGTHS])
    add("--seed", type=int, default=0, help="of the dice")
    add("--drives", type=Path, nargs="+", default=[], help="clean drives: folders or bags")
    add("--min-points", type=int, default=MIN_POINTS, help="rarer classes enter no mean")
    add("--reference", type=Path, help="default: NAME.drift.json beside the weights")
    add("--engine", default="auto", help="auto, native, torch …")
    add("--threads", type=int, help="CPU threads")
    add("--out", type=Path, required=True, help="folder of the results")
    return parser


def main() -> None:
    """Parse the command line and measure."""
    run(_parser().parse_args())


if __name__ == "__main__":
    with one_line_errors("corruption_table"):
        main()
