# SPDX-License-Identifier: Apache-2.0
r"""Adapt a student to your lidar: from its unlabelled scans or bags to weights, in one command.

python -m training.adapt drive.mcap --weights student --teacher teacher --out runs/my-lidar
python -m training.adapt scans/ --one-drive --lidar vlp32c --data DATA --out runs/my-lidar

1. teachers label the scans from several views; sweeps vote where the sensor's motion is known
2. the student is trained on from its weights, on these scans (labels and soft targets), labelled
   ones and simulated streets: a recipe of config/training/adapted/ says how
3. the end of every drive is held out: how far the student agrees with the teacher there, before and
   after. That is no accuracy, nobody labelled these scans

OUT holds labels/, held-out/, recipe.yaml, training/ (a run of distill_student), adaptation.json and
adapted.safetensors. Interrupt at will: the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from pointdistill_ros.checkpoint import (
    file_sha256,
    find_weights,
    load_checkpoint,
    save_checkpoint,
)
from pointdistill_ros.errors import (
    ConfigError,
    InputError,
    PointDistillError,
    one_line_errors,
)
from pointdistill_ros.evaluation.motion.ego_motion import AUTO
from pointdistill_ros.evaluation.progress import Bar, progress
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.segmenter import Segmenter
from training.adapt_agreement import Held, agreement, facts, part
from training.adapt_recipe import adapted_recipe, left_out
from training.auto_label import REFERENCE, LabelPlan, auto_label
from training.child_process import run_child
from training.distillation.config import DistillConfig
from training.interrupt import Interrupted, InterruptGuard
from training.labelling import entries, interruptible, networks
from training.pseudo_files import PseudoFolder
from training.pseudo_jobs import find_jobs
from training.recipes import Role, load_recipe, recipe_names, recipe_path
from training.run_folder import RunFolder
from training.self_training import VIEWS, SoftLabeller, Thresholds

ROLE: Role = "adapted"
"""Folder of the recipes."""
MODEL = "adapted"
"""Added to the name of the weights."""


class AdaptationError(PointDistillError):
    """The training of an adaptation ended early."""


def run(args: argparse.Namespace) -> None:
    """Label, train, compare."""
    out, initial = args.out, find_weights(args.weights)
    meta = load_checkpoint(initial)[1]
    changes = {name: getattr(args, name) for name in ("steps", "minutes", "seed", "devices")}
    base = load_recipe(recipe_path(ROLE, args.recipe), changes, DistillConfig)
    recipe = adapted_recipe(base, meta, out / "labels", args.data, args.lidar)
    held = part(find_jobs(args.input, args.match, args.every, args.one_drive), args.hold_out)
    _refuse_mixed(out, held)
    with progress() as bar:
        teacher = _label(args, held, bar)
        names = [job.name for job in held.held_out]
        before = agreement(_student(args, initial), teacher, names, bar)
    for name in left_out(base, args.data):
        print(f"without --data no scans of {name} are trained on")
    trained = _train(args, recipe, initial)
    network, found = load_checkpoint(trained)
    adapted = out / f"{MODEL}.safetensors"
    save_checkpoint(adapted, network, replace(found, model_id=f"{meta.model_id}-{MODEL}"))
    with progress() as bar:
        after = agreement(_student(args, adapted), teacher, names, bar)
    classes = meta.label_set.names
    report = {
        "command": "python -m training.adapt " + shlex.join(sys.argv[1:]),
        "weights": {"before": meta.model_id, "sha256": file_sha256(initial)},
        "adapted_sha256": file_sha256(adapted),
        "teacher": [entry["model"] for entry in entries(_teachers(args), "labels")],
        "training_scans": len(held.training),
        "held_out": names,
        "agreement_with_teacher": {
            "before": facts(before, classes),
            "after": facts(after, classes),
        },
    }
    with atomic_path(out / "adaptation.json") as temporary:
        temporary.write_text(json.dumps(report, indent=1) + "\n")
    Console().print(table(report))
    print(f"{adapted}: `pointdistill segment --model {adapted}` takes it")


def table(report: dict[str, Any]) -> Table:
    """Agreement with the teacher before and after."""
    found = report["agreement_with_teacher"]
    shown = Table(f"held-out scans: {len(report['held_out'])}", "before", "after")
    shown.title = "agreement with the teacher (no accuracy: nobody labelled these scans)"
    for title, key in (("points with the same class", "agreement"), ("mean class IoU", "mean_iou")):
        shown.add_row(title, *(f"{found[when][key]:.3f}" for when in ("before", "after")))
    for name in dict.fromkeys(n for when in found.values() for n in when["class_iou"]):
        cells = (found[when]["class_iou"].get(name) for when in ("before", "after"))
        shown.add_row(f"  {name}", *("–" if c is None else f"{c:.3f}" for c in cells))
    return shown


def _label(args: argparse.Namespace, held: Held, bar: Bar) -> PseudoFolder:
    """Label the scans to train on and those held out; the folder of the latter."""
    named = _teachers(args)
    labeller = SoftLabeller(networks(named), VIEWS[args.views], threads=args.threads)
    thresholds = Thresholds(args.min_confidence, args.keep_share)
    plan = LabelPlan(args.convention, args.soft, args.sweeps, args.poses, False, thresholds)
    told = {
        "command": "python -m training.adapt " + shlex.join(sys.argv[1:]),
        "labelled_by": entries(named, "labels"),
    }
    plain = LabelPlan(args.convention)  # what the teacher says of a scan alone, doubtful or not
    others = PseudoFolder(args.out / "held-out")
    for jobs, how, folder in (
        (held.training, plan, PseudoFolder(args.out / "labels")),
        (held.held_out, plain, others),
    ):
        made = how.settings(labeller, args.precision)
        found = auto_label(jobs, labeller, how, made, folder, told, bar)
        print(f"{folder.root}: {found.scans} scans, {found.kept} of them labelled before")
    return others


def _train(args: argparse.Namespace, recipe: DistillConfig, initial: Path) -> Path:
    """Train in a process of its own and return its weights. Raises AdaptationError, Interrupted."""
    out: Path = args.out
    path, folder = out / "recipe.yaml", out / "training"
    with atomic_path(path) as temporary:
        temporary.write_text(yaml.safe_dump(asdict(recipe), sort_keys=False))
    words = ["-m", "training.distill_student", "--recipe", path, "--run", folder]
    words += ["--initial", initial, "--teacher", find_weights(args.teacher[0])]
    words += ["--cache", args.cache, "--data", args.data or out]
    words += ["--device", args.device] if args.device != "auto" else []
    words += ["--resume"] if RunFolder(folder).exists() else []
    command = [sys.executable, *map(str, words)]
    print(f"$ {shlex.join(['python', *command[1:]])}", flush=True)
    with InterruptGuard() as guard:
        code = run_child(command, guard)
        if guard.received:
            raise Interrupted(guard.received)
    if code:
        raise AdaptationError(f"the training above ended with exit code {code}")
    return folder / f"{recipe.model}.safetensors"


def _refuse_mixed(out: Path, held: Held) -> None:
    """Scans that were trained on cannot be held out later."""
    there = set(PseudoFolder(out / "labels").scored())
    if both := sorted(there & {job.name for job in held.held_out}):
        raise InputError(
            f"{out}: {both[0]} was trained on in an earlier run and would be held out now; name "
            "another --out"
        )


def _student(args: argparse.Namespace, weights: Path) -> Segmenter:
    return Segmenter.load(weights, args.device, args.engine, args.threads, args.precision)


def _teachers(args: argparse.Namespace) -> argparse.Namespace:
    """Options as labelling.py takes them."""
    return argparse.Namespace(**{**vars(args), "weights": args.teacher})


def _parser() -> argparse.ArgumentParser:
    recipes = ", ".join(recipe_names(ROLE))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("input", type=Path, nargs="+", help="folder of scans, scan or bag, without labels")
    add("--weights", default="student", help="to adapt: a shipped name or a file")
    help_text = "who labels the scans; what several say is averaged"
    add("--teacher", nargs="+", default=["teacher"], help=help_text)
    add("--out", type=Path, required=True, help="new folder, or one to go on with")
    add("--recipe", default="cpu", help=f"{recipes}, or a file like those")
    add("--data", type=Path, help="folder of the recipe's labelled scans; none = streets alone")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--lidar", help="yours, a file of config/lidars/: streets are rendered for it, too")
    add("--match", default="*", help="only scans whose name matches")
    add("--every", type=int, default=1, help="only every n-th scan")
    add("--one-drive", action="store_true", help="the scans of an input show one place")
    add("--convention", default=REFERENCE, help="sensor of the input: config/datasets/")
    add("--hold-out", type=float, default=0.15, help="share of the scans to compare on")
    add("--sweeps", type=int, default=3, help="before and after that vote, 0 = none")
    help_text = "auto, none, kiss-icp, a file; of bags also tf or a topic of poses"
    add("--poses", default=AUTO, help=help_text)
    add("--views", type=int, choices=list(VIEWS), default=4, help="test-time augmentation")
    add("--soft", type=int, default=6, help="classes per point kept as soft targets")
    add("--min-confidence", type=int, default=60, help="0..100; less is no label")
    add("--keep-share", type=float, default=0.3, help="0..1, kept of every class at least")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length of the training in steps")
    length.add_argument("--minutes", type=float, help="or in minutes")
    add("--seed", type=int, help="of data order and augmentation")
    add("--devices", type=int, help="processes that train")
    add("--device", default="auto", choices=["auto", "cpu", "cuda"], help="where to compute")
    add("--engine", default="auto", help="that labels: auto, native, torch")
    add("--precision", default="float32", help="of labelling: float32 or bfloat16")
    add("--threads", type=int, help="CPU threads of labelling")
    return parser


def main() -> None:
    """Parse the command line and adapt."""
    args = _parser().parse_args()
    if args.every < 1:
        raise ConfigError(f"--every must be at least 1, got {args.every}")
    if args.soft < 1:
        raise ConfigError("--soft must be at least 1: the student learns from soft targets")
    interruptible(run, args)


if __name__ == "__main__":
    with one_line_errors("adapt"):
        main()
