# SPDX-License-Identifier: Apache-2.0
r"""What teachers say of a recipe's scans, asked once before training: soft targets at no cost.

python -m training.score_scans --recipe cpu-real --data DATA --weights teacher --out runs/scores

A teacher asked during training sees the mixed, cropped piece that its student sees. Here it sees
whole scans, from several views, and several teachers may be averaged; their class scores stay with
the points through all augmentation (training/voxel_scores.py). A recipe reads them with
soft_targets: {kept: true, folder: OUT}.

- simulated streets have exact labels and are many: they are scored with --simulated only
- interrupt at will: the same command goes on
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from pointdistill_ros import __version__
from pointdistill_ros.datasets.labelled import LabelledScans
from pointdistill_ros.errors import ConfigError, InputError, one_line_errors
from pointdistill_ros.evaluation.progress import progress
from pointdistill_ros.io.atomic import atomic_path
from training.distillation.config import DistillConfig
from training.labelling import add_options, entries, interruptible, networks
from training.lineage import MANIFEST
from training.opening import open_source
from training.pseudo_files import PseudoFolder, cloud_digest, digest
from training.recipes import load_recipe, recipe_path
from training.self_training import VIEWS, SoftLabeller


def score(
    scans: LabelledScans,
    labeller: SoftLabeller,
    folder: PseudoFolder,
    settings: str,
    top: int,
    done: Callable[[int], None],
) -> int:
    """Write the scores of all scans; those of the same networks are kept. How many were."""
    kept = 0
    for i in range(len(scans)):
        scan = scans[i][0]
        name = cloud_digest(scan)
        if folder.origin(name) == (settings, name):
            kept += 1
        else:
            folder.write_scores(name, labeller(scan), settings, name, top)
        done(i + 1)
    return kept


def run(args: argparse.Namespace) -> None:
    """Score and describe."""
    config = load_recipe(recipe_path("distilled", args.recipe), {}, DistillConfig)
    sources = [s for s in config.sources if s.kind != "simulated" or args.simulated]
    if not sources:
        raise ConfigError(f"{args.recipe}: simulated streets alone; score them with --simulated")
    segmenters = networks(args)
    labeller = SoftLabeller(segmenters, VIEWS[args.views], threads=args.threads)
    classes = len(segmenters[0].label_set)
    if not 1 <= args.soft <= classes:
        raise ConfigError(f"--soft must lie in 1 .. {classes}, got {args.soft}")
    made = {
        "weights": [segmenter.weights_sha256 for segmenter in segmenters],
        "views": args.views,
        "precision": args.precision,
        "soft": args.soft,
    }
    folder, settings = PseudoFolder(args.out), digest(made)
    _refuse_others(args.out, settings)
    manifest = {
        "command": "python -m training.score_scans " + shlex.join(sys.argv[1:]),
        "version": __version__,
        "settings": made,
        "digest": settings,
        "label_set": segmenters[0].label_set.name,
        "labelled_by": entries(args, "scores"),
    }
    with atomic_path(args.out / MANIFEST) as temporary:
        temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    total = kept = 0
    with progress() as bar:
        for source in sources:
            scans = open_source(source, args.data, args.cache)
            title = " ".join(word for word in (source.kind, source.name) if word)
            kept += score(scans, labeller, folder, settings, args.soft, bar(title, len(scans)))
            total += len(scans)
    print(f"{args.out}: {total} scans, {kept} of them scored before by the same weights")


def _refuse_others(out: Path, settings: str) -> None:
    """Scores of other weights must not be mixed in."""
    path = out / MANIFEST
    if path.exists() and json.loads(path.read_text()).get("digest") != settings:
        raise InputError(f"{out}: holds scores of other weights or views; name another --out")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--recipe", required=True, help="a recipe of distill_student: whose scans to score")
    add("--out", type=Path, required=True, help="new folder, or one to go on with")
    add("--data", type=Path, help="folder that the recipe's data sets lie in")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--simulated", action="store_true", help="simulated streets, too")
    add_options(parser, "teacher", 4)
    return parser


def main() -> None:
    """Parse the command line and score."""
    interruptible(run, _parser().parse_args())


if __name__ == "__main__":
    with one_line_errors("score_scans"):
        main()
