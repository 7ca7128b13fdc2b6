# SPDX-License-Identifier: Apache-2.0
r"""What adapting to a new sensor gains: mIoU there before and after; its labels only judge.

python -m training.train_student --recipe benchmarks/recipes/one_sensor_student.yaml --data DATA \
    --run runs/one-sensor-student
python -m training.train_teacher --recipe benchmarks/recipes/one_sensor_teacher.yaml --data DATA \
    --run runs/one-sensor-teacher
python -m benchmarks.adaptation --dataset ika-vlp32 --data DATA --out runs/adapted-ika \
    --weights runs/one-sensor-student/student.safetensors \
    --teacher runs/one-sensor-teacher/teacher-cpu.safetensors [-- more options of training.adapt]

- adaptation gets the clouds of the data set's train scans, copied without their labels
- both weights are judged by P1 on that sensor's validation scans and on SemanticKITTI 07 and 10
  (training/validation.py): what is gained there, and what is forgotten here
- weights or teachers that have learned from the data set, or from whoever has, are refused
- one thing does know labels: the sensor's intensity table (config/datasets/) was made with those of
  its train scans; before and after both use it
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from pointdistill_ros.checkpoint import file_sha256, find_weights, load_checkpoint
from pointdistill_ros.datasets.convention import SensorConvention
from pointdistill_ros.datasets.packed import PackedScans
from pointdistill_ros.errors import ConfigError, InputError, one_line_errors
from pointdistill_ros.evaluation.figures import Figures
from pointdistill_ros.evaluation.progress import progress
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.segmenter import Segmenter
from training.evaluate import evaluate
from training.pseudo_files import write_arrays
from training.validation import FOREIGN, MAIN, validation_parts

LIDARS = {"ika-vlp32": "vlp32c", "pandaset": "pandar64"}
"""Data set → its sensor in config/lidars/."""
_CLOUD = ("xyz", "inten", "q", "pose")


def clouds_alone(data: Path, dataset: str, folder: Path) -> int:
    """Copy the train scans of a packed data set without their labels. How many there are."""
    scans = PackedScans(data, SensorConvention.named(dataset), "train")
    for entry in scans.entries:
        path = data / entry["path"]
        try:
            with np.load(path, allow_pickle=False) as held:
                cloud = {name: held[name] for name in _CLOUD if name in held.files}
        except Exception as error:  # numpy, zipfile and lzma each raise their own kinds
            raise InputError(f"{path}: not a packed scan ({error})") from error
        write_arrays(folder / path.name, cloud)
    return len(scans)


def refuse_known(weights: Path, dataset: str) -> None:
    """Raises ConfigError where the weights learned from the data set, or from who did."""
    if dataset in set(_seen(load_checkpoint(weights)[1].training)):
        raise ConfigError(
            f"{weights}: has learned from {dataset}; there is nothing new to adapt to"
        )


def _seen(training: Mapping[str, Any]) -> Iterator[str]:
    """Names of the data sets behind a header."""
    for source in (*training.get("config", {}).get("sources", ()), *training.get("sources", ())):
        if source.get("weight", 1.0) > 0:
            yield source.get("name", "")
    for entry in training.get("learned_from", ()):
        yield from _seen(entry)


def table(results: Mapping[str, Mapping[str, Figures]]) -> Table:
    """mIoU and IoU per class; results: before and after → part → figures."""
    before, after = results["before"], results["after"]
    shown = Table("P1", "points", "before", "after", "gain")
    for part, figures in before.items():
        points = int(figures.matrix.points().sum())
        shown.add_row(f"{part}: mIoU", f"{points:,}", *_cells(figures.miou, after[part].miou))
        names, counts = figures.label_set.names, figures.matrix.points()
        ious = zip(names, counts, figures.matrix.iou(), after[part].matrix.iou(), strict=True)
        for name, count, old, new in ious:
            if count >= figures.min_points:
                shown.add_row(f"  {name}", f"{int(count):,}", *_cells(old, new))
    return shown


def _cells(before: float, after: float) -> tuple[str, str, str]:
    return f"{before:.3f}", f"{after:.3f}", f"{after - before:+.3f}"


def run(args: argparse.Namespace, more: Sequence[str]) -> None:
    """Adapt, judge, print, write."""
    initial, out = find_weights(args.weights), args.out
    for weights in (initial, *map(find_weights, args.teacher)):
        refuse_known(weights, args.dataset)
    scans = out / "scans" / args.dataset
    count = clouds_alone(args.data, args.dataset, scans)
    words = ["-m", "training.adapt", scans, "--one-drive", "--convention", args.dataset]
    words += ["--weights", initial, "--teacher", *args.teacher, "--lidar", LIDARS[args.dataset]]
    words += ["--data", args.data, "--cache", args.cache, "--out", out / "adapted", *more]
    command = [sys.executable, *map(str, words)]
    print(f"{count} clouds\n$ {shlex.join(['python', *command[1:]])}", flush=True)
    if code := subprocess.run(command, check=False).returncode:
        sys.exit(code)
    adapted = out / "adapted" / "adapted.safetensors"
    parts = [
        part
        for part in validation_parts(args.data, args.cache, 0)
        if part.dataset in (MAIN, args.dataset)
    ]
    with progress() as bar:
        results = {
            when: evaluate(Segmenter.load(path, threads=args.threads), parts, "p1", bar)
            for when, path in (("before", initial), ("after", adapted))
        }
    report = {
        "dataset": args.dataset,
        "weights": {"before": file_sha256(initial), "after": file_sha256(adapted)},
        "results": {
            when: {title: figures.to_dict() for title, figures in found.items()}
            for when, found in results.items()
        },
    }
    with atomic_path(out / "gain.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    Console(width=100).print(table(results))


def main() -> None:
    """Parse the command line and run; what follows ``--`` goes on to training.adapt."""
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", choices=list(FOREIGN), default="ika-vlp32", help="of the new sensor")
    add("--data", type=Path, required=True, help="folder of packed scans")
    add("--weights", required=True, help="to adapt; trained without that data set")
    add("--teacher", nargs="+", required=True, help="likewise; may be the same weights")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--threads", type=int, help="CPU threads of judging")
    add("--out", type=Path, required=True, help="new folder, or one to go on with")
    run(parser.parse_args(words[:end]), words[end + 1 :])


if __name__ == "__main__":
    with one_line_errors("adaptation"):
        main()
