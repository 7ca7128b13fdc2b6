# SPDX-License-Identifier: Apache-2.0
r"""Make trained weights ready to ship: a clean header, a card with figures measured on the file.

python -m training.release runs/first/student.safetensors --data DATA --notes notes.md

Writes pointdistill_ros/weights/NAME.safetensors and NAME.md, NAME being the model id. ``--notes``
(Markdown: how the run went, what to know) becomes part of the card. The licence follows from the
training data that the header names (training/licences.py).
"""

from __future__ import annotations

import argparse
import subprocess
from dataclasses import replace
from pathlib import Path

from pointdistill_ros.checkpoint import (
    CheckpointMeta,
    file_sha256,
    load_checkpoint,
    save_checkpoint,
)
from pointdistill_ros.errors import one_line_errors
from pointdistill_ros.evaluation.progress import progress
from pointdistill_ros.io.atomic import atomic_path
from pointdistill_ros.model.config import Permutation
from pointdistill_ros.protocols.labellers import PROTOCOLS
from pointdistill_ros.resources import weights_path
from pointdistill_ros.segmenter import Segmenter
from training.card import card
from training.evaluate import evaluate
from training.licences import licence_text, sources_of
from training.validation import validation_parts


def release(
    weights: Path, target: Path, permutation: Permutation | None = None, name: str | None = None
) -> CheckpointMeta:
    """Copy a run's weights to ``target`` with licence and revision in the header.

    ``permutation`` replaces the curve permutation used at evaluation, ``name`` the model id. Raises
    CheckpointError, ConfigError where the training data is not named.
    """
    network, meta = load_checkpoint(weights)
    config = meta.config if permutation is None else replace(meta.config, permutation=permutation)
    network.config = config
    licence = licence_text(sources_of(meta.training))
    training = {**meta.training, "licence": licence, "revision": _revision()}
    training.pop("monitor", None)
    meta = replace(meta, config=config, training=training, model_id=name or meta.model_id)
    save_checkpoint(target, network, meta)
    target.chmod(0o644)  # safetensors writes for the owner alone
    return meta


def _revision() -> str:
    """Commit of the sources, marked where the tree differs from it."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("weights", type=Path, help="checkpoint of a run")
    add("--name", help="ship it under this name; default: the run's")
    add("--data", type=Path, help="folder of packed scans to measure on")
    add("--cache", type=Path, default=Path("runs/streets"), help="rendered streets")
    add("--drives", type=int, default=8, help="unseen simulated streets")
    add("--protocol", nargs="+", choices=PROTOCOLS, default=["p1", "p3"], help="of the card")
    add("--notes", type=Path, help="Markdown for the card")
    add("--curves", help="order of the curves at evaluation, e.g. 2031; default: as in the run")
    return parser


def main() -> None:
    """Parse the command line, release, measure, write the card."""
    args = _parser().parse_args()
    source = load_checkpoint(args.weights)[1]
    name = args.name or source.model_id
    target = weights_path(name)
    permutation = None
    if args.curves:
        stages = len(source.config.encoder_depths)
        permutation = (tuple(int(c) for c in args.curves),) * stages
    meta = release(args.weights, target, permutation, name)
    segmenter = Segmenter.load(target)
    parts = validation_parts(args.data, args.cache, args.drives)
    with progress() as bar:
        results = {p: evaluate(segmenter, parts, p, bar) for p in args.protocol}
    text = card(
        name,
        file_sha256(target),
        target.stat().st_size,
        meta,
        results,
        sources_of(meta.training),
        args.notes.read_text() if args.notes else "",
    )
    with atomic_path(target.with_suffix(".md")) as temporary:
        temporary.write_text(text)
    print(text)


if __name__ == "__main__":
    with one_line_errors("release"):
        main()
